"""The physmap: the kernel's direct map twice over, as x86-64 page tables that can be walked.

One object shows what physmap/ops does, with Python's errors; docs/engine/physmap.md has the rules and their
sources, asi_pa.physmap.records the vocabulary.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from asi_pa.physmap.pgtable cimport (
    LEVEL_PUD,
    PGT_DIRTY,
    PGT_ENOMEM,
    PGT_NX,
    PGT_PRESENT,
    PGT_PSE,
    PGT_RW,
    pgt_leaf,
    pgt_span,
    pgtable_t,
)
from asi_pa.physmap.check cimport (
    BAD_COUNT,
    BAD_FRAME,
    BAD_TABLE,
    NO_LEAF,
    NO_MEMORY,
    PRESENT_ALONE,
    SAME,
    physmap_check,
)

import numpy as np

from asi_pa.kernel.indexes import directmap_text
from asi_pa.physmap.records import (
    LEAF_NAMES,
    LOG_DTYPE,
    PAGE_OFFSET,
    Cause,
    Flush,
    Leaf,
    PhysmapCounters,
    WalkStep,
    frame_of,
)

__all__ = ["TREES", "Physmap", "tree_number"]

TREES = ("unrestricted", "restricted")


def tree_number(str tree not None):
    """0 or 1; ValueError for any other name."""
    if tree not in TREES:
        raise ValueError(f"unknown tree {tree!r}: unrestricted or restricted")
    return TREES.index(tree)


cdef int translate(int err) except -1:
    """The one place where C's return codes become exceptions."""
    if err == PGT_ENOMEM:
        raise MemoryError("no memory for page tables")
    if err:
        raise ValueError("range outside the physmap")
    return 0


cdef int check_range(physmap_t *pm, pfn, n, uint64_t align=1) except -1:
    """Refuse a range before anything is touched."""
    if n < 1:
        raise ValueError(f"n {n}: not a positive number of pages")
    if pfn < pm.start_pfn or pfn + n > pm.end_pfn:
        raise ValueError(f"pfn {pfn}, n {n}: not inside [{pm.start_pfn}, {pm.end_pfn})")
    if pfn % align or n % align:
        raise ValueError(f"pfn {pfn}, n {n}: not multiples of {align} pages")
    return 0


cdef int cause_number(cause) except -1:
    """A known cause, as a number."""
    return cause if type(cause) is int and 0 <= cause <= CAUSE_POPULATE else Cause(cause)


cdef uint64_t *table_page(pgtable_t *t, uint64_t table_pfn) noexcept:
    """The 512 entries of the table page with this pfn, which must be one of the tree's."""
    cdef uint64_t number = table_pfn - t.table_pfn
    if number == 0:
        return t.pgd
    if number <= t.pud_tables:
        return t.pud + ((number - 1) << 9)
    if number <= t.pud_tables + t.pmd_tables:
        return t.pmd + ((number - 1 - t.pud_tables) << 9)
    return t.pte + ((table_pfn - t.pte_pfn) << 9)


cdef uint64_t held_tables(pgtable_t *t) noexcept:
    return 1 + t.pud_tables + t.pmd_tables + t.pte_capacity


