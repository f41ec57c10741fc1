"""Ranges of a zone going on and off line, as the engine sees it; the books are asi_pa.allocator.hotplug's.

Rules: mm/memory_hotplug.c online_pages, offline_pages, arch/x86/mm/init_64.c arch_add_memory (Linux 7.2).
A zone's arrays are made once, so memory is plugged into a part of its span that was a hole so far.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from asi_pa._core cimport (
    ALLOC,
    CTX_HOTPLUG,
    FREE,
    HOLE,
    KIND_MASK,
    MIGRATE_CMA,
    MIGRATE_ISOLATE,
    ORDER_MASK,
    PCP,
    POOL,
    QUEUED,
    TAIL,
    account_freepages,
    block_of,
    free_one,
    list_del,
    pcp_set_quiet,
    set_block_type,
    set_plenty,
    zone_t,
)
from asi_pa.engine.page_isolation cimport (
    ISOLATE_MODE_OTHER, start_isolate_page_range, undo_isolate_page_range,
)
from asi_pa.engine.machine cimport Machine
from asi_pa.engine.page_alloc cimport set_dirty
from asi_pa.engine.pcp cimport pcp_drain
from asi_pa.physmap.physmap cimport (
    Physmap,
    physmap_add,
    physmap_cut,
    physmap_leave_out,
    physmap_present,
    physmap_t,
)


# ---------------------------------------------------------------- the page tables

def leave_out(Physmap physmap not None, uint64_t pfn, uint64_t n):
    """Takes pages that are not there yet out of a new physmap, as if it had been built without them."""
    check(physmap_leave_out(physmap.p, pfn, n))


def add_memory(Machine machine not None, int zone, uint64_t pfn, uint64_t n):
    """The pages enter both trees (arch_add_memory): present in one, prepared in the restricted one."""
    cdef zone_t *z = machine._range(zone, pfn, pfn + n)
    cdef uint32_t frame = <uint32_t>(pfn - z.base_pfn), b
    cdef physmap_t *pm = (<Physmap>machine.physmap).p
    check(physmap_add(pm, pfn, n))
    # what was unplugged here is gone with its module
    set_dirty(z, frame, <uint32_t>n, False)
    if z.design.tracks:
        for b in range(block_of(z, frame), block_of(z, frame + <uint32_t>n)):
            pfn = z.base_pfn + (<uint64_t>b << z.pageblock_order)
            z.pbmapped[b] = physmap_present(pm, z.design.tree, pfn)


def remove_memory(Machine machine not None, uint64_t pfn, uint64_t n):
    """The pages leave the trees (arch_remove_memory); ValueError for a part of a 1G leaf.

    A kernel removes nothing smaller than a 2M leaf.  On a machine scaled down to smaller memory blocks leaves
    end where a block does.
    """
    if (pfn | n) & 511:
        check(physmap_cut((<Physmap>machine.physmap).p, pfn, n))
    machine.physmap.hot_remove(pfn, n)


cdef int check(int err) except -1:
    if err:
        raise MemoryError("no memory for page tables")
    return 0


# ---------------------------------------------------------------- the zone

def online_pages(Machine machine not None, int zone, uint64_t pfn, uint64_t n):
    """Hands n pages, none of which the allocator has, to a zone: free, of the type that boot gives memory.

    They pass through ISOLATE, so that they end up at the tails of the free lists.
    """
    cdef zone_t *z = machine._range(zone, pfn, pfn + n)
    cdef int boot = machine.design.freetype(machine.design.boot)
    cdef uint32_t frame = <uint32_t>(pfn - z.base_pfn), end, at, b
    end = frame + <uint32_t>n
    z.diff = z.diffs
    for b in range(block_of(z, frame), block_of(z, end)):
        # move_pfn_range_to_zone()
        z.pbbase[b] = <uint8_t>boot
        z.pbtype[b] = z.design.isolate[boot]
        z.nr_isolate_blocks += 1
    memset(&z.state[frame], TAIL, <size_t>n)
    for at in range(frame, end, z.pageblock_pages):
        # generic_online_page(), __free_pages_core(), split_large_buddy()
        free_one(z, at, z.pageblock_order, z.design.isolate[boot], True)
    z.managed += n
    z.present += n
    undo_isolate_page_range(z, frame, end)


def offline_pages(Machine machine not None, int zone, uint64_t pfn, uint64_t n):
    """Takes n free pages away from a zone; None, or (pfn, why) of the first that is in use, nothing changed.

    Pages on per-CPU lists are free.  Nothing migrates, and nobody waits.
    """
    cdef zone_t *z = machine._range(zone, pfn, pfn + n)
    cdef int boot = machine.design.freetype(machine.design.boot), order, cpu
    cdef uint32_t frame = <uint32_t>(pfn - z.base_pfn), end, at, b
    cdef const char *why
    end = frame + <uint32_t>n
    at = frame
    while at < end:
        why = in_use(z, at)
        if why != NULL:
            return z.base_pfn + at, why.decode()
        at += 1u << (z.state[at] & ORDER_MASK)
    z.diff = z.diffs
    if z.pcps != NULL:
        for cpu in range(z.ncpus):
            pcp_drain(z, &z.pcps[cpu])          # zone_pcp_disable()
    if start_isolate_page_range(z, frame, end, ISOLATE_MODE_OTHER) != 0:
        return pfn, "it cannot be isolated"
    at = frame
    while at < end:
        # __offline_isolated_pages()
        order = z.state[at] & ORDER_MASK
        list_del(z, at, order, z.pbtype[block_of(z, at)])
        account_freepages(z, z.pbtype[block_of(z, at)], -(<int64_t>1 << order))
        at += 1u << order
    memset(&z.state[frame], HOLE, <size_t>n)
    for b in range(block_of(z, frame), block_of(z, end)):
        # a design that keeps label and mapping together leaves the block as boot makes one
        set_block_type(z, b, boot, CTX_HOTPLUG)
        z.pbtype[b] = z.pbbase[b] = <uint8_t>boot
        z.nr_isolate_blocks -= 1
    z.managed -= n
    z.present -= n
    return None


cdef const char *in_use(zone_t *z, uint32_t frame) noexcept nogil:
    cdef int kind = z.state[frame] & KIND_MASK
    cdef int mt = z.design.mt[z.pbtype[block_of(z, frame)]]
    if kind == HOLE:
        return b"the allocator does not have it"
    if kind == POOL:
        return b"it is in the pool"
    if kind == QUEUED:
        return b"it is in the free queue"
    if kind == ALLOC or kind != FREE and kind != PCP:
        return b"it is allocated"
    if mt == MIGRATE_CMA:
        return b"its pageblock is CMA"
    if mt == MIGRATE_ISOLATE:
        return b"its pageblock is isolated"
    return NULL


def set_limits(Machine machine not None, spec):
    """Watermarks, reserves, per-CPU limits and zonelists for what the zones hold now.

    spec: the machine's, with other numbers.  Sources: init_per_zone_wmark_min(), zone_pcp_update(),
    refresh_zone_stat_thresholds(), build_all_zonelists().
    """
    cdef zone_t *z
    cdef int i, k
    machine.spec = spec
    for i, zone in enumerate(spec.zones):
        z = machine._zone(i)
        for k in range(4):
            z.wmark[k] = zone.wmark[k]
        for k in range(len(zone.lowmem_reserve)):
            z.lowmem_reserve[k] = zone.lowmem_reserve[k]
        z.boost = 0                 # __setup_per_zone_wmarks()
        z.stat_threshold = zone.stat_threshold
        if z.pcps != NULL and zone.pcp is not None:
            for k in range(z.ncpus):
                z.pcps[k].batch = zone.pcp.batch
                z.pcps[k].high_min = zone.pcp.high_min
                z.pcps[k].high_max = zone.pcp.high_max
                pcp_set_quiet(z, &z.pcps[k])
        set_plenty(z)
    machine._build_zonelists()
