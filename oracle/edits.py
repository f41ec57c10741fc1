"""The driver's way into a kernel tree: files added, and lines of ours inserted at named functions.

Nothing of the kernel is kept here and no decision of the allocator is changed: a place is found by the name
of a function, a variable or an include, and what is inserted makes things visible to the driver.  A place
that is not found is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

__all__ = ["DRIVER", "EDITED", "apply_edits", "features"]

DRIVER = Path(__file__).resolve().parent / "driver"
#: The driver's files that are compiled by themselves.
OBJECTS = ("oracle_run", "oracle_pages", "oracle_state")
#: Of a design's kernel only.
DESIGN_OBJECTS = ("oracle_book",)
#: What a kernel with a design brings, beside the functions that it is called from (docs/evidence.md).
DESIGN_HEADER = "mm/oracle_design.h"


class PlaceError(ValueError):
    """A kernel without the place that the driver needs."""

    def __init__(self, file: str, what: str) -> None:
        super().__init__(f"{file}: {what} not found: this kernel needs an edit of its own (oracle/edits.py)")


def _definition(text: str, name: str) -> re.Match[str] | None:
    """A function's definition up to the brace that opens its body."""
    return re.search(rf"^[a-zA-Z_][^;{{}}()#]*?\b{name}\([^;{{}}]*?\)\s*?\n\{{\n", text, re.MULTILINE)


def at_start(name: str, added: str) -> Callable[[str, str], str]:
    """Lines at the start of a function's body."""

    def edit(file: str, text: str) -> str:
        found = _definition(text, name)
        if found is None:
            raise PlaceError(file, f"function {name}()")
        return text[: found.end()] + added + text[found.end() :]

    return edit


def before(name: str, added: str) -> Callable[[str, str], str]:
    """Lines before a function's definition."""

    def edit(file: str, text: str) -> str:
        found = _definition(text, name)
        if found is None:
            raise PlaceError(file, f"function {name}()")
        return text[: found.start()] + added + text[found.start() :]

    return edit


def visible(name: str) -> Callable[[str, str], str]:
    """A variable of a file is no longer static."""

    def edit(file: str, text: str) -> str:
        found = re.search(rf"^(static\s+)?int\s+{name}\b[^;(]*;", text, re.MULTILINE)
        if found is None:
            raise PlaceError(file, f"variable {name}")
        start, end = found.span(1) if found[1] else (found.start(), found.start())
        return text[:start] + text[end:]

    return edit


def after_include(header: str, added: str) -> Callable[[str, str], str]:
    """A line after an include."""

    def edit(file: str, text: str) -> str:
        found = re.search(rf"^#include <{re.escape(header)}>\n", text, re.MULTILINE)
        if found is None:
            raise PlaceError(file, f"#include <{header}>")
        return text[: found.end()] + added + text[found.end() :]

    return edit


def at_end(added: str) -> Callable[[str, str], str]:
    """Lines at a file's end."""
    return lambda file, text: text.rstrip("\n") + "\n" + added


#: The pcp lists are empty and their lock is the driver's while they are out of the way.
_HELD = "\tif (oracle_pcp_held)\n\t\treturn;\n"

#: The kernel's files that change, and how.
EDITED: dict[str, tuple[Callable[[str, str], str], ...]] = {
    "mm/page_alloc.c": (
        visible("watermark_boost_factor"),
        at_start("drain_pages_zone", _HELD),
        before("drain_pages_zone", "extern int oracle_pcp_held;\n"),
        at_end('\n#include "oracle_alloc.c"\n'),
    ),
    "mm/compaction.c": (
        after_include("trace/events/compaction.h", '#include "oracle_trace.h"\n'),
        # inside the #ifdef of the file's last function
        before("kcompactd_init", '#include "oracle_compaction.c"\n'),
    ),
    "mm/vmstat.c": (visible("sysctl_stat_interval"),),
    "mm/Makefile": (),
}

#: A design's kernel besides: contexts (enum oracle_context), each with the names that its function has had.
CONTEXTS = (
    ("CONTEXT_MERGE", ("__free_one_page",)),
    ("CONTEXT_PARTIAL", ("try_to_claim_block", "steal_suitable_fallback")),
    ("CONTEXT_RESERVE", ("reserve_highatomic_pageblock",)),
    ("CONTEXT_UNRESERVE", ("unreserve_highatomic_pageblock",)),
    ("CONTEXT_ISOLATE_FREE", ("__isolate_free_page",)),
    (
        "oracle_context == CONTEXT_PARTIAL ? CONTEXT_CLAIM : oracle_context",
        ("change_pageblock_range",),
    ),
)
_RETYPED = "\tORACLE_RETYPED(page);\n"


