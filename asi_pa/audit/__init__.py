"""The auditor: can a design ever break its promise, and by what shortest sequence of operations?

``audit("migratetype/as-posted")`` searches small machines breadth first, then at random; docs/use/audit.md
says what it checks, what it searches and what it cannot see.
"""

from asi_pa.audit.meanwhile import Meanwhile
from asi_pa.audit.result import AuditResult, Finding
from asi_pa.audit.run import DEFAULT_OPERATIONS, audit, audits, gather, units
from asi_pa.audit.scopes import Scope, scopes
from asi_pa.audit.table import audit_table
from asi_pa.audit.unit import Searched, Unit, UnitResult, search_unit

__all__ = [
    "DEFAULT_OPERATIONS",
    "AuditResult",
    "Finding",
    "Meanwhile",
    "Scope",
    "Searched",
    "Unit",
    "UnitResult",
    "audit",
    "audit_table",
    "audits",
    "gather",
    "scopes",
    "search_unit",
    "units",
]
