"""What designs do with the same operations: replays, comparisons, and every number that comes out of them.

Public are the names below; ``metrics`` is the table of everything that is measured.
"""

from __future__ import annotations

from asi_pa.experiment.comparison import compare
from asi_pa.experiment.runs import DEFAULT_DESIGNS, SAMPLES, Series, build, replay

__all__ = ["DEFAULT_DESIGNS", "SAMPLES", "Series", "build", "compare", "replay"]
