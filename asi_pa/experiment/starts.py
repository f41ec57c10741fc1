"""A trace compiled and settled, now or before: the one place that asks the cache of compiled traces."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from asi_pa.experiment.cache import Cache, key_of, package_hash, trace_hash
from asi_pa.kernel.numa import RECORDED, Nodes
from asi_pa.run.settle import settled
from asi_pa.trace import Classifier, Starts, Trace
from asi_pa.trace.kept import packed, unpacked

__all__ = ["kept_starts"]


def kept_starts(
    trace: Trace,
    classifier: Classifier,
    nodes: int | str | Nodes = RECORDED,
    cache: Cache | None = None,
    hashed: str | None = None,
    *,
    evidence: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Starts:
    """A trace's start states, settled; what is kept of them is the same for all nodes.

    ``hashed``: its `trace_hash`, where that is known; ``evidence``, ``progress`` as of `Starts`.  What a part
    of the evidence shows is not kept, nor an exact start state: it has no events, and nothing to settle.
    Raises ValueError for a trace that contradicts itself.
    """

    def made() -> Starts:
        return Starts(trace, classifier, nodes=nodes, settle=settled, evidence=evidence, progress=progress)

    if cache is None or not cache.usable or evidence is not None or trace.exact is not None:
        return made()
    key = key_of("starts", package_hash(), hashed or trace_hash(trace), classifier.text, classifier.seed)
    kept = cache.get_bytes(key)
    found = None if kept is None else unpacked(trace, classifier, kept, nodes)
    if found is None:
        found = made()
        with contextlib.suppress(ValueError):  # of a zone that is not asked for, perhaps
            cache.put_bytes(key, packed(found))
    return found
