#!/usr/bin/env drgn
"""The exact state of a kernel's page allocator, from a live kernel or a vmcore, as JSON.

    sudo drgn contrib/start_state.py state.json.gz                      the running kernel, by /proc/kcore
    drgn -c vmcore -s vmlinux contrib/start_state.py state.json.gz      a dump (kdump, dump-guest-memory)

It takes what /proc does not show: every free list and every per-CPU list in order, and the type of every
pageblock; beside them the zones with their marks and what /proc/kpageflags says of each frame.
`asi-pa info state.json.gz` shows it, `asi-pa convert state.json.gz state.trace` makes a trace of it, and
`asi_pa.Allocator.from_trace` starts from either.

Needs drgn and the kernel's debug information; nothing of asi_pa.  Of a running kernel lists change while they
are read: one that does not hold together is read again, and what never did is named in ``torn``; so is how
many blocks were met on two lists (the later one has them).  A dump of a stopped machine is exact.

Where each thing stands in the kernel is data (``PLACES``, ``TYPES``), newest first, with the file that says
so.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import re
import sys
import zlib
from collections.abc import Iterator
from typing import Any, NoReturn

SCHEMA = "asi_pa.start/1"

#: What is looked up, the members that it was in from newer to older kernels, and where that was read.
PLACES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "flags": (
        ("struct page", "flags.f", "include/linux/mm_types.h, 7.2 (memdesc_flags_t)"),
        ("struct page", "flags", "include/linux/mm_types.h, 6.12"),
    ),
    "compound": (
        ("struct page", "compound_info", "include/linux/mm_types.h, 7.2: bit 0 of a tail"),
        ("struct page", "compound_head", "include/linux/mm_types.h, 6.12: bit 0 of a tail"),
    ),
    "page_type": (("struct page", "page_type", "include/linux/page-flags.h, 6.12 and 7.2: PGTY_* << 24"),),
    "mapping": (
        ("struct page", "mapping", "fs/proc/page.c stable_page_flags, 6.12 and 7.2: bit 0, anonymous"),
    ),
    "order": (("struct page", "private", "mm/internal.h buddy_order, 6.12 and 7.2"),),
    "buddy_list": (("struct page", "buddy_list", "include/linux/mm_types.h, 6.12 and 7.2"),),
    "pcp_list": (("struct page", "pcp_list", "include/linux/mm_types.h, 6.12 and 7.2"),),
}
#: PGTY_*, the upper byte of page_type (include/linux/page-flags.h, 6.12 and 7.2).
BUDDY, OFFLINE, TABLE, SLAB = 0xF0, 0xF1, 0xF2, 0xF5
#: migratetype_names (mm/page_alloc.c, 6.12 and 7.2) by their enumerators (include/linux/mmzone.h).
TYPES = {
    "MIGRATE_UNMOVABLE": "Unmovable",
    "MIGRATE_MOVABLE": "Movable",
    "MIGRATE_RECLAIMABLE": "Reclaimable",
    "MIGRATE_HIGHATOMIC": "HighAtomic",
    "MIGRATE_CMA": "CMA",
    "MIGRATE_ISOLATE": "Isolate",
}
#: Bits of a frame's byte, as a trace's snapshots have them (asi_pa.trace.format KPF_BITS).
IS_BUDDY, IS_LRU, IS_ANON, IS_SLAB, IS_HEAD, IS_TAIL, IS_TABLE, IS_NONE = (1 << bit for bit in range(8))
#: section_mem_map (include/linux/mmzone.h, 6.12 and 7.2): SECTION_HAS_MEM_MAP | SECTION_IS_ONLINE.
SECTION_THERE = 0b110
#: How often a list of a running kernel is read before it is given up.
TRIES = 20
#: PAGE_ALLOC_COSTLY_ORDER; MIGRATE_PCPTYPES.
COSTLY, PCPTYPES = 3, 3


class Kernel:
    """What is looked up once: sizes, offsets, enumerators."""

    def __init__(self, prog: Any, pageblock_order: int) -> None:
        self.prog, self.pageblock_order = prog, pageblock_order
        self.vmemmap = int(prog["vmemmap"].value_())
        page = prog.type("struct page")
        self.page_size_of = int(page.size)
        self.at = {what: self._offset(page, places) for what, places in PLACES.items()}
        self.bits = self._enum("enum pageflags")
        blocks = self._enum("enum pageblock_bits")
        count = blocks.get("__NR_PAGEBLOCK_BITS", blocks.get("NR_PAGEBLOCK_BITS", 4))
        #: 4 a pageblock (6.12; 7.2 without CONFIG_MEMORY_ISOLATION), or 8: include/linux/pageblock-flags.h.
        self.block_bits = 1 << (count - 1).bit_length()
        self.isolate_bit = blocks.get("PB_migrate_isolate")
        numbers = {
            TYPES[name]: value for name, value in self._enum("enum migratetype").items() if name in TYPES
        }
        self.types = sorted(numbers, key=lambda name: numbers[name])
        self.isolate = numbers.get("Isolate", -1)
        self.section_order = self._section_bits() - 12

    def _enum(self, name: str) -> dict[str, int]:
        return {item.name: int(item.value) for item in self.prog.type(name).enumerators}

    @staticmethod
    def _offset(page: Any, places: tuple[tuple[str, str, str], ...]) -> int:
        import drgn

        for _struct, member, _source in places:
            try:
                return int(drgn.offsetof(page, member))
            except (LookupError, TypeError):
                continue
        words = ", ".join(member for _, member, _ in places)
        return refuse(f"struct page has none of {words}: another kernel")

    def _section_bits(self) -> int:
        """SECTION_SIZE_BITS: VMCOREINFO has it (kernel/vmcore_info.c); 27 on x86-64."""
        try:
            text = self.prog["VMCOREINFO"].string_().decode()
        except (KeyError, LookupError):
            return 27
        found = re.search(r"NUMBER\(SECTION_SIZE_BITS\)=(\d+)", text)
        return int(found[1]) if found else 27

    def pfn(self, page: int) -> int:
        return (page - self.vmemmap) // self.page_size_of

    def page(self, pfn: int) -> int:
        return self.vmemmap + pfn * self.page_size_of


# ---------------------------------------------------------------- lists


def pages_on(kernel: Kernel, head: int, link: int, start: int, end: int) -> list[int] | None:
    """The pfns of a list from its head to its tail; None where the list does not hold together."""
    prog, before = kernel.prog, head
    found: list[int] = []
    at = prog.read_u64(head)
    while at != head:
        pfn = kernel.pfn(at - link)
        if not start <= pfn < end or len(found) > end - start or prog.read_u64(at + 8) != before:
            return None
        found.append(pfn)
        before, at = at, prog.read_u64(at)
    return found if prog.read_u64(head + 8) == before else None


def free_of_order(kernel: Kernel, pfns: list[int], order: int) -> bool:
    """Is each of them the head of a free block of that order (PageBuddy, buddy_order)?"""
    prog, at = kernel.prog, kernel.at
    return all(
        prog.read_u32(kernel.page(pfn) + at["page_type"]) >> 24 == BUDDY
        and prog.read_u64(kernel.page(pfn) + at["order"]) == order
        for pfn in pfns
    )


def free_lists(
    kernel: Kernel, number: int, zone: Any, span: tuple[int, int], torn: list[str]
) -> Iterator[Any]:
    """[zone, type, order, pfns] of each free list that is not empty."""
    for order in range(len(zone.free_area)):
        lists = zone.free_area[order].free_list
        for mt in range(len(kernel.types)):
            head = int(lists[mt].address_of_().value_())
            for _ in range(TRIES):
                pfns = pages_on(kernel, head, kernel.at["buddy_list"], *span)
                if pfns is not None and free_of_order(kernel, pfns, order):
                    break
            else:
                torn.append(f"zone {number}: free list of order {order}, {kernel.types[mt]}")
                continue
            if pfns:
                yield [number, mt, order, pfns]


def pcp_lists(
    kernel: Kernel, number: int, pcp: Any, cpu: int, span: tuple[int, int], torn: list[str]
) -> Iterator[Any]:
    """[zone, cpu, type, order, pfns] of each list of a CPU that is not empty.

    Which list is which: order_to_pindex (mm/page_alloc.c, 6.12 and 7.2).
    """
    low = (COSTLY + 1) * PCPTYPES
    for index in range(len(pcp.lists)):
        order, mt = divmod(index, PCPTYPES) if index < low else (kernel.pageblock_order, index - low)
        head = int(pcp.lists[index].address_of_().value_())
        for _ in range(TRIES):
            pfns = pages_on(kernel, head, kernel.at["pcp_list"], *span)
            if pfns is not None:
                break
        else:
            torn.append(f"zone {number}: CPU {cpu}'s list {index}")
            continue
        if pfns:
            yield [number, cpu, mt, order, pfns]


# ---------------------------------------------------------------- zones


def cpus_online(prog: Any) -> list[int]:
    """__cpu_online_mask (kernel/cpu.c)."""
    found, words = [], prog["__cpu_online_mask"].bits
    for number in range(len(words)):
        word = int(words[number].value_())
        found += [64 * number + bit for bit in range(64) if word >> bit & 1]
    return found


def zones_of(prog: Any) -> Iterator[tuple[int, Any]]:
    """The populated zones with their nodes: node_data (mm/numa.c), contig_page_data without CONFIG_NUMA."""
    try:
        table = prog["node_data"]
        nodes = [(nid, table[nid]) for nid in range(len(table)) if table[nid].value_()]
    except (KeyError, LookupError):
        nodes = [(0, prog["contig_page_data"].address_of_())]
    for nid, node in nodes:
        for number in range(len(node.node_zones)):
            zone = node.node_zones[number]
            if int(zone.managed_pages.counter.value_()):
                yield nid, zone


def zone_record(nid: int, zone: Any, limits: list[dict[str, int]]) -> dict[str, Any]:
    """A zone as /proc/zoneinfo has it: zoneinfo_show_print (mm/vmstat.c), marks with the boost."""
    boost = int(zone.watermark_boost.value_())
    marks = [int(zone._watermark[mark].value_()) + boost for mark in range(len(zone._watermark))]
    return {
        "name": zone.name.string_().decode(),
        "nid": nid,
        "start_pfn": int(zone.zone_start_pfn.value_()),
        "spanned": int(zone.spanned_pages.value_()),
        "present": int(zone.present_pages.value_()),
        "managed": int(zone.managed_pages.counter.value_()),
        "free": max(int(zone.vm_stat[0].counter.value_()), 0),
        "boost": boost,
        **dict(zip(("min", "low", "high", "promo"), marks, strict=False)),
        "protection": [int(zone.lowmem_reserve[i].value_()) for i in range(len(zone.lowmem_reserve))],
        "cpus": limits,
    }


def pageset(prog: Any, zone: Any, cpu: int) -> Any:
    """per_cpu_ptr(zone->per_cpu_pageset, cpu)."""
    import drgn

    pointer = zone.per_cpu_pageset
    address = (int(pointer.value_()) + int(prog["__per_cpu_offset"][cpu].value_())) & (1 << 64) - 1
    return drgn.Object(prog, pointer.type_, value=address)


# ---------------------------------------------------------------- frames


def section_of(prog: Any, number: int) -> Any:
    """A struct mem_section, None where there is none: mem_section[root][offset] (include/linux/mmzone.h)."""
    roots = prog["mem_section"]
    size = int(prog.type("struct mem_section").size)
    try:
        per_root = len(roots[0])
    except TypeError:  # CONFIG_SPARSEMEM_EXTREME: a table of pointers
        per_root = 4096 // size
        if not roots.value_() or not roots[number // per_root].value_():
            return None
    section = roots[number // per_root][number % per_root]
    return section if int(section.section_mem_map.value_()) & SECTION_THERE == SECTION_THERE else None


def block_types(kernel: Kernel, section: Any) -> list[int]:
    """The types of a section's pageblocks: get_pfnblock_migratetype (mm/page_alloc.c)."""
    import drgn

    count = 1 << (kernel.section_order - kernel.pageblock_order)
    size = count * kernel.block_bits // 8
    offset = drgn.offsetof(kernel.prog.type("struct mem_section_usage"), "pageblock_flags")
    word = int.from_bytes(kernel.prog.read(int(section.usage.value_()) + offset, -(-size // 8) * 8), "little")
    found = []
    for block in range(count):
        bits = word >> block * kernel.block_bits
        isolated = kernel.isolate_bit is not None and bits >> kernel.isolate_bit & 1
        found.append(kernel.isolate if isolated else bits & 7)
    return found


def section_flags(kernel: Kernel, first: int, tail_of: int) -> tuple[bytes, int]:
    """A byte a frame of a section, and the last head's: stable_page_flags (fs/proc/page.c)."""
    import drgn

    out, size, step = bytearray(), kernel.page_size_of, 512
    for start in range(first, first + (1 << kernel.section_order), step):
        try:
            data = memoryview(kernel.prog.read(kernel.page(start), step * size))
        except drgn.FaultError:  # a subsection without memory
            out += bytes([IS_NONE]) * step
            continue
        words, halves = data.cast("Q"), data.cast("I")
        columns = (
            words[kernel.at[what] // 8 :: size // 8].tolist() for what in ("flags", "mapping", "compound")
        )
        types = halves[kernel.at["page_type"] // 4 :: size // 4].tolist()
        for flags, mapping, compound, kind in zip(*columns, types, strict=True):
            if compound & 1:
                out.append(tail_of)
                continue
            byte = frame_byte(kernel.bits, flags, mapping, kind >> 24)
            tail_of = byte & ~IS_HEAD | IS_TAIL
            out.append(byte)
    return bytes(out), tail_of


def frame_byte(bits: dict[str, int], flags: int, mapping: int, kind: int) -> int:
    """One frame that is no tail."""
    byte = {SLAB: IS_SLAB, TABLE: IS_TABLE, OFFLINE: IS_NONE}.get(kind, 0)
    if flags >> bits["PG_lru"] & 1:
        byte |= IS_LRU
    if mapping & 1 and kind in (0, 0xFF):  # FOLIO_MAPPING_ANON of a page without a type
        byte |= IS_ANON
    if flags >> bits["PG_head"] & 1:
        byte |= IS_HEAD
    if flags >> bits["PG_reserved"] & 1:
        byte |= IS_NONE
    return byte


# ---------------------------------------------------------------- all of it


def take(prog: Any, pageblock_order: int = 9) -> dict[str, Any]:
    """The state of a program's memory, as the JSON has it."""
    kernel = Kernel(prog, pageblock_order)
    cpus = cpus_online(prog)
    zones: list[dict[str, Any]] = []
    free: list[Any] = []
    pcp: list[Any] = []
    torn: list[str] = []
    orders = 11
    for number, (nid, zone) in enumerate(zones_of(prog)):
        start = int(zone.zone_start_pfn.value_())
        span = (start, start + int(zone.spanned_pages.value_()))
        limits = []
        for place, cpu in enumerate(cpus):
            lists = pageset(prog, zone, cpu)
            limits.append(
                {
                    name: int(getattr(lists, name).value_())
                    for name in ("count", "high", "batch", "high_min", "high_max")
                }
            )
            pcp += pcp_lists(kernel, number, lists, place, span, torn)
        free += free_lists(kernel, number, zone, span, torn)
        orders = len(zone.free_area)
        zones.append(zone_record(nid, zone, limits))
    end = max((zone["start_pfn"] + zone["spanned"] for zone in zones), default=0)
    twice = keep_apart([*pcp, *free], end)
    if twice:
        torn.append(f"{twice} blocks on two lists")
    frames, blocks = frames_of(kernel, end)
    for _, _, order, pfns in free:
        for pfn in pfns:
            frames[pfn : pfn + (1 << order)] = bytes([IS_BUDDY]) * (1 << order)
    release = prog["init_uts_ns"].name.release.string_().decode()
    return {
        "schema": SCHEMA,
        "kernel": f"Linux {release}",
        "cpus": len(cpus),
        "page_size": 4096,
        "pageblock_order": pageblock_order,
        "max_page_order": orders - 1,
        "migratetypes": kernel.types,
        "zones": zones,
        "free": [row for row in free if row[-1]],
        "pcp": [row for row in pcp if row[-1]],
        "blocks": blocks,
        "frames": base64.b64encode(zlib.compress(bytes(frames), 6)).decode(),
        "torn": torn,
    }


def keep_apart(rows: list[Any], end: int) -> int:
    """Takes off their earlier lists the blocks that were met again on a later one; how many they were.

    Lists of a running kernel are read one after the other, and pages go from one to the next meanwhile.
    """
    seen, twice = bytearray(end), 0
    for *_, order, pfns in reversed(rows):
        size, kept = 1 << order, []
        for pfn in pfns:
            if any(seen[pfn : pfn + size]):
                twice += 1
                continue
            seen[pfn : pfn + size] = b"\1" * size
            kept.append(pfn)
        pfns[:] = kept
    return twice


def frames_of(kernel: Kernel, end: int) -> tuple[bytearray, list[int]]:
    """A byte a frame from 0 on, and a type a pageblock; where no memory is, IS_NONE and 1 (Movable)."""
    frames, blocks, tail_of = bytearray(), [], IS_TAIL
    size = 1 << kernel.section_order
    for number in range(-(-end // size)):
        section = section_of(kernel.prog, number)
        if section is None:
            frames += bytes([IS_NONE]) * size
            blocks += [1] * (size >> kernel.pageblock_order)
            continue
        got, tail_of = section_flags(kernel, number * size, tail_of)
        frames += got
        blocks += block_types(kernel, section)
    return frames[:end], blocks[: -(-end >> kernel.pageblock_order) if end else 0]


def refuse(words: str) -> NoReturn:
    """One line, exit status 2."""
    print(f"start_state.py: {words}", file=sys.stderr)
    raise SystemExit(2)


def main(prog: Any, words: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="start_state.py", description="The exact start state, as JSON.")
    parser.add_argument("output", help="state.json or state.json.gz")
    parser.add_argument("--pageblock-order", type=int, default=9, help="of /proc/pagetypeinfo (9)")
    args = parser.parse_args(words)
    if prog is None:
        refuse("it runs in drgn: drgn [-c VMCORE -s VMLINUX] contrib/start_state.py OUTPUT")
    import drgn

    try:
        state = take(prog, args.pageblock_order)
        text = json.dumps(state, separators=(",", ":")).encode() + b"\n"
        with open(args.output, "wb") as file:
            file.write(gzip.compress(text, 6, mtime=0) if args.output.endswith(".gz") else text)
    except LookupError as error:
        refuse(f"{error}: no debug information of this very kernel? (-s VMLINUX; Debian: linux-image-*-dbg)")
    except drgn.FaultError as error:
        refuse(f"the kernel's memory cannot be read, is the dump whole? ({error})")
    except OSError as error:
        refuse(f"{args.output}: {error.strerror}")
    blocks, pages = sum(len(row[3]) for row in state["free"]), sum(len(row[4]) for row in state["pcp"])
    print(
        f"{args.output}: {len(state['zones'])} zones, {blocks:,} free blocks in order, {pages:,} on per-CPU "
        "lists" + (f"; changed while it was read: {', '.join(state['torn'])}" if state["torn"] else "")
    )


if __name__ == "__main__":
    main(globals().get("prog"), sys.argv[1:])
