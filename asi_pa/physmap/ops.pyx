"""What is done to the two page-table trees of a physmap: C functions for the engine, no Python in them.

The *unrestricted* tree is the kernel's own direct map, the *restricted* one is the address space with
holes of the RFC (msgid 20250313-asi-page-alloc-v1-0-04972e046cea@google.com, patches 1-5): the same
frames, leaves of at most 2M, none of them present until asi_map() says so.  docs/engine/physmap.md has the
rules and their sources.
"""

from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset

from asi_pa.physmap.pgtable cimport (
    PGT_DIRTY,
    PGT_EINVAL,
    PGT_ENOMEM,
    PGT_GLOBAL,
    PGT_KERNEL,
    PGT_RW,
    pgt_add,
    pgt_collapse,
    pgt_destroy,
    pgt_leaf,
    pgt_part,
    pgt_pfn,
    pgt_pmd,
    pgt_put,
    pgt_remove,
    pgt_reserve,
    pgt_span,
    pgt_split,
)
cdef extern from *:
    """
    /* Table pages live above every modelled frame: physical 2^48 and 2^49, inside 52 bits. */
    #define TABLES_UNRESTRICTED (1ULL << 36)
    #define TABLES_RESTRICTED   (1ULL << 37)
    """
    const uint64_t TABLES_UNRESTRICTED
    const uint64_t TABLES_RESTRICTED

# ---------------------------------------------------------------------------------------------- log

# A log record in the making: neighbouring entries of one level, written by one call.
ctypedef struct run_t:
    int op
    int tree
    int cause
    int level
    uint64_t pfn
    uint64_t count
    uint64_t next               # the frame that continues the record
    bint logged


cdef void log_append(physmap_t *pm, int op, int tree, int level, int cause, int flush,
                     uint64_t pfn, uint64_t count) noexcept nogil:
    cdef physmap_log_t *log = &pm.log
    cdef physmap_record_t *r
    cdef uint64_t capacity
    cdef void *moved
    cdef uint64_t seq = log.seq
    log.seq += 1
    if not log.enabled:
        return
    if log.length == log.capacity:
        capacity = log.capacity * 2 if log.capacity else 64
        moved = NULL
        if log.length < log.limit:
            moved = realloc(log.records, capacity * sizeof(physmap_record_t))
        if moved == NULL:
            log.dropped += 1
            return
        log.records = <physmap_record_t *> moved
        log.capacity = capacity
    elif log.length >= log.limit:
        log.dropped += 1
        return
    r = &log.records[log.length]
    log.length += 1
    r.seq = seq
    r.op = op
    r.tree = tree
    r.level = level
    r.cause = cause
    r.flush = flush
    r.pad[0] = r.pad[1] = r.pad[2] = 0
    r.pfn = pfn
    r.count = count
    r.event = pm.now


cdef inline void run_begin(run_t *run, int op, int tree, int cause, uint64_t pfn) noexcept nogil:
    run.op = op
    run.tree = tree
    run.cause = cause
    run.level = 0
    run.pfn = run.next = pfn
    run.count = 0
    run.logged = False


cdef inline void run_cut(physmap_t *pm, run_t *run, int flush) noexcept nogil:
    """Log what the run has so far, and go on with a new record."""
    if run.count or flush:
        log_append(pm, run.op, run.tree, run.level if run.level else LEVEL_PMD, run.cause, flush,
                   run.pfn, run.count)
        run.logged = True
    run.count = 0
    run.level = 0


cdef inline void run_end(physmap_t *pm, run_t *run, int flush) noexcept nogil:
    """The last record of a call carries its flush; a call that wrote nothing leaves one, too."""
    run_cut(pm, run, flush)
    if not run.logged:
        log_append(pm, run.op, run.tree, LEVEL_PMD, run.cause, flush, run.pfn, 0)


cdef inline void run_wrote(physmap_t *pm, run_t *run, int level, uint64_t pfn,
                           uint64_t count) noexcept nogil:
    if level != run.level or pfn != run.next:
        run_cut(pm, run, FLUSH_NONE)
        run.level = level
        run.pfn = pfn
    run.next = pfn + (count << (9 * (level - 1)))
    run.count += count
    pm.counters.leaf_writes[run.tree * 4 + level] += count


# -------------------------------------------------------------------------------------------- flush

