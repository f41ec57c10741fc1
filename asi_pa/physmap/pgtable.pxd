# One tree of x86-64 4-level page tables over a range of frames, header only: everything here is inline.
#
#     pgd[512] --> pud (flat) --> pmd (flat) --> pte (arena of 512-entry tables, on demand)
#
# PUD and PMD tables of the whole range are contiguous, so the entry of a frame is one index away:
# pmd[(pfn - pmd_base) >> 9].  Entries are what the processor would read.  The pfn of a table page is
# table_pfn plus its number (PGD, then PUDs, then PMDs, then PTE slots), far above modelled memory.
#
# A leaf that is not present has no GLOBAL either, which would mean _PAGE_PROTNONE
# (pgprot_clear_protnone_bits, arch/x86/mm/pat/set_memory.c); 0 means that nothing was built there.
# An entry with PSE is a leaf, present or not; one without it is a table.
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

cdef extern from *:
    """
    /* arch/x86/include/asm/pgtable_types.h; PAGE_KERNEL is __PP|__RW|___A|__NX|___D|___G */
    #define PGT_PRESENT     0x001ULL
    #define PGT_RW          0x002ULL
    #define PGT_DIRTY       0x040ULL
    #define PGT_PSE         0x080ULL
    #define PGT_GLOBAL      0x100ULL
    #define PGT_NX          0x8000000000000000ULL
    #define PGT_PFN_MASK    0x000ffffffffff000ULL
    #define PGT_TABLE       0x063ULL
    #define PGT_KERNEL      0x8000000000000163ULL
    """
    const uint64_t PGT_PRESENT
    const uint64_t PGT_RW
    const uint64_t PGT_DIRTY
    const uint64_t PGT_PSE
    const uint64_t PGT_GLOBAL
    const uint64_t PGT_NX
    const uint64_t PGT_PFN_MASK
    const uint64_t PGT_TABLE
    const uint64_t PGT_KERNEL

cdef enum:
    LEVEL_PTE = 1
    LEVEL_PMD = 2
    LEVEL_PUD = 3
    LEVEL_PGD = 4

cdef enum:
    PGT_ENOMEM = -12
    PGT_EINVAL = -22

cdef enum:
    PGD_DIRECT_MAP = 273        # (PAGE_OFFSET >> 39) & 511, PAGE_OFFSET = 0xffff888000000000

ctypedef struct pgtable_t:
    uint64_t *pgd
    uint64_t *pud
    uint64_t *pmd
    uint64_t *pte
    uint64_t pud_base           # pfn of pud[0], a multiple of 2^27
    uint64_t pmd_base           # pfn of pmd[0], a multiple of 2^18
    uint64_t pud_tables         # tables reserved, 512 entries each
    uint64_t pmd_tables
    uint64_t pte_capacity       # PTE tables in the arena, used so far, 1 + head of the freed ones
    uint64_t pte_used
    uint64_t pte_freed
    uint64_t table_pfn          # of the PGD page
    uint64_t pte_pfn            # of PTE slot 0
    uint64_t kernel             # PAGE_KERNEL: what new present leaves carry
    int max_leaf_level
    uint64_t tables[5]          # live table pages by level
    uint64_t leaves[4]          # leaf entries by level, present or not
    uint64_t present[4]         # of these, present


cdef inline uint64_t pgt_span(int level) noexcept nogil:
    """Frames under one entry of a level."""
    return <uint64_t> 1 << (9 * (level - 1))


cdef inline uint64_t pgt_pfn(uint64_t entry) noexcept nogil:
    return (entry & PGT_PFN_MASK) >> 12


cdef inline uint64_t *pgt_pte_table(pgtable_t *t, uint64_t pmd_entry) noexcept nogil:
    """The PTE table a PMD entry points to."""
    return t.pte + ((pgt_pfn(pmd_entry) - t.pte_pfn) << 9)


cdef inline uint64_t *pgt_pmd(pgtable_t *t, uint64_t pfn) noexcept nogil:
    return &t.pmd[(pfn - t.pmd_base) >> 9]


