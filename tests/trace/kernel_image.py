"""A kernel's memory as drgn sees it, made of an exact start state: structures, lists, pageblocks, pages.

The members are those that contrib/start_state.py looks for; where they stand is made up here, and which there
are is as in 6.12 or 7.2.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

import drgn

VMEMMAP, KERNEL, PERCPU = 0xFFFFEA0000000000, 0xFFFF888000000000, 0xFFFF888100000000
SECTION, PAGE = 32768, 64
#: enum pageflags as far as it is asked for: made-up numbers.
PG_LRU, PG_HEAD, PG_RESERVED = 5, 6, 12
LINK, MAPPING, ORDER, PAGE_TYPE = 8, 24, 40, 48
#: Bits of a frame's byte (asi_pa.trace.format KPF_BITS).
BUDDY, LRU, ANON, SLAB, HEAD, TAIL, TABLE, NONE = (1 << bit for bit in range(8))


class Image:
    """The memory of the machine that ``state`` describes, behind a drgn.Program."""

    def __init__(self, state: dict[str, Any], newer: bool) -> None:
        self.state, self.newer = state, newer
        self.prog = drgn.Program(drgn.Platform(drgn.Architecture.X86_64))
        self.types = self._types()
        self.kernel, self.percpu = bytearray(1 << 22), bytearray(1 << 16)
        self.used = 64
        end = max(zone["start_pfn"] + zone["spanned"] for zone in state["zones"])
        self.first = min(zone["start_pfn"] for zone in state["zones"]) // SECTION * SECTION
        self.pages = bytearray((-(-end // SECTION) * SECTION - self.first) * PAGE)
        self.objects: dict[str, Any] = {}
        self._fill()
        for base, data in (
            (VMEMMAP + self.first * PAGE, self.pages),
            (KERNEL, self.kernel),
            (PERCPU, self.percpu),
        ):
            self.prog.add_memory_segment(base, len(data), self._reader(base, data), False)
        self.prog.register_object_finder("image", self._find, enable_index=0)
        self.prog.register_type_finder("image", self._find_type, enable_index=0)

    @staticmethod
    def _reader(base: int, data: bytearray) -> Any:
        return lambda address, count, offset, physical: bytes(data[address - base : address - base + count])

    def _find(self, prog: Any, name: str, _flags: Any, _file: Any) -> Any:
        if name not in self.objects:
            return None
        kind, address = self.objects[name]
        return drgn.Object(prog, kind, address=address) if address else drgn.Object(prog, kind, value=VMEMMAP)

    def _find_type(self, _prog: Any, kinds: Any, name: str, _file: Any) -> Any:
        found = self.types.get(name)
        return found if found is not None and found.kind in kinds else None

    # ------------------------------------------------ types

    def _types(self) -> dict[str, Any]:
        prog = self.prog
        u64, s64 = prog.int_type("unsigned long", 8, False), prog.int_type("long", 8, True)
        u32, s32 = prog.int_type("unsigned int", 4, False), prog.int_type("int", 4, True)
        char = prog.int_type("char", 1, True)
        made: dict[str, Any] = {}

        def of(name: str, *members: tuple[Any, str], size: int = 0, at: dict[str, int] | None = None) -> Any:
            place, listed = 0, []
            for kind, member in members:
                where = (at or {}).get(member, place)
                listed.append(drgn.TypeMember(kind, member, where * 8))
                place = max(
                    place,
                    where + (kind.size if kind.kind != drgn.TypeKind.ARRAY else kind.length * kind.type.size),
                )
            made[name] = prog.struct_type(name, size or place, listed)
            return made[name]

        def many(kind: Any, count: int) -> Any:
            return prog.array_type(kind, count)

        pointer = prog.pointer_type(prog.void_type())
        lists = of("list_head", (pointer, "next"), (pointer, "prev"))
        flags = of("memdesc_flags_t", (u64, "f")) if self.newer else u64
        compound = "compound_info" if self.newer else "compound_head"
        of(
            "page", (flags, "flags"), (lists, "buddy_list"), (lists, "pcp_list"), (u64, compound),
            (u64, "mapping"), (u64, "private"), (u32, "page_type"), size=PAGE,
            at={"flags": 0, "buddy_list": LINK, "pcp_list": LINK, compound: LINK, "mapping": MAPPING,
                "private": ORDER, "page_type": PAGE_TYPE},
        )  # fmt: skip
        atomic = of("atomic_long_t", (s64, "counter"))
        area = of("free_area", (many(lists, len(self.state["migratetypes"])), "free_list"), (u64, "nr_free"))
        names = ("count", "high", "high_min", "high_max", "batch")
        pcp = of("per_cpu_pages", *((s32, name) for name in names), (s32, "pad"), (many(lists, 14), "lists"))
        zone = of(
            "zone", (many(u64, 4), "_watermark"), (u64, "watermark_boost"), (many(s64, 4), "lowmem_reserve"),
            (prog.pointer_type(pcp), "per_cpu_pageset"), (u64, "zone_start_pfn"), (atomic, "managed_pages"),
            (u64, "spanned_pages"), (u64, "present_pages"), (prog.pointer_type(char), "name"),
            (many(area, self.state["max_page_order"] + 1), "free_area"), (many(atomic, 12), "vm_stat"),
        )  # fmt: skip
        node = of("pglist_data", (many(zone, 4), "node_zones"))
        of("mem_section_usage", (many(u64, 3), "rcu"), (many(u64, 0), "pageblock_flags"))
        section = of(
            "mem_section", (u64, "section_mem_map"), (prog.pointer_type(made["mem_section_usage"]), "usage")
        )
        of("cpumask", (many(u64, 1), "bits"))
        of("new_utsname", (many(char, 65), "release"), size=65)
        of("uts_namespace", (made["new_utsname"], "name"), size=65)
        made["table of nodes"] = many(prog.pointer_type(node), 2)
        made["table of roots"] = prog.pointer_type(prog.pointer_type(section))
        made["offsets"] = many(u64, self.state["cpus"])

        def enum(name: str, **values: int) -> None:
            items = [drgn.TypeEnumerator(key, value) for key, value in values.items()]
            made[name] = prog.enum_type(name, u32, items)

        enum("pageflags", PG_lru=PG_LRU, PG_head=PG_HEAD, PG_reserved=PG_RESERVED)
        numbers = {"PB_compact_skip": 3} | ({"PB_migrate_isolate": 4, "__NR_PAGEBLOCK_BITS": 5} if self.newer
                                            else {"NR_PAGEBLOCK_BITS": 4})  # fmt: skip
        enum("pageblock_bits", **numbers)
        kinds = {f"MIGRATE_{name.upper()}": at for at, name in enumerate(self.state["migratetypes"])}
        enum("migratetype", **kinds, MIGRATE_PCPTYPES=3, MIGRATE_TYPES=len(kinds))
        return made

    # ------------------------------------------------ memory

    def room(self, size: int) -> int:
        """An address in the kernel's own memory."""
        at = self.used
        self.used += -(-size // 64) * 64
        assert self.used <= len(self.kernel)
        return KERNEL + at

    def put(self, address: int, form: str, *values: int) -> None:
        for base, data in (
            (KERNEL, self.kernel),
            (PERCPU, self.percpu),
            (VMEMMAP + self.first * PAGE, self.pages),
        ):
            if base <= address < base + len(data):
                struct.pack_into("<" + form, data, address - base, *(v & (1 << 64) - 1 for v in values))
                return
        raise AssertionError(hex(address))

    def offset(self, kind: str, member: str) -> int:
        return int(drgn.offsetof(self.types[kind], member))

    def _link(self, head: int, pfns: list[int]) -> None:
        """A list: its head, and the pages' links."""
        places = [head, *(VMEMMAP + pfn * PAGE + LINK for pfn in pfns), head]
        for before, here, after in zip([places[-2], *places], places[:-1], places[1:], strict=False):
            self.put(here, "QQ", after, before)

    def _fill(self) -> None:
        state = self.state
        node = self.room(self.types["pglist_data"].size)
        nodes, offsets = self.room(16), self.room(8 * state["cpus"])
        self.put(nodes, "QQ", node, 0)
        self.objects["node_data"] = (self.types["table of nodes"], nodes)
        self.objects["vmemmap"] = (self.prog.pointer_type(self.types["page"]), 0)
        size = self.types["per_cpu_pages"].size * len(state["zones"])
        for cpu in range(state["cpus"]):
            self.put(offsets + 8 * cpu, "Q", cpu * size)
        self.objects["__per_cpu_offset"] = (self.types["offsets"], offsets)
        mask, release = self.room(8), self.room(65)
        self.put(mask, "Q", (1 << state["cpus"]) - 1)
        self.objects["__cpu_online_mask"] = (self.types["cpumask"], mask)
        words = state["kernel"].removeprefix("Linux ").encode()
        self.kernel[release - KERNEL : release - KERNEL + len(words)] = words
        self.objects["init_uts_ns"] = (self.types["uts_namespace"], release)
        for number, zone in enumerate(state["zones"]):
            self._zone(node + number * self.types["zone"].size, number, zone)
        self._pages()
        self._sections()

    def _zone(self, at: int, number: int, zone: dict[str, Any]) -> None:
        def field(member: str, form: str, *values: int) -> None:
            self.put(at + self.offset("zone", member), form, *values)

        marks = [zone[mark] - zone["boost"] for mark in ("min", "low", "high", "promo")]
        field("_watermark", "4Q", *marks)
        field("watermark_boost", "Q", zone["boost"])
        field("lowmem_reserve", "4Q", *zone["protection"])
        field("zone_start_pfn", "Q", zone["start_pfn"])
        field("managed_pages", "Q", zone["managed"])
        field("spanned_pages", "Q", zone["spanned"])
        field("present_pages", "Q", zone["present"])
        field("vm_stat", "Q", zone["free"])
        name = self.room(16)
        self.kernel[name - KERNEL : name - KERNEL + len(zone["name"])] = zone["name"].encode()
        field("name", "Q", name)
        pcp = PERCPU + number * self.types["per_cpu_pages"].size
        field("per_cpu_pageset", "Q", pcp)
        area, lists = (
            self.types["free_area"].size,
            {tuple(row[1:3]): row[3] for row in self.state["free"] if row[0] == number},
        )
        for order in range(self.state["max_page_order"] + 1):
            for mt in range(len(self.state["migratetypes"])):
                head = at + self.offset("zone", "free_area") + order * area + mt * 16
                self._link(head, lists.get((mt, order), []))
        held = {tuple(row[1:4]): row[4] for row in self.state["pcp"] if row[0] == number}
        for cpu, limits in enumerate(zone["cpus"]):
            place = pcp + cpu * self.types["per_cpu_pages"].size * len(self.state["zones"])
            for member, value in limits.items():
                self.put(place + self.offset("per_cpu_pages", member), "i", value)
            for index in range(14):
                order, mt = divmod(index, 3) if index < 12 else (self.state["pageblock_order"], index - 12)
                head = place + self.offset("per_cpu_pages", "lists") + 16 * index
                self._link(head, held.get((cpu, mt, order), []))

    def _pages(self) -> None:
        frames = zlib.decompress(base64.b64decode(self.state["frames"]))
        on_list = {pfn: order for _, _, order, pfns in self.state["free"] for pfn in pfns}
        on_pcp = {pfn for *_, pfns in self.state["pcp"] for pfn in pfns}
        for pfn in range(self.first, self.first + len(self.pages) // PAGE):
            byte, at = frames[pfn] if pfn < len(frames) else NONE, VMEMMAP + pfn * PAGE
            flags = (
                (byte & LRU > 0) << PG_LRU | (byte & HEAD > 0) << PG_HEAD | (byte & NONE > 0) << PG_RESERVED
            )
            kind = 0xF0 if pfn in on_list else 0xF5 if byte & SLAB else 0xF2 if byte & TABLE else 0xFF
            if byte & TAIL:
                self.put(at + LINK, "Q", 1)
                flags, kind = 0, 0xFF
            elif pfn not in on_list and pfn not in on_pcp:
                self.put(at + LINK, "Q", 0)
            self.put(at, "Q", flags)
            self.put(at + MAPPING, "Q", 1 if byte & ANON else 0)
            self.put(at + ORDER, "Q", on_list.get(pfn, 0))
            self.put(at + PAGE_TYPE, "I", kind << 24 | 0xFFFFFF)

    def _sections(self) -> None:
        size, bits = self.types["mem_section"].size, 8 if self.newer else 4
        roots, table, pointer = self.room(8), self.room(4096), self.room(8)
        self.put(roots, "Q", table)
        self.put(pointer, "Q", roots)
        self.objects["mem_section"] = (self.types["table of roots"], pointer)
        isolate = len(self.state["migratetypes"]) - 1
        per = SECTION >> self.state["pageblock_order"]
        for number in range(self.first // SECTION, (self.first + len(self.pages) // PAGE) // SECTION):
            usage, word = self.room(24 + per), 0
            types = [*self.state["blocks"][number * per : (number + 1) * per]]
            for block, mt in enumerate(types + [1] * (per - len(types))):
                isolated = self.newer and mt == isolate
                # the skip bit, which is no type's, is set everywhere
                word |= (8 | (0b10001 if isolated else mt)) << block * bits
            self.put(usage + 24, f"{per * bits // 64}Q", *(word >> 64 * at for at in range(per * bits // 64)))
            self.put(table + number * size, "QQ", 0b110, usage)
