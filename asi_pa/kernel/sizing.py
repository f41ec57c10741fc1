"""What a kernel derives from the size of its memory: watermarks, reserves, per-CPU limits.

The functions follow the kernel's, one each, in its integer arithmetic; pages are 4 KiB.  ``machine``
lays out an x86-64 machine and applies them all, ``single_zone`` does the same for one zone alone.
Sources: mm/page_alloc.c, mm/khugepaged.c, mm/vmstat.c, Linux 6.12 and 7.2 (the two agree except where
a kernel profile is asked).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import isqrt

from asi_pa.kernel.numa import cpu_nodes as nodes_of_cpus
from asi_pa.kernel.spec import ZONE_INDEX, MachineSpec, PcpSpec, ZoneSpec
from asi_pa.kernel.versions import DEFAULT_KERNEL, Kernel, kernel_profile

__all__ = [
    "PAGE_SIZE",
    "derive",
    "free_high_batch",
    "lowmem_reserves",
    "machine",
    "min_free_kbytes",
    "parse_size",
    "pcp_limits",
    "raised_for",
    "recommended_min_free_kbytes",
    "single_zone",
    "stat_threshold",
    "watermarks",
    "zone_batchsize",
    "zone_highsize",
]

PAGE_SIZE = 4096
MIB_PAGES = 1 << 8
GIB_PAGES = 1 << 18
#: Frames from the BIOS data area to the end of the first MiB, which a PC's memory map leaves out.
EBDA = (0x9F, 0x100)
#: sizeof(struct page): what the memory map costs for each frame.
STRUCT_PAGE = 64
#: The engine's limit: frame numbers and links are 32 bits wide, the heads of lists are numbered above frames.
MAX_PAGES = (1 << 32) - (1 << 16)

#: sysctl_lowmem_reserve_ratio for DMA, DMA32, Normal (mm/page_alloc.c); Movable has none.
LOWMEM_RESERVE_RATIO = (256, 256, 32, 0)
#: MIN_PERCPU_PAGELIST_HIGH_FRACTION, mm/page_alloc.c.
HIGH_FRACTION = 8
#: MIGRATE_PCPTYPES of an unchanged kernel (include/linux/mmzone.h).
PCPTYPES = 3

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?b)?\s*", re.IGNORECASE)
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


def parse_size(size: str | int) -> int:
    """Bytes from ``"64M"``, ``"4G"``, ``"1T"``, ``"0.5G"``, ``"512MiB"`` or a number of bytes.

    Units are powers of 1024.  Raises ValueError unless the size is a positive whole number of 4 KiB
    pages and within what the engine addresses (2^32 - 2 pages).
    """
    if isinstance(size, int):
        count = size
    else:
        match = _SIZE.fullmatch(size)
        if match is None:
            raise ValueError(f"size {size!r}: expected a number and a unit, such as 64M, 4G or 1T")
        whole, _, fraction = match[1].partition(".")
        unit = 1 << _SHIFT[match[2].lower()]
        part, rest = divmod(int(fraction or 0) * unit, 10 ** len(fraction))
        if rest:
            raise ValueError(f"size {size!r}: not a whole number of bytes")
        count = int(whole) * unit + part
    if count <= 0:
        raise ValueError(f"size {size!r}: must be positive")
    if count % PAGE_SIZE:
        raise ValueError(f"size {size!r}: not a multiple of the page size, {PAGE_SIZE} bytes")
    if count // PAGE_SIZE > MAX_PAGES:
        raise ValueError(f"size {size!r}: {count // PAGE_SIZE} pages, the limit is {MAX_PAGES}")
    return count


def min_free_kbytes(lowmem_pages: int) -> int:
    """vm.min_free_kbytes as set at boot (calculate_min_free_kbytes): sqrt(16 x lowmem in kB), clamped.

    ``lowmem_pages``: managed pages of the zones up to Normal (nr_free_buffer_pages before any
    watermark is set).
    """
    return max(128, min(isqrt(lowmem_pages * 4 * 16), 262144))


def recommended_min_free_kbytes(
    free_buffer_pages: int, zones: int, *, pageblock_order: int = 9, pcptypes: int = PCPTYPES
) -> int:
    """What khugepaged raises vm.min_free_kbytes to (set_recommended_min_free_kbytes).

    Two pageblocks a zone, and two for each pair of migratetypes, at most 5 % of
    ``free_buffer_pages``: managed pages above the high watermark, summed over zones up to Normal.
    ``zones`` is the number of populated zones up to Normal, over all nodes.
    """
    pages = (zones << pageblock_order) * (2 + pcptypes * pcptypes)
    return min(pages, free_buffer_pages // 20) * 4


def watermarks(
    managed: int, min_kbytes: int, lowmem_pages: int, *, movable: bool = False, scale_factor: int = 10
) -> tuple[int, int, int, int]:
    """WMARK_MIN, LOW, HIGH, PROMO in pages (__setup_per_zone_wmarks).

    ``scale_factor`` is vm.watermark_scale_factor, in 1/10000.
    """
    share = (min_kbytes >> 2) * managed // lowmem_pages if lowmem_pages else 0
    lowest = max(32, min(managed // 1024, 128)) if movable else share
    quotient, rest = divmod(managed, 10000)  # mult_frac: no overflow, same result
    gap = max(share >> 2, quotient * scale_factor + rest * scale_factor // 10000)
    return lowest, lowest + gap, lowest + 2 * gap, lowest + 3 * gap


def lowmem_reserves(
    managed: Sequence[int], ratio: Sequence[int] = LOWMEM_RESERVE_RATIO
) -> list[tuple[int, ...]]:
    """lowmem_reserve of each zone of one node (setup_per_zone_lowmem_reserve), in pages.

    ``managed`` holds the managed pages by zone index, 0 for a zone that is absent.  Entry j of a
    zone's tuple counts against requests whose highest zone index is j.
    """
    table = []
    for i, own in enumerate(managed):
        row = [0] * len(managed)
        if own and ratio[i]:
            for j in range(i + 1, len(managed)):
                row[j] = sum(managed[i + 1 : j + 1]) // ratio[i]
        table.append(tuple(row))
    return table


def zone_batchsize(managed: int, kernel: Kernel | str = DEFAULT_KERNEL) -> int:
    """pcp->batch in pages (zone_batchsize, at least 1 as zone_set_pageset_high_and_batch sees to)."""
    if kernel_profile(kernel).zone_batchsize_shift == 12:
        batch = min(managed >> 12, 64)
        if batch <= 1:
            return 1
    else:
        batch = max(min(managed >> 10, 256) // 4, 1)
    return max((1 << ((batch + batch // 2).bit_length() - 1)) - 1, 1)


def zone_highsize(pages: int, batch: int, cpus: int) -> int:
    """pcp->high for ``pages`` to be shared by ``cpus`` CPUs (zone_highsize).

    ``pages`` is the low watermark, boost included, for high_min, and managed / 8 for high_max.
    """
    return max(pages // cpus, 4 * batch)


def free_high_batch(data_cache: int, batch: int) -> bool:
    """PCPF_FREE_HIGH_BATCH (zone_pcp_update_cacheinfo): the CPU's data caches hold more than three batches.

    ``data_cache``: bytes, ``MachineSpec.data_cache``.  For a batch of 63 it takes more than 756 KiB.
    """
    return data_cache // PAGE_SIZE > 3 * batch


def pcp_limits(
    managed: int,
    low_wmark: int,
    cpus: int,
    kernel: Kernel | str = DEFAULT_KERNEL,
    *,
    data_cache: int = MachineSpec.data_cache,
) -> PcpSpec:
    """batch, high_min and high_max of a zone (zone_set_pageset_high_and_batch), in pages.

    ``cpus``: online CPUs of the zone's node, or of the machine when the node has none.  ``data_cache``: as
    in MachineSpec.
    """
    batch = zone_batchsize(managed, kernel)
    return PcpSpec(
        batch=batch,
        high_min=zone_highsize(low_wmark, batch, cpus),
        high_max=zone_highsize(managed // HIGH_FRACTION, batch, cpus),
        free_high_batch=free_high_batch(data_cache, batch),
    )


def stat_threshold(managed: int, cpus: int) -> int:
    """How far a CPU's vmstat difference may grow (calculate_normal_threshold, mm/vmstat.c)."""
    return min(125, 2 * cpus.bit_length() * (1 + (managed >> 15).bit_length()))


