"""``python -m benchmarks.peers``: fetches and builds the peers, runs streams a, b, c through all in turn."""

from __future__ import annotations

import sys
from functools import partial

from ..harness import filled_engine, filled_limit, interleaved, running
from ..streams import stream
from . import PEERS, build, filled_peer, obtain

ROUNDS = 5


def main() -> None:
    """One line a stream and contender."""
    there = []
    for name in PEERS:
        try:
            obtain(name)
            build(name)
        except RuntimeError as error:
            print(f"left out: {error}", file=sys.stderr)
        else:
            there.append(name)
    for which in "abc":
        made = stream(which, count=ROUNDS << 19)
        contenders = {
            "array limit": running(partial(filled_limit, made, arrays=True), made.ops),
            "pcp": running(partial(filled_engine, made), made.ops),
        }
        for name in there:
            contenders[name] = running(partial(filled_peer, name, made), made.ops)
        found = interleaved(contenders, len(made.ops), rounds=ROUNDS, keep=list(contenders))
        for name in contenders:
            ours = found.ratio("pcp", name)
            print(f"stream {which}  {name:12} {found.median(name):6.1f} ns; the engine takes {ours:.2f} x")


if __name__ == "__main__":
    main()
