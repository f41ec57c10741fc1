"""The verbs of ``asi-pa``: options, a help that teaches, and the call of the module that does the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asi_pa.commands.audit import add_audit
from asi_pa.commands.compare import add_compare
from asi_pa.commands.convert import add_convert
from asi_pa.commands.designs import add_designs
from asi_pa.commands.diff import add_diff
from asi_pa.commands.explain import add_explain
from asi_pa.commands.field import add_field
from asi_pa.commands.info import add_info
from asi_pa.commands.options import Verbs
from asi_pa.commands.oracle import add_oracle
from asi_pa.commands.plot import add_plot
from asi_pa.commands.pressure import add_pressure
from asi_pa.commands.record import add_record
from asi_pa.commands.snapshot import add_snapshot
from asi_pa.commands.starvation import add_starvation
from asi_pa.commands.sweep import add_sweep
from asi_pa.commands.timeline import add_timeline
from asi_pa.commands.validate import add_validate
from asi_pa.commands.verify import add_verify

__all__ = ["VERBS"]

#: Each adds a verb, in the order of the overview.
VERBS: tuple[Callable[[Verbs[Any]], None], ...] = (
    add_compare,
    add_sweep,
    add_plot,
    add_explain,
    add_diff,
    add_timeline,
    add_audit,
    add_starvation,
    add_pressure,
    add_field,
    add_verify,
    add_oracle,
    add_validate,
    add_info,
    add_convert,
    add_record,
    add_snapshot,
    add_designs,
)