cdef inline uint64_t *pgt_pud(pgtable_t *t, uint64_t pfn) noexcept nogil:
    return &t.pud[(pfn - t.pud_base) >> 18]


cdef inline uint64_t *pgt_leaf(pgtable_t *t, uint64_t pfn, int *level) noexcept nogil:
    """The entry that decides about a frame, and its level; *entry is 0 where nothing was built."""
    cdef uint64_t *e = pgt_pmd(t, pfn)
    cdef uint64_t *up
    level[0] = LEVEL_PMD
    if e[0] & PGT_PSE:
        return e
    if e[0]:
        level[0] = LEVEL_PTE
        return pgt_pte_table(t, e[0]) + (pfn & 511)
    up = pgt_pud(t, pfn)
    if up[0] & PGT_PSE:
        level[0] = LEVEL_PUD
        return up
    return e


cdef inline void pgt_put(pgtable_t *t, uint64_t *e, int level, uint64_t new) noexcept nogil:
    """Overwrite a leaf by a leaf of the same level."""
    t.present[level] += (new & 1) - (e[0] & 1)
    e[0] = new


cdef inline uint64_t pgt_part(uint64_t leaf, int level, uint64_t pfn) noexcept nogil:
    """The entry of a lower level that maps pfn as the large ``leaf`` does."""
    leaf &= ~PGT_PFN_MASK
    if level == LEVEL_PTE:
        leaf &= ~PGT_PSE
    return leaf | (pfn << 12)


cdef inline uint64_t *pgt_new_pte_table(pgtable_t *t, uint64_t *slot) noexcept nogil:
    """A PTE table with undefined content, or NULL; may move the arena."""
    cdef uint64_t capacity
    cdef uint64_t *arena
    if t.pte_freed:
        slot[0] = t.pte_freed - 1
        t.pte_freed = t.pte[slot[0] << 9]
    else:
        if t.pte_used == t.pte_capacity:
            capacity = t.pte_capacity * 2 if t.pte_capacity else 8
            arena = <uint64_t *> realloc(t.pte, capacity << 12)
            if arena == NULL:
                return NULL
            t.pte = arena
            t.pte_capacity = capacity
        slot[0] = t.pte_used
        t.pte_used += 1
    t.tables[LEVEL_PTE] += 1
    return t.pte + (slot[0] << 9)


cdef inline int pgt_split(pgtable_t *t, uint64_t *e, int level) noexcept nogil:
    """Replace a 1G or 2M leaf by 512 of the next level with the same bits; 0 or -ENOMEM.

    Present and absent leaves split alike.  A PMD entry moves nothing; a PTE arena may.
    """
    cdef uint64_t old = e[0]
    cdef uint64_t first = pgt_pfn(old)
    cdef uint64_t slot, k
    cdef uint64_t *table
    if level == LEVEL_PUD:
        table = pgt_pmd(t, first)
        t.tables[LEVEL_PMD] += 1
        for k in range(512):
            table[k] = pgt_part(old, LEVEL_PMD, first + (k << 9))
        slot = t.table_pfn + 1 + t.pud_tables + ((first - t.pmd_base) >> 18)
    else:
        table = pgt_new_pte_table(t, &slot)
        if table == NULL:
            return PGT_ENOMEM
        old = pgt_part(old, LEVEL_PTE, first)
        for k in range(512):
            table[k] = old + (k << 12)
        slot += t.pte_pfn
    e[0] = (slot << 12) | PGT_TABLE
    t.leaves[level] -= 1
    t.leaves[level - 1] += 512
    if old & PGT_PRESENT:
        t.present[level] -= 1
        t.present[level - 1] += 512
    return 0


cdef inline void pgt_free_pte_table(pgtable_t *t, uint64_t pmd_entry) noexcept nogil:
    cdef uint64_t slot = pgt_pfn(pmd_entry) - t.pte_pfn
    t.pte[slot << 9] = t.pte_freed
    t.pte_freed = slot + 1
    t.tables[LEVEL_PTE] -= 1


cdef inline bint pgt_uniform(const uint64_t *table, uint64_t step) noexcept nogil:
    """Whether 512 entries map neighbouring frames with the same bits."""
    cdef int k
    for k in range(1, 512):
        if table[k] != table[0] + (k * step << 12):
            return False
    return True


