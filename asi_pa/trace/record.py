"""Recording a trace on the running machine: perf's kmem events and two snapshots of /proc, or one alone.

The order is what makes the initial state exact: events are on before the first snapshot is read and until the
second one has been, and both are stamped with the trace's clock (CLOCK_MONOTONIC), so that nothing happens
unseen between a snapshot and the events.  Needs root, the ``perf`` program, and a kernel with
CONFIG_PROC_PAGE_MONITOR for kpageflags.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.gfp import GFP_KERNEL
from asi_pa.kernel.procfs import MIGRATETYPE_NAMES, parse_zoneinfo
from asi_pa.trace.events import EVENTS
from asi_pa.trace.format import EVENT_COLUMNS, KPF_BITS, Trace
from asi_pa.trace.gfp_names import TRACE_GFP_NAMES
from asi_pa.trace.text import read_stream

__all__ = ["record", "snapshot", "start_state"]

#: Bits of /proc/kpageflags behind each bit of `KPF_BITS` (include/uapi/linux/kernel-page-flags.h; RESERVED is
#: include/linux/kernel-page-flags.h; the last bit stands for NOPAGE, OFFLINE and RESERVED), 6.18.
_KPF = ((10,), (5,), (12,), (7,), (15,), (16,), (26,), (20, 23, 32))
_NOPAGE = np.uint8(1 << KPF_BITS.index("NOPAGE_OFFLINE_RESERVED"))
#: Frames of a memory section, by which memory is there or not (arch/x86/include/asm/sparsemem.h).
_SECTION = 1 << 15
#: What a trace keeps of a zone and of each of its per-CPU lists.
_PAGES = ("free", "boost", "min", "low", "high", "promo", "spanned", "present", "managed")
_PER_CPU = ("count", "high", "batch", "high_min", "high_max")
_MMAP_PAGES = 1024
_PATIENCE = 30.0
#: How often perf's data is looked at, and what is little: of its buffers, of the disk.
_LOOK_SECONDS = 0.5
_SPARE_SECONDS = 0.25
_SPARE_DISK_SECONDS = 60.0
#: What an event costs the machine that is traced, microseconds: measured on an x86-64 guest, Linux 6.18.
EVENT_COST_US = 0.7


def record(
    output_name: str,
    command: Sequence[str] | None = None,
    *,
    seconds: float | None = None,
    description: str = "",
    directory: str | None = None,
    proc: str = "/proc",
    buffer_pages: int = _MMAP_PAGES,
    warn: Callable[[str], None] = lambda _words: None,
) -> Trace:
    """Record while ``command`` runs, or for so many seconds, or until interrupted; the whole machine is
    recorded.

    ``output_name`` names the trace.  ``directory`` takes perf's data and the columns (default: the system's
    temporary directory).  ``buffer_pages`` is the size of perf's buffer of each CPU, a power of two; ``warn``
    is told when the buffers or the disk are about to be full.  Raises ValueError if perf or a snapshot cannot
    be had, with the reason.
    """
    if shutil.which("perf") is None:
        raise ValueError("perf is not installed (on Debian: package linux-perf)")
    if command is not None and shutil.which(command[0]) is None:
        raise ValueError(f"{command[0]}: no such command")
    with tempfile.TemporaryDirectory(prefix="asi_pa-", dir=directory) as scratch:
        data = Path(scratch) / "perf.data"
        with _perf(Path(scratch), data, buffer_pages, warn) as (switch, spent):
            switch("enable")
            start = snapshot(proc)
            watch = _Watch(data, buffer_pages, warn)
            began = time.monotonic_ns()
            status = _wait(command, seconds, watch)
            ended = time.monotonic_ns()
            end = snapshot(proc)
            switch("disable")
        size = data.stat().st_size
        trace = _printed(data, output_name, directory)
    origin = int(trace.provenance["began_ns"])
    snapshots = _stamped(start["proc"], origin, "start") | _stamped(end["proc"], origin, "end")
    return replace(
        trace,
        description=description or " ".join(command or ()),
        kernel=f"Linux {platform.release()}",
        **_pageblocks(start["proc"]["pagetypeinfo"]["text"]),
        snapshots=snapshots,
        kpageflags={"start": start["kpf"], "end": end["kpf"]},
        provenance={
            "source": "recorded here",
            "format": "perf",
            "recorder": f"perf record -e kmem:* -a -k mono -m {buffer_pages}",
            "clock": "CLOCK_MONOTONIC ns",
            "command": list(command or ()),
            "exit_status": status,
            "seconds": round((ended - began) / 1e9, 3),
            "began_ns": origin,
            "workload_start_ns": began - origin,
            "workload_end_ns": ended - origin,
            "recording": {"perf_cpu_seconds": round(spent(), 3), "perf_data_bytes": size},
        },
    )


def start_state(name: str, *, description: str = "", proc: str = "/proc") -> Trace:
    """The machine's memory now as a trace without events; its stamps are from when it was begun to be read.

    The files are read one after the other, not at once: of what changes meanwhile nothing says when.
    Raises ValueError naming the file that cannot be read.
    """
    taken = snapshot(proc)
    began = int(taken["proc"]["zoneinfo"]["t0"])
    zones = [zone for zone in taken["proc"]["zones"] if zone["managed"]]
    if not zones:
        raise ValueError(f"{proc}/zoneinfo: no zone with memory")
    fields: dict[str, Any] = {column: np.zeros(0, dtype) for column, dtype in EVENT_COLUMNS.items()}
    fields |= {"migratetypes": MIGRATETYPE_NAMES} | _pageblocks(taken["proc"]["pagetypeinfo"]["text"])
    return Trace(
        name=name,
        description=description,
        kernel=f"Linux {platform.release()}",
        cpus=max(len(zone["cpus"]) for zone in zones),
        gfps=(GFP_KERNEL,),  # tables of names are never empty, events or not
        comms=("",),
        gfp_names=dict(TRACE_GFP_NAMES),
        snapshots=_stamped(taken["proc"], began, "start"),
        kpageflags={"start": taken["kpf"]},
        provenance={
            "source": "taken here",
            "format": "snapshot",
            "recorder": "/proc/zoneinfo, buddyinfo, pagetypeinfo, kpageflags",
            "clock": "CLOCK_MONOTONIC ns",
        },
        **fields,
    )


def _pageblocks(pagetypeinfo: str) -> dict[str, Any]:
    """The fields of a Trace that pagetypeinfo's text says: names of migratetypes, size of a pageblock."""
    names = re.search(r"^Number of blocks type(.*)$", pagetypeinfo, re.MULTILINE)
    order = re.search(r"^Page block order:\s*(\d+)", pagetypeinfo, re.MULTILINE)
    return ({"migratetypes": tuple(names[1].split())} if names else {}) | (
        {"pageblock_order": int(order[1])} if order else {}
    )


