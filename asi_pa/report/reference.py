"""Pages made from tables (``make docs``): of metrics, of the fields of a Design, and the JSON schema."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from asi_pa.designs import Design
from asi_pa.designs.fields import fields_text
from asi_pa.experiment.columns import KEYS, METRIC_COLUMNS
from asi_pa.experiment.measures import MEASURES
from asi_pa.experiment.metrics import GROUPS, METRICS, Metric
from asi_pa.experiment.rule import agreeing
from asi_pa.files import write_atomic
from asi_pa.report.results import load_schema

__all__ = ["design_text", "main", "metrics_text", "schema_text"]

WIDTH = 110
HEAD = """
# Metrics

Every number that `asi-pa compare` reports, under the name it has in the JSON file. The terminal table
and the HTML page show the same numbers under shorter labels; in the page, hovering over a label shows
the short form of what is written here. This page is made from `asi_pa/experiment/metrics/` by `make docs`.

Words used throughout: a **block** is a pageblock, 2^pageblock_order pages, 2 MiB on x86-64. **S** is
sensitive, a hole in the restricted physmap; **N** is nonsensitive, present in both physmaps. A **flip**
takes a block from one to the other. Sizes are pages of 4 KiB unless said otherwise. Counts cover the
replay of the trace only; building the initial state is not counted. Kernel sources are those of Linux 7.2
unless another version is named; "RFC" is msgid 20250313-asi-page-alloc-v1-0-04972e046cea@google.com.

A design that protects nothing (`linux`) has no figures where protection costs: the tables show `-`. A
design that broke its promise (pages leaked, mapped uncleared or handed out unflushed; in the direct-map
designs also absent), or that keeps the holes it was posted with (`as_posted`), keeps its figures but cannot
be the best of such a row. "Optional" metrics may be missing from a file, so that results of older versions
stay readable.
"""


def metrics_text() -> str:
    """docs/use/metrics.md."""
    parts = [HEAD.strip(), *_measures()]
    for name, group in GROUPS.items():
        parts.append(f"## {group.heading}")
        if group.text:
            parts.append(group.text.strip())
        for entry in METRICS:
            if entry.group == name and entry.type:
                parts += _entry(entry)
    parts += _columns()
    return "\n\n".join(parts) + "\n"


def _columns() -> Iterator[str]:
    yield "## Columns"
    yield (
        "A data frame of replays (`to_pandas()`, `to_polars()`, the files of a sweep) has one row a trace, "
        "memory size,\ndesign and seed. These say which it is:"
    )
    rows = ["| column | kind | meaning |", "|---|---|---|"]
    yield "\n".join(rows + [f"| `{column.name}` | {column.kind} | {column.meaning} |" for column in KEYS])
    count = len(METRIC_COLUMNS)
    yield (
        f"Then every metric above has a column, but for what a clock measured: {count} of them. A metric of "
        "several\nvalues has one for each, its path with dots, such as `failures_by_group.real`, "
        "`unusable_index.9` or\n`direct_map_kb.restricted.2m`; what a design does not have is missing. "
        "Counts are 64-bit integers, shares\nand rates 64-bit floats, in the units above."
    )


def _measures() -> Iterator[str]:
    yield "## The answer"
    yield (
        "What decides between two designs ([method.md](method.md) says where each is taken and why). Two "
        "values whose difference is below the floor are equal; the rule makes words of the differences of "
        "all seeds."
    )
    rows = ["| measure | meaning | better | floor |", "|---|---|---|---|"]
    for measure in MEASURES:
        unit = measure.unit
        small = f"{100 * measure.absolute:g} points" if unit == "share" else f"{measure.absolute:g} {unit}"
        if measure.relative:
            small = f"{100 * measure.relative:g} %, at least {small}"
        name = f"`{measure.key}`: {measure.label}"
        rows.append(f"| {name} | {measure.meaning} | {measure.better} | {small} |")
    yield "\n".join(rows)
    yield (
        f"With 16 seeds {agreeing(16)} have to agree. **better**, **worse**: so many lie on that side, and "
        "the median difference is more than 1.5 floors (one floor where no seed matters). **equal**: so many "
        "are within a floor. **undecided**: all else; its range is told. **untested**: nothing happened that "
        "the measure is about."
    )


def _entry(entry: Metric) -> Iterator[str]:
    yield f"### `{entry.key}`"
    text = entry.definition or entry.sentence
    if entry.optional:
        text = f"Optional. {text}"
    if entry.source:
        text += f" ({entry.source}.)"
    yield textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)
    parts = [m for m in METRICS if m.key.startswith(f"{entry.key}.") and m.definition]
    if parts:
        yield "\n".join(
            textwrap.fill(
                f"- `{part.key.removeprefix(entry.key + '.')}`: {part.definition}",
                WIDTH,
                subsequent_indent="  ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            for part in parts
        )


def schema_text() -> str:
    """docs/use/compare.schema.json."""
    return json.dumps(load_schema(), indent=1) + "\n"


FIELDS = """
# Fields of a design

What a `Design` is made of, as it stands at each field in
[asi_pa/designs/table.py](../../asi_pa/designs/table.py); `help(Design)` shows the same, and this page is made
from it by `make docs`. [own-design.md](own-design.md) walks through a design of one's own.

A field is changed where a design is named (`migratetype:zeroing=dirty,contig_flips=no`) or in a file
(`Design.based_on("migratetype", name="mine", zeroing="dirty")`). One that is misspelt, out of range, or that
such a design does not read is refused by name.
"""


def design_text() -> str:
    """docs/extend/fields.md."""
    return fields_text(Design, FIELDS)


def main(docs: str) -> None:
    """Write all into the documentation's folder."""
    write_atomic(Path(docs) / "use" / "metrics.md", metrics_text())
    write_atomic(Path(docs) / "use" / "compare.schema.json", schema_text())
    write_atomic(Path(docs) / "extend" / "fields.md", design_text())


if __name__ == "__main__":
    main(*sys.argv[1:])