cdef inline void owe_flush(physmap_t *pm, uint64_t pfn, uint64_t n) noexcept nogil:
    """Entries of a range went, and whoever asked for it has to flush."""
    cdef owed_t *last = &pm.owed[pm.nowed - 1] if pm.nowed else NULL
    if last != NULL and (last.end == pfn or pm.nowed == MAX_OWED):
        last.start = min(last.start, pfn)
        last.end = max(last.end, pfn + n)
        return
    pm.owed[pm.nowed].start = pfn
    pm.owed[pm.nowed].end = pfn + n
    pm.nowed += 1


cdef inline void pay_flush(physmap_t *pm, uint64_t pfn, uint64_t n) noexcept nogil:
    """A flush of a range is done: of what was owed only that counts which lies in it as a whole."""
    cdef int i, left = 0
    for i in range(pm.nowed):
        if pm.owed[i].start < pfn or pm.owed[i].end > pfn + n:
            pm.owed[left] = pm.owed[i]
            left += 1
    pm.nowed = left


cdef int account_flush(physmap_t *pm, int kind, uint64_t pfn, uint64_t n, bint cpa) noexcept nogil:
    """Count one TLB flush of n pages on all CPUs; returns its kind.

    A range above the ceiling becomes a full flush (flush_tlb_kernel_range, arch/x86/mm/tlb.c;
    Documentation/arch/x86/tlb.rst).  INVLPGB broadcasts without IPIs, also the single pages of
    flush_tlb_kernel_range(); those of set_memory_*() (``cpa``: cpa_flush, arch/x86/mm/pat/set_memory.c)
    are on_each_cpu() and INVLPG whatever the processor can.  INVLPG reaches this address space and global
    entries; where kernel entries are not global every other address space's go at its next use
    (flush_tlb_one_kernel, arch/x86/mm/tlb.c: invalidate_other).
    """
    cdef bint broadcast
    if kind == FLUSH_NONE:
        return FLUSH_NONE
    if kind == FLUSH_RANGE and n > pm.flush_ceiling:
        kind = FLUSH_FULL
    if kind == FLUSH_FULL:
        pm.nowed = 0
    elif pm.nowed:
        pay_flush(pm, pfn, n)
    broadcast = pm.invlpgb and (kind == FLUSH_FULL or not cpa)
    if kind == FLUSH_FULL:
        pm.counters.flushes_full += 1
    else:
        pm.counters.flushes_ranged += 1
        pm.counters.flushed_pages += n
        pm.counters.flushes_others += not broadcast and not pm.global_pages
    if not broadcast:
        pm.counters.ipis += pm.ncpus - 1
    return kind


cdef int split(physmap_t *pm, run_t *run, uint64_t *e, int level) noexcept nogil:
    """Split one leaf; logs, counts, and flushes, present or not (__split_large_page)."""
    cdef pgtable_t *t = physmap_tree(pm, run.tree)
    cdef uint64_t old = e[0]
    cdef int flush = FLUSH_NONE
    run_cut(pm, run, FLUSH_NONE)
    if pgt_split(t, e, level):
        return PGT_ENOMEM
    pm.counters.splits[run.tree * 4 + level] += 1
    pm.counters.tables_allocated[run.tree] += 1
    if pm.split_flush:
        flush = account_flush(pm, FLUSH_FULL, 0, 0, False)
        pm.counters.flushes_split += 1
    log_append(pm, LOG_SPLIT, run.tree, level, run.cause, flush, pgt_pfn(old), 512)
    return 0


# ------------------------------------------------------------------------------- changing and copying

cdef inline uint64_t changed(uint64_t old, uint64_t set_bits, uint64_t clear_bits) noexcept nogil:
    # GLOBAL goes with PRESENT and does not come back with it: nothing sets it implicitly ("x86/mm: Factor
    # out pageattr _PAGE_GLOBAL setting", Dave Hansen, 2018)
    cdef uint64_t new = (old | set_bits) & ~clear_bits
    return new if new & PGT_PRESENT else new & ~PGT_GLOBAL


