"""Recorded .npz traces keep what they were recorded with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("asi_pa.trace.scanner", reason="the extension modules are not built")

from asi_pa.trace import load_trace, read_npz


def test_losses_and_times_beyond_32_bits(tmp_path: Path) -> None:
    """Three events 4 s apart, 17 lost, kinds in another order than ours."""
    meta = {
        "kernel": "Linux 6.18",
        "cpus": 3,
        "kinds": ["free", "alloc"],
        "migratetypes": ["U", "M"],
        "comms": ["x", "y"],
        "gfp_names": [["GFP_KERNEL", 3264]],
        "lost": 17,
        "name": "n",
        "description": "d",
        "page_size": 4096,
        "max_page_order": 9,
        "pageblock_order": 8,
        "clock": "mono",
    }
    path = tmp_path / "t.npz"
    np.savez_compressed(
        path,
        meta=np.array(json.dumps(meta)),
        ts_delta_ns=np.array([5, 4_000_000_000, 4_000_000_000], "u4"),
        cpu=np.array([0, 1, 2], "u1"),
        kind=np.array([1, 0, 1], "u1"),
        pfn=np.array([7, 7, 0xFFFFFFFF], "u4"),
        order=np.zeros(3, "u1"),
        migratetype=np.array([1, -1, 0], "i1"),
        gfp=np.array([8, 0, 3264], "u4"),
        comm=np.array([1, 0, 1], "u1"),
    )
    for trace in (read_npz(path), load_trace(path)):
        assert trace.lost == 17
        assert trace.time_ns.tolist() == [5, 4_000_000_005, 8_000_000_005]
        assert trace.kind.tolist() == [0, 1, 0]
        assert [trace.gfps[k] for k in trace.gfp] == [8, 0, 3264]
        assert [trace.comms[k] for k in trace.comm] == ["y", "x", "y"]
        assert (trace.cpus, trace.max_page_order, trace.pageblock_order) == (3, 9, 8)
        assert (trace.name, trace.description, trace.provenance["clock"]) == ("n", "d", "mono")
