"""Input nobody should trust, and what goes wrong around a verb: one line, the file named, exit status 2,
nothing lost."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("asi_pa.trace.scanner", reason="the extension modules are not built")

from asi_pa import Allocator, cli
from asi_pa.arrays import read_arrays
from asi_pa.errors import printable
from asi_pa.limits import memory_limit
from asi_pa.trace import Trace, load_trace, read_npz, read_trace, write_trace
from asi_pa.trace.format import KINDS, KPF_BITS, MAGIC

FAULTS = Path(__file__).parent / "data" / "faults"

Capture = pytest.CaptureFixture[str]


def fault(name: str) -> Path:
    (path,) = FAULTS.glob(f"*/{name}")
    return path


def refused(capsys: Capture, *command: object) -> str:
    """The one line of a command that must be refused."""
    assert cli.main([str(word) for word in command]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("asi-pa: error: ")
    assert err.count("\n") == 1
    return err


def asi_pa(*command: str | Path, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """A command in a process of its own."""
    words = [sys.executable, "-m", "asi_pa", *map(str, command)]
    return subprocess.run(words, capture_output=True, check=False, **more)


# ---------------------------------------------------------------- headers

ZONE = {"name": "Normal", "start_pfn": 1024, "spanned": 8192, "managed": 8192, "free": 100, "present": 8192,
        "min": 10, "low": 12, "high": 14, "nid": 0,
        "cpus": [{"count": 0, "high": 9, "batch": 3, "high_min": 8, "high_max": 80}]}  # fmt: skip


def small(tmp_path: Path, pack: bool = False) -> Path:
    """A trace file with everything in it."""
    trace = load_trace(fault("s0.trace"))
    path = tmp_path / "small.trace"
    kpf = np.zeros(1024 + 8192, np.uint8)
    snapshots: dict[str, Any] = {f"zones_{end}": [json.loads(json.dumps(ZONE))] for end in ("start", "end")}
    snapshots |= {"pagetypeinfo_start": {"text": "x\n", "t0": 1, "t1": 2}}
    made = {name: getattr(trace, name) for name in trace.__dataclass_fields__}
    write_trace(
        Trace(**(made | {"snapshots": snapshots, "kpageflags": {"start": kpf, "end": kpf}})), path, pack=pack
    )
    return path


def header_of(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    return dict(json.loads(content[16 : 16 + int.from_bytes(content[8:16], "little")]))


def with_header(path: Path, header: Any) -> Path:
    """The file with another header; its columns stay where they are, 64-byte aligned."""
    content = path.read_bytes()
    length = int.from_bytes(content[8:16], "little")
    start = -(-(16 + length) // 64) * 64
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    padding = bytes(-(16 + len(text)) % 64)
    path.write_bytes(MAGIC + len(text).to_bytes(8, "little") + text + padding + content[start:])
    return path


def changed(value: Any, where: str, new: Any) -> Any:
    """A copy of a header with what stands at a dotted path replaced, or removed where ``new`` is `GONE`."""
    value = json.loads(json.dumps(value))
    *way, last = [int(word) if word.isdigit() else word for word in where.split(".")]
    at = value
    for word in way:
        at = at[word]
    if new is GONE:
        del at[last]
    else:
        at[last] = new
    return value


GONE = object()
NESTED: list[Any] = []
for _ in range(50):
    NESTED = [NESTED]
DAMAGES = [
    ("snapshots.zones_start", 4294967295), ("snapshots.zones_start", float("inf")),
    ("snapshots.zones_start.0", "x"),
    ("snapshots.zones_start.0.free", "x"), ("snapshots.zones_start.0.free", GONE),
    ("snapshots.zones_start.0.cpus.0", 1e308), ("snapshots.zones_start.0.cpus.0.count", float("nan")),
    ("snapshots.zones_start.0.cpus.0.count", GONE), ("snapshots.zones_end.0.cpus.0.high_max", ["a", "b"]),
    ("snapshots.zones_end.0.cpus.0.high", -1), ("snapshots.pagetypeinfo_start", "x"), ("snapshots", []),
    ("snapshots.pagetypeinfo_start.text", None), ("columns.0.count", -0.0), ("columns.0.count", 1 << 60),
    ("columns.10.bytes", 1.5), ("columns.0.offset", True), ("columns.0", {}), ("columns.0.name", "pfn"),
    ("gfp_names.__GFP_FS", True), ("gfp_names.__GFP_FS", -1), ("gfps", []), ("gfps.0", 1 << 32),
    ("cpus", 257),
    ("cpus", True), ("comms.0", "\ud800"), ("comms.0", "x" * 2000), ("provenance.format", "\ud800"),
    ("provenance.began_ns", "x"), ("provenance.cuts", [5]), ("provenance.deep", NESTED), ("name", None),
    ("description", 5), ("migratetypes", {}), ("kinds", ["alloc"] * 7), ("kpf_bits", []), ("page_size", 5000),
    ("lost", -1), ("max_page_order", 21), ("pageblock_order", GONE),
]  # fmt: skip


@pytest.mark.parametrize(
    ("where", "new"), DAMAGES, ids=[f"{where}-{k}" for k, (where, _) in enumerate(DAMAGES)]
)
def test_headers_of_trace_files(tmp_path: Path, capsys: Capture, where: str, new: Any) -> None:
    path = small(tmp_path)
    assert cli.main(["info", str(path)]) == 0
    capsys.readouterr()
    with_header(path, changed(header_of(path), where, new))
    for verb in (["info"], ["compare", "--memory", "64M", "--designs", "linux", "--quiet"]):
        assert "small.trace: " in refused(capsys, *verb, path)
    assert "small.trace: " in refused(capsys, "convert", path, tmp_path / "out.trace")


@pytest.mark.parametrize(
    "header",
    [b"", b"{", b"[]", b"5", b"\xff\xfe", b"[" * 100000, b'{"a":' * 100000, b"null", b"{}", b"1" * 5000],
)
def test_headers_that_are_none(tmp_path: Path, capsys: Capture, header: bytes) -> None:
    assert "small.trace: " in refused(capsys, "info", with_header(small(tmp_path), header))


META = {
    "kernel": "Linux 6.18",
    "cpus": 1,
    "kinds": list(KINDS),
    "migratetypes": ["Unmovable"],
    "comms": ["a"],
    "gfp_names": [["GFP_KERNEL", 0xCC0]],
    "kpf_bits": list(KPF_BITS),
    "zones_start": [ZONE],
}
ARRAYS = {"ts_delta_ns": "u4", "cpu": "u1", "kind": "u1", "pfn": "u4", "order": "u1", "migratetype": "i1",
          "gfp": "u4", "comm": "u1"}  # fmt: skip


def npz(path: Path, meta: Any = META, **arrays: Any) -> Path:
    made: dict[str, Any] = {name: np.zeros(3, dtype) for name, dtype in ARRAYS.items()}
    text = meta if isinstance(meta, str) else json.dumps(meta)
    np.savez_compressed(path, meta=np.array(text), **(made | arrays))
    return path


@pytest.mark.parametrize(
    ("where", "new"),
    [
        ("cpus", 0),
        ("kinds", "alloc"),
        ("kinds.0", "free_of_tea"),
        ("gfp_names.0", ["x", "y"]),
        ("comms", [5]),
        ("gfp_names.0", 5),
        ("zones_start.0.cpus.0", False),
        ("zones_start.0.cpus.0.count", GONE),
        ("cpus", [1]),
        ("zones_start.0.cpus.0.high_max", ["x"]),
        ("pagetypeinfo_start", float("-inf")),
        ("kernel", GONE),
        ("page_size", "4096"),
        ("lost", 1.5),
        ("name", ["x"]),
        ("zones_start.0.free", "x"),
    ],
)
def test_meta_of_recorded_traces(tmp_path: Path, capsys: Capture, where: str, new: Any) -> None:
    base = META | {"pagetypeinfo_start": {"text": ""}, "page_size": 4096, "lost": 0, "name": "x"}
    assert len(read_npz(npz(tmp_path / "good.npz", base))) == 3
    assert "t.npz: " in refused(capsys, "info", npz(tmp_path / "t.npz", changed(base, where, new)))


@pytest.mark.parametrize(
    "arrays",
    [
        {"kind": np.zeros((), "u1")},
        {"kind": np.zeros((3, 1), "u1")},
        {"kind": np.zeros(3, "u2")},
        {"pfn": np.zeros(2, "u4")},
        {"kind": np.full(3, 9, "u1")},
        {"comm": np.full(3, 9, "u1")},
        {"kpf_start": np.zeros((), "u1")},
        {"ext_idx": np.array([5], "u4")},
        {"ext_idx": np.zeros(1, "u4")},
        {"kpf_end": np.array("x")},
        {"kind": np.zeros(0, "u1")},
    ],
)
def test_arrays_of_recorded_traces(tmp_path: Path, capsys: Capture, arrays: dict[str, Any]) -> None:
    assert "t.npz: " in refused(capsys, "info", npz(tmp_path / "t.npz", **arrays))


@pytest.mark.parametrize("meta", ["[" * 100000, "{", "5", "", '{"cpus": 1e999}'])
def test_meta_that_is_none(tmp_path: Path, capsys: Capture, meta: str) -> None:
    assert "t.npz: meta" in refused(capsys, "info", npz(tmp_path / "t.npz", meta))


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    text = header.encode("latin1")
    return b"\x93NUMPY" + version + len(text).to_bytes(2 if version[0] == 1 else 4, "little") + text + data


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in members.items():
            out.writestr(f"{name}.npy", data)
    return path


@pytest.mark.parametrize(
    "member",
    [
        b"",
        b"\x93NUM",
        npy("{'descr': '<u4', 'fortran_order': False, 'shape': (1,)"),
        npy("'''"),
        npy("(" * 9000),
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(8)),
        npy("{}"),
        npy("5"),
        npy("{'descr': [('a', '<u4')], 'fortran_order': False, 'shape': (1,)}", bytes(4)),
        npy("{'descr': '<u4', 'fortran_order': False, 'shape': (-1,)}"),
        npy("{'descr': '<u4', 'fortran_order': 0, 'shape': ()}"),
        npy("{'descr': '<u4', 'fortran_order': False, 'shape': (1e9,)}"),
        npy("{'descr': 'zebra', 'fortran_order': False, 'shape': ()}"),
        npy("{'descr': '<u4', 'fortran_order': False, 'shape': (2,)}", bytes(4)),
        b"\x93NUMPY\x01\x00\xff\xff{",
        npy("{'descr': '<u4', 'fortran_order': False, 'shape': (1,)}", bytes(4), b"\x09\x00"),
        npy("{'descr': '<U536870912', 'fortran_order': False, 'shape': (1,)}"),
    ],
)
def test_npy_headers(tmp_path: Path, capsys: Capture, member: bytes) -> None:
    path = archive(tmp_path / "t.npz", {"meta": member, "ops": member, "dumps": member})
    with pytest.raises(ValueError, match="not an intact"):
        read_arrays(path, ("meta",))
    assert "t.npz: not an intact .npz file" in refused(capsys, "verify", path)
    path = archive(tmp_path / "u.npz", {"meta": member})
    assert "u.npz: not an intact .npz file" in refused(capsys, "info", path)


@pytest.mark.parametrize("name", ["p-oracle-4d6eab09.npz", "p-oracle-fef9679c.npz", "p-oracle-f5cc200b.npz"])
def test_damaged_recorded_runs(capsys: Capture, name: str) -> None:
    assert f"{name}: not an intact .npz file" in refused(capsys, "verify", fault(name))


@pytest.mark.parametrize("name", ["p-trace-0669c5e5.trace", "p-trace-fd9d31cb.trace", "lone-surrogate.trace"])
def test_damaged_traces(capsys: Capture, name: str) -> None:
    assert f"{name}: header." in refused(capsys, "info", fault(name))


# ---------------------------------------------------------------- bombs


def test_what_nobody_asks_for_is_not_unpacked(tmp_path: Path) -> None:
    path = npz(tmp_path / "t.npz", unused=np.zeros(1 << 24, "u1"))
    with memory_limit(1 << 20):
        assert len(read_npz(path)) == 3


def test_what_is_promised_is_weighed_first(tmp_path: Path, capsys: Capture) -> None:
    path = npz(tmp_path / "t.npz", kpf_start=np.zeros(1 << 22, "u1"), kpf_end=np.zeros(1 << 22, "u1"))
    assert "--max-memory" in refused(capsys, "info", "--max-memory", "4M", path)
    assert cli.main(["info", "--max-memory", "16M", str(path)]) == 0
    capsys.readouterr()
    # Not even by a header that promises what no file of its size holds.
    packed = small(tmp_path, pack=True)
    header = header_of(packed)
    (at,) = (k for k, column in enumerate(header["columns"]) if column["name"] == "pfn")
    with_header(packed, changed(header, f"columns.{at}.count", 1 << 40))
    assert "small.trace: what its packed columns unpack to needs" in refused(capsys, "info", packed)
    assert "small.trace: " in refused(capsys, "info", "--max-memory", "4K", packed)


def test_more_than_was_promised_is_not_unpacked(tmp_path: Path, capsys: Capture) -> None:
    packed = small(tmp_path, pack=True)
    header = header_of(packed)
    compare = ["compare", "--designs", "linux", "--memory", "ample"]
    for name, verb in (("pfn", ["info"]), ("kpf_start", compare), ("kpf_end", ["info"])):
        (at,) = (k for k, column in enumerate(header["columns"]) if column["name"] == name)
        count = header["columns"][at]["count"]
        path = tmp_path / f"{name}.trace"
        path.write_bytes(packed.read_bytes())
        with_header(path, changed(header, f"columns.{at}.count", count - 1))
        message = refused(capsys, *verb, path)
        assert f"{name}.trace: " in message
        assert "bytes unpacked" in message


def test_a_reversed_text_wants_memory(tmp_path: Path, capsys: Capture) -> None:
    lines = gzip.decompress(fault("h300.txt.gz").read_bytes()).splitlines(keepends=True)
    path = tmp_path / "rev.txt"
    path.write_bytes(b"".join(reversed(lines)))
    assert "rev.txt: line 2: time runs backwards; putting 300" in refused(
        capsys, "info", "--max-memory", "4K", path
    )
    assert cli.main(["info", str(path)]) == 0
    assert "time ran backwards at 299 places" in capsys.readouterr().out


# ---------------------------------------------------------------- names and escapes


def test_what_a_terminal_would_obey(tmp_path: Path, capsys: Capture) -> None:
    assert printable("a\x1b[31m\u202e\x9b\x07b\tü×") == "a\\x1b[31m\\u202e\\x9b\\x07b\\tü×"
    assert cli.main(["info", str(fault("esc.txt"))]) == 0
    out = capsys.readouterr().out
    assert "\\x1b]0;pwned\\x07\\x1b[31mX" in out
    assert "\x1b" not in out
    path = small(tmp_path)
    header = header_of(path) | {"name": "n\x1b]0;x\x07", "description": "d\x1b[2J", "kernel": "k\x9b"}
    with_header(path, header)
    for command in (["info"], ["compare", "--designs", "linux", "--memory", "64M"]):
        assert cli.main([*command, str(path)]) == 0
        out, err = capsys.readouterr()
        assert not {"\x1b", "\x07", "\x9b"} & set(out + err)
    with_header(path, header | {"cpus": 0})
    assert "\x1b" not in refused(capsys, "info", path)
    assert "\x1b" not in refused(capsys, "info", tmp_path / "missing\x1b[31m")


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/n\xff.trace")
    with open(name, "wb") as out:
        out.write(fault("s0.trace").read_bytes())
    html, about = tmp_path / "x.html", tmp_path / "x.json"
    done = asi_pa("compare", name, "--memory", "64M", "--designs", "linux", "--html", html, "--json", about)
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(about.read_text())
    text = os.fsdecode(os.fsencode(tmp_path) + b"/t\xff.txt")
    with open(text, "wb") as out:
        out.write(gzip.decompress(fault("h300.txt.gz").read_bytes()))
    converted = os.fsdecode(os.fsencode(tmp_path) + b"/o\xfe.trace")
    for environment in ({"PYTHONUTF8": "1"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}):
        done = asi_pa("convert", text, converted, env=os.environ | environment)
        assert (done.returncode, done.stderr) == (0, b"")
        done = asi_pa("info", converted, env=os.environ | environment)
        assert b"source        source t\\xff.txt, format text" in done.stdout
    assert asi_pa("info", name + "x").stderr.count(b"\n") == 1


# ---------------------------------------------------------------- outputs


def test_outputs_never_destroy(tmp_path: Path, capsys: Capture) -> None:
    path = small(tmp_path)
    link, hard = tmp_path / "link", tmp_path / "hard"
    link.symlink_to(path)
    os.link(path, hard)
    before = path.read_bytes()
    for command in (
        ["compare", path, "--json", path],
        ["compare", path, "--html", link],
        ["info", path, "--json", hard],
        ["convert", path, path],
        ["convert", "--pack", path, link],
        ["verify", path, "--json", path],
        ["compare", f"{path}+{path}", "--json", path],
        ["compare", "redis", path, "--json", f"{tmp_path}/./{path.name}"],
    ):
        assert "it would be written over" in refused(capsys, *command)
    design = tmp_path / "d.py"
    design.write_text("from asi_pa.designs import DESIGNS\nX = DESIGNS['linux']\n")
    assert "written over" in refused(capsys, "compare", "redis", "--design", f"{design}:X", "--json", design)
    new = tmp_path / "new"
    assert "two results" in refused(capsys, "compare", path, "--json", new, "--html", f"{tmp_path}/./new")
    assert "names no file" in refused(capsys, "convert", path, "-")
    assert path.read_bytes() == before
    assert not new.exists()
    assert cli.main(["info", str(path), "--json", os.devnull]) == 0


def test_a_broken_pipe_hides_nothing(tmp_path: Path) -> None:
    """The reader is gone before the first word: the exit status and the file are those of the work."""
    about = tmp_path / "v.json"
    read, write = os.pipe()
    os.close(read)
    bad = fault("bad.npz")
    words = [
        sys.executable,
        "-m",
        "asi_pa",
        "verify",
        "--jobs",
        "1",
        "--json",
        str(about),
        str(bad),
        str(bad),
    ]
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
    assert [verdict["exact"] for verdict in json.loads(about.read_text())] == [False, False]


@pytest.mark.parametrize("command", [["designs"], ["info", "redis"], ["--help"], ["--version"]])
def test_standard_output_that_cannot_be_written(command: list[str]) -> None:
    words = [sys.executable, "-m", "asi_pa", *command]
    done = subprocess.run(words, stderr=subprocess.PIPE, preexec_fn=lambda: os.close(1), check=False)
    assert (done.returncode, done.stderr) == (2, b"asi-pa: error: standard output is closed\n")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert done.stderr == b"asi-pa: error: standard output: No space left on device\n"


def test_no_standard_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asi_pa", "info", "no-such"],
        stdout=subprocess.PIPE,
        preexec_fn=lambda: os.close(2),
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")


def test_a_full_disk_is_named(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    text = tmp_path / "t.txt"
    text.write_bytes(gzip.decompress(fault("h300.txt.gz").read_bytes()))
    packed = tmp_path / "s.trace.gz"
    packed.write_bytes(gzip.compress(fault("s0.trace").read_bytes()))
    monkeypatch.setattr("tempfile.TemporaryFile", lambda *a, **k: Full())
    assert "temporary files in " in refused(capsys, "info", text)
    assert "TMPDIR" in refused(capsys, "info", packed)


# ---------------------------------------------------------------- interruption


@pytest.mark.parametrize("verb", ["convert", "compare", "info", "audit", "explain", "timeline", "sweep"])
def test_ctrl_c(tmp_path: Path, verb: str) -> None:
    """In the middle of long work: the status shells expect, no file, no traceback."""
    out, folder = tmp_path / "out.trace", tmp_path / "folder"
    command = {
        "convert": ["--pack", "bulk:16G", str(out)],
        "compare": ["bulk:16G", "--memory", "ample", "--json", str(out)],
        "info": ["bulk:16G", "--json", str(out)],
        "audit": ["--all", "--json", str(out)],
        "explain": ["bulk:16G", "90000000", "--json", str(out)],
        "timeline": ["bulk:16G", "-o", str(out.with_suffix(".json"))],
        # a point of it is minutes of a worker's work, which nobody waits for
        "sweep": [str(tmp_path / "s.toml"), "--folder", str(folder), "--executor", "processes:1"],
    }[verb]
    if verb == "sweep":
        (tmp_path / "s.toml").write_text('traces = ["bulk:4G"]\ndesigns = ["linux"]\n')
    words = [sys.executable, "-m", "asi_pa", verb, *command]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(2.5)
    while verb == "sweep" and process.poll() is None and not (folder / "meta.json").exists():
        time.sleep(0.5)  # its workers begin when the file is there
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    if process.returncode == 0:
        pytest.skip("it was done before it could be interrupted")
    assert (process.returncode, said) == (130, b"")
    if verb == "sweep":
        assert not list((folder / "points").iterdir())
        return
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- the API


def test_what_was_never_initialised_raises() -> None:
    class Mine(Allocator):
        def __init__(self, note: str) -> None:
            self.note = note

    mine = Mine("x")
    for call in (
        lambda: mine.alloc_pages(0),
        lambda: mine.free_pages(0),
        lambda: mine.alloc_pages_bulk(0, n=1),
        mine.tick,
        mine.drain,
        lambda: mine.free_pages_bulk([1]),
        mine.verify,
        mine.free_lists,
        lambda: mine.isolate(0, 512),
        lambda: mine.pcp_state(0),
        mine.replay,
        mine.buddyinfo,
        lambda: mine.add_memory(0, 512),
    ):
        with pytest.raises((RuntimeError, AttributeError)):
            call()
    with pytest.raises(RuntimeError, match=r"Mine\.__init__ was not called"):
        mine.alloc_pages(0)


def test_every_cpu_is_checked() -> None:
    machine = Allocator("64M", single_zone=True).machine
    start = machine.spec.zones[0].start_pfn
    for cpu in (1, -1, 1000, (1 << 31) - 1):
        for call in (
            lambda c: machine.counters(cpu=c), lambda c: machine.unreserve_highatomic(0, False, cpu=c),
            lambda c: machine.drain(c), lambda c: machine.tick(c), lambda c: machine.alloc(0, 0xCC0, c),
            lambda c: machine.run_queue(c), lambda c: machine.shrink_pool(1, c),
            lambda c: machine.free_contig_range(start, 1, c),
        ):  # fmt: skip
            with pytest.raises(ValueError, match=f"cpu {cpu}"):
                call(cpu)


def test_ranges_are_checked_before_sets_are_built() -> None:
    allocator = Allocator("64M", single_zone=True)
    for call in (
        allocator.add_memory,
        allocator.online_pages,
        allocator.remove_memory,
        allocator.offline_pages,
    ):
        for start, n in ((1 << 31, 1 << 62), (0, 1 << 62), (0, 1 << 40)):
            with pytest.raises(ValueError, match=r"not inside one zone|memory block at pfn"):
                call(start, n)


def test_read_trace_of_what_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no-such"):
        read_trace(tmp_path / "no-such")


def test_a_design_file_is_code_and_only_its_word_runs_it(tmp_path: Path) -> None:
    """Files that lie about, bear the names of designs, or are named in a trace stay what they are."""
    mark = tmp_path / "ran"
    for name in ("linux.py", "evil.py", "redis.py"):
        (tmp_path / name).write_text(
            f"open({str(mark)!r}, 'w').close()\nfrom asi_pa.designs import DESIGNS\nX = DESIGNS['linux']\n"
        )
    path = small(tmp_path)
    with_header(
        path, header_of(path) | {"name": "evil.py:X", "description": "evil.py:X", "kernel": "evil.py:X"}
    )
    for command in (
        ["info", path],
        ["designs", "linux"],
        ["designs"],
        ["info", "redis"],
        ["info", "evil.py:X"],
    ):
        asi_pa(*command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])})
    assert not mark.exists()
    done = asi_pa(
        "designs", "evil.py:X", cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    )
    assert done.returncode == 0
    assert mark.exists()


def test_one_exact_file_does_not_hide_another(capsys: Capture) -> None:
    good = next((FAULTS.parent / "oracle").glob("linux-7.2/D3*.npz"))
    assert cli.main(["verify", "--jobs", "1", str(good)]) == 0
    for files in ([good, fault("bad.npz")], [fault("bad.npz"), good]):
        assert cli.main(["verify", "--jobs", "1", *map(str, files)]) == 1
        assert "1 of 2 files exact" in capsys.readouterr().out