cdef int change(physmap_t *pm, run_t *run, uint64_t pfn, uint64_t n, uint64_t set_bits,
                uint64_t clear_bits) noexcept nogil:
    """Set and clear bits in the leaves of a range; 0 or -ENOMEM.

    A leaf that has them already is left alone, a large one that reaches over the range is split
    (__should_split_large_page, arch/x86/mm/pat/set_memory.c).
    """
    cdef pgtable_t *t = physmap_tree(pm, run.tree)
    cdef uint64_t end = pfn + n
    cdef uint64_t *e
    cdef uint64_t span, step, new, k
    cdef int level
    while pfn < end:
        e = pgt_leaf(t, pfn, &level)
        if level == LEVEL_PTE:
            step = min(512 - (pfn & 511), end - pfn)
            for k in range(step):
                new = changed(e[k], set_bits, clear_bits)
                if e[k] and new != e[k]:
                    pgt_put(t, &e[k], LEVEL_PTE, new)
                    run_wrote(pm, run, LEVEL_PTE, pfn + k, 1)
            pfn += step
            continue
        span = pgt_span(level)
        step = min(span - (pfn & (span - 1)), end - pfn)
        new = changed(e[0], set_bits, clear_bits)
        if e[0] == 0 or new == e[0]:
            if e[0] and step < span:
                pm.counters.redundant += step
        elif step < span:
            if split(pm, run, e, level):
                return PGT_ENOMEM
            continue
        else:
            pgt_put(t, e, level, new)
            run_wrote(pm, run, level, pfn, 1)
        pfn += step
    return 0


cdef int copy_block(physmap_t *pm, run_t *run, uint64_t pfn) noexcept nogil:
    """asi_map of one aligned 2M block whose restricted entry is a leaf; 1: copy page by page."""
    cdef pgtable_t *rt = &pm.restricted
    cdef uint64_t *r = pgt_pmd(rt, pfn)
    cdef int level
    cdef uint64_t u = pgt_leaf(&pm.unrestricted, pfn, &level)[0]
    if level == LEVEL_PTE:
        if not pm.as_posted_skip:
            return 1
        pm.counters.skipped_level += 1
        return 0
    if u == 0:
        pm.counters.skipped_absent += 1
        return 0
    if level == LEVEL_PUD:
        if pm.as_posted_skip:
            pm.counters.skipped_level += 1
            return 0
        u = pgt_part(u, LEVEL_PMD, pfn)
    pm.counters.copied_absent += (u & PGT_PRESENT) == 0
    pgt_put(rt, r, LEVEL_PMD, u)
    run_wrote(pm, run, LEVEL_PMD, pfn, 1)
    return 0


cdef int copy_pages(physmap_t *pm, run_t *run, uint64_t pfn, uint64_t n) noexcept nogil:
    """asi_map of frames of one 2M block, by 4K entries."""
    cdef pgtable_t *rt = &pm.restricted
    cdef uint64_t *r = pgt_pmd(rt, pfn)
    cdef uint64_t *u
    cdef uint64_t new, k
    cdef int level
    if r[0] & PGT_PSE:
        if r[0] & PGT_PRESENT and n < 512:
            pm.counters.redundant += n
            return 0
        if split(pm, run, r, LEVEL_PMD):
            return PGT_ENOMEM
    u = pgt_leaf(&pm.unrestricted, pfn, &level)
    if pm.as_posted_skip and n == 512 and level != LEVEL_PTE:
        pm.counters.skipped_level += 1
        return 0
    r = pgt_pte_table(rt, r[0]) + (pfn & 511)
    for k in range(n):
        new = u[k] if level == LEVEL_PTE else u[0]
        if r[k] == 0 or new == 0:
            pm.counters.skipped_absent += 1
            continue
        if level != LEVEL_PTE:
            new = pgt_part(new, LEVEL_PTE, pfn + k)
        pm.counters.copied_absent += (new & PGT_PRESENT) == 0
        pgt_put(rt, &r[k], LEVEL_PTE, new)
        run_wrote(pm, run, LEVEL_PTE, pfn + k, 1)
    return 0


cdef int copy_leaves(physmap_t *pm, run_t *run, uint64_t pfn, uint64_t n) noexcept nogil:
    """asi_map: copy the leaves of a range from the unrestricted tree; 0 or -ENOMEM."""
    cdef uint64_t end = pfn + n
    cdef uint64_t step, e
    while pfn < end:
        step = min(512 - (pfn & 511), end - pfn)
        e = pgt_pmd(&pm.restricted, pfn)[0]
        if e == 0:
            pm.counters.skipped_level += 1
        elif step < 512 or not e & PGT_PSE or copy_block(pm, run, pfn):
            if copy_pages(pm, run, pfn, step):
                return PGT_ENOMEM
        pfn += step
    return 0


# ---------------------------------------------------------------------------------------- operations

cdef inline bint out_of_range(physmap_t *pm, uint64_t pfn, uint64_t n) noexcept nogil:
    return pfn < pm.start_pfn or pfn > pm.end_pfn or n > pm.end_pfn - pfn


