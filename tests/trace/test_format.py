"""The trace format: what is written is read back, mapped; what is damaged is refused by name."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asi_pa.files import atomic_file
from asi_pa.trace import Trace, bundled_traces, load_trace, read_trace, write_trace
from asi_pa.trace.cut import cut
from asi_pa.trace.format import EVENT_COLUMNS, EXT, KINDS, MAGIC
from tests.trace.events import make_trace


@pytest.fixture
def trace() -> Trace:
    events: list[tuple[Any, ...]]
    events = [("alloc", 8 * i, i % 4, i % 2, i % 2, i % 2, 7 * i * i, -1) for i in range(300)]
    events += [("extfrag", 512, 9, 0, 0, 0, 10**7, 1), ("free_batched", 0, 0), ("free", 0, 0)]
    ext = np.zeros(1, EXT)
    ext["event"], ext["fallback_order"], ext["alloc_mt"] = 300, 9, -1
    kpf = np.repeat(np.array([0, 1, 130, 8], np.uint8), 700)
    snapshots = {"zones_start": [{"name": "Normal", "managed": 5}], "pagetypeinfo_start": {"text": "ü\n"}}
    return make_trace(
        events, ext=ext, kpageflags={"start": kpf}, snapshots=snapshots, lost=3, description="room" * 9
    )


@pytest.mark.parametrize("pack", [False, True])
def test_round_trip(trace: Trace, tmp_path: Path, pack: bool) -> None:
    path = tmp_path / "x.trace"
    assert write_trace(trace, path, pack=pack) == path.stat().st_size
    back = read_trace(path)
    for name, dtype in EVENT_COLUMNS.items():
        column = getattr(back, name)
        assert column.dtype == dtype
        assert not column.flags.writeable
        np.testing.assert_array_equal(column, getattr(trace, name))
    np.testing.assert_array_equal(back.ext, trace.ext)
    np.testing.assert_array_equal(back.kpf("start"), trace.kpf("start"))
    assert back.kpf("end") is None
    for name in ("name", "gfps", "comms", "gfp_names", "migratetypes", "kernel", "cpus", "lost", "snapshots"):
        assert getattr(back, name) == getattr(trace, name)
    # A packed snapshot is passed on as it is.
    write_trace(back, tmp_path / "y.trace")
    np.testing.assert_array_equal(read_trace(tmp_path / "y.trace").kpf("start"), trace.kpf("start"))


@pytest.mark.parametrize("pack", [False, True])
def test_files_are_little_endian_whatever_the_columns_are(trace: Trace, tmp_path: Path, pack: bool) -> None:
    turned = {name: getattr(trace, name) for name in (*EVENT_COLUMNS, "ext")}
    turned = {name: column.astype(column.dtype.newbyteorder()) for name, column in turned.items()}
    write_trace(trace, tmp_path / "x.trace", pack=pack)
    write_trace(replace(trace, **turned), tmp_path / "y.trace", pack=pack)
    assert (tmp_path / "x.trace").read_bytes() == (tmp_path / "y.trace").read_bytes()
    header = json.loads(
        (tmp_path / "x.trace").read_bytes()[16:].split(b"\0")[0].partition(b"}]}")[0] + b"}]}"
    )
    assert {column["dtype"] for column in header["columns"]} == {"<u8", "<u4", "<u2", "|u1", "|i1", "ext"}


def test_columns_are_mapped_not_copied(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "x.trace"
    write_trace(trace, path)
    back = read_trace(path)
    content = path.read_bytes()
    offset = content.index(trace.pfn.tobytes())
    assert offset % 64 == 0
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write((4711).to_bytes(4, "little"))
    assert back.pfn[0] == 4711


def test_every_truncation_is_refused(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "x.trace"
    write_trace(trace, path)
    content = path.read_bytes()
    for length in [*range(0, 200, 7), *range(200, len(content), 997)]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"x\.trace"):
            read_trace(path)


def _rewritten(content: bytes, change: dict[str, object]) -> bytes:
    """The file with header fields changed; the columns keep their place (the header may only shrink)."""
    length = int.from_bytes(content[8:16], "little")
    header = json.loads(content[16 : 16 + length])
    header.update({"description": ""} | change)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(text) <= length
    return content[:16] + text.ljust(length) + content[16 + length :]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"cpus": 0}, "cpus"),
        ({"cpus": "2"}, "cpus"),
        ({"name": 5}, "name"),
        ({"kinds": ["alloc"]}, "kinds"),
        ({"kinds": "alloc"}, "kinds"),
        ({"kinds": ["alloc", "free", "free", "extfrag"]}, "kinds"),
        ({"kinds": ["alloc", "free", "free_of_tea"]}, "kinds"),
        ({"gfps": [-1]}, "gfps"),
        ({"comms": [0]}, "comms"),
        ({"pageblock_order": 99}, "pageblock_order"),
        ({"columns": []}, "column"),
        ({"columns": {}}, "columns"),
    ],
)
def test_contradicting_header(trace: Trace, tmp_path: Path, change: dict[str, object], named: str) -> None:
    path = tmp_path / "x.trace"
    write_trace(trace, path)
    path.write_bytes(_rewritten(path.read_bytes(), change))
    with pytest.raises(ValueError, match=named):
        read_trace(path)


def test_kinds_of_a_file_go_by_their_names(
    trace: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose names stand otherwise, and one written before there was one more kind."""
    path = tmp_path / "x.trace"
    write_trace(trace, path)
    content = path.read_bytes()
    path.write_bytes(_rewritten(content, {"kinds": list(KINDS[::-1])}))
    np.testing.assert_array_equal(read_trace(path).kind, len(KINDS) - 1 - trace.kind)
    monkeypatch.setattr("asi_pa.trace.format.KINDS", (*KINDS, "set_migratetype"))
    path.write_bytes(content)
    back = read_trace(path)
    np.testing.assert_array_equal(back.kind, trace.kind)
    assert not back.kind.flags.owndata
    monkeypatch.setattr("asi_pa.trace.format.KINDS", ("set_migratetype", *KINDS))
    path.write_bytes(content)
    np.testing.assert_array_equal(read_trace(path).kind, trace.kind + 1)


