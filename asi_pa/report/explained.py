"""``asi-pa explain`` as text: what came of an operation and why, then the state in which it was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from asi_pa.experiment.metrics import CAUSES
from asi_pa.report.format import format_bytes

__all__ = ["explained_text", "reasons"]

Explained = Mapping[str, Any]

#: What the engine counted, where it is worth a sentence: counter -> words for a count.
_COUNTED = {
    "flips_s2n": "pageblocks flipped from sensitive to nonsensitive: {}",
    "flips_n2s": "pageblocks flipped from nonsensitive to sensitive: {}",
    "pages_zeroed": "pages cleared: {}",
    "claims_whole": "fallbacks that claimed a whole pageblock: {}",
    "claims_partial": "fallbacks that claimed a partly used pageblock: {}",
    "claims_refused": "claims refused, too much of the pageblock being in use: {}",
    "steals": "fallbacks that took pages and left the pageblock's type: {}",
    "noblock_refusals": "attempts that came to a flip, which the request may not wait for: {}",
    "slowpath": "the slow path was taken",
    "kswapd_wakeups": "kswapd was woken",
    "kcompactd_wakeups": "kcompactd was woken",
    "reclaimed": "pages reclaimed: {}",
    "compactions": "runs of compaction: {}",
    "compact_moved": "pages that compaction moved: {}",
    "pool_refills": "refills of the pool: {}",
    "pool_shrinks": "times that the pool gave memory back: {}",
    "pcp_refilled": "blocks that the per-CPU list took from the buddy lists: {}",
    "pcp_drained": "blocks that went from per-CPU lists to the buddy lists: {}",
    "reserves": "pageblocks that became HIGHATOMIC: {}",
    "unreserves": "pageblocks that are HIGHATOMIC no more: {}",
    "boosts": "boosts of the watermark: {}",
}


def explained_text(about: Explained) -> str:
    """An explanation for a terminal, at most about 110 columns."""
    lines = [*_title(about), "", *(f"  {line}" for line in reasons(about))]
    if about["request"]:
        lines += ["", "Watermarks before, pages", *_marks(about)]
    for zone in about["zones"]:
        lines += ["", *_free(about, zone)]
        for name, words in (
            ("pcp", f"Per-CPU lists of CPU {about['cpu']}, blocks"),
            ("pageblocks", "Pageblocks"),
        ):
            table = list(_pairs(zone[name]))
            lines += ["", f"{words} (before, and after where it differs)", *table] if table else []
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _title(about: Explained) -> Iterator[str]:
    seconds = about["time_ns"] / 1e9
    yield (
        f"{about['trace']}, {format_bytes(about['memory_bytes'])}, {about['design']}, "
        f"Linux {about['kernel']} rules, seed {about['seed']}"
    )
    yield about["relief"]
    yield (
        f"operation {about['operation']:,} of {about['operations']:,}, about {seconds:.3f} s into the trace: "
        f"{about['what']} order {about['order']}, CPU {about['cpu']}"
    )
    asked = about["request"]
    if asked:
        caller = f", caller {asked['caller']}" if asked["caller"] else ""
        side = "sensitive" if asked["sensitive"] else "nonsensitive"
        wait = "may block" if asked["may_block"] else "may not block"
        yield f"  {asked['gfp_words']}{caller}"
        first = f"looks on {asked['freetype']} lists first"
        yield f"  {side}, {first}, {wait}; its failure would be {asked['group']}"


def reasons(about: Explained) -> list[str]:
    """Why it went so, a sentence a line, the outcome first."""
    lines = list(_outcome(about))
    for each in about["fallbacks"]:
        lines.append(
            f"nothing of order {each['order']} and above was free on {each['freetype']}: a block of order "
            f"{each['fallback_order']} of {each['from']} was taken (extfrag)"
        )
    for counter, words in _COUNTED.items():
        if (count := about["counters"].get(counter, 0)) > 0:
            lines.append(words.format(f"{count:,}"))
    if about["flushes"]:
        lines.append(f"TLB flushes: {about['flushes']:,}")
    if about["caller_fell_back"]:
        lines.append(f"the caller then asked for {about['caller_fell_back']:,} single pages")
    return lines


def _outcome(about: Explained) -> Iterator[str]:
    if about["failed"]:
        cause = CAUSES[about["cause"]].words if about["cause"] else "nobody counted why"
        yield f"FAILED: {cause}"
        yield from _shortage(about)
    elif about["pfn"] >= 0 and about["request"]:
        yield f"got pfn {about['pfn']}: {about['was']}"
        if about["is"].partition("pageblock is ")[2] != about["was"].partition("pageblock is ")[2]:
            yield f"now {about['is']}"
    elif about["pfn"] >= 0:
        yield f"pfn {about['pfn']}: {about['was']}"
        yield f"now {about['is']}"
    elif about["request"]:
        yield "nothing was asked for: what it stands for was answered before"
    else:
        yield "no allocation was in its slot" if about["what"] != "TICK" else "a second has passed"


def _shortage(about: Explained) -> Iterator[str]:
    """What there was instead, in numbers."""
    asked, order = about["request"], about["order"]
    for marks in asked["watermarks"]:
        slow = marks["slow"]
        left = slow["free"] - slow["unusable"]
        if not slow["enough"]:
            yield (
                f"zone {marks['zone']}: {left:,} pages it may count, and more than "
                f"{slow['least'] + slow['reserve']:,} must be left"
            )
        elif not slow["passes"]:
            yield f"zone {marks['zone']}: {left:,} pages it may count, but no block of order {order} in reach"
    sides = {ft["name"]: ft["mapped"] for ft in about["freetypes"]}
    mine, big = sides[asked["freetype"]], max(order, about["pageblock_order"])
    for zone in about["zones"]:
        free = zone["free_blocks"]["before"]
        for words, there in (("its own", mine), ("the other", not mine)):
            rows = [row for name, row in free.items() if sides[name] is there]
            pages = sum(count << at for row in rows for at, count in enumerate(row))
            if len(set(sides.values())) == 2:
                fit = sum(sum(row[order:]) for row in rows)
                whole = sum(sum(row[big:]) for row in rows)
                flips = f", {whole:,} that a flip could take (order {big})" if there is not mine else ""
                yield (
                    f"zone {zone['zone']}, {words} side: {pages:,} pages free, {fit:,} blocks of order "
                    f"{order} or more{flips}"
                )
    if not asked["may_block"]:
        yield "it may not block: no flush, no reclaim, no compaction could be waited for"


def _marks(about: Explained) -> Iterator[str]:
    for marks in about["request"]["watermarks"]:
        for path in ("fast", "slow"):
            m, flags = marks[path], about["request"][f"{path}_flags"]
            left, least = m["free"] - m["unusable"], m["least"] + m["reserve"]
            lowered = f" lowered to {m['least']:,}" if m["least"] != m["mark"] + m["boost"] else ""
            verdict = (
                "passes" if m["passes"] else "no" if not m["enough"] else "enough pages, no block in reach"
            )
            yield (
                f"  {marks['zone']:<8} {path} path, {m['which']}: free {m['free']:,} - unusable "
                f"{m['unusable']:,} = {left:,} {'>' if m['enough'] else '<='} {least:,}: {verdict}"
            )
            yield (
                f"  {'':<8} mark {m['mark']:,} + boost {m['boost']:,}{lowered} + reserve {m['reserve']:,}; "
                f"{' '.join(f'ALLOC_{flag}' for flag in flags) or 'no flags'}"
            )


def _free(about: Explained, zone: Mapping[str, Any]) -> Iterator[str]:
    """Free blocks by list and order; lists that are empty before and after are left out."""
    before, after = zone["free_blocks"]["before"], zone["free_blocks"]["after"]
    sides = {ft["name"]: ft["mapped"] for ft in about["freetypes"]}
    tracked = len(set(sides.values())) == 2
    orders = len(next(iter(before.values())))
    shown = [name for name in before if any(before[name]) or any(after[name])]
    title = f"Zone {zone['zone']}, free blocks by order (before; after below it where it differs)"
    yield f"{title}"
    label = {name: name + (" mapped" if sides[name] else " unmapped") * tracked for name in shown}
    wide = max([len(text) for text in label.values()] + [8])
    numbers = [n for name in shown for n in (*before[name], *after[name])]
    width = max([len(str(n)) for n in numbers] + [2]) + 2
    yield f"  {'order':<{wide}}" + "".join(f"{order:>{width}}" for order in range(orders)) + f"{'pages':>11}"
    for name in shown:
        for rows, text in ((before, label[name]), (after, "  after")):
            if rows is before or after[name] != before[name]:
                pages = sum(count << order for order, count in enumerate(rows[name]))
                cells = "".join(f"{count or '.':>{width}}" for count in rows[name])
                yield f"  {text:<{wide}}{cells}{pages:>11,}"
    for key, words in (("pool", "pool"), ("queue", "free queue")):
        both = zone[key]
        if key == "queue" and (both["before"] or both["after"]):
            yield f"  {words}: {both['before']} waiting, {both['after']} after"
        elif key == "pool" and (any(both["before"]) or any(both["after"])):
            yield f"  {words:<{wide}}" + "".join(f"{count or '.':>{width}}" for count in both["before"])
            if both["after"] != both["before"]:
                yield f"  {'  after':<{wide}}" + "".join(
                    f"{count or '.':>{width}}" for count in both["after"]
                )


def _pairs(both: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Name, before, and after where it differs; what is 0 both times is left out."""
    names = list(dict.fromkeys([*both["before"], *both["after"]]))
    rows = [(name, both["before"].get(name, 0), both["after"].get(name, 0)) for name in names]
    rows = [row for row in rows if row[1] or row[2]]
    wide = max([len(name) for name, _, _ in rows] + [1])
    for name, one, other in rows:
        yield f"  {name:<{wide}}  {one:>8,}" + (f"  -> {other:,}" if other != one else "")