def _managed(zone: ZoneSpec) -> int:
    if zone.managed is not None:
        return zone.managed
    return zone.spanned - sum(end - start for start, end in zone.holes)


def derive(
    spec: MachineSpec,
    *,
    kernel: Kernel | str = DEFAULT_KERNEL,
    min_free: int | None = None,
    khugepaged: bool = True,
    scale_factor: int = 10,
    pcptypes: int = PCPTYPES,
    pcp: bool = True,
    exact_counters: bool = False,
) -> MachineSpec:
    """The same machine with everything computed that a kernel computes from its zones' sizes.

    ``min_free`` is vm.min_free_kbytes; None computes it, with khugepaged's raise unless
    ``khugepaged`` is false.  ``exact_counters`` sets the vmstat threshold to 0, so that no counter lags.
    ``pcp`` false leaves the per-CPU lists out.
    """
    profile = kernel_profile(kernel)
    nids = sorted({zone.nid for zone in spec.zones})
    cpus = Counter(nodes_of_cpus(spec))

    lowmem = sum(_lowmem(spec))
    if min_free is not None:
        kbytes = min_free
    elif khugepaged:
        kbytes = _raised_kbytes(spec, pcptypes, scale_factor)
    else:
        kbytes = min_free_kbytes(lowmem)

    reserves = {}
    for nid in nids:
        sizes = [0] * len(ZONE_INDEX)
        for zone in spec.zones:
            if zone.nid == nid:
                sizes[zone.zone_idx] += _managed(zone)
        reserves[nid] = lowmem_reserves(sizes)

    zones = []
    for zone in spec.zones:
        pages = _managed(zone)
        share = cpus[zone.nid] or spec.cpus
        movable = zone.zone_idx > ZONE_INDEX["Normal"]
        marks = watermarks(pages, kbytes, lowmem, movable=movable, scale_factor=scale_factor)
        zones.append(
            replace(
                zone,
                wmark=marks,
                lowmem_reserve=reserves[zone.nid][zone.zone_idx],
                pcp=pcp_limits(pages, marks[1], share, profile, data_cache=spec.data_cache) if pcp else None,
                stat_threshold=0 if exact_counters else stat_threshold(pages, spec.cpus),
            )
        )
    first = zones[0]
    dma32 = any(z.name == "DMA32" and z.nid == first.nid and _managed(z) for z in zones)
    # alloc_flags_nofragment: the preferred zone is Normal, and DMA32 lies below it or is assumed to.
    nofragment = spec.defrag_mode or (first.name == "Normal" and (len(nids) == 1 or dma32))
    return replace(spec, zones=tuple(zones), nofragment=nofragment)