def for_a_design(file: str, text: str) -> str:
    """Contexts of map and unmap, and every change of a pageblock's type."""
    for context, names in CONTEXTS:
        for name in names:
            if _definition(text, name):
                text = at_start(name, f"\tORACLE_CONTEXT({context});\n")(file, text)
                break
        else:
            raise PlaceError(file, f"function {names[0]}()")
    text = at_start("set_pageblock_migratetype", _RETYPED)(file, text)
    found = re.search(r'^#include "internal.h"\n', text, re.MULTILINE)
    if found is None:
        raise PlaceError(file, '#include "internal.h"')
    return text[: found.end()] + '#include "oracle_book.h"\n' + text[found.end() :]


def features(read: Callable[[str], str], *, design: bool) -> str:
    """``oracle_features.h``: which of several forms this kernel's functions have.

    ``read`` gives a file of the tree.
    """
    alloc, internal = read("mm/page_alloc.c"), read("mm/internal.h")
    isolation, gfp = read("include/linux/page-isolation.h"), read("include/linux/gfp.h")
    compaction = read("include/linux/compaction.h")
    lines = ["/* Written by oracle/edits.py. */"]

    def define(name: str, value: str = "1") -> None:
        lines.append(f"#define {name} {value}")

    def declared(file: str, text: str, name: str) -> str:
        found = re.search(rf"\b{name}\(([^;{{]*?)\)\s*[;{{]", text, re.DOTALL)
        if found is None:
            raise PlaceError(file, f"{name}()")
        return found[1]

    if re.search(r"\bint defrag_mode\b", internal):
        define("ORACLE_DEFRAG_MODE")
    if "isolate_mode" in declared("include/linux/page-isolation.h", isolation, "start_isolate_page_range"):
        define("ORACLE_ISOLATE(start, end, mode)", "start_isolate_page_range(start, end, mode)")
        define("ORACLE_UNISOLATE(start, end)", "undo_isolate_page_range(start, end)")
    else:
        define(
            "ORACLE_ISOLATE(start, end, mode)",
            "start_isolate_page_range(start, end, MIGRATE_MOVABLE, 0, GFP_KERNEL)",
        )
        define("ORACLE_UNISOLATE(start, end)", "undo_isolate_page_range(start, end, MIGRATE_MOVABLE)")
    if "acr_flags_t" in declared("include/linux/gfp.h", gfp, "alloc_contig_range_noprof"):
        cma = "(__force acr_flags_t)((cma) ? ACR_FLAGS_CMA : ACR_FLAGS_NONE)"
    else:
        cma = "(cma) ? MIGRATE_CMA : MIGRATE_MOVABLE"
    define("ORACLE_CONTIG(start, end, cma, gfp)", f"alloc_contig_range(start, end, {cma}, gfp)")
    if "capture_control" in declared("include/linux/compaction.h", compaction, "try_to_compact_pages"):
        define("ORACLE_CAPTURE_CONTROL")
    if _definition(alloc, "__alloc_frozen_pages_noprof"):
        define("ORACLE_FROZEN")
    for name in ("alloc_flags_slowpath", "gfp_to_alloc_flags"):
        if _definition(alloc, name):
            define("ORACLE_SLOWPATH_FLAGS(gfp, order)", f"{name}(gfp, order)")
            break
    else:
        raise PlaceError("mm/page_alloc.c", "gfp_to_alloc_flags()")
    if design:
        define("ORACLE_DESIGN")
    return "\n".join(lines) + "\n"


def apply_edits(read: Callable[[str], str], *, design: bool) -> dict[str, str]:
    """Every file that differs from the kernel's, by its path in the tree.

    Raises ValueError naming the file and the place that was not found.
    """
    changed = {}
    for file, edits in EDITED.items():
        text = read(file)
        for edit in edits:
            text = edit(file, text)
        changed[file] = text
    if design:
        changed["mm/page_alloc.c"] = for_a_design("mm/page_alloc.c", changed["mm/page_alloc.c"])
    objects = OBJECTS + (DESIGN_OBJECTS if design else ())
    changed["mm/Makefile"] += "\nobj-y += " + " ".join(f"{name}.o" for name in objects) + "\n"
    changed["mm/oracle_features.h"] = features(read, design=design)
    for path in sorted(DRIVER.glob("oracle*.[ch]")):
        if path.stem not in DESIGN_OBJECTS or design:
            changed[f"mm/{path.name}"] = path.read_text()
    return changed
