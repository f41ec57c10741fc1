"""The driver's way into a tree: places found by name, a clear word where one is missing."""

import pytest

from oracle.edits import DRIVER, EDITED, apply_edits, features
from tests.oracle.kernel import FILES, NEWER


def edited(files, **more):
    return apply_edits(files.__getitem__, design=False, **more)


@pytest.mark.parametrize("files", [FILES, NEWER])
def test_what_is_inserted_stands_where_it_belongs(files):
    changed = edited(files)
    alloc = changed["mm/page_alloc.c"]
    assert "\nint watermark_boost_factor = 1;" in alloc
    assert "zone)\n{\n\tif (oracle_pcp_held)\n\t\treturn;\n\treturn;\n}" in alloc
    assert alloc.count("oracle_pcp_held)") == 1, "the call is not the definition"
    assert alloc.endswith('#include "oracle_alloc.c"\n')
    assert '<trace/events/compaction.h>\n#include "oracle_trace.h"\n#ifdef X' in changed["mm/compaction.c"]
    assert '#include "oracle_compaction.c"\nstatic int __init kcompactd_init' in changed["mm/compaction.c"]
    assert changed["mm/vmstat.c"].startswith("int sysctl_stat_interval")
    assert changed["mm/Makefile"].splitlines()[-1].startswith("obj-y += oracle_run.o")


def test_nothing_is_lost():
    changed = edited(FILES)
    for name in EDITED:
        kept = changed[name].splitlines()
        for line in FILES[name].splitlines():
            assert line in kept or line.removeprefix("static ") in kept


def test_a_variable_that_is_visible_already_stays():
    files = FILES | {"mm/vmstat.c": "int sysctl_stat_interval = HZ;\n"}
    assert edited(files)["mm/vmstat.c"] == files["mm/vmstat.c"]


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("mm/page_alloc.c", "drain_pages_zone", "drain_zone_pages", r"function drain_pages_zone\(\)"),
        ("mm/page_alloc.c", "watermark_boost_factor", "boost", "variable watermark_boost_factor"),
        ("mm/page_alloc.c", "gfp_to_alloc_flags", "to_flags", r"gfp_to_alloc_flags\(\)"),
        ("mm/compaction.c", "trace/events", "trace/other", "#include <trace/events/compaction.h>"),
        ("mm/compaction.c", "kcompactd_init", "init", r"function kcompactd_init\(\)"),
        ("mm/vmstat.c", "sysctl_stat_interval", "interval", "variable sysctl_stat_interval"),
        ("include/linux/gfp.h", "alloc_contig_range_noprof", "contig", r"alloc_contig_range_noprof\(\)"),
        ("include/linux/compaction.h", "try_to_compact", "compact", r"try_to_compact_pages\(\)"),
    ],
)
def test_a_place_that_is_missing_is_named(file, old, new, named):
    files = FILES | {file: FILES[file].replace(old, new)}
    with pytest.raises(ValueError, match=f"^{file}: {named} not found: this kernel needs an edit of its own"):
        edited(files)


def test_what_the_kernel_has_is_found_by_looking():
    old, new = (features(files.__getitem__, design=False) for files in (FILES, NEWER))
    assert "MIGRATE_MOVABLE, 0, GFP_KERNEL" in old
    assert "ORACLE_SLOWPATH_FLAGS(gfp, order) gfp_to_alloc_flags" in old
    assert "ORACLE_SLOWPATH_FLAGS(gfp, order) alloc_flags_slowpath" in new
    for word in ("ORACLE_DEFRAG_MODE", "ORACLE_CAPTURE_CONTROL", "ORACLE_FROZEN", "acr_flags_t"):
        assert word in new
        assert word not in old
    assert "ORACLE_DESIGN" not in new
    assert "ORACLE_DESIGN" in features(NEWER.__getitem__, design=True)


def test_the_driver_says_under_what_it_may_be_linked():
    for path in DRIVER.glob("*.[ch]"):
        assert "SPDX-License-Identifier: GPL-2.0 OR MIT" in path.read_text().splitlines()[0], path
