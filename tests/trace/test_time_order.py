"""Pieces put together: times, name tables, losses and extfrag rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("asi_pa.trace.scanner", reason="the extension modules are not built")

from asi_pa.trace import Trace, load_trace, merged
from asi_pa.trace.text import read_text

LINE = "{comm}-{pid} [{cpu:03}] {time}: {what}\n"
ALLOC = "mm_page_alloc: page=0x{pfn:x} pfn=0x{pfn:x} order=0 migratetype={mt} gfp_flags={gfp}"
EXT = (
    "mm_page_alloc_extfrag: page=0x{pfn:x} pfn=0x{pfn:x} alloc_order=0 fallback_order=9 pageblock_order=9 "
    "alloc_migratetype=0 fallback_migratetype=1 fragmenting=0 change_ownership=1"
)


def text(tmp_path: Path, name: str, *lines: str) -> Trace:
    path = tmp_path / name
    path.write_text("".join(lines))
    return read_text(path)


def alloc(cpu: int, time: str, pfn: int, comm: str = "a", gfp: str = "GFP_KERNEL", mt: int = 0) -> str:
    return LINE.format(comm=comm, pid=5, cpu=cpu, time=time, what=ALLOC.format(pfn=pfn, gfp=gfp, mt=mt))


def ext(cpu: int, time: str, pfn: int) -> str:
    return LINE.format(comm="e", pid=6, cpu=cpu, time=time, what=EXT.format(pfn=pfn))


def told(trace: Trace) -> list[tuple[int, int, int, str, int]]:
    return [
        (int(t), int(c), int(p), trace.comms[k], trace.gfps[g])
        for t, c, p, k, g in zip(trace.time_ns, trace.cpu, trace.pfn, trace.comm, trace.gfp, strict=True)
    ]


def test_merging(tmp_path: Path) -> None:
    movable = "GFP_HIGHUSER_MOVABLE"
    one = text(
        tmp_path,
        "c0",
        "CPU:0 [LOST 3 EVENTS]\n",
        alloc(0, "10.5", 0x10),
        ext(0, "12.5", 0x200),
        alloc(0, "14.5", 0x12),
    )
    two = text(
        tmp_path,
        "c1",
        alloc(1, "9.5", 0x20, "b", movable, 1),
        ext(1, "11.5", 0x400),
        alloc(1, "13.5", 0x22, "a"),
        "CPU:1 [LOST 4 EVENTS]\n",
    )
    whole = merged([one, two])
    expected = sorted(
        [
            (int(t) - int(first), *rest)
            for trace in (one, two)
            for (t, *rest), first in (
                ((t + trace.provenance["began_ns"], *more), two.provenance["began_ns"])
                for t, *more in told(trace)
            )
        ]
    )
    assert told(whole) == expected
    assert whole.lost == 7
    assert sorted(whole.comms) == ["a", "b", "e"]
    assert [int(whole.pfn[int(row)]) for row in whole.ext["event"]] == [0x400, 0x200]
    assert (whole.kind[whole.ext["event"].astype(int)] == 5).all()
    assert told(merged([two, one])) == expected
    with pytest.raises(ValueError, match="only texts"):
        merged([one, load_trace("redis")])


def test_a_reversed_text_is_turned_with_its_ties(tmp_path: Path) -> None:
    lines = [alloc(0, "1.5", pfn) for pfn in range(1, 9)] + [ext(0, "2.5", 0x200), alloc(0, "3.5", 9)]
    plain, turned = text(tmp_path, "p", *lines), text(tmp_path, "t", *reversed(lines))
    assert told(turned) == told(plain)
    assert np.array_equal(turned.ext["event"], plain.ext["event"])
    shuffled = text(tmp_path, "s", *lines[8:], *lines[:8])
    assert told(shuffled) == told(plain)
    assert np.array_equal(shuffled.ext["event"], plain.ext["event"])