cdef inline bint pgt_collapse(pgtable_t *t, uint64_t pfn, int level, bint absent) noexcept nogil:
    """Make 512 leaves under one entry of ``level`` (PMD or PUD) a large leaf again, where they agree.

    collapse_pmd_page(), collapse_pud_page(), arch/x86/mm/pat/set_memory.c, 7.2, which ask for present
    leaves; with ``absent`` those that are not do, too.
    """
    cdef uint64_t *e = pgt_pmd(t, pfn) if level == LEVEL_PMD else pgt_pud(t, pfn)
    cdef uint64_t *table
    cdef uint64_t first, leaf
    if level > t.max_leaf_level or e[0] == 0 or e[0] & PGT_PSE:
        return False
    first = pfn & ~(pgt_span(level) - 1)
    table = pgt_pte_table(t, e[0]) if level == LEVEL_PMD else pgt_pmd(t, first)
    leaf = table[0]
    if leaf == 0 or pgt_pfn(leaf) != first or (level == LEVEL_PUD and not leaf & PGT_PSE):
        return False
    if not leaf & PGT_PRESENT and not absent:
        return False
    if not pgt_uniform(table, pgt_span(level - 1)):
        return False
    if level == LEVEL_PMD:
        pgt_free_pte_table(t, e[0])
    else:
        memset(table, 0, 4096)
        t.tables[LEVEL_PMD] -= 1
    e[0] = leaf | PGT_PSE
    t.leaves[level] += 1
    t.leaves[level - 1] -= 512
    if leaf & PGT_PRESENT:
        t.present[level] += 1
        t.present[level - 1] -= 512
    return True


cdef inline void pgt_destroy(pgtable_t *t) noexcept nogil:
    free(t.pgd)
    free(t.pud)
    free(t.pmd)
    free(t.pte)
    memset(t, 0, sizeof(pgtable_t))


cdef inline int pgt_reserve(pgtable_t *t, uint64_t start, uint64_t end, int max_leaf_level,
                            uint64_t table_pfn) noexcept nogil:
    """An empty tree for [start, end); 0 or -ENOMEM with nothing left allocated."""
    memset(t, 0, sizeof(pgtable_t))
    t.pud_base = start >> 27 << 27
    t.pmd_base = start >> 18 << 18
    t.pud_tables = ((end - 1) >> 27) - (start >> 27) + 1
    t.pmd_tables = ((end - 1) >> 18) - (start >> 18) + 1
    t.max_leaf_level = max_leaf_level
    t.table_pfn = table_pfn
    t.kernel = PGT_KERNEL
    t.pte_pfn = table_pfn + 1 + t.pud_tables + t.pmd_tables
    t.pgd = <uint64_t *> calloc(512, 8)
    t.pud = <uint64_t *> calloc(t.pud_tables << 9, 8)
    t.pmd = <uint64_t *> calloc(t.pmd_tables << 9, 8)
    t.tables[LEVEL_PGD] = 1
    if t.pgd == NULL or t.pud == NULL or t.pmd == NULL:
        pgt_destroy(t)
        return PGT_ENOMEM
    return 0


cdef inline void pgt_link(pgtable_t *t, uint64_t pfn, int leaf_level) noexcept nogil:
    """Enter the PUD table, and for smaller leaves the PMD table, of a frame into the tree."""
    cdef uint64_t number = (pfn - t.pud_base) >> 27
    cdef uint64_t *e = &t.pgd[PGD_DIRECT_MAP + (pfn >> 27)]
    if e[0] == 0:
        e[0] = ((t.table_pfn + 1 + number) << 12) | PGT_TABLE
        t.tables[LEVEL_PUD] += 1
    e = pgt_pud(t, pfn)
    if leaf_level < LEVEL_PUD and e[0] == 0:
        number = (pfn - t.pmd_base) >> 18
        e[0] = ((t.table_pfn + 1 + t.pud_tables + number) << 12) | PGT_TABLE
        t.tables[LEVEL_PMD] += 1


