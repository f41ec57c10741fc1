"""Fuzzing of whatever reads a file: damaged copies of real inputs, found and made small by hypothesis.

    python tests/fuzz.py [EXAMPLES [READER ...]]    so many for each reader, or for those (2000)

`make fuzz`, and `make sanitize` under ASan and UBSan.  A reader may refuse an input with a ValueError (one
line, no traceback), a verb with exit status 2 and one line; anything else, a crash above all, is a fault.
Seeds are the inputs of tests/data (texts of the field, recorded runs, trace files, start states), examples,
and small files made here.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import struct
import sys
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from asi_pa import cli
from asi_pa.kernel import procfs
from asi_pa.limits import memory_limit
from asi_pa.run.start import compile_trace
from asi_pa.trace import Trace, load_input, read_npz, workload, write_trace
from asi_pa.trace.gfp_names import trace_gfp
from asi_pa.trace.info import describe, describe_text
from asi_pa.trace.table import write_parquet
from asi_pa.verify.recording import read_recording
from tests.report.compare_result import make_result
from tests.run.contradictory import drawn

DATA = Path(__file__).resolve().parent / "data"
#: What an input may claim while it is fuzzed.
MOST = 1 << 26
TOKENS = (
    b"mm_page_alloc:",
    b"mm_page_free:",
    b"kmem:",
    b" pfn=",
    b"page=(nil)",
    b" order=",
    b"migratetype=",
    b"gfp_flags=",
    b"[000]",
    b" 1.5: ",
    b"=> ",
    b"\t0 ",
    b"[LOST EVENTS]",
    b"CPU:1 [LOST 3 EVENTS]",
    b"0x",
    b"-1",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xff",
    b"> ",
    b"12:",
    b"99999999999999999999",
    b"|",
    b"#",
    b"null",
    b"[",
    b"]",
    b"{",
    b"}",
    b'"',
    b"1e999",
    b"NaN",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x1f\x8b",
    b"PK\x03\x04",
    b"asi_pa\x01\n",
    b"true",
    b"\\ud800",
    b"Node 0, zone",
    b"*4kB",
    b"traces = ",
    b"-0",
    b"_",
    b"PAR1",
)

#: One change: where (a share of the file), what kind, a number, some bytes.
Edit = tuple[float, int, int, bytes]
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 7),
        st.integers(0, 255),
        st.one_of(st.sampled_from(TOKENS), st.binary(max_size=9)),
    ),
    max_size=6,
)


def edited(data: bytes, edits: list[Edit]) -> bytes:
    """A copy with bytes flipped, numbers, tokens and pieces put in, ranges cut out or repeated, the end
    lost."""
    for share, kind, number, some in edits:
        at = int(share * len(data))
        if kind == 0 and data:
            data = data[:at] + bytes([data[at] ^ (1 << number % 8)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + some + data[at:]
        elif kind == 2:
            data = data[:at] + some + data[at + len(some) :]
        elif kind == 3:
            data = data[:at] + data[at + number :]
        elif kind == 4:
            data = data[:at] + data[at : at + number] * 3 + data[at + number :]
        elif kind == 5:
            data = data[:at]
        elif kind == 6:
            data = (
                data[:at] + struct.pack("<Q", ((1 << number % 64) - number % 3) % (1 << 64)) + data[at + 8 :]
            )
        else:
            lines = data.split(b"\n")
            lines.insert(at % (len(lines) + 1), lines[number % len(lines)])
            data = b"\n".join(lines)
    return data


def _files(*patterns: str) -> list[bytes]:
    found = sorted(path for pattern in patterns for path in DATA.glob(pattern) if path.is_file())
    return [path.read_bytes() for path in found if path.stat().st_size < 1 << 17]


def _small() -> Trace:
    whole = workload("forks", "32M", 1)
    return whole.with_events(np.arange(len(whole)) < 60)


@cache
def texts() -> list[bytes]:
    return _files("field/*/*.txt", "faults/*/*.txt")


@cache
def traces() -> list[bytes]:
    made = []
    with tempfile.TemporaryDirectory() as name:
        # those drawn have every kind of event, and what settling a start follows them for
        for trace, pack in ((_small(), False), (_small(), True), *((drawn(seed), False) for seed in (7, 9))):
            write_trace(trace, Path(name) / "t.trace", pack=pack)
            made.append((Path(name) / "t.trace").read_bytes())
    return made + _files("faults/*/*.trace")


def _header(trace: bytes) -> int:
    """Where a trace file's columns begin."""
    return 16 + int.from_bytes(trace[8:16], "little")


@cache
def events() -> list[bytes]:
    """The columns of a trace file of every kind of event: what of their damage is read is followed."""
    return [trace[_header(trace) :] for trace in traces()[2:3]]


@cache
def arrays() -> list[bytes]:
    trace = _small()
    out = io.BytesIO()
    meta = {
        "kernel": "Linux 6.18",
        "cpus": 4,
        "kinds": ["alloc", "free"],
        "migratetypes": ["U"],
        "comms": ["a"],
        "gfp_names": [["GFP_KERNEL", 3264]],
    }
    columns: dict[str, np.ndarray[Any, Any]] = {
        "cpu": trace.cpu,
        "kind": trace.kind,
        "pfn": trace.pfn,
        "order": trace.order,
        "migratetype": trace.migratetype,
        "gfp": np.full(len(trace), 3264, "u4"),
        "ts_delta_ns": np.ones(len(trace), "u4"),
        "comm": np.zeros(len(trace), "u1"),
    }
    with zipfile.ZipFile(out, "w") as archive:  # stored: an edit reaches the header, not only the packing
        members = {**columns, "meta": np.array(json.dumps(meta))}
        for name, array in members.items():
            piece = io.BytesIO()
            np.save(piece, array)
            archive.writestr(f"{name}.npy", piece.getvalue())
    return [out.getvalue()]