cdef int physmap_map(physmap_t *pm, int tree, uint64_t pfn, uint64_t n, int cause) noexcept nogil:
    """Map a range, without flush.  In the restricted tree this is asi_map(): every leaf is copied from
    the unrestricted tree, protection included; a part of a 2M leaf splits it.  In the unrestricted one it
    is __set_pages_p(), arch/x86/mm/pat/set_memory.c: PRESENT and RW."""
    cdef run_t run
    cdef int err
    if out_of_range(pm, pfn, n):
        return PGT_EINVAL
    pm.counters.map_calls[tree] += 1
    run_begin(&run, LOG_MAP, tree, cause, pfn)
    if tree == RESTRICTED:
        err = copy_leaves(pm, &run, pfn, n)
    else:
        err = change(pm, &run, pfn, n, PGT_PRESENT | PGT_RW, 0)
    run_end(pm, &run, FLUSH_NONE)
    return err


cdef int physmap_unmap(physmap_t *pm, int tree, uint64_t pfn, uint64_t n, int cause,
                       int flush) noexcept nogil:
    """Unmap a range and flush once, whatever was mapped (asi_unmap), or not at all (FLUSH_NONE).

    With ``mirror`` a range that leaves the unrestricted tree leaves the restricted one too.  There PRESENT
    goes; the unrestricted tree's __set_pages_np() takes RW and DIRTY as well.
    """
    cdef run_t run
    cdef uint64_t clear_bits = PGT_PRESENT if tree == RESTRICTED else PGT_PRESENT | PGT_RW | PGT_DIRTY
    cdef int err
    if out_of_range(pm, pfn, n):
        return PGT_EINVAL
    pm.counters.unmap_calls[tree] += 1
    if tree == UNRESTRICTED and pm.mirror:
        run_begin(&run, LOG_UNMAP, RESTRICTED, cause, pfn)
        err = change(pm, &run, pfn, n, 0, PGT_PRESENT)
        run_cut(pm, &run, FLUSH_NONE)
        if err:
            return err
    run_begin(&run, LOG_UNMAP, tree, cause, pfn)
    err = change(pm, &run, pfn, n, 0, clear_bits)
    if flush == FLUSH_NONE:
        owe_flush(pm, pfn, n)
    run_end(pm, &run, account_flush(pm, flush, pfn, n, False))
    return err


cdef int physmap_flush(physmap_t *pm, uint64_t pfn, uint64_t n) noexcept nogil:
    """A flush on its own, for unmaps that deferred theirs; logged with n as its count."""
    if out_of_range(pm, pfn, n):
        return PGT_EINVAL
    log_append(pm, LOG_FLUSH, UNRESTRICTED, 0, CAUSE_OTHER, account_flush(pm, FLUSH_RANGE, pfn, n, False),
               pfn, n)
    return 0


cdef uint64_t all_writes(physmap_t *pm) noexcept nogil:
    cdef uint64_t total = 0
    cdef int k
    for k in range(8):
        total += pm.counters.leaf_writes[k]
    return total


cdef int physmap_protect(physmap_t *pm, uint64_t pfn, uint64_t n, uint64_t set_bits,
                         uint64_t clear_bits, int cause, bint collapse) noexcept nogil:
    """set_memory_ro() and its kin: change protection bits of the unrestricted tree, and with
    ``mirror`` of the restricted one (whose presence stays), then flush if anything changed, and with
    ``collapse`` (CPA_COLLAPSE) make large leaves again where they can form."""
    cdef run_t run
    cdef int err
    cdef uint64_t before = all_writes(pm)
    cdef int flush
    if out_of_range(pm, pfn, n):
        return PGT_EINVAL
    pm.counters.protect_calls += 1
    if pm.mirror:
        run_begin(&run, LOG_PROTECT, RESTRICTED, cause, pfn)
        err = change(pm, &run, pfn, n, set_bits, clear_bits)
        run_cut(pm, &run, FLUSH_NONE)
        if err:
            return err
    run_begin(&run, LOG_PROTECT, UNRESTRICTED, cause, pfn)
    err = change(pm, &run, pfn, n, set_bits, clear_bits)
    flush = FLUSH_NONE if all_writes(pm) == before else FLUSH_RANGE
    run_end(pm, &run, account_flush(pm, flush, pfn, n, True))
    if err == 0 and flush and collapse and pm.collapse:
        collapse_leaves(pm, pfn, n, cause)
    return err


