"""What a comparison says, in three forms: a table for the terminal, one HTML page, one JSON file.

All of them start from a result of the schema ``asi_pa.compare/2`` (docs/use/json-schema.md), a plain
dict as :func:`asi_pa.report.read_json` returns it.  Only :func:`render_html` and :func:`write_html`
need more than the standard library and numpy: plotly, the extra ``report``.
"""

from __future__ import annotations

from asi_pa.report.modelled_time import add_modelled_time
from asi_pa.report.page import MissingPlotlyError, render_html, write_html
from asi_pa.report.results import read_json, validate, write_json
from asi_pa.report.screen import render_mail, render_screen
from asi_pa.report.terminal import render_terminal

__all__ = [
    "MissingPlotlyError",
    "add_modelled_time",
    "read_json",
    "render_html",
    "render_mail",
    "render_screen",
    "render_terminal",
    "validate",
    "write_html",
    "write_json",
]