@pytest.mark.parametrize("field", ["count", "offset", "bytes", "dtype", "encoding", "name"])
def test_contradicting_column(trace: Trace, tmp_path: Path, field: str) -> None:
    path = tmp_path / "x.trace"
    write_trace(trace, path)
    content = path.read_bytes()
    length = int.from_bytes(content[8:16], "little")
    for k in range(3):
        columns = json.loads(content[16 : 16 + length])["columns"]
        columns[k][field] = 1 if isinstance(columns[k][field], int) else "?"
        path.write_bytes(_rewritten(content, {"columns": columns}))
        with pytest.raises(ValueError, match=r"x\.trace"):
            read_trace(path)


def test_damaged_packed_column(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "x.trace"
    write_trace(trace, path, pack=True)
    content = bytearray(path.read_bytes())
    at = content.index(b"\xfd7zXZ")
    content[at + 30] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match="time_ns"):
        read_trace(path)


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content, named in (
        (b"", "empty"),
        (b"hello", "not an asi_pa trace"),
        (MAGIC + b"\xff" * 8, "header"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=named):
            read_trace(path)
    with pytest.raises(ValueError, match="missing"):
        read_trace(tmp_path / "missing")


def test_interrupted_write_leaves_nothing(trace: Trace, tmp_path: Path) -> None:
    path = tmp_path / "x.trace"
    path.write_bytes(b"before")

    def interrupted() -> None:
        with atomic_file(path) as out:
            out.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["x.trace"]
    with pytest.raises(ValueError, match="no-such"):
        write_trace(trace, tmp_path / "no-such" / "x.trace")


def test_cut(trace: Trace) -> None:
    small = cut(trace)
    assert (small.kind != 2).all()
    assert (small.time_ns % 1000 == 0).all()
    assert len(small) == len(trace) - 1
    assert small.kind[int(small.ext["event"][0])] == 5
    assert small.provenance["cuts"][0]["free_batched_dropped"] == 1
    assert trace.kpf("start") is not None
    half = cut(trace, end_ns=10000, microseconds=False)
    assert 0 < len(half) < len(trace)
    assert int(half.time_ns.max()) < 10000
    with pytest.raises(ValueError, match="nothing left"):
        cut(trace, end_ns=0)


def test_bundled_traces() -> None:
    assert {"redis", "net"} <= set(bundled_traces())
    trace = load_trace("net")
    assert trace.name == "net"
    assert trace.kernel.startswith("Linux 6.18")
    assert len(trace) > 1_000_000
    with pytest.raises(ValueError, match=r"nothing-like-it.*bundled"):
        load_trace("nothing-like-it")