cdef void collapse_leaves(physmap_t *pm, uint64_t pfn, uint64_t n, int cause) noexcept nogil:
    """cpa_collapse_large_pages(), arch/x86/mm/pat/set_memory.c, 7.2: one flush for all that formed.

    With ``mirror`` the restricted tree follows where its own leaves agree, present or not.
    """
    cdef uint64_t end = pfn + n, at = pfn & ~<uint64_t> 511
    cdef bint formed = False
    cdef int tree, level
    while at < end:
        for tree in range(1 + pm.mirror):
            for level in range(LEVEL_PMD, LEVEL_PUD + 1):
                if not pgt_collapse(physmap_tree(pm, tree), at, level, tree == RESTRICTED):
                    break
                pm.counters.collapses[tree * 4 + level] += 1
                pm.counters.tables_freed[tree] += 1
                log_append(pm, LOG_COLLAPSE, tree, level, cause, FLUSH_NONE,
                           at & ~(pgt_span(level) - 1), 512)
                formed = True
        at += 512
    if formed:
        log_append(pm, LOG_FLUSH, UNRESTRICTED, 0, cause, account_flush(pm, FLUSH_FULL, pfn, n, True), pfn, n)


# ---------------------------------------------------------------------------------- building, hotplug

cdef void physmap_destroy(physmap_t *pm) noexcept nogil:
    """Free everything; a zero-filled or destroyed physmap_t is fine."""
    pgt_destroy(&pm.unrestricted)
    pgt_destroy(&pm.restricted)
    free(pm.log.records)
    memset(pm, 0, sizeof(physmap_t))


cdef int physmap_reserve(physmap_t *pm, uint64_t start_pfn, uint64_t end_pfn,
                         int unrestricted_max_leaf_level, int ncpus) noexcept nogil:
    """An empty physmap for frames [start_pfn, end_pfn), with the defaults of a sound design."""
    memset(pm, 0, sizeof(physmap_t))
    if start_pfn >= end_pfn or end_pfn > MAX_DIRECT_MAP_PFN or ncpus < 1 or not (
            LEVEL_PTE <= unrestricted_max_leaf_level <= LEVEL_PUD):
        return PGT_EINVAL
    pm.start_pfn = start_pfn
    pm.end_pfn = end_pfn
    pm.ncpus = ncpus
    pm.flush_ceiling = 33
    pm.mirror = True
    pm.split_flush = True
    pm.collapse = True
    pm.log.enabled = True
    pm.log.limit = <uint64_t> -1
    if pgt_reserve(&pm.unrestricted, start_pfn, end_pfn, unrestricted_max_leaf_level,
                   TABLES_UNRESTRICTED) or pgt_reserve(
                       &pm.restricted, start_pfn, end_pfn,
                       min(unrestricted_max_leaf_level, <int> LEVEL_PMD), TABLES_RESTRICTED):
        physmap_destroy(pm)
        return PGT_ENOMEM
    physmap_set_global(pm, False)
    return 0


cdef void physmap_set_global(physmap_t *pm, bint global_pages) noexcept nogil:
    """Whether new leaves are GLOBAL: an ASI kernel, like one with PTI, takes the bit out of
    __default_kernel_pte_mask (probe_page_size_mask(), arch/x86/mm/init.c; for ASI msgid
    20220223052223.1202152-2-junaids@google.com), because a global entry outlives the change of CR3."""
    pm.global_pages = global_pages
    pm.unrestricted.kernel = pm.restricted.kernel = PGT_KERNEL if global_pages else PGT_KERNEL & ~PGT_GLOBAL


cdef int physmap_init(physmap_t *pm, uint64_t start_pfn, uint64_t end_pfn,
                      int unrestricted_max_leaf_level, int ncpus) noexcept nogil:
    """A physmap whose whole range is memory: all present in the unrestricted tree, and in the
    restricted one prepared, none of it present.  On an error nothing stays allocated."""
    cdef int err = physmap_reserve(pm, start_pfn, end_pfn, unrestricted_max_leaf_level, ncpus)
    if err == 0:
        err = physmap_add(pm, start_pfn, end_pfn - start_pfn)
        if err:
            physmap_destroy(pm)
            return err
        physmap_reset_counters(pm)
    return err


cdef void physmap_reset_counters(physmap_t *pm) noexcept nogil:
    memset(&pm.counters, 0, sizeof(physmap_counters_t))