cdef inline int pgt_add(pgtable_t *t, uint64_t pfn, uint64_t end, bint present) noexcept nogil:
    """Build leaves for [pfn, end), as large as alignment and max_leaf_level allow; 0 or -ENOMEM.

    What has an entry already keeps it (phys_pmd_init, arch/x86/mm/init_64.c).  init_memory_mapping,
    arch/x86/mm/init.c, cuts a range the same way: 4K to the first 2M boundary, 2M to the first 1G
    boundary, and back.
    """
    cdef uint64_t prot = t.kernel if present else t.kernel & ~(PGT_PRESENT | PGT_GLOBAL)
    cdef uint64_t *e
    cdef uint64_t *table
    cdef uint64_t slot
    cdef int level
    while pfn < end:
        if pgt_leaf(t, pfn, &level)[0]:
            pfn = (pfn & ~(pgt_span(level) - 1)) + pgt_span(level)
            continue
        level = t.max_leaf_level
        while pfn & (pgt_span(level) - 1) or end - pfn < pgt_span(level) or (
                level == LEVEL_PUD and pgt_pud(t, pfn)[0] != 0) or (
                level == LEVEL_PMD and pgt_pmd(t, pfn)[0] != 0):
            level -= 1
        pgt_link(t, pfn, level)
        if level == LEVEL_PUD:
            e = pgt_pud(t, pfn)
            e[0] = prot | PGT_PSE | (pfn << 12)
        elif level == LEVEL_PMD:
            e = pgt_pmd(t, pfn)
            e[0] = prot | PGT_PSE | (pfn << 12)
        else:
            e = pgt_pmd(t, pfn)
            if e[0] == 0:
                table = pgt_new_pte_table(t, &slot)
                if table == NULL:
                    return PGT_ENOMEM
                memset(table, 0, 4096)
                e[0] = ((t.pte_pfn + slot) << 12) | PGT_TABLE
            pgt_pte_table(t, e[0])[pfn & 511] = prot | (pfn << 12)
        t.leaves[level] += 1
        t.present[level] += present
        pfn += pgt_span(level)
    return 0


cdef inline bint pgt_empty(uint64_t *table) noexcept nogil:
    cdef int k
    for k in range(512):
        if table[k]:
            return False
    return True


cdef inline void pgt_remove(pgtable_t *t, uint64_t pfn, uint64_t end) noexcept nogil:
    """Take the leaves of [pfn, end) out of the tree and free empty tables.

    A leaf that reaches beyond the range stays: remove_pagetable(), arch/x86/mm/init_64.c, never splits.
    """
    cdef uint64_t *e
    cdef uint64_t span, last
    cdef int level
    while pfn < end:
        e = pgt_leaf(t, pfn, &level)
        if e[0] == 0:
            pfn += 1 if level == LEVEL_PTE else 512 - (pfn & 511)
            continue
        span = pgt_span(level)
        if pfn & (span - 1) or end - pfn < span:
            pfn = (pfn & ~(span - 1)) + span
            continue
        t.leaves[level] -= 1
        t.present[level] -= e[0] & 1
        e[0] = 0
        last = pfn + span - 1
        pfn += span
        if level == LEVEL_PTE and ((last & 511) == 511 or pfn >= end):
            e = pgt_pmd(t, last)
            if pgt_empty(pgt_pte_table(t, e[0])):
                pgt_free_pte_table(t, e[0])
                e[0] = 0
                level = LEVEL_PMD
        if level == LEVEL_PMD and ((last >> 9 & 511) == 511 or pfn >= end):
            if pgt_empty(&t.pmd[(last - t.pmd_base) >> 18 << 9]):
                pgt_pud(t, last)[0] = 0
                t.tables[LEVEL_PMD] -= 1
                level = LEVEL_PUD
        if level == LEVEL_PUD and ((last >> 18 & 511) == 511 or pfn >= end):
            if pgt_empty(&t.pud[(last - t.pud_base) >> 27 << 9]):
                t.pgd[PGD_DIRECT_MAP + (last >> 27)] = 0
                t.tables[LEVEL_PUD] -= 1