def _stamped(proc: dict[str, Any], origin: int, which: str) -> dict[str, Any]:
    """A snapshot's parts by name, each with the trace's times between which it was read."""
    return {
        f"{key}_{which}": value | {"trace_ns": [value["t0"] - origin, value["t1"] - origin]}
        if isinstance(value, dict)
        else value
        for key, value in proc.items()
    }


class _Watch:
    """Looks at perf's data while it grows, and says so once when events are about to be lost."""

    def __init__(self, data: Path, buffer_pages: int, warn: Callable[[str], None]) -> None:
        self.data, self.warn = data, warn
        self.buffer = buffer_pages * os.sysconf("SC_PAGE_SIZE") * (os.cpu_count() or 1)
        self.size, self.at = self._bytes(), time.monotonic()
        self.said: set[str] = set()

    def _bytes(self) -> int:
        try:
            return self.data.stat().st_size
        except OSError:
            return 0

    def look(self) -> None:
        """To be called about twice a second."""
        size, now = self._bytes(), time.monotonic()
        rate = (size - self.size) / max(now - self.at, 1e-3)
        self.size, self.at = size, now
        if rate <= 0:
            return
        if self.buffer / rate < _SPARE_SECONDS:
            self._say(
                "buffer",
                f"{rate / 1e6:.0f} MB of events a second fill perf's buffers in "
                f"{1000 * self.buffer / rate:.0f} ms: events may be lost (--buffer makes them larger)",
            )
        left = shutil.disk_usage(self.data.parent).free
        if left / rate < _SPARE_DISK_SECONDS:
            self._say(
                "disk",
                f"{self.data.parent}: {left / 1e6:.0f} MB are left, enough for {left / rate:.0f} s",
            )

    def _say(self, what: str, words: str) -> None:
        if what not in self.said:
            self.said.add(what)
            self.warn(words)


