"""Starts a kernel under QEMU with a script in its memory, and reads what the driver left there.

Node 0 has the CPUs and is a file that both sides see; node 1 is the zone at 4 GiB.  No KVM is needed: QEMU
translates (TCG), which takes a second or three a run, and every run of a script answers the same.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from oracle import needs

__all__ = ["KernelError", "Output", "boot"]

#: As in driver/oracle.h.
IN_PHYS, OUT_PHYS, EVENTS = 0x40000000, 0x48000000, 0x10000000
MAGIC = 0x4C43524F
LOW_MIB = 2048
ZONE_PHYS = 4 << 30
DMA32_MIB = 128
#: What the driver says before the script begins.
STARTED = "oracle: zone "
#: A kernel that is starved of processor time may not come as far as the script: then it starts again.
TRIES = 3
#: What a kernel says when something is wrong with it.
COMPLAINTS = ("BUG", "WARNING", "Bad page", "Call Trace", "Kernel panic")


class KernelError(ValueError):
    """The kernel complained, hung or did not come to the end of the script; ``log`` is its console."""

    def __init__(self, words: str, log: str) -> None:
        super().__init__(words)
        self.log = log


@dataclass(frozen=True)
class Output:
    """What a run left: the memory of ``ORACLE_OUT`` up to the last word, and the log's rows."""

    out: bytes
    events: bytes
    log: str


def command(image: Path, memory: Path, log: Path, *, zone_kib: int, cpus: int, dma32: bool) -> list[str]:
    """QEMU's command line."""
    low = LOW_MIB - (DMA32_MIB if dma32 else 0)
    node1 = zone_kib + (DMA32_MIB << 10 if dma32 else 0)
    held = f"oracle={ZONE_PHYS:#x},{ZONE_PHYS + (zone_kib << 10):#x}"
    if dma32:
        held += f",{low << 20:#x},{LOW_MIB << 20:#x}"
    return [
        "qemu-system-x86_64",
        *("-machine", "q35,usb=off,hpet=off,max-ram-below-4g=2G"),
        *("-accel", "tcg,thread=single", "-smp", str(cpus), "-m", f"{(low << 10) + node1}K"),
        *("-object", f"memory-backend-file,id=m0,size={low}M,mem-path={memory},share=on"),
        *("-object", f"memory-backend-ram,id=m1,size={node1}K"),
        *("-numa", f"node,nodeid=0,memdev=m0,cpus=0-{cpus - 1}", "-numa", "node,nodeid=1,memdev=m1"),
        *("-kernel", str(image)),
        *("-append", f"console=ttyS0 earlyprintk=serial,ttyS0 nokaslr no_timer_check panic=-1 {held}"),
        *("-nographic", "-no-reboot", "-nodefaults", "-serial", f"file:{log}", "-display", "none"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04", "-net", "none"),
    ]


def boot(
    image: Path, script: bytes, *, zone_kib: int, cpus: int = 1, dma32: bool = False, timeout: float = 900
) -> Output:
    """Runs one packed script.

    Raises KernelError where the kernel complains, hangs for ``timeout`` seconds or does not finish, OSError
    where QEMU or the memory for the machine is missing.
    """
    needs.check(needs.FOR_RECORDING)
    for _ in range(TRIES - 1):
        try:
            return _boot(image, script, zone_kib=zone_kib, cpus=cpus, dma32=dma32, timeout=timeout)
        except KernelError as error:
            if STARTED in error.log:
                raise
    return _boot(image, script, zone_kib=zone_kib, cpus=cpus, dma32=dma32, timeout=timeout)


def _boot(image: Path, script: bytes, *, zone_kib: int, cpus: int, dma32: bool, timeout: float) -> Output:
    shared = Path("/dev/shm")
    place = shared if shared.is_dir() and shutil.disk_usage(shared).free > 1 << 30 else None
    with tempfile.TemporaryDirectory(prefix="asi-pa-oracle-", dir=place) as folder:
        memory, log = Path(folder, "memory"), Path(folder, "log")
        low = (LOW_MIB - (DMA32_MIB if dma32 else 0)) << 20
        with memory.open("wb") as file:
            file.truncate(low)
            file.seek(IN_PHYS)
            file.write(script)
        words = command(image, memory, log, zone_kib=zone_kib, cpus=cpus, dma32=dma32)
        said = _run(words, timeout)
        text = log.read_text(errors="replace") if log.exists() else ""
        with memory.open("rb") as file:
            file.seek(OUT_PHYS)
            header = struct.unpack("<64I", file.read(256))
            complaint = next((line for line in text.splitlines() if any(c in line for c in COMPLAINTS)), None)
            if complaint:
                raise KernelError(f"the kernel complained: {complaint.strip()}", text)
            if header[0] != MAGIC or not header[1]:
                raise KernelError(f"the kernel did not come to the end of the script{said}", text)
            if header[1] != 1:
                raise KernelError("dumps or events of the script do not fit into the machine's memory", text)
            file.seek(OUT_PHYS)
            out = file.read(header[40] * 4)
            file.seek(OUT_PHYS + EVENTS)
            events = file.read(header[41] * 24)
    return Output(out=out, events=events, log=text)


def _run(words: list[str], timeout: float) -> str:
    """Runs QEMU to its end; what it says, as the end of a sentence."""
    process = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _, error = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return f" in {timeout:.0f} seconds"
    except BaseException:
        process.kill()
        process.wait()
        raise
    lines = os.fsdecode(error).strip().splitlines()
    return f": {lines[-1]}" if lines else ""
