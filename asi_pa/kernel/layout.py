"""The machine that an ``Allocator`` models: computed from a memory size as a kernel would, or given.

Memory that is to be plugged in later (hotplug) is a hole in a zone's span from the start, because the
engine's arrays do not grow: the zone is built as large as it may become, and onlining fills the hole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from asi_pa.kernel.sizing import MAX_PAGES, PAGE_SIZE, derive, machine, parse_size
from asi_pa.kernel.sizing import single_zone as one_zone
from asi_pa.kernel.spec import ZONE_INDEX, MachineSpec, ZoneSpec

__all__ = ["SECTION_PAGES", "Layout", "Limits", "given", "sized"]

#: A section, the unit of memory hotplug on x86-64 (SECTION_SIZE_BITS 27, arch/x86/include/asm/sparsemem.h).
SECTION_PAGES = 1 << 15
_NORMAL_START = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What watermarks and per-CPU limits were computed with, so that hotplug can compute them again."""

    kernel: str
    min_free: int | None
    khugepaged: bool
    pcptypes: int
    pcp: bool
    exact_counters: bool

    def of(self, spec: MachineSpec) -> MachineSpec:
        """The machine with the limits that its zones' present sizes give."""
        limited = derive(
            spec,
            kernel=self.kernel,
            min_free=self.min_free,
            khugepaged=self.khugepaged,
            pcptypes=self.pcptypes,
            pcp=self.pcp,
            exact_counters=self.exact_counters,
        )
        # per_cpu_pages_init() leaves pcp->high 0; with one node NOFRAGMENT depends on the zone alone
        zones = tuple(
            zone if zone.pcp is None else replace(zone, pcp=replace(zone.pcp, high=0))
            for zone in limited.zones
        )
        return replace(limited, zones=zones, nofragment=True)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A machine, and what may happen to its memory later."""

    spec: MachineSpec
    limits: Limits | None = None
    """None: the limits were given and stay."""
    block_pages: int = SECTION_PAGES
    """Pages of a memory block."""
    room: tuple[tuple[int, int], ...] = ()
    """Half-open pfn ranges, holes of the zones, that are not there yet."""


def given(spec: MachineSpec, *, block: str | int | None, room: object) -> Layout:
    """A machine described by the caller; ``room``: pfn ranges inside its holes that are to be plugged in."""
    pages = _block_pages(spec.max_page_order, block)
    ranges: tuple[tuple[int, int], ...] = ()
    if room is not None:
        if isinstance(room, (str, int)):
            raise ValueError(
                f"hotplug {room!r}: for a MachineSpec give pfn ranges (start, end) inside its holes"
            )
        ranges = tuple((int(a), int(b)) for a, b in room)  # type: ignore[attr-defined]
    for start, end in ranges:
        inside = any(a <= start < end <= b for zone in spec.zones for a, b in zone.holes)
        if not inside or start % pages or end % pages:
            raise ValueError(
                f"hotplug range [{start}, {end}): not whole blocks of {pages} pages inside a hole"
            )
    return Layout(spec=spec, block_pages=pages, room=ranges)


def sized(
    memory: str | int,
    *,
    kernel: str,
    cpus: int,
    nodes: int,
    single_zone: bool,
    pcp: bool,
    exact_counters: bool,
    pageblock_order: int,
    max_page_order: int,
    cma: str | int | None,
    min_free: int | None,
    khugepaged: bool,
    pcptypes: int,
    watermark_boost_factor: int,
    defrag_mode: bool,
    distances: tuple[tuple[int, ...], ...],
    data_cache: str | int,
    room: object,
    room_zone: str,
    block: str | int | None,
) -> Layout:
    """The x86-64 machine of a size (``asi_pa.kernel.sizing``), or one zone of it; arguments as of
    ``Allocator``.
    """
    limits = Limits(
        kernel=kernel,
        min_free=min_free,
        khugepaged=khugepaged,
        pcptypes=pcptypes,
        pcp=pcp,
        exact_counters=exact_counters,
    )
    if watermark_boost_factor < 0:
        raise ValueError(f"watermark_boost_factor {watermark_boost_factor}: negative")
    if min_free is not None and min_free < 0:
        raise ValueError(f"min_free {min_free}: negative")
    spec = _bare(
        memory,
        kernel=kernel,
        cpus=cpus,
        nodes=nodes,
        single_zone=single_zone,
        pageblock_order=pageblock_order,
        max_page_order=max_page_order,
        cma=cma,
        data_cache=data_cache,
    )
    pages = _block_pages(max_page_order, block)
    ranges: tuple[tuple[int, int], ...] = ()
    if room is not None:
        if not isinstance(room, (str, int)):
            raise ValueError(f"hotplug {room!r}: expected a size")
        spec, ranges = _with_room(spec, parse_size(room) // PAGE_SIZE, room_zone, pages)
    spec = replace(
        limits.of(spec),
        watermark_boost_factor=watermark_boost_factor,
        defrag_mode=defrag_mode,
        distances=distances,
    )
    return Layout(spec=spec, limits=limits, block_pages=pages, room=ranges)


def _bare(
    memory: str | int,
    *,
    kernel: str,
    cpus: int,
    nodes: int,
    single_zone: bool,
    pageblock_order: int,
    max_page_order: int,
    cma: str | int | None,
    data_cache: str | int,
) -> MachineSpec:
    """The zones of a size with their CMA memory, before hotplug's room and the limits."""
    if single_zone:
        if nodes != 1:
            raise ValueError(f"nodes {nodes}: a single zone has one node")
        return one_zone(
            memory,
            cpus=cpus,
            kernel=kernel,
            cma=cma,
            data_cache=data_cache,
            pageblock_order=pageblock_order,
            max_page_order=max_page_order,
        )
    spec = machine(
        memory,
        cpus=cpus,
        nodes=nodes,
        kernel=kernel,
        data_cache=data_cache,
        pageblock_order=pageblock_order,
        max_page_order=max_page_order,
    )
    return spec if cma is None else _with_cma(spec, cma)