def _lowmem(spec: MachineSpec) -> list[int]:
    """Managed pages of the zones up to Normal."""
    return [_managed(zone) for zone in spec.zones if zone.zone_idx <= ZONE_INDEX["Normal"]]


def _raised_kbytes(spec: MachineSpec, pcptypes: int, scale_factor: int) -> int:
    """vm.min_free_kbytes once khugepaged runs."""
    low = _lowmem(spec)
    lowmem = sum(low)
    kbytes = min_free_kbytes(lowmem)
    above = sum(
        max(pages - watermarks(pages, kbytes, lowmem, scale_factor=scale_factor)[2], 0) for pages in low
    )
    zones = sum(1 for pages in low if pages)
    raised = recommended_min_free_kbytes(
        above, zones, pageblock_order=spec.pageblock_order, pcptypes=pcptypes
    )
    return max(kbytes, raised)


def raised_for(
    spec: MachineSpec, pcptypes: int, *, kernel: Kernel | str = DEFAULT_KERNEL, scale_factor: int = 10
) -> MachineSpec:
    """The same machine under a kernel with ``pcptypes`` pcp types (MIGRATE_PCPTYPES).

    khugepaged asks for 2 + pcptypes^2 pageblocks a zone (set_recommended_min_free_kbytes, mm/khugepaged.c),
    so more types raise WMARK_MIN and all that follows from it: LOW, HIGH, PROMO, the least ``high`` of the
    per-CPU lists.  Zones whose marks are below those of an unchanged kernel's khugepaged stay as they are,
    for there khugepaged does not run; marks above what it asks for stay, too.
    """
    before = _raised_kbytes(spec, PCPTYPES, scale_factor)
    after = _raised_kbytes(spec, pcptypes, scale_factor)
    if after == before:
        return spec
    lowmem = sum(_lowmem(spec))
    cpus = Counter(nodes_of_cpus(spec))
    zones = []
    for zone in spec.zones:
        pages = _managed(zone)
        movable = zone.zone_idx > ZONE_INDEX["Normal"]
        old, new = (
            watermarks(pages, kbytes, lowmem, movable=movable, scale_factor=scale_factor)
            for kbytes in (before, after)
        )
        if zone.wmark[0] >= old[0] and new[0] > zone.wmark[0]:
            pcp = zone.pcp
            if pcp is not None:
                share = cpus[zone.nid] or spec.cpus
                pcp = replace(pcp, high_min=pcp_limits(pages, new[1], share, kernel).high_min)
            zone = replace(zone, wmark=new, pcp=pcp)
        zones.append(zone)
    return replace(spec, zones=tuple(zones))


