"""Recording a trace on the running machine: perf's kmem events between two snapshots of /proc.

The order is what makes the initial state exact: perf is started with its events off, the snapshot is
taken, events are switched on, the command runs, events go off, the second snapshot is taken.  Needs root, the
``perf`` program, and a kernel with CONFIG_PROC_PAGE_MONITOR for kpageflags.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.procfs import parse_zoneinfo
from asi_pa.trace.events import EVENTS
from asi_pa.trace.format import KPF_BITS, Trace
from asi_pa.trace.text import read_stream

__all__ = ["record", "snapshot"]

#: Bits of /proc/kpageflags behind each bit of `KPF_BITS` (include/uapi/linux/kernel-page-flags.h; RESERVED is
#: include/linux/kernel-page-flags.h; the last bit stands for NOPAGE, OFFLINE and RESERVED), 6.18.
_KPF = ((10,), (5,), (12,), (7,), (15,), (16,), (26,), (20, 23, 32))
#: What a trace keeps of a zone and of each of its per-CPU lists.
_PAGES = ("free", "boost", "min", "low", "high", "promo", "spanned", "present", "managed")
_PER_CPU = ("count", "high", "batch", "high_min", "high_max")
_MMAP_PAGES = 1024
_PATIENCE = 30.0


def record(
    output_name: str,
    command: Sequence[str] | None = None,
    *,
    seconds: float | None = None,
    description: str = "",
    directory: str | None = None,
    proc: str = "/proc",
) -> Trace:
    """Record while ``command`` runs, or for so many seconds, or until interrupted; the whole machine is
    recorded.

    ``output_name`` names the trace.  ``directory`` takes perf's data and the columns (default: the system's
    temporary directory).  Raises ValueError if perf or a snapshot cannot be had, with the reason.
    """
    if shutil.which("perf") is None:
        raise ValueError("perf is not installed (on Debian: package linux-perf)")
    if command is not None and shutil.which(command[0]) is None:
        raise ValueError(f"{command[0]}: no such command")
    with tempfile.TemporaryDirectory(prefix="asi_pa-", dir=directory) as scratch:
        data = Path(scratch) / "perf.data"
        with _perf(Path(scratch), data) as switch:
            start = snapshot(proc)
            switch("enable")
            began = time.monotonic()
            status = _wait(command, seconds)
            elapsed = time.monotonic() - began
            switch("disable")
            end = snapshot(proc)
        trace = _printed(data, output_name, directory)
    snapshots = {f"{key}_start": value for key, value in start["proc"].items()}
    snapshots |= {f"{key}_end": value for key, value in end["proc"].items()}
    names = re.search(r"^Number of blocks type(.*)$", start["proc"]["pagetypeinfo"]["text"], re.MULTILINE)
    order = re.search(r"^Page block order:\s*(\d+)", start["proc"]["pagetypeinfo"]["text"], re.MULTILINE)
    return replace(
        trace,
        description=description or " ".join(command or ()),
        kernel=f"Linux {platform.release()}",
        migratetypes=tuple(names[1].split()) if names else trace.migratetypes,
        pageblock_order=int(order[1]) if order else trace.pageblock_order,
        snapshots=snapshots,
        kpageflags={"start": start["kpf"], "end": end["kpf"]},
        provenance={
            "source": "recorded here",
            "format": "perf",
            "recorder": f"perf record -e kmem:* -a -m {_MMAP_PAGES}",
            "command": list(command or ()),
            "exit_status": status,
            "seconds": round(elapsed, 3),
        },
    )


@contextlib.contextmanager
def _perf(scratch: Path, data: Path) -> Iterator[Any]:
    """A running ``perf record`` with its events off; yields a function that sends it a control command."""
    control, answers = scratch / "control", scratch / "answers"
    os.mkfifo(control)
    os.mkfifo(answers)
    words = ["perf", "record", "-q", "-a", "-m", str(_MMAP_PAGES), "-D", "-1", "-o", str(data)]
    words += [word for event in EVENTS if event.recorded for word in ("-e", f"kmem:{event.tracepoint}")]
    perf = subprocess.Popen(
        [*words, f"--control=fifo:{control},{answers}"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        with open(os.open(control, os.O_RDWR), "wb", buffering=0) as out, \
             open(os.open(answers, os.O_RDWR | os.O_NONBLOCK), "rb", buffering=0) as back:  # fmt: skip

            def switch(word: str) -> None:
                out.write(word.encode() + b"\n")
                deadline, got = time.monotonic() + _PATIENCE, b""
                while b"ack\n" not in got:
                    if perf.poll() is not None:
                        raise ValueError(f"perf record: {_complaint(perf)}")
                    if time.monotonic() > deadline:
                        raise ValueError(f"perf record: no answer to {word!r} within {_PATIENCE:.0f} s")
                    with contextlib.suppress(BlockingIOError):
                        got += back.read(64) or b""
                    time.sleep(0.002)

            yield switch
        perf.send_signal(signal.SIGINT)
        perf.wait(_PATIENCE)
    finally:
        if perf.poll() is None:
            perf.terminate()
            perf.wait()
        if perf.stderr:
            perf.stderr.close()


def _complaint(process: subprocess.Popen[bytes]) -> str:
    text = process.stderr.read().decode("utf-8", "replace") if process.stderr else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else f"exit status {process.returncode}"


def _wait(command: Sequence[str] | None, seconds: float | None) -> int | None:
    """Until the command or the time is over, or Ctrl-C; the command's exit status."""
    if command is None:
        with contextlib.suppress(KeyboardInterrupt):
            time.sleep(1e9 if seconds is None else seconds)
        return None
    child = subprocess.Popen(list(command))
    try:
        return child.wait(seconds)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.terminate()
        return child.wait()