def _block_pages(max_page_order: int, size: str | int | None) -> int:
    pages = SECTION_PAGES if size is None else parse_size(size) // PAGE_SIZE
    if pages & (pages - 1) or pages < 1 << max_page_order:
        raise ValueError(
            f"memory block of {pages} pages: a power of two, at least {1 << max_page_order} pages"
        )
    return pages


def _with_cma(spec: MachineSpec, size: str | int) -> MachineSpec:
    """CMA memory at the end of the first zone, below the holes there."""
    pages = parse_size(size) // PAGE_SIZE
    zone = spec.zones[0]
    block = 1 << spec.pageblock_order
    end = zone.end_pfn
    for a, b in reversed(zone.holes):
        if b == end:
            end = a
    end = end // block * block
    start = end - pages
    if pages % block or start <= zone.start_pfn or any(a < end and b > start for a, b in zone.holes):
        raise ValueError(f"CMA size {size!r}: whole pageblocks that leave room in zone {zone.name}")
    return replace(spec, zones=(replace(zone, cma=((start, end),)), *spec.zones[1:]))


def _with_room(
    spec: MachineSpec, pages: int, name: str, block: int
) -> tuple[MachineSpec, tuple[tuple[int, int], ...]]:
    """The machine with a hole of ``pages`` at its end, in a zone of that name."""
    if name not in ("Normal", "Movable"):
        raise ValueError(f"hotplug_zone {name!r}: Normal or Movable")
    if pages % block:
        raise ValueError(f"hotplug {pages} pages: not a multiple of the memory block, {block} pages")
    last = max(spec.zones, key=lambda zone: zone.end_pfn)
    start = -(-last.end_pfn // block) * block
    if last.name != name and name == "Normal":
        start = max(start, -(-_NORMAL_START // block) * block)
    end = start + pages
    if end > MAX_PAGES:
        raise ValueError(f"hotplug {pages} pages from pfn {start}: frames must lie below {MAX_PAGES}")
    zones = list(spec.zones)
    if last.name == name:
        managed = last.spanned - sum(b - a for a, b in last.holes) if last.managed is None else last.managed
        zones[zones.index(last)] = replace(
            last,
            spanned=end - last.start_pfn,
            holes=(*last.holes, (last.end_pfn, end)),
            managed=managed,
            present=managed if last.present is None else last.present,
        )
    else:
        first = next(i for i, zone in enumerate(zones) if zone.nid == last.nid)
        if any(z.nid == last.nid and ZONE_INDEX[z.name] >= ZONE_INDEX[name] for z in zones):
            raise ValueError(f"hotplug_zone {name!r}: the node's memory ends in zone {last.name}")
        empty = ZoneSpec(
            name=name,
            nid=last.nid,
            start_pfn=start,
            spanned=pages,
            holes=((start, end),),
            managed=0,
            present=0,
        )
        zones.insert(first, empty)
    return replace(spec, zones=tuple(zones)), ((start, end),)
