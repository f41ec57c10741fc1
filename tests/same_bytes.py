"""What must be the same on every machine, as one line each: recorded runs, a trace's operations, states.

    python -m tests.same_bytes

Run it on two machines (aarch64, or the big-endian s390x under qemu-user) and compare what it prints.
docs/reliability.md says how that was done.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa import Allocator
from asi_pa.engine.machine import Machine
from asi_pa.run.replay import Replay
from asi_pa.run.start import compile_trace
from asi_pa.trace import load_trace, write_trace
from asi_pa.trace.format import EVENT_COLUMNS
from asi_pa.verify import verify_file

DATA = Path(__file__).resolve().parent / "data"


def digest(*parts: npt.NDArray[Any] | dict[str, int] | bytes) -> str:
    """Of numbers, not of their byte order."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, dict):
            found.update(json.dumps(part, sort_keys=True).encode())
        elif isinstance(part, bytes):
            found.update(part)
        else:
            found.update(np.ascontiguousarray(part, part.dtype.newbyteorder("<")).tobytes())
    return found.hexdigest()[:16]


def main() -> None:
    allocator = Allocator("64M", "migratetype", cpus=2)
    pfns = [
        allocator.alloc_pages(k % 4, "GFP_KERNEL" if k % 3 else "GFP_HIGHUSER_MOVABLE") for k in range(500)
    ]
    for k in range(0, 500, 2):
        allocator.free_pages(pfns[k], k % 4)
    print("allocator", digest(np.array(pfns)), allocator.verify(), flush=True)
    for folder in sorted((DATA / "oracle").iterdir()):
        for recorded in sorted(folder.glob("*.npz"))[:1]:
            verdict = verify_file(recorded)
            print("verify", folder.name, recorded.name, verdict.exact, verdict.ops, flush=True)
    trace = load_trace(DATA / "validation" / "redis.trace")
    kpf = trace.kpf("start")
    assert kpf is not None
    print("trace", digest(*(getattr(trace, name) for name in EVENT_COLUMNS), trace.ext, kpf), flush=True)
    with tempfile.TemporaryDirectory() as place:
        write_trace(trace, Path(place) / "x.trace")
        print("written", digest((Path(place) / "x.trace").read_bytes()), flush=True)
    compiled = compile_trace(trace, recorded=True)
    zone = compiled.population[-1]
    print("compiled", digest(compiled.ops, zone.held_pfn, zone.free_pfn, zone.pcp_pfn), flush=True)
    for design in ("linux", "migratetype", "per-page", "pool", "rfcv2-queue"):
        compiled = compile_trace(trace)
        machine = Machine(compiled.machine, design, compiled.kernel, boot=False)
        run = Replay(machine, compiled.classes, compiled.nslots)
        for number, population in enumerate(compiled.population):
            run.populate(number, population)
        run.place_displaced()
        run.run(compiled.ops)
        print("replay", design, digest(machine.dump(), machine.stats()), machine.verify(), flush=True)


if __name__ == "__main__":
    main()
