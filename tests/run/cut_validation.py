"""Makes the pieces in tests/data/validation: the start of a recorded trace, and the recorded states.

``python -m tests.run.cut_validation SOURCE SECONDS TARGET`` follows the whole recording (so that what is
known of the start state is known from all of it), and writes the piece as TARGET.trace and its states as
TARGET.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from asi_pa.run.reference import Course, follow
from asi_pa.trace import load_trace, write_trace
from asi_pa.trace.cut import cut

MOMENTS = 20


def main(source: str, seconds: str, target: str) -> None:
    whole = cut(load_trace(source), microseconds=False)
    piece = cut(whole, end_ns=int(float(seconds) * 1e9), drop_batched=False, microseconds=False)
    moments = np.linspace(0, len(piece), MOMENTS + 1)[1:].astype(int).tolist()
    course = Course(whole)
    states = follow(course, moments).states
    write_trace(piece, f"{target}.trace", pack=True)
    text = json.dumps(
        {
            "source": Path(source).name,
            "seconds": float(seconds),
            "zone": str(course.record["name"]),
            "free": {event: states[event].free.tolist() for event in [0, *moments]},
            "pcp": {event: states[event].pcp.tolist() for event in [0, *moments]},
        }
    )
    Path(f"{target}.json").write_text(text + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
