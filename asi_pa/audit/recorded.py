"""Which recorded kernel runs show what the search finds by itself.

By the design's name, the invariant and the mechanism, as `asi_pa.audit.words` says them.  The runs are those
of ``asi-pa verify`` (docs/engine/model.md); nothing of this is used to find anything.
"""

from __future__ import annotations

__all__ = ["recorded_run"]

_EXPOSED, _HIDDEN, _STALE = "protected-page-present", "unprotected-page-absent", "stale-data-mapped"
_STRANDED = "stranded-block"
_MERGED = "merge of unlike blocks: the page was on another list than its block's"
_MAY, _MAY_NOT = "request that may block", "request that may not block"

_STRANDING = {
    (_STRANDED, f"an unprotected movable {_MAY}"): "m1",
    (_STRANDED, f"an unprotected reclaimable {_MAY}"): "m1",
}
_POOL = {
    (_EXPOSED, "free into the pool by the mark of a block that is only partly the pool's"): "b1",
    (_EXPOSED, "free into the pool by the mark of a block that the shrinker gave back"): "b2",
    (_STALE, "pool shrinker without zeroing"): "f1",
}
_MARCH = {
    (_EXPOSED, "merge that relabels"): "Rx-a1",
    (_STALE, "merge that maps"): "Rx-a2",
    (_EXPOSED, "pcplist that mixes: a page that a refill put there"): "Rx-b1",
    (_HIDDEN, "pcplist that mixes: a page that a refill put there"): "Rx-b2",
    (_EXPOSED, "pcplist that mixes: a page that a free put there"): "Rx-b3",
    (_EXPOSED, "reserve of the wrong kind: a mapped block relabelled"): "Rx-c1",
    (_HIDDEN, "reserve of the wrong kind: asked first"): "Rx-c2",
    (_EXPOSED, "unreserve under a live page (that maps)"): "Rx-c3",
    (_HIDDEN, "reserve of the wrong kind: asked last"): "Rx-c4",
    (_EXPOSED, "page reporting that relabels"): "Rx-e1",
    (_STRANDED, f"a protected unmovable {_MAY_NOT}"): "Rx-d1",
}
RUNS: dict[str, dict[tuple[str, str], str]] = {
    "migratetype/as-posted": _MARCH,
    "unmapped/v2": {
        (_EXPOSED, _MERGED): "Vx-a2",
        (_HIDDEN, _MERGED): "Vx-a1",
        (_STALE, "flip without zeroing"): "Vx-m1",
        (_STRANDED, f"an unprotected unmovable {_MAY_NOT}"): "Vx-d1",
        (_STRANDED, f"an unprotected unmovable {_MAY}"): "Vx-e1",
    }
    | {pair: f"Vx-{run}" for pair, run in _STRANDING.items()},
    "unmapped/v4": {
        (_STALE, "flip that maps before it clears"): "Ux-z1",
        (_STRANDED, f"a protected unmovable {_MAY_NOT}"): "Ux-g1",
    }
    | {pair: f"Ux-{run}" for pair, run in _STRANDING.items()},
    "pool/as-posted": {(_EXPOSED, "pool refill that leaves part of its chunk as it was"): "Px-a1"}
    | {pair: f"Px-{run}" for pair, run in _POOL.items()},
    "pool/letter": {pair: f"Lx-{run}" for pair, run in _POOL.items()},
    "rfcv2-queue/as-posted": {(_STALE, "page without zeroing"): "Qx-c1"},
}


def recorded_run(design: str, invariant: str, mechanism: str) -> str:
    """A recorded run in which a kernel with this design did the same; empty where there is none."""
    return RUNS.get(design, {}).get((invariant, mechanism), "")