cdef uint64_t table_pages(pgtable_t *t) noexcept nogil:
    return t.tables[LEVEL_PTE] + t.tables[LEVEL_PMD] + t.tables[LEVEL_PUD] + t.tables[LEVEL_PGD]


cdef int physmap_add(physmap_t *pm, uint64_t pfn, uint64_t n) noexcept nogil:
    """Memory appears, at boot or hot-plugged (arch_add_memory): present in the unrestricted tree,
    prepared but not present in the restricted one.  Entries that are there already stay."""
    cdef pgtable_t *t
    cdef uint64_t before
    cdef int tree
    if out_of_range(pm, pfn, n):
        return PGT_EINVAL
    for tree in range(2):
        t = physmap_tree(pm, tree)
        before = table_pages(t)
        if pgt_add(t, pfn, pfn + n, tree == UNRESTRICTED):
            pgt_remove(&pm.unrestricted, pfn, pfn + n)
            return PGT_ENOMEM
        pm.counters.tables_allocated[tree] += table_pages(t) - before
    return 0


cdef int physmap_cut(physmap_t *pm, uint64_t pfn, uint64_t n) noexcept nogil:
    """End all leaves of both trees at the ends of a range, as if they had been built so: nothing counts."""
    cdef pgtable_t *t
    cdef uint64_t *e
    cdef uint64_t edge
    cdef int tree, level, k
    if out_of_range(pm, pfn, n):
        return PGT_EINVAL
    for tree in range(2):
        t = physmap_tree(pm, tree)
        for k in range(2):
            edge = pfn + n if k else pfn
            while edge < pm.end_pfn:
                e = pgt_leaf(t, edge, &level)
                if e[0] == 0 or edge & (pgt_span(level) - 1) == 0:
                    break
                if pgt_split(t, e, level):
                    return PGT_ENOMEM
    return 0


cdef int physmap_leave_out(physmap_t *pm, uint64_t pfn, uint64_t n) noexcept nogil:
    """Take a range out of both trees as if they had been built without it, and forget what was counted."""
    cdef int err = physmap_cut(pm, pfn, n)
    if err:
        return err
    pgt_remove(&pm.unrestricted, pfn, pfn + n)
    pgt_remove(&pm.restricted, pfn, pfn + n)
    physmap_reset_counters(pm)
    pm.log.length = pm.log.seq = pm.log.dropped = 0
    return 0


cdef void log_removal(physmap_t *pm, run_t *run, uint64_t pfn, uint64_t n) noexcept nogil:
    """Count and log the leaves that a removal clears, and the pages that it leaves mapped."""
    cdef pgtable_t *t = physmap_tree(pm, run.tree)
    cdef uint64_t end = pfn + n
    cdef uint64_t e, span, step
    cdef int level
    while pfn < end:
        e = pgt_leaf(t, pfn, &level)[0]
        span = pgt_span(level)
        step = min(span - (pfn & (span - 1)), end - pfn)
        if e & PGT_PRESENT and step < span:
            pm.counters.left_mapped += step
        elif e & PGT_PRESENT:
            run_wrote(pm, run, level, pfn, 1)
        pfn += step


cdef int physmap_remove(physmap_t *pm, uint64_t pfn, uint64_t n) noexcept nogil:
    """Memory disappears (arch_remove_memory): leaves that lie inside the range and empty table pages
    go, then a full flush; with ``mirror`` in both trees.

    Nothing is split (remove_pud_table(), remove_pmd_table(), arch/x86/mm/init_64.c, 7.2 and 6.12): what is
    only a part of its leaf stays mapped.
    """
    cdef pgtable_t *t
    cdef run_t run
    cdef uint64_t before
    cdef int tree
    if out_of_range(pm, pfn, n):
        return PGT_EINVAL
    for tree in range(1, -1, -1):
        if tree == RESTRICTED and not pm.mirror:
            continue
        t = physmap_tree(pm, tree)
        run_begin(&run, LOG_UNMAP, tree, CAUSE_HOTPLUG, pfn)
        log_removal(pm, &run, pfn, n)
        before = table_pages(t)
        pgt_remove(t, pfn, pfn + n)
        pm.counters.tables_freed[tree] += before - table_pages(t)
        if tree == UNRESTRICTED:
            run_end(pm, &run, account_flush(pm, FLUSH_FULL, pfn, n, False))
        else:
            run_cut(pm, &run, FLUSH_NONE)
    return 0
