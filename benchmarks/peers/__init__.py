"""LLFree and Virtuoso beside the engine: fetched and built here, on request; nothing of theirs is kept.

``python -m benchmarks.peers`` clones what is missing into ``build/peers``, builds it and runs streams a, b
and c through the array limit, the peers and the engine in turn.  `benchmarks.targets` measures the peers that
are built and says of the others that they are not there.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..streams import Ops, Stream

__all__ = ["PEERS", "Peer", "Source", "build", "filled_peer", "library", "obtain"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent / "build" / "peers"

#: What Virtuoso's header wants of the simulator around it.
AROUND = {
    "fixed_types.h": "#include <cstdint>\n#include <string>\n"
    "typedef uint64_t UInt64;\ntypedef std::string String;\n",
    "debug_config.h": "#define DEBUG_BASIC 1\n#define DEBUG_DETAILED 2\n#define DEBUG_BUDDY 0\n",
}


@dataclass(frozen=True)
class Source:
    """Where a peer comes from and how it is built."""

    url: str
    commit: str
    """What was measured; a clone that is already there is taken as it is."""
    adapter: str
    sources: str
    """Its files to compile, a pattern; "" if its header is all."""
    include: Sequence[str]
    compilers: Sequence[str]
    flags: Sequence[str]
    elsewhere: dict[str, float]
    """Nanoseconds an operation on one quiet machine, by stream; the engine took 5.8, 13.5 and 15.2 there."""


PEERS = {
    "LLFree": Source(
        "https://github.com/luhsra/llfree-c",
        "970bb3d1a15644d7ac83213f4cd89a9052c0a10b",
        "llfree.c",
        "src/*.c",
        ("include", "std", "src"),
        ("clang", "gcc"),
        ("-std=gnu2x", "-DSTD", "-DNO_LOG"),
        {"a": 45.6, "b": 53.1, "c": 96.7},
    ),
    "Virtuoso": Source(
        "https://github.com/CMU-SAFARI/Virtuoso",
        "8188baf09c1383160fbab736937ae525af805253",
        "virtuoso.cpp",
        "",
        ("simulator/sniper/include",),
        ("g++", "clang++"),
        ("-std=c++17",),
        {"a": 8.0, "b": 17.6, "c": 12.4},
    ),
}


def obtain(name: str) -> None:
    """Clones a peer unless it is there; RuntimeError where that cannot be."""
    source, target = PEERS[name], ROOT / name
    if target.exists():
        return
    ROOT.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".part")
    shutil.rmtree(fresh, ignore_errors=True)
    call(name, "git", "clone", "--quiet", source.url, str(fresh))
    call(name, "git", "-C", str(fresh), "checkout", "--quiet", source.commit)
    fresh.rename(target)


def build(name: str) -> None:
    """Builds a peer that is there with its adapter; RuntimeError where that cannot be."""
    source, target = PEERS[name], ROOT / name
    around = ROOT / "around"
    around.mkdir(parents=True, exist_ok=True)
    for header, text in AROUND.items():
        (around / header).write_text(text)
    wanted = os.environ.get("CXX" if source.adapter.endswith("cpp") else "CC", "").split()
    compiler = wanted or [next(filter(shutil.which, source.compilers), source.compilers[0])]
    folders = [HERE, around, *(target / folder for folder in source.include)]
    files = [HERE / source.adapter, *(sorted(target.glob(source.sources)) if source.sources else ())]
    flags = ["-O3", "-march=native", "-DNDEBUG", "-fPIC", "-shared", "-w", *source.flags]
    call(
        name,
        *compiler,
        *flags,
        *(f"-I{path}" for path in folders),
        *map(str, files),
        "-o",
        str(library(name)),
    )


def library(name: str) -> Path:
    """Where a peer's shared library is, if it is built."""
    return ROOT / f"{name}.so"


def call(name: str, *command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise RuntimeError(f"{name}: there is no {command[0]}") from None
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{name}: {command[0]} failed: {last}") from None


class Peer:
    """A peer over ``frames`` frames, all free; RuntimeError if it is not built."""

    def __init__(self, name: str, frames: int, nslots: int) -> None:
        if not library(name).exists():
            raise RuntimeError(f"{name} is not here: python -m benchmarks.peers")
        self._c: Any = ctypes.CDLL(str(library(name)))
        self._c.peer_new.restype = ctypes.c_void_p
        self._c.peer_failed.restype = ctypes.c_uint64
        self._c.peer_failed.argtypes = self._c.peer_delete.argtypes = [ctypes.c_void_p]
        self._c.peer_run.argtypes = [ctypes.c_void_p] * 3 + [ctypes.c_size_t] * 3
        self._slots = np.full(nslots, 0xFFFFFFFF, np.uint32)
        self._peer = self._c.peer_new(ctypes.c_uint32(frames))
        if not self._peer:
            raise MemoryError(f"{name}: no memory for {frames} frames")

    def __del__(self) -> None:
        if getattr(self, "_peer", None):
            self._c.peer_delete(self._peer)

    def run(self, ops: Ops, start: int = 0, end: int | None = None) -> None:
        """Operations [start, end); those that find nothing empty their slot."""
        stop = len(ops) if end is None else min(end, len(ops))
        self._c.peer_run(self._peer, self._slots.ctypes.data, ops.ctypes.data, start, stop, len(ops))

    @property
    def failures(self) -> int:
        """Allocations that found nothing, and frees that the peer refused."""
        return int(self._c.peer_failed(self._peer))


def filled_peer(name: str, stream: Stream) -> Peer:
    """A peer after the stream's fill."""
    peer = Peer(name, stream.pages, stream.nslots)
    peer.run(stream.fill)
    return peer
