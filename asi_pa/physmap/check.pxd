# Comparing the restricted tree with the unrestricted one, and each with its own counts.  Header only.
from libc.stdint cimport uint64_t
from libc.string cimport memset

from asi_pa.physmap.pgtable cimport (
    LEVEL_PMD,
    LEVEL_PTE,
    LEVEL_PUD,
    PGD_DIRECT_MAP,
    PGT_NX,
    PGT_PFN_MASK,
    PGT_PRESENT,
    PGT_PSE,
    PGT_RW,
    PGT_TABLE,
    pgt_leaf,
    pgt_pfn,
    pgt_pmd,
    pgt_pte_table,
    pgt_pud,
    pgt_span,
    pgtable_t,
)
from asi_pa.physmap.ops cimport physmap_t, physmap_tree

cdef enum:
    SAME = 0
    BAD_TABLE = 1       # an upper entry does not lead to the table page that the layout says
    BAD_FRAME = 2       # a leaf holds another frame than its place says
    BAD_COUNT = 3       # leaves, present leaves or table pages are not what was counted
    NO_LEAF = 4         # unrestricted has a leaf, restricted has none
    NO_MEMORY = 5       # restricted has a leaf, unrestricted has none
    PRESENT_ALONE = 6   # present in the restricted tree only
    PROTECTION = 7      # present in both, RW or NX differ


cdef inline int check_tree(pgtable_t *t, uint64_t start, uint64_t end, int *level,
                           uint64_t *where) noexcept nogil:
    """One tree by itself; the first thing that is wrong, with its level and pfn."""
    cdef uint64_t leaves[4]
    cdef uint64_t present[4]
    cdef uint64_t tables[5]
    cdef uint64_t pfn, span, k, number
    cdef uint64_t *e
    memset(leaves, 0, sizeof(leaves))
    memset(present, 0, sizeof(present))
    memset(tables, 0, sizeof(tables))
    tables[4] = 1
    for k in range(t.pud_tables):
        where[0] = t.pud_base + (k << 27)
        e = &t.pgd[PGD_DIRECT_MAP + (where[0] >> 27)]
        tables[3] += e[0] != 0
        if e[0] and e[0] != ((t.table_pfn + 1 + k) << 12 | PGT_TABLE):
            level[0] = 4
            return BAD_TABLE
    for number in range(t.pmd_tables):
        where[0] = t.pmd_base + (number << 18)
        e = pgt_pud(t, where[0])
        if e[0] and not e[0] & PGT_PSE:
            tables[2] += 1
            if e[0] != ((t.table_pfn + 1 + t.pud_tables + number) << 12 | PGT_TABLE):
                level[0] = LEVEL_PUD
                return BAD_TABLE
        for k in range(512):
            pfn = where[0] + (k << 9)
            e = pgt_pmd(t, pfn)
            if e[0] and not e[0] & PGT_PSE:
                tables[1] += 1
                if pgt_pfn(e[0]) - t.pte_pfn >= t.pte_used or e[0] & ~PGT_PFN_MASK != PGT_TABLE:
                    where[0] = pfn
                    level[0] = LEVEL_PMD
                    return BAD_TABLE
    pfn = start
    while pfn < end:
        e = pgt_leaf(t, pfn, level)
        span = pgt_span(level[0])
        where[0] = pfn & ~(span - 1)
        if e[0]:
            if pgt_pfn(e[0]) != where[0] or (level[0] > LEVEL_PTE) != ((e[0] & PGT_PSE) != 0):
                return BAD_FRAME
            leaves[level[0]] += 1
            present[level[0]] += e[0] & 1
        pfn = where[0] + span
    for k in range(1, 5):
        level[0] = k
        where[0] = start
        if tables[k] != t.tables[k]:
            return BAD_COUNT
        if k < 4 and (leaves[k] != t.leaves[k] or present[k] != t.present[k]):
            return BAD_COUNT
    return SAME


cdef inline int check_trees(physmap_t *pm, uint64_t *where) noexcept nogil:
    """Restricted against unrestricted, leaf by leaf (the smaller of the two at each frame)."""
    cdef uint64_t pfn = pm.start_pfn
    cdef uint64_t u, r, span
    cdef int ulevel, rlevel
    while pfn < pm.end_pfn:
        u = pgt_leaf(&pm.unrestricted, pfn, &ulevel)[0]
        r = pgt_leaf(&pm.restricted, pfn, &rlevel)[0]
        where[0] = pfn
        if u and not r:
            return NO_LEAF
        if r and not u:
            return NO_MEMORY
        if r & PGT_PRESENT:
            if not u & PGT_PRESENT:
                return PRESENT_ALONE
            if (u ^ r) & (PGT_RW | PGT_NX):
                return PROTECTION
        span = pgt_span(min(ulevel, rlevel))
        pfn = (pfn & ~(span - 1)) + span
    return SAME


cdef inline int physmap_check(physmap_t *pm, int *tree, int *level, uint64_t *where) noexcept nogil:
    """SAME, or the first difference and where it is."""
    cdef int found
    for tree[0] in range(2):
        found = check_tree(physmap_tree(pm, tree[0]), pm.start_pfn, pm.end_pfn, level, where)
        if found:
            return found
    return check_trees(pm, where)
