"""The functions of the Python API that compute something, and the typed results they return.

Each result is frozen, prints itself in a few lines and as HTML in a notebook, and becomes JSON
(``to_dict()``), a data frame (``to_pandas()``, ``to_polars()``) or a table (``to_latex()``,
``to_markdown()``).
"""

from __future__ import annotations

from asi_pa.results.audits import AuditResult, audit_design
from asi_pa.results.comparison import CompareResult, compare
from asi_pa.results.replayed import ReplayResult, replay
from asi_pa.results.starved import StarveResult, starve
from asi_pa.results.texts import ProcTexts, proc_texts
from asi_pa.results.validated import ValidateResult, validate

__all__ = [
    "AuditResult",
    "CompareResult",
    "ProcTexts",
    "ReplayResult",
    "StarveResult",
    "ValidateResult",
    "audit_design",
    "compare",
    "proc_texts",
    "replay",
    "starve",
    "validate",
]
