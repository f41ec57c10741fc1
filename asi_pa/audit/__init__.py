"""The auditor: can a design ever break its promise, and by what shortest sequence of operations?

``audit("migratetype/as-posted")`` searches small machines breadth first, then at random; docs/use/audit.md
says what it checks, what it searches and what it cannot see.
"""

from asi_pa.audit.meanwhile import Meanwhile
from asi_pa.audit.run import DEFAULT_SECONDS, AuditResult, Finding, Searched, audit
from asi_pa.audit.scopes import Scope, scopes
from asi_pa.audit.table import audit_table

__all__ = [
    "DEFAULT_SECONDS",
    "AuditResult",
    "Finding",
    "Meanwhile",
    "Scope",
    "Searched",
    "audit",
    "audit_table",
    "scopes",
]
