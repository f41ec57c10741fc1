"""Several audits side by side."""

from __future__ import annotations

from collections.abc import Sequence

from asi_pa.audit.result import AuditResult

__all__ = ["audit_table"]

_HEAD = (
    "design",
    "",
    "broken",
    "poor",
    "recorded",
    "depth",
    "closed",
    "states",
    "operations",
    "seconds",
    "status",
)


def _row(result: AuditResult) -> tuple[str, ...]:
    closed = sum(searched.closed for searched in result.searched)
    return (
        f"`{result.design_word}`",
        "as posted" if result.design.as_posted else "",
        str(len(result.findings)),
        str(len(result.liveness)),
        str(sum(bool(finding.recorded) for finding in result.findings + result.liveness)),
        str(result.depth),
        f"{closed} of {len(result.searched)}",
        f"{result.states:,}",
        f"{result.transitions:,}",
        f"{result.seconds:.0f}",
        str(result.status),
    )


def audit_table(results: Sequence[AuditResult]) -> str:
    """A line for each audit, as Markdown: what it found, how far it looked, its exit status.

    Broken: promises, by mechanism; poor: liveness; recorded: how many of both a recorded kernel run shows;
    depth: every sequence of that many operations was tried in every machine; closed: machines of which every
    reachable state was met.
    """
    rows = [_HEAD, *map(_row, results)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 1) + ("-" if i < 2 else ":") for i, width in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])
