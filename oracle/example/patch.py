"""The kernel's half of mapped_reclaimable.py: python -m oracle.example.patch TREE changes a tree.

A series that is ported has its own asi_map() and asi_unmap(); all that recording asks for is a call of
``oracle_book_map()`` or ``oracle_book_unmap()`` there, and ``mm/oracle_design.h``.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from oracle.edits import at_start

MAPS = "\tif (migratetype == MIGRATE_RECLAIMABLE)\n\t\toracle_book_map(page, pageblock_nr_pages);\n"


def patch(tree: Path) -> None:
    """Changes the tree.  ValueError where a place is not found."""
    alloc = tree / "mm" / "page_alloc.c"
    text = alloc.read_text()
    if MAPS not in text:
        alloc.write_text(at_start("set_pageblock_migratetype", MAPS)("mm/page_alloc.c", text))
    shutil.copy(Path(__file__).with_name("oracle_design.h"), tree / "mm" / "oracle_design.h")


if __name__ == "__main__":
    patch(Path(sys.argv[1]))