@cache
def runs() -> list[bytes]:
    return _files("oracle/*/D3*-1.npz", "faults/*/*.npz")[:6]


@cache
def results() -> list[bytes]:
    made = make_result(traces=("redis",), memories=(("ample", 1 << 30),), columns=4, samples=3)
    return [json.dumps(made).encode()]


@cache
def sweeps() -> list[bytes]:
    own = b'traces = ["bursts:32M"]\ndesigns = ["linux"]\nmemory = ["24M"]\nseeds = [0, 3]\nnodes = 2\n'
    field = b'[fields.migratetype]\nzeroing = ["locked", "flip"]\n'
    return [own, own + field, *(path.read_bytes() for path in (DATA.parents[1] / "examples").glob("*.toml"))]


@cache
def tables() -> list[bytes]:
    with tempfile.TemporaryDirectory() as name:
        write_parquet(_small(), Path(name) / "t.parquet")
        return [(Path(name) / "t.parquet").read_bytes()]


@cache
def states() -> list[bytes]:
    packed = _files("start/*.json.gz")
    return [*packed[:1], *map(gzip.decompress, packed)]


@cache
def memories() -> list[bytes]:
    return _files("field/19*/*.txt", "field/20*/*.txt", "field/21*/*.txt", "procfs/*")


def _verb(*words: str) -> None:
    """A verb of the command line on a damaged input: good, a check that failed, or one line and status 2."""
    out, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
        status = cli.main(list(words))
    assert status in (0, 1, 2), status
    assert status != 2 or (said.getvalue().count("\n") == 1 and said.getvalue().startswith("asi-pa: error: "))


def _compared(path: str) -> None:
    with tempfile.NamedTemporaryFile(prefix="fuzz-") as good:
        good.write(results()[0])
        good.flush()
        _verb("diff", path, good.name)
        _verb("diff", good.name, path, "--full")


def _input(data: bytes, read: Callable[[str], object]) -> None:
    with tempfile.NamedTemporaryFile(prefix="fuzz-") as file, memory_limit(MOST):
        file.write(data)
        file.flush()
        try:
            read(file.name)
        except (ValueError, MemoryError):
            return


def _whole(path: str) -> None:
    made = load_input(path)
    if isinstance(made, dict):
        return
    describe_text(describe(made))
    if len(made):
        _compiled(made)


def _compiled(trace: Trace) -> None:
    """What a reader accepted, compiled: with its start state settled by following it, if it has one."""
    compile_trace(trace, memory="64M")
    if trace.has_start:
        with contextlib.suppress(ValueError):
            compile_trace(trace, recorded=True)


def _npz(path: str) -> None:
    made = read_npz(path)
    describe(made)
    _compiled(made)


def _columns(data: bytes) -> None:
    whole = traces()[2]
    _input(whole[: _header(whole)] + data[: len(events()[0])].ljust(len(events()[0]), b"\0"), _whole)


def _texts(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    for read in (procfs.parse_buddyinfo, procfs.parse_pagetypeinfo, procfs.parse_zoneinfo, trace_gfp):
        try:
            read(text)
        except ValueError:
            continue


#: name -> seeds, what is done with a damaged one
READERS: dict[str, tuple[Callable[[], list[bytes]], Callable[[bytes], None]]] = {
    "text": (texts, lambda data: _input(data, _whole)),
    "trace": (traces, lambda data: _input(data, _whole)),
    "events": (events, _columns),
    "npz": (arrays, lambda data: _input(data, _npz)),
    "recording": (runs, lambda data: _input(data, read_recording)),
    "proc": (texts, _texts),
    "memory": (memories, lambda data: _input(data, lambda path: _verb("info", path))),
    "result": (results, lambda data: _input(data, _compared)),
    "sweep": (
        sweeps,
        lambda data: _input(data, lambda path: _verb("sweep", path, "--dry-run", "--folder", path + "-")),
    ),
    "parquet": (tables, lambda data: _input(data, _whole)),
    "state": (states, lambda data: _input(data, load_input)),
}


def fuzz(name: str, examples: int, *, derandomize: bool = False) -> int:
    """Tries so many damaged inputs on a reader; how many were tried.  Raises what the reader should not
    have."""
    seeds, attempt = READERS[name]
    tried = 0

    @settings(
        max_examples=examples,
        derandomize=derandomize,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(range(len(seeds()))), EDITS)
    def one(which: int, edits: list[Edit]) -> None:
        nonlocal tried
        tried += 1
        attempt(edited(seeds()[which], edits))

    one()
    return tried


def main() -> None:
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    for name in sys.argv[2:] or READERS:
        print(f"{name}: {fuzz(name, examples)} damaged inputs, {len(READERS[name][0]())} seeds", flush=True)


if __name__ == "__main__":
    main()
