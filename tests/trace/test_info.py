"""Describing a trace, and the parts of recording that need no root."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asi_pa.trace import compile_trace, describe, describe_text, read_trace, write_trace
from asi_pa.trace.events import KINDS
from asi_pa.trace.format import KPF_BITS
from asi_pa.trace.info import end_state
from asi_pa.trace.record import record, snapshot
from tests.trace.events import FAILED, make_trace

ZONEINFO = """\
Node 0, zone      DMA
  per-node stats
      nr_inactive_anon 107250
  pages free     3840
        boost    0
        min      39
        low      48
        high     57
        promo    66
        spanned  4095
        present  3998
        managed  3840
        cma      0
        protection: (0, 3019, 14795, 14795, 14795)
      nr_free_pages 3840
  pagesets
    cpu: 0
              count:    1
              high:     2
              batch:    3
              high_min: 4
              high_max: 5
  vm stats threshold: 4
    cpu: 1
              count:    6
              high:     7
              batch:    8
              high_min: 9
              high_max: 10
  vm stats threshold: 4
  node_unreclaimable:  0
  start_pfn:           1
Node 1, zone  Movable
  pages free     0
        min      32
        low      32
        high     32
        spanned  0
        present  0
        managed  0
        protection: (0, 0, 0, 0)
"""


def test_describe() -> None:
    events: list[tuple[Any, ...]] = [("alloc", 8 * i, 3, 0, 1) for i in range(10)]
    events += [("alloc", 200 + i, 0, 1, 0) for i in range(30)]
    events += [("alloc", FAILED, 0, 1, 0), ("free", 8, 3), ("free", 300, 2), ("free_batched", 300, 0)]
    end = np.zeros(400, np.uint8)
    end[8:16] = 1
    end[304:308] = 1
    end[0] = 1
    trace = make_trace(events, kpageflags={"end": end}, lost=0)
    about = describe(trace)
    assert list(about["events"]) == list(KINDS)
    assert {kind: n for kind, n in about["events"].items() if n} == {
        "alloc": 41,
        "free": 2,
        "free_batched": 1,
    }
    asked = about["allocations"]
    assert (asked["total"], asked["pages"], asked["failed"], asked["cannot_block"]) == (41, 111, 1, 0)
    assert asked["by_order"] == [31, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0]
    assert asked["by_type"] == {"unmovable": 10, "movable": 31, "reclaimable": 0}
    assert list(asked["by_comm"].items()) == [("one", 31), ("two", 10)]
    assert about["nonsensitive"] == {"allocations": 10 / 41, "pages": 80 / 111}
    assert about["lifetimes"]["held_at_start_pages"] == 4
    # Frame 0 is said to be held and lies in the buddy; 300 is free without a flag, as on a per-CPU list.
    assert end_state(trace) == {"frames": 80 + 30 + 4, "wrong": 1}
    text = describe_text(about)
    for word in ("24.4 %", "two", "not known" if trace.lost is None else "lost: 0", "1 of 114 frames"):
        assert word in text


def test_describe_refuses_contradictions() -> None:
    for event, named in ((("alloc", 0, 0, 9), "gfp"), (("alloc", 0, 0, 0, 9), "comm")):
        with pytest.raises(ValueError, match=named):
            describe(make_trace([event]))


def test_snapshot(tmp_path: Path) -> None:
    (tmp_path / "zoneinfo").write_text(ZONEINFO)
    (tmp_path / "buddyinfo").write_text("b\n")
    with pytest.raises(ValueError, match="pagetypeinfo"):
        snapshot(str(tmp_path))
    (tmp_path / "pagetypeinfo").write_text("p\n")
    bits = (10, 5, 12, 7, 15, 16, 26, 32)
    words = np.array([1 << bit for bit in bits] + [1 << 23, 1 << 20, 1 << 10 | 1 << 3], np.uint64)
    (tmp_path / "kpageflags").write_bytes(words.tobytes())
    taken = snapshot(str(tmp_path))
    assert taken["kpf"][:11].tolist() == [*[1 << k for k in range(8)], 128, 128, 1]
    # The file ends before the zone does: no such page.
    assert taken["kpf"][11] == 1 << KPF_BITS.index("NOPAGE_OFFLINE_RESERVED")
    assert len(taken["kpf"]) == 4096
    assert taken["proc"]["buddyinfo"]["text"] == "b\n"
    dma, movable = taken["proc"]["zones"]
    assert dma == {
        "name": "DMA", "nid": 0, "free": 3840, "min": 39, "low": 48, "high": 57, "promo": 66, "boost": 0,
        "start_pfn": 1, "spanned": 4095, "present": 3998, "managed": 3840,
        "protection": [0, 3019, 14795, 14795, 14795],
        "cpus": [
            {"count": 1, "high": 2, "batch": 3, "high_min": 4, "high_max": 5},
            {"count": 6, "high": 7, "batch": 8, "high_min": 9, "high_max": 10},
        ],
    }  # fmt: skip
    assert (movable["nid"], movable["managed"], movable["start_pfn"]) == (1, 0, 0)


def test_recording_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ValueError, match="perf is not installed"):
        record("x", ["true"])


#: Records whatever the whole machine does, so only when asked for.
CAN_RECORD = (
    os.environ.get("ASI_PA_RECORD") == "1"
    and os.geteuid() == 0
    and shutil.which("perf") is not None
    and Path("/sys/kernel/tracing/events/kmem").is_dir()
    and os.access("/proc/kpageflags", os.R_OK)
)


@pytest.mark.skipif(not CAN_RECORD, reason="needs ASI_PA_RECORD=1, root, perf and tracefs")
def test_recording_this_machine(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no-such-command"):
        record("x", ["no-such-command"])
    trace = record("here", ["sh", "-c", "head -c 30000000 /dev/zero | tail -c 1 > /dev/null"])
    assert len(trace) > 1000
    assert trace.provenance["exit_status"] == 0
    about = describe(trace)
    # Other programs run too, and what they do around the snapshots is not seen: few events, though.
    assert about["end_state"]["frames"] > 0
    compiled = compile_trace(trace)
    assert sum(compiled.repairs.values()) < 0.05 * len(trace)
    notes = compiled.initial
    assert abs(notes["managed"] - notes["managed_recorded"]) < 0.02 * notes["managed_recorded"]
    write_trace(trace, tmp_path / "x.trace", pack=True)
    back = read_trace(tmp_path / "x.trace")
    assert back.snapshots.keys() == trace.snapshots.keys()
    np.testing.assert_array_equal(back.kpf("start"), trace.kpf("start"))
