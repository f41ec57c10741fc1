"""Traces x designs x memory x classifiers x seeds, on one machine or many: `sweep` and its result.

docs/use/sweep.md says how one is asked for, and what its folder holds.
"""

from __future__ import annotations

from asi_pa.sweeps.result import SweepResult, load_sweep
from asi_pa.sweeps.run import sweep

__all__ = ["SweepResult", "load_sweep", "sweep"]