cdef class Physmap:
    """Both direct maps of the frames ``[start_pfn, start_pfn + pages)``.

    Parameters
    ----------
    start_pfn, pages
        The range, below pfn 2^34 (64 TiB, the size of the direct map with 4-level paging).
    present
        Pages that exist from the start, beginning at start_pfn (default: all); the rest is room for
        ``hot_add``.
    max_leaf
        Largest leaf of the unrestricted tree: "4K", "2M" or "1G".  The restricted tree stops at 2M.
    cpus
        Online CPUs; every flush interrupts the others.
    flush_ceiling
        4K pages; a larger range is flushed as a whole.
    invlpgb
        Flushes are broadcast in hardware, without interrupts (AMD Zen 3 and later), but for the ranged ones
        of ``set_memory_*``.
    as_posted_skip
        ``asi_map`` skips blocks whose leaf level differs in the two trees, as in the RFC of March 2025.
    mirror
        Protection changes, unmaps and hot-removes of the unrestricted tree reach the restricted one.
    split_flush
        Splitting a leaf flushes everything, as __split_large_page() does.
    collapse
        ``set_memory_rox`` makes large leaves again, as 7.2 does; 6.12 never does.
    global_pages
        Kernel entries are GLOBAL.  Not so in a kernel with ASI (or PTI): a global entry outlives the change
        of CR3 and would defeat the hole.
    log, log_limit
        Keep the operation log; at most this many records.
    pageblock_order
        Granularity of ``asi_map`` and ``asi_unmap``; 9 is one 2M leaf.

    Raises
    ------
    ValueError
        For a range, level or count that cannot be; MemoryError when there is no memory.
    """

    def __init__(self, start_pfn=0, pages=1 << 18, *, present=None, max_leaf="2M", cpus=1, flush_ceiling=33,
                 invlpgb=False, as_posted_skip=False, mirror=True, split_flush=True, collapse=True,
                 global_pages=False, log=True, log_limit=None, pageblock_order=9):
        if self.p != NULL:
            raise RuntimeError("a Physmap is initialised once")
        if start_pfn < 0 or pages < 1 or start_pfn + pages > MAX_DIRECT_MAP_PFN:
            raise ValueError(f"pages {pages} from pfn {start_pfn}: not inside the 64 TiB direct map")
        if present is None:
            present = pages
        if not 0 <= present <= pages:
            raise ValueError(f"present {present}: not between 0 and pages {pages}")
        if max_leaf not in LEAF_NAMES:
            raise ValueError(f"unknown max_leaf {max_leaf!r}: 4K, 2M or 1G")
        if not 1 <= cpus <= 1 << 20:
            raise ValueError(f"cpus {cpus}: not between 1 and 2^20")
        if not 0 <= flush_ceiling < 1 << 40:
            raise ValueError(f"flush_ceiling {flush_ceiling}: not between 0 and 2^40")
        if not 0 <= pageblock_order <= 18:
            raise ValueError(f"pageblock_order {pageblock_order}: not between 0 and 18")
        if log_limit is not None and log_limit < 0:
            raise ValueError(f"log_limit {log_limit}: negative")
        translate(physmap_reserve(&self.pm, start_pfn, start_pfn + pages,
                                  LEAF_NAMES.index(max_leaf) + 1, cpus))
        self.p = &self.pm
        physmap_set_global(self.p, global_pages)
        translate(physmap_add(self.p, start_pfn, present))
        physmap_reset_counters(self.p)
        self.pageblock_order = pageblock_order
        self.pm.flush_ceiling = flush_ceiling
        self.pm.invlpgb = invlpgb
        self.pm.as_posted_skip = as_posted_skip
        self.pm.mirror = mirror
        self.pm.split_flush = split_flush
        self.pm.collapse = collapse
        self.pm.log.enabled = log
        if log_limit is not None:
            self.pm.log.limit = log_limit

    def __dealloc__(self):
        physmap_destroy(&self.pm)

    def __reduce__(self):
        raise TypeError("a Physmap cannot be pickled or copied")

    @staticmethod
    cdef Physmap borrow(physmap_t *p, object owner, int pageblock_order):
        """A view of a model that lives inside another object, which it keeps alive."""
        cdef Physmap view = Physmap.__new__(Physmap)
        view.p = p
        view.owner = owner
        view.pageblock_order = pageblock_order
        return view

    cdef physmap_t *model(self) except NULL:
        if self.p == NULL:
            raise RuntimeError("Physmap was not initialised")
        return self.p

    def asi_map(self, pfn, n, cause=0):
        """Map ``n`` pages into the restricted tree, copying the unrestricted leaves; no flush.

        Both must be multiples of the pageblock.  Patch 5 of the RFC.
        """
        check_range(self.model(), pfn, n, 1 << self.pageblock_order)
        translate(physmap_map(self.p, RESTRICTED, pfn, n, cause_number(cause)))

    def asi_unmap(self, pfn, n, cause=0):
        """Unmap ``n`` pages from the restricted tree and flush.  Both must be pageblock-aligned."""
        check_range(self.model(), pfn, n, 1 << self.pageblock_order)
        translate(physmap_unmap(self.p, RESTRICTED, pfn, n, cause_number(cause), FLUSH_RANGE))

    def map(self, pfn, n, *, tree="unrestricted", cause=0):
        """Map any range of pages, splitting leaves where it must; no flush.

        The unrestricted tree's __set_pages_p() sets RW with PRESENT; the restricted tree gets a copy.
        """
        which = tree_number(tree)
        check_range(self.model(), pfn, n)
        translate(physmap_map(self.p, which, pfn, n, cause_number(cause)))

    def unmap(self, pfn, n, *, tree="unrestricted", cause=0, flush=1):
        """Unmap any range of pages; ``flush`` as in asi_pa.physmap.records.Flush (0: the caller owes it).

        The unrestricted tree's __set_pages_np() clears RW and DIRTY with PRESENT.
        """
        which = tree_number(tree)
        check_range(self.model(), pfn, n)
        translate(physmap_unmap(self.p, which, pfn, n, cause_number(cause), Flush(flush)))

    def flush(self, pfn, n):
        """flush_tlb_kernel_range() over a range."""
        check_range(self.model(), pfn, n)
        translate(physmap_flush(self.p, pfn, n))

    def set_memory_ro(self, pfn, n):
        """Clear RW and DIRTY in the unrestricted tree; reaches the restricted one with ``mirror``."""
        check_range(self.model(), pfn, n)
        translate(physmap_protect(self.p, pfn, n, 0, PGT_RW | PGT_DIRTY, CAUSE_SET_MEMORY, False))

    def set_memory_rox(self, pfn, n):
        """Clear RW, DIRTY and NX, then collapse what became uniform (CPA_COLLAPSE) with ``collapse``."""
        check_range(self.model(), pfn, n)
        translate(physmap_protect(self.p, pfn, n, 0, PGT_RW | PGT_DIRTY | PGT_NX, CAUSE_SET_MEMORY, True))

    def set_memory_rw(self, pfn, n):
        """Set RW in the unrestricted tree; reaches the restricted one with ``mirror``."""
        check_range(self.model(), pfn, n)
        translate(physmap_protect(self.p, pfn, n, PGT_RW, 0, CAUSE_SET_MEMORY, False))

    def set_memory_nx(self, pfn, n):
        """Set NX in the unrestricted tree; reaches the restricted one with ``mirror``."""
        check_range(self.model(), pfn, n)
        translate(physmap_protect(self.p, pfn, n, PGT_NX, 0, CAUSE_SET_MEMORY, False))

    def set_memory_x(self, pfn, n):
        """Clear NX in the unrestricted tree; reaches the restricted one with ``mirror``."""
        check_range(self.model(), pfn, n)
        translate(physmap_protect(self.p, pfn, n, 0, PGT_NX, CAUSE_SET_MEMORY, False))

    def hot_add(self, pfn, n):
        """Memory is added: ``n`` pages, whole 2M blocks that are not there yet (else ValueError)."""
        check_range(self.model(), pfn, n, 512)
        there = self._built(pfn, n, 1)
        if there is not None:
            raise ValueError(f"pfn {there}: there already")
        translate(physmap_add(self.p, pfn, n))

    def hot_remove(self, pfn, n):
        """Memory is removed: ``n`` pages that are all there (else ValueError).

        Nothing is split: what is only a part of a 2M leaf stays mapped, and counts as ``left_mapped``.  A
        part of a 1G leaf is refused: the kernel would read the leaf as a table (docs/kernel-findings.md, D3).
        """
        check_range(self.model(), pfn, n)
        missing = self._built(pfn, n, 0)
        if missing is not None:
            raise ValueError(f"pfn {missing}: not there")
        for edge, last in ((pfn, pfn), (pfn + n, pfn + n - 1)):
            if edge % (1 << 18) and self._level(last) == LEVEL_PUD:
                raise ValueError(f"pfn {last}: its 1G leaf reaches beyond the memory that is removed")
        translate(physmap_remove(self.p, pfn, n))

    def _level(self, uint64_t pfn):
        """Level of the unrestricted leaf of a frame."""
        cdef int level
        pgt_leaf(&self.model().unrestricted, pfn, &level)
        return level

    def _built(self, uint64_t pfn, uint64_t n, bint wanted):
        """The first frame of a range that is (1) or is not (0) built in the unrestricted tree."""
        cdef physmap_t *pm = self.model()
        cdef uint64_t end = pfn + n
        cdef uint64_t e
        cdef int level
        while pfn < end:
            e = pgt_leaf(&pm.unrestricted, pfn, &level)[0]
            if (e != 0) == wanted:
                return pfn
            pfn = (pfn & ~(pgt_span(level) - 1)) + pgt_span(level)
        return None

    def present(self, pfn, *, tree="restricted"):
        """Whether a frame is mapped."""
        which = tree_number(tree)
        check_range(self.model(), pfn, 1)
        return bool(physmap_present(self.p, which, pfn))

    def lookup(self, pfn, *, tree="restricted"):
        """The leaf that decides about a frame, or None where nothing was built."""
        cdef uint64_t e
        cdef int level
        which = tree_number(tree)
        check_range(self.model(), pfn, 1)
        e = pgt_leaf(physmap_tree(self.p, which), pfn, &level)[0]
        if e == 0:
            return None
        return Leaf(LEAF_NAMES[level - 1], e, bool(e & PGT_PRESENT))

    def walk(self, va, *, tree="restricted"):
        """Follow the tables from the PGD as the processor would: a list of WalkStep.

        The last step holds a leaf, or an entry that leads nowhere.  ValueError for an address outside
        the direct map.
        """
        cdef pgtable_t *t
        cdef uint64_t address, entry, table_pfn, index
        cdef int level
        t = physmap_tree(self.model(), tree_number(tree))
        if not PAGE_OFFSET <= va < PAGE_OFFSET + (1 << 46):
            raise ValueError(f"address {va:#x}: not in the direct map")
        address = va
        steps = []
        table_pfn = t.table_pfn
        for level in range(4, 0, -1):
            index = (address >> (3 + 9 * level)) & 511
            entry = table_page(t, table_pfn)[index]
            steps.append(WalkStep(("PTE", "PMD", "PUD", "PGD")[level - 1], table_pfn, index, entry))
            if not entry & PGT_PRESENT or entry & PGT_PSE:
                break
            table_pfn = frame_of(entry)
        return steps

    def _poke(self, uint64_t table_pfn, uint64_t slot, uint64_t entry):
        """Overwrite one entry behind the model's back, so that tests can watch check() find it."""
        cdef pgtable_t *t = physmap_tree(self.model(), table_pfn >= self.p.restricted.table_pfn)
        table_page(t, table_pfn)[slot & 511] = entry

    def leaf_counts(self, *, tree="restricted", present=True):
        """Leaves by size, ``{"4K": n, "2M": n, "1G": n}``; with ``present=False`` all that were built."""
        cdef pgtable_t *t = physmap_tree(self.model(), tree_number(tree))
        return {name: t.present[k + 1] if present else t.leaves[k + 1] for k, name in enumerate(LEAF_NAMES)}

    def mapped_pages(self, *, tree="restricted"):
        """Frames that are mapped."""
        return physmap_present_pages(self.model(), tree_number(tree))

    def table_pages(self, *, tree="restricted"):
        """Live page-table pages by level, ``{"PTE": n, "PMD": n, "PUD": n, "PGD": 1}``."""
        cdef pgtable_t *t = physmap_tree(self.model(), tree_number(tree))
        return {name: t.tables[k + 1] for k, name in enumerate(("PTE", "PMD", "PUD", "PGD"))}

    def direct_map_text(self, *, tree="unrestricted"):
        """The DirectMap lines of /proc/meminfo for the present leaves of a tree, in kB."""
        counts = self.leaf_counts(tree=tree)
        return directmap_text(counts["4K"], counts["2M"], counts["1G"])

    def log(self, start=0):
        """A copy of the log from record ``start`` on: 1-D array of asi_pa.physmap.records.LOG_DTYPE."""
        cdef physmap_log_t *log = &self.model().log
        cdef uint64_t first = min(max(start, 0), log.length)
        cdef unsigned char[::1] raw
        out = np.empty(log.length - first, LOG_DTYPE)
        if len(out):
            raw = out.view(np.uint8)
            memcpy(&raw[0], log.records + first, len(out) * sizeof(physmap_record_t))
        return out

    def stop_log(self):
        """Logs nothing from now on; what is in the log stays."""
        self.model().log.enabled = False

    def counters(self):
        """All counts since the physmap was built, as asi_pa.physmap.records.PhysmapCounters."""
        cdef physmap_counters_t *c = &self.model().counters
        return PhysmapCounters(
            map_calls=(c.map_calls[0], c.map_calls[1]),
            unmap_calls=(c.unmap_calls[0], c.unmap_calls[1]),
            protect_calls=c.protect_calls,
            leaf_writes=(
                (c.leaf_writes[1], c.leaf_writes[2], c.leaf_writes[3]),
                (c.leaf_writes[5], c.leaf_writes[6], c.leaf_writes[7]),
            ),
            splits_2m=(c.splits[2], c.splits[6]),
            splits_1g=(c.splits[3], c.splits[7]),
            collapses_2m=(c.collapses[2], c.collapses[6]),
            collapses_1g=(c.collapses[3], c.collapses[7]),
            tables_allocated=(c.tables_allocated[0], c.tables_allocated[1]),
            tables_freed=(c.tables_freed[0], c.tables_freed[1]),
            flushes_ranged=c.flushes_ranged, flushes_full=c.flushes_full, flushes_split=c.flushes_split,
            flushes_others=c.flushes_others, flushed_pages=c.flushed_pages, ipis=c.ipis,
            skipped_level=c.skipped_level,
            skipped_absent=c.skipped_absent, copied_absent=c.copied_absent, redundant=c.redundant,
            left_mapped=c.left_mapped, log_dropped=self.p.log.dropped,
        )

    @property
    def start_pfn(self):
        """First frame of the range."""
        return self.model().start_pfn

    @property
    def end_pfn(self):
        """One past the last frame of the range."""
        return self.model().end_pfn

    @property
    def nbytes(self):
        """Bytes the model holds for its tables and its log (PMD tables of 1G leaves stay untouched)."""
        cdef physmap_t *pm = self.model()
        tables = held_tables(&pm.unrestricted) + held_tables(&pm.restricted)
        return tables * 4096 + pm.log.capacity * sizeof(physmap_record_t)

    def check(self):
        """None, or the first broken invariant in words.

        Each tree must lead where its layout says, map every frame to itself and agree with its own
        counts; where the restricted tree maps a frame, the unrestricted one must map it with the same
        RW and NX, and both must know the same frames.
        """
        cdef int tree = 0, level = 0
        cdef uint64_t pfn = 0
        cdef int found = physmap_check(self.model(), &tree, &level, &pfn)
        if found == SAME:
            return None
        name = TREES[tree] if tree < 2 else ""
        at = ("PTE", "PMD", "PUD", "PGD")[level - 1]
        if found == BAD_TABLE:
            return f"{name} tree: the {at} entry of pfn {pfn} does not lead to its table page"
        if found == BAD_FRAME:
            return f"{name} tree: the {at} leaf of pfn {pfn} holds another frame"
        if found == BAD_COUNT:
            return f"{name} tree: leaves or tables at level {at} are not as many as counted"
        if found == NO_LEAF:
            return f"pfn {pfn}: the restricted tree has no entry for memory of the unrestricted one"
        if found == NO_MEMORY:
            return f"pfn {pfn}: the restricted tree has an entry for memory that is not there"
        if found == PRESENT_ALONE:
            return f"pfn {pfn}: present in the restricted tree, absent from the unrestricted one"
        u, r = (self.lookup(pfn, tree=which).entry for which in TREES)
        return f"pfn {pfn}: protection differs, restricted entry {r:#018x}, unrestricted {u:#018x}"
