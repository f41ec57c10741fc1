"""The modelled machine as data: zones, watermarks, per-CPU limits.

Everything here is a plain description; ``sizing`` computes one from a memory size as the kernel
does, a recorded run or a trace brings its own, and the engine is built from it.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ZONE_INDEX", "MachineSpec", "PcpSpec", "ZoneSpec"]

#: enum zone_type of an x86-64 kernel with ZONE_DMA and ZONE_DMA32 (include/linux/mmzone.h).
ZONE_INDEX: dict[str, int] = {"DMA": 0, "DMA32": 1, "Normal": 2, "Movable": 3}


@dataclass(frozen=True, kw_only=True)
class PcpSpec:
    """Limits of a zone's per-CPU page lists (struct per_cpu_pages), all in pages."""

    batch: int
    high_min: int
    high_max: int
    high: int | None = None
    """Initial ``high``; None means high_min."""
    free_high_batch: bool = False
    """PCPF_FREE_HIGH_BATCH: free_high also needs count >= batch (sizing.free_high_batch)."""


@dataclass(frozen=True, kw_only=True)
class ZoneSpec:
    """One zone.  Frame numbers are absolute pfns, sizes are pages."""

    name: str = "Normal"
    nid: int = 0
    start_pfn: int
    spanned: int
    holes: tuple[tuple[int, int], ...] = ()
    """Half-open pfn ranges inside the zone that were never handed to the allocator."""
    managed: int | None = None
    """None: spanned less the holes."""
    present: int | None = None
    wmark: tuple[int, int, int, int] = (0, 0, 0, 0)
    """WMARK_MIN, LOW, HIGH, PROMO without boost."""
    lowmem_reserve: tuple[int, ...] = (0, 0, 0, 0)
    """Indexed by the request's highest zone index."""
    pcp: PcpSpec | None = None
    """None: every request bypasses the per-CPU lists."""
    pcp_cpus: tuple[PcpSpec, ...] = ()
    """Each CPU's own limits, as many as the machine has CPUs; empty: ``pcp`` for all."""
    stat_threshold: int = 0
    """vmstat: a counter's per-CPU difference is folded when it leaves [-t, t]."""
    cma: tuple[tuple[int, int], ...] = ()
    """Half-open, pageblock-aligned pfn ranges of CMA memory."""

    @property
    def zone_idx(self) -> int:
        return ZONE_INDEX[self.name]

    @property
    def end_pfn(self) -> int:
        return self.start_pfn + self.spanned


@dataclass(frozen=True, kw_only=True)
class MachineSpec:
    """Zones in the order in which a request tries them, and what is global to the machine."""

    zones: tuple[ZoneSpec, ...]
    cpus: int = 1
    pageblock_order: int = 9
    max_page_order: int = 10
    watermark_boost_factor: int = 15000
    """vm.watermark_boost_factor, in 1/10000 of the high watermark; 0 turns boosting off."""
    defrag_mode: bool = False
    """vm.defrag_mode (7.2)."""
    nofragment: bool = True
    """The fast path carries ALLOC_NOFRAGMENT (alloc_flags_nofragment); machine-dependent."""
    pcp_batch_scale_max: int = 5
    """CONFIG_PCP_BATCH_SCALE_MAX."""
    data_cache: int = 2 << 20
    """A CPU's slice of data caches in bytes (struct cpu_cacheinfo per_cpu_data_slice_size: its own caches and
    its share of those that CPUs share).  2 MiB is an assumption, small for a server of today."""
    cpu_nodes: tuple[int, ...] = ()
    """The node of each CPU; empty: evenly spread (asi_pa.kernel.numa)."""
    distances: tuple[tuple[int, ...], ...] = ()
    """Between nodes, a row and a column each in ascending order; empty: 10 to itself, 20 to others."""