def single_zone(
    memory: str | int,
    *,
    cpus: int = 1,
    kernel: Kernel | str = DEFAULT_KERNEL,
    start_pfn: int | None = None,
    name: str = "Normal",
    cma: str | int | None = None,
    data_cache: str | int = MachineSpec.data_cache,
    pageblock_order: int = 9,
    max_page_order: int = 10,
    **derived: object,
) -> MachineSpec:
    """One zone of ``memory`` bytes (or ``"4G"``), all of it managed.

    It starts at 4 GiB unless told otherwise, or at 0 where frame numbers would not fit into 32 bits.

    ``cma``: that much CMA memory at the zone's end.  ``data_cache``: a CPU's slice of it (MachineSpec).
    Further keywords go to ``derive``.
    Raises ValueError for sizes below one pageblock or above 2^32 - 2 pages, and for CMA that is no
    whole number of pageblocks or leaves nothing else.
    """
    _check_orders(pageblock_order, max_page_order)
    pages = parse_size(memory) // PAGE_SIZE
    if pages < 1 << pageblock_order:
        raise ValueError(f"size {memory!r}: {pages} pages, one pageblock is {1 << pageblock_order}")
    if start_pfn is None:
        start_pfn = 4 * GIB_PAGES if pages + 4 * GIB_PAGES <= MAX_PAGES else 0
    if start_pfn < 0 or start_pfn + pages > MAX_PAGES:
        raise ValueError(f"start_pfn {start_pfn}: frames must lie in 0 to {MAX_PAGES}")
    ranges: tuple[tuple[int, int], ...] = ()
    if cma is not None:
        count = parse_size(cma) // PAGE_SIZE
        end = (start_pfn + pages) >> pageblock_order << pageblock_order
        if count % (1 << pageblock_order) or count >= pages or end - count < start_pfn:
            raise ValueError(f"CMA size {cma!r}: whole pageblocks, fewer than the zone's {pages} pages")
        ranges = ((end - count, end),)
    zone = ZoneSpec(name=name, start_pfn=start_pfn, spanned=pages, present=pages, cma=ranges)
    spec = MachineSpec(
        zones=(zone,),
        cpus=_check_cpus(cpus),
        pageblock_order=pageblock_order,
        max_page_order=max_page_order,
        data_cache=parse_size(data_cache),
    )
    return derive(spec, kernel=kernel, **derived)  # type: ignore[arg-type]