@contextlib.contextmanager
def _perf(
    scratch: Path, data: Path, pages: int, warn: Callable[[str], None]
) -> Iterator[tuple[Callable[[str], None], Callable[[], float]]]:
    """A running ``perf record`` with its events off.

    Yields a function that sends it a control command, and one that says how many CPU seconds it has used.
    """
    control, answers = scratch / "control", scratch / "answers"
    os.mkfifo(control)
    os.mkfifo(answers)
    words = ["perf", "record", "-q", "-a", "-k", "mono", "-m", str(pages), "-D", "-1"]
    # No build ids: perf would read all of its data again for them at the end.
    words += ["-B", "-N", "-o", str(data)]
    words += [word for event in EVENTS if event.recorded for word in ("-e", f"kmem:{event.tracepoint}")]
    used = [0.0]
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

            yield switch, lambda: used[0]
            used[0] = _cpu_seconds(perf.pid)
        perf.send_signal(signal.SIGINT)
        try:
            perf.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            warn(f"perf has been writing its last data for {_PATIENCE:.0f} s; Ctrl-C gives the recording up")
            perf.wait()
    finally:
        if perf.poll() is None:
            perf.terminate()
            perf.wait()
        if perf.stderr:
            perf.stderr.close()


def _cpu_seconds(pid: int) -> float:
    """What a running process has used, user and system (fields 14 and 15 of /proc/PID/stat); 0 if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def _complaint(process: subprocess.Popen[bytes]) -> str:
    text = process.stderr.read().decode("utf-8", "replace") if process.stderr else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else f"exit status {process.returncode}"


def _wait(command: Sequence[str] | None, seconds: float | None, watch: _Watch) -> int | None:
    """Until the command or the time is over, or Ctrl-C; the command's exit status."""
    deadline = time.monotonic() + (1e9 if seconds is None else seconds)
    child = None if command is None else subprocess.Popen(list(command))
    try:
        while (left := deadline - time.monotonic()) > 0:
            pause = min(left, _LOOK_SECONDS)
            if child is None:
                time.sleep(pause)
            else:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return child.wait(pause)
            watch.look()
    except KeyboardInterrupt:
        pass
    if child is None:
        return None
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
    began = time.monotonic_ns()
    zones = _slurp(f"{proc}/zoneinfo")
    found: dict[str, Any] = {"zoneinfo": {"t0": began, "t1": time.monotonic_ns()}}
    found["zones"] = _zones(zones)
    for name in ("buddyinfo", "pagetypeinfo"):
        began = time.monotonic_ns()
        found[name] = {"t0": began, "text": _slurp(f"{proc}/{name}"), "t1": time.monotonic_ns()}
    frames = max(
        (zone["start_pfn"] + zone["spanned"] for zone in found["zones"] if zone["managed"]), default=0
    )
    began = time.monotonic_ns()
    flags, bare = _kpageflags(f"{proc}/kpageflags", frames)
    _mark_holes(flags, bare, found["zones"])
    found["kpageflags"] = {"t0": began, "t1": time.monotonic_ns()}
    return {"proc": found, "kpf": flags}


def _slurp(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror} (recording needs root)") from None


def _kpageflags(path: str, frames: int) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """A byte a frame, and the sections in which no frame has a flag of any kind."""
    flags, bare = np.zeros(frames, np.uint8), []
    step = 1 << 19
    try:
        with open(path, "rb", buffering=0) as file:
            for start in range(0, frames, step):
                words = np.frombuffer(file.read(8 * min(step, frames - start)), np.uint64)
                target = flags[start : start + len(words)]
                for bit, sources in enumerate(_KPF):
                    mask = np.uint64(sum(1 << source for source in sources))
                    target |= ((words & mask) != 0).astype(np.uint8) << np.uint8(bit)
                sections = words[: len(words) // _SECTION * _SECTION].reshape(-1, _SECTION)
                bare += (start // _SECTION + np.flatnonzero(~sections.any(axis=1))).tolist()
                if len(words) < min(step, frames - start):
                    flags[start + len(words) :] = _NOPAGE
                    break
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror} (recording needs root)") from None
    return flags, bare


def _mark_holes(flags: npt.NDArray[np.uint8], bare: list[int], zones: list[dict[str, Any]]) -> None:
    """Sections without a flag are holes where their zone lacks as many frames.

    What has no struct page, or is offline, reads KPF_NOPAGE in 6.12 and 0 in 7.2, as a page without a flag
    does (fs/proc/page.c kpageflags_read, kpage_read).
    """
    for zone in zones:
        start, end = zone["start_pfn"], zone["start_pfn"] + zone["spanned"]
        inside = [at for at in bare if start <= at * _SECTION and (at + 1) * _SECTION <= end]
        if len(inside) * _SECTION <= zone["spanned"] - zone["present"]:
            for at in inside:
                flags[at * _SECTION : (at + 1) * _SECTION] = _NOPAGE


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