def _printed(data: Path, name: str, directory: str | None) -> Trace:
    words = [
        "perf",
        "script",
        "-i",
        str(data),
        "--ns",
        "--show-lost-events",
        "-F",
        "comm,tid,cpu,time,event,trace",
    ]
    script = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert script.stdout is not None
    try:
        trace = read_stream(script.stdout, name, cpus=os.cpu_count(), directory=directory)
    except ValueError as error:
        script.kill()
        script.wait()
        raise ValueError(f"perf script: {error}") from None
    script.stdout.close()
    complaint = _complaint(script)
    if script.wait():
        raise ValueError(f"perf script: {complaint}")
    if script.stderr:
        script.stderr.close()
    return trace


def snapshot(proc: str = "/proc") -> dict[str, Any]:
    """The machine's memory now: ``proc`` (zones, buddyinfo, pagetypeinfo) and ``kpf`` (u8 per frame,
    `KPF_BITS`).

    Raises ValueError naming the file that cannot be read.
    """
    found: dict[str, Any] = {"zones": _zones(_slurp(f"{proc}/zoneinfo"))}
    for name in ("buddyinfo", "pagetypeinfo"):
        began = time.monotonic_ns()
        found[name] = {"t0": began, "text": _slurp(f"{proc}/{name}"), "t1": time.monotonic_ns()}
    frames = max(
        (zone["start_pfn"] + zone["spanned"] for zone in found["zones"] if zone["managed"]), default=0
    )
    return {"proc": found, "kpf": _kpageflags(f"{proc}/kpageflags", frames)}


def _slurp(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror} (recording needs root)") from None


def _kpageflags(path: str, frames: int) -> npt.NDArray[np.uint8]:
    flags = np.zeros(frames, np.uint8)
    step = 1 << 19
    try:
        with open(path, "rb", buffering=0) as file:
            for start in range(0, frames, step):
                words = np.frombuffer(file.read(8 * min(step, frames - start)), np.uint64)
                target = flags[start : start + len(words)]
                for bit, sources in enumerate(_KPF):
                    mask = np.uint64(sum(1 << source for source in sources))
                    target |= ((words & mask) != 0).astype(np.uint8) << np.uint8(bit)
                if len(words) < min(step, frames - start):
                    target = flags[start + len(words) :]
                    target[:] = 1 << KPF_BITS.index("NOPAGE_OFFLINE_RESERVED")
                    break
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror} (recording needs root)") from None
    return flags


def _zones(text: str) -> list[dict[str, Any]]:
    """The zones of zoneinfo text as a trace keeps them (all counts are pages)."""
    found = []
    for zone in parse_zoneinfo(text):
        pages = {key: zone.pages[key] for key in _PAGES if key in zone.pages}
        cpus = [{key: pcp[key] for key in _PER_CPU if key in pcp} for pcp in zone.pagesets.values()]
        found.append(
            {"name": zone.name, "nid": zone.nid, "protection": list(zone.protection), "cpus": cpus}
            | {"start_pfn": zone.tail.get("start_pfn", 0)}
            | pages
        )
    return found