def machine(
    memory: str | int,
    *,
    cpus: int = 1,
    nodes: int = 1,
    cpu_nodes: Sequence[int] = (),
    distances: Sequence[Sequence[int]] = (),
    kernel: Kernel | str = DEFAULT_KERNEL,
    pci_hole: str | int = "1G",
    memory_map: bool = True,
    data_cache: str | int = MachineSpec.data_cache,
    pageblock_order: int = 9,
    max_page_order: int = 10,
    **derived: object,
) -> MachineSpec:
    """An x86-64 machine with ``memory`` bytes of RAM: zones DMA, DMA32, Normal, as far as it reaches.

    RAM lies below 4 GiB up to the PCI hole (``pci_hole`` bytes wide) and goes on at 4 GiB.  As on a
    PC, frame 0 is no zone's and the first MiB is reserved (reserve_real_mode), in part absent.
    Nodes get equal shares in address order; ``cpu_nodes`` says which node each CPU belongs to (empty:
    evenly) and ``distances`` how far nodes are from each other.  ``memory_map``: 64 bytes per frame are
    taken from the top of each node for struct pages and are not managed.  ``data_cache``: a CPU's slice of
    data caches (MachineSpec).  Zones come in the order in
    which a request on node 0 tries them.  Further keywords go to ``derive``.
    Raises ValueError for fewer than 64 MiB a node and for sizes, orders or counts out of range.
    """
    _check_orders(pageblock_order, max_page_order)
    pages = parse_size(memory) // PAGE_SIZE
    hole = parse_size(pci_hole) // PAGE_SIZE if pci_hole else 0
    if hole > 3 * GIB_PAGES:
        raise ValueError(f"PCI hole {pci_hole!r}: at most 3G")
    if nodes < 1 or nodes > 64:
        raise ValueError(f"nodes {nodes}: expected 1 to 64")
    if pages < nodes * 64 * MIB_PAGES:
        raise ValueError(f"size {memory!r}: at least 64M a node")
    low_end = 4 * GIB_PAGES - hole
    share = pages // nodes >> pageblock_order << pageblock_order
    zones: list[ZoneSpec] = []
    for nid in range(nodes):
        first = nid * share
        last = pages if nid == nodes - 1 else first + share
        spans = [(a, b) for a, b in _to_frames(first, last, low_end) if b > a]
        zones += _node_zones(nid, spans, last - first if memory_map else 0)
    spec = MachineSpec(
        zones=tuple(zones),
        cpus=_check_cpus(cpus),
        pageblock_order=pageblock_order,
        max_page_order=max_page_order,
        data_cache=parse_size(data_cache),
        cpu_nodes=tuple(cpu_nodes),
        distances=tuple(tuple(row) for row in distances),
    )
    return derive(spec, kernel=kernel, **derived)  # type: ignore[arg-type]


def _check_orders(pageblock_order: int, max_page_order: int) -> None:
    if not 0 <= max_page_order <= 10:
        raise ValueError(f"max_page_order {max_page_order}: expected 0 to 10")
    if not 0 <= pageblock_order <= max_page_order:
        raise ValueError(
            f"pageblock_order {pageblock_order}: expected 0 to max_page_order ({max_page_order})"
        )


def _check_cpus(cpus: int) -> int:
    if not 1 <= cpus <= 4096:
        raise ValueError(f"cpus {cpus}: expected 1 to 4096")
    return cpus


def _to_frames(first: int, last: int, low_end: int) -> list[tuple[int, int]]:
    """The frames of RAM pages [first, last): below ``low_end`` as they are, the rest from 4 GiB up."""
    shift = 4 * GIB_PAGES - low_end
    return [(first, min(last, low_end)), (max(first, low_end) + shift, last + shift)]


def _node_zones(nid: int, spans: Sequence[tuple[int, int]], mapped: int) -> list[ZoneSpec]:
    """The zones of a node whose RAM is ``spans``, highest first; ``mapped`` frames get struct pages."""
    limits = (("Normal", 4 * GIB_PAGES, spans[-1][1]), ("DMA32", 4096, 4 * GIB_PAGES), ("DMA", 1, 4096))
    taken = -(-mapped * STRUCT_PAGE // PAGE_SIZE)
    zones = []
    for name, bottom, top in limits:
        # zone_spanned_pages_in_node: the node's extent within the zone's limits, gaps included.
        start, end = max(spans[0][0], bottom), min(spans[-1][1], top)
        ram = [(max(a, start), min(b, end)) for a, b in spans if a < end and b > start]
        if end <= start or not ram:
            continue
        edges = [start, *(edge for part in ram for edge in part), end]
        holes = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]
        if name == "DMA":
            holes.append(EBDA)
        present = end - start - sum(b - a for a, b in holes)
        if name == "DMA":
            holes = [(start, EBDA[1])]
        elif taken:
            size = min(taken, ram[-1][1] - ram[-1][0])
            holes.append((ram[-1][1] - size, ram[-1][1]))
            taken -= size
        managed = end - start - sum(b - a for a, b in holes)
        if managed:
            zones.append(
                ZoneSpec(
                    name=name,
                    nid=nid,
                    start_pfn=start,
                    spanned=end - start,
                    holes=tuple(sorted(holes)),
                    managed=managed,
                    present=present,
                )
            )
    return zones
