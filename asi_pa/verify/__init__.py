"""Recorded runs of real kernels, replayed and compared operation by operation.

Public: :func:`verify_file`, :func:`verify_recording`, what they return, and how differences are put into
words; ``explain`` shows the state around one operation.
"""

from asi_pa.verify.verdict import (
    ROW_NAMES,
    Difference,
    Replayed,
    Verdict,
    differing_rows,
    dump_difference,
    event_in_words,
    verify_file,
    verify_recording,
)

__all__ = [
    "ROW_NAMES",
    "Difference",
    "Replayed",
    "Verdict",
    "differing_rows",
    "dump_difference",
    "event_in_words",
    "verify_file",
    "verify_recording",
]
