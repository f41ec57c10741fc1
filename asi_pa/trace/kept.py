"""A compiled trace as bytes and back, so that a cache can keep it: its events as operations, and its zones'
frames at the start, settled.

Bytes that are not whole, of another form, or not of this trace are nobody's: `unpacked` returns None.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt

from asi_pa.kernel.numa import RECORDED, Nodes
from asi_pa.trace.classify import Classifier
from asi_pa.trace.compile import Events, Starts
from asi_pa.trace.format import Trace
from asi_pa.trace.frames import ZoneFrames
from asi_pa.trace.initial import Snapshot
from asi_pa.trace.pcplists import PcpPages

__all__ = ["packed", "unpacked"]

_MAGIC = b"asi_pa.starts/1\n"
_DIGEST = 20
_EVENTS = ("ops", "classes", "stamps", "freed")
_FRAMES = ("state", "flags", "block_mt", "guessed", "taken")
_PCP = tuple(field.name for field in fields(PcpPages))
_PLAIN = ("name", "start_pfn", "managed", "notes", "not_located", "high")


def packed(starts: Starts) -> bytes:
    """What `unpacked` makes the same start states of; every zone is settled for it."""
    events, snapshot = starts.events, starts.snapshot
    frames = [snapshot.frames(number) for number in range(len(snapshot.zones))]
    head = {
        "rows": len(starts.trace),
        "nslots": events.nslots,
        "counters": events.counters,
        "zones": [{name: getattr(zone, name) for name in _PLAIN} for zone in frames],
    }
    text = json.dumps(head, default=lambda number: number.item()).encode()
    buffer = io.BytesIO()
    buffer.write(struct.pack("<Q", len(text)) + text)
    for column in _columns(events, snapshot, frames):
        np.lib.format.write_array(buffer, column, allow_pickle=False)
    body = zlib.compress(buffer.getvalue(), 1)
    return _MAGIC + hashlib.blake2b(body, digest_size=_DIGEST).digest() + body


def _columns(events: Events, snapshot: Snapshot, frames: list[ZoneFrames]) -> Iterator[npt.NDArray[Any]]:
    for name in _EVENTS:
        yield getattr(events, name)
    yield snapshot.freed
    for zone in frames:
        for name in _FRAMES:
            yield getattr(zone, name)
        for name in _PCP:
            yield getattr(zone.pcp, name)


def unpacked(
    trace: Trace, classifier: Classifier, kept: bytes, nodes: int | str | Nodes = RECORDED
) -> Starts | None:
    """The start states of a trace as `packed` kept them, or None if it did not keep them, or not all."""
    digest, body = kept[len(_MAGIC) :][:_DIGEST], kept[len(_MAGIC) + _DIGEST :]
    if not kept.startswith(_MAGIC) or hashlib.blake2b(body, digest_size=_DIGEST).digest() != digest:
        return None
    try:
        buffer = io.BytesIO(zlib.decompress(body))
        (length,) = struct.unpack("<Q", buffer.read(8))
        head = json.loads(buffer.read(length))
        if head["rows"] != len(trace):
            return None

        def column() -> npt.NDArray[Any]:
            return np.lib.format.read_array(buffer, allow_pickle=False)

        events = Events(
            **{name: column() for name in _EVENTS}, nslots=head["nslots"], counters=head["counters"]
        )
        freed = column()
        frames = [_zone(zone, column) for zone in head["zones"]]
    except (KeyError, TypeError, ValueError, struct.error, zlib.error):
        return None
    return Starts(trace, classifier, nodes=nodes, known=(events, Snapshot.known(trace, freed, frames)))


def _zone(plain: dict[str, Any], column: Any) -> ZoneFrames:
    arrays: dict[str, Any] = {name: column() for name in _FRAMES}
    pcp = PcpPages(**{name: column() for name in _PCP})
    limits: dict[str, Any] = {name: tuple(plain.pop(name)) for name in ("not_located", "high")}
    return ZoneFrames(**plain, **arrays, **limits, pcp=pcp)
