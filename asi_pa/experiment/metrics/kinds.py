"""Sensitive and nonsensitive memory: what protection promises, flips between them, what is cleared."""

from __future__ import annotations

from collections.abc import Iterator

from asi_pa.experiment.metrics.entry import Counter, Metric

__all__ = ["KINDS"]


def _side_rows() -> Iterator[Metric]:
    """Parts of ``stranded_pages_end``."""
    for side, others in (("mapped", "protected"), ("unmapped", "visible")):
        yield Metric(
            f"stranded_pages_end.{side}",
            "",
            "pages",
            "kinds",
            f"free at the end, {side}",
            "",
            f"Free pages at the end that are {side}: {others} memory cannot be made of them without a flip.",
            asi=True,
            screen=False,
        )


KINDS: tuple[Metric, ...] = (
    Metric(
        "leaked_pages",
        "count?",
        "pages",
        "kinds",
        "leaked pages",
        "low",
        "Sensitive pages that were present in the protected physmap when they were handed out, or became so "
        "while in use. A sound design has none; linux promises nothing, so it breaks nothing.",
        "Pages of sensitive owners that were present in the physmap the design protects: when they were "
        "handed out, or because their block was mapped while they were in use. Every allocation and every "
        "change of a block is checked. A page counts once each time. 0 for a sound design; a design that "
        "protects nothing promises nothing, so it has 0, or `null`; `protects` says which designs those are.",
        measure=Counter("exposures"),
        asi=True,
        essential=True,
        breach=True,
    ),
    Metric(
        "uncleared_pages",
        "count?",
        "pages",
        "kinds",
        "mapped uncleared",
        "low",
        "Pages that were mapped, or handed out mapped, while they still held what a sensitive owner wrote.",
        "Free pages that were mapped, or handed out mapped, while they still held sensitive data: a "
        "sensitive owner had them, and nobody has cleared them since. 0 for a sound design.",
        measure=Counter("stale_exposed"),
        asi=True,
        essential=True,
        breach=True,
    ),
    Metric(
        "unflushed_pages",
        "count?",
        "pages",
        "kinds",
        "handed out unflushed",
        "low",
        "Pages handed out as sensitive before the flush that their unmapping owes: a TLB may still map them.",
        "Pages handed out to a sensitive owner after their entries were cleared and before the flush "
        "completed, so that a TLB may still map them. In a replay nothing happens between the two; the "
        "auditor lets another CPU act there. 0 for a sound design.",
        measure=Counter("unflushed"),
        asi=True,
        screen=False,
        breach=True,
    ),
    Metric(
        "absent_pages",
        "count?",
        "pages",
        "kinds",
        "absent pages",
        "low",
        "Pages whose owner may be seen, absent when handed out or while in use: an ASI exit where a "
        "restricted map is protected (a cost), an oops where the direct map itself is.",
        "Pages of owners that may be seen which were absent from the physmap the design changes, when they "
        "were handed out or because their block was unmapped while they were in use. No exposure. Where the "
        "restricted physmap is protected (`tree` of the design is `restricted`) the access faults and the "
        "kernel leaves the restricted address space, which is a cost; in the direct-map designs "
        "(`unrestricted`: `unmapped`, `pool/sound`) it is an oops, and the design is broken.",
        "an ASI exit: 20240712-asi-rfc-24-v1-0 and linuxasi.dev",
        measure=Counter("absences"),
        asi=True,
        screen=False,
    ),
    Metric(
        "flips_s2n",
        "count",
        "blocks",
        "kinds",
        "flips S -> N",
        "",
        "Pageblocks that went from sensitive (absent from the restricted physmap) to nonsensitive.",
        "Blocks flipped from S to N. A free buddy of order 10 flips two. Designs that do not work by blocks "
        "(`pool`, `per-page`) have none; what they do instead is in the leaf writes and the pool's rows.",
        measure=Counter("flips_s2n"),
        asi=True,
    ),
    Metric(
        "flips_n2s",
        "count",
        "blocks",
        "kinds",
        "flips N -> S",
        "",
        "Pageblocks that went from nonsensitive back to sensitive.",
        measure=Counter("flips_n2s"),
        asi=True,
    ),
    Metric(
        "no_block_refusals",
        "count",
        "count",
        "kinds",
        "flips refused",
        "low",
        "Attempts to get pages that came to a flip and may not wait for it, whatever became of the request.",
        "Times a flip was called for and not tried because the request may not block: the zone's lists and "
        "reserve had nothing for it, and the design flips for requests of its side that may. A request "
        "counts once for each zone and each attempt of the fast and the slow path. Unlike the cause "
        "`no_block_refusal` it also counts requests that were served in another way afterwards, and those "
        "for whom no whole block was there to flip.",
        measure=Counter("noblock_refusals"),
        asi=True,
    ),
    Metric(
        "stranded_pages_max",
        "count",
        "pages",
        "kinds",
        "stranded pages, max",
        "low",
        "Most free pages of the wrong kind at the moment of a failure.",
        "The most pages that were free but of the wrong kind for the request, taken at the moment of each "
        "failure. 0 if nothing failed.",
        measure=Counter("stranded_max"),
        asi=True,
    ),
    Metric(
        "stranded_pages_end",
        "counts by side",
        "pages",
        "kinds",
        "",
        "",
        "",
        "Pages at the end that are free, by side: `mapped`, the free pages of lists whose blocks are present "
        "in the physmap the design changes, and `unmapped`, the others; a pool's pages are on the side the "
        "pool is for. A request of the other side can have them only through a flip or a shrinker. Pages on "
        "per-CPU lists are not counted. Both 0 for a design that protects nothing.",
        measure=lambda m: m.stranded(),
        asi=True,
        screen=False,
    ),
    *_side_rows(),
    Metric(
        "bytes_zeroed",
        "count",
        "bytes",
        "kinds",
        "zeroed",
        "low",
        "Bytes cleared because memory went from sensitive to nonsensitive.",
        "Bytes cleared because memory went from S to N. The RFC names the clearing as necessary and leaves "
        "it as a TODO; `migratetype/sound` clears each block when it flips. Pages that a request asks to be "
        "cleared (__GFP_ZERO) are not counted.",
        measure=Counter("pages_zeroed", times=4096),
        asi=True,
    ),
    Metric(
        "bytes_zeroed_locked",
        "count",
        "bytes",
        "kinds",
        "  under the zone lock",
        "low",
        "Of these, bytes cleared while the zone lock was held, so that everybody else waited.",
        "Of these, the bytes that were cleared while the zone lock was held: all of a flip's with "
        "`zeroing=locked`, otherwise those of blocks that change sides without a step outside the lock, such "
        "as one given back by a reserve. Everybody who needs the zone waits for it.",
        measure=Counter("pages_zeroed_locked", times=4096),
        asi=True,
        screen=False,
        optional=True,
    ),
    Metric(
        "bytes_zeroed_ahead",
        "count",
        "bytes",
        "kinds",
        "cleared by a worker",
        "",
        "Bytes that a worker cleared in free pageblocks before anybody flipped them.",
        "Bytes cleared in whole free unmapped pageblocks by a worker, once a second (`zeroed_by`). They are "
        "among `bytes_zeroed`, and nobody's allocation waits for them.",
        measure=Counter("pages_zeroed_ahead", times=4096),
        asi=True,
        screen=False,
        optional=True,
    ),
    Metric(
        "blocks_unmapped_ahead",
        "count",
        "blocks",
        "kinds",
        "unmapped ahead of need",
        "",
        "Pageblocks unmapped before a request needed them; they are among the flips N -> S.",
        "Blocks unmapped before a request needed them (`migratetype/eager`: `unmap_low`, `unmap_high`; or a "
        "design's own `unmap_ahead`). They are among `flips_n2s`. Each run of neighbours is flushed once, "
        "and nobody's allocation waits for it.",
        measure=Counter("unmapped_ahead"),
        asi=True,
        screen=False,
        optional=True,
    ),
    Metric(
        "pages_moved_to_flip",
        "count",
        "pages",
        "kinds",
        "moved so that a block could flip",
        "",
        "Used pages moved out of partly free pageblocks so that these could flip.",
        "Used pages that went to other frames because their pageblock, partly free, was to flip "
        "(`flip_used`, `flip_free`); those of attempts that found no place for the rest, too.",
        measure=Counter("moved_to_flip"),
        asi=True,
        screen=False,
        optional=True,
    ),
)
