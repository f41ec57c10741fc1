"""Time series of a machine, as a comparison shows them: a row of numbers and of the pageblock map a sample.

A sample is taken between thousands of operations and must cost less than a twentieth of them.  It makes no
Python object, copies counters, and looks for changes in three places: labels and mappings of pageblocks
against a copy, and wholly free blocks, which the lists of large orders name, as a set of bits against the
set before.  Only columns of the map in which one of these changed are counted anew.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

import numpy as np

from asi_pa._core cimport block_of, blocks_on, ctz, first_of, zone_t
from asi_pa.engine.machine cimport Machine
from asi_pa.engine.page_alloc cimport mm_t
from asi_pa.physmap.physmap cimport RESTRICTED, physmap_present_pages, physmap_t
from asi_pa.engine.pool cimport pool_pages

cdef extern from *:
    int ctzll "__builtin_ctzll"(unsigned long long) noexcept nogil
    void prefetch "__builtin_prefetch"(const void *) noexcept nogil

cdef enum:                      # numbers of a sample, before those by freetype
    AT_OP = 0
    AT_FLIPS_S2N = 1
    AT_FLIPS_N2S = 2
    AT_FLUSHES = 3
    AT_LEAVES = 4               # of 4K, 2M, 1G
    AT_MAPPED = 7
    AT_UNUSABLE = 8             # unusable_free_index at the order of a pageblock
    AT_FREE = 9

cdef enum:
    AHEAD = 8                   # links of a walk, fetched ahead

cdef enum:
    MAPPED = 0x40               # of a pageblock's kind, beside its freetype
    WHOLLY_FREE = 0x80


cdef class Samples:
    """What ``sample`` saw of a machine, each time it was called.

    Parameters
    ----------
    machine : Machine
    zone : the zone whose pageblocks the map shows
    most : most columns of the map
        A column's kind is the one that most of its pageblocks have, of equals the lowest.  Kinds are those
        of ``Replay.block_kinds``.

    Raises MemoryError.
    """

    cdef Machine machine
    cdef zone_t *z
    cdef Py_ssize_t length, room
    cdef int width              # numbers of a sample
    cdef int64_t *numbers
    cdef uint8_t *rows
    cdef uint32_t nblocks, ncolumns, nwords
    cdef uint8_t *types         # of the pageblocks, at the last sample
    cdef uint8_t *mapped
    cdef uint8_t *kinds
    cdef uint64_t *whole        # bit per pageblock: wholly free
    cdef uint64_t *whole_before
    cdef uint32_t *column_of
    cdef uint32_t *edges
    cdef uint8_t *changed       # columns to be counted anew
    cdef bint any_changed
    cdef uint32_t *walked       # the first frames of wholly free blocks, as the last walk met them
    cdef uint8_t *row

    def __init__(self, Machine machine not None, int zone, int most):
        cdef uint32_t i, k
        self.machine = machine
        self.z = machine._zone(zone)
        self.width = AT_FREE + machine.mm.design.nft + 1
        self.nblocks = self.z.nblocks - self.z.first_block
        self.ncolumns = min(self.nblocks, <uint32_t>max(most, 0))
        self.nwords = (self.nblocks + 63) >> 6
        # one more of each: nothing is empty, and a block at the end may head into the next word
        self.types = <uint8_t *>calloc(self.nblocks + 1, 1)
        self.mapped = <uint8_t *>calloc(self.nblocks + 1, 1)
        self.kinds = <uint8_t *>calloc(self.nblocks + 1, 1)
        self.whole = <uint64_t *>calloc(self.nwords + 1, sizeof(uint64_t))
        self.whole_before = <uint64_t *>calloc(self.nwords + 1, sizeof(uint64_t))
        self.column_of = <uint32_t *>calloc(self.nblocks + 1, sizeof(uint32_t))
        self.edges = <uint32_t *>calloc(self.ncolumns + 1, sizeof(uint32_t))
        self.changed = <uint8_t *>calloc(self.ncolumns + 1, 1)
        self.walked = <uint32_t *>calloc(self.nblocks + AHEAD, sizeof(uint32_t))
        self.row = <uint8_t *>calloc(self.ncolumns + 1, 1)
        if (self.types == NULL or self.mapped == NULL or self.kinds == NULL or self.whole == NULL
                or self.whole_before == NULL or self.column_of == NULL or self.edges == NULL
                or self.changed == NULL or self.walked == NULL or self.row == NULL):
            raise MemoryError("no memory for time series")
        for i, edge in enumerate(np.linspace(0, self.nblocks, self.ncolumns + 1).astype(np.int64).tolist()):
            self.edges[i] = edge
        for i in range(self.ncolumns):
            for k in range(self.edges[i], self.edges[i + 1]):
                self.column_of[k] = i
            self.changed[i] = 1
        self.any_changed = True

    def __dealloc__(self):
        free(self.numbers)
        free(self.rows)
        free(self.types)
        free(self.mapped)
        free(self.kinds)
        free(self.whole)
        free(self.whole_before)
        free(self.column_of)
        free(self.edges)
        free(self.changed)
        free(self.walked)
        free(self.row)

    def __len__(self):
        return self.length

    def sample(self, int64_t op):
        """Looks at everything; ``op`` operations were done."""
        if self.machine is None:
            raise RuntimeError("Samples.__init__ was not called")
        if self.length == self.room:
            self._grow()
        with nogil:
            take_numbers(self, op, self.numbers + self.length * self.width)
            take_row(self, self.rows + self.length * self.ncolumns)
        self.length += 1

    cdef int _grow(self) except -1:
        cdef Py_ssize_t room = max(2 * self.room, 256)
        cdef void *numbers = realloc(self.numbers, room * self.width * sizeof(int64_t))
        if numbers == NULL:
            raise MemoryError("no memory for time series")
        self.numbers = <int64_t *>numbers
        cdef void *rows = realloc(self.rows, room * (self.ncolumns + 1))
        if rows == NULL:
            raise MemoryError("no memory for time series")
        self.rows = <uint8_t *>rows
        self.room = room
        return 0

    cdef object _column(self, int first, int count):
        out = np.zeros((self.length, count), np.int64)
        cdef int64_t[:, ::1] view = out
        cdef Py_ssize_t i
        for i in range(self.length):
            memcpy(&view[i, 0], self.numbers + i * self.width + first, count * sizeof(int64_t))
        return out

    @property
    def op(self):
        """int64[samples]: operations done."""
        return self._column(AT_OP, 1)[:, 0]

    @property
    def free_pages(self):
        """int64[samples, freetypes + 1]: free pages by freetype, all zones; the pool's as one more."""
        return self._column(AT_FREE, self.width - AT_FREE)

    @property
    def flips(self):
        """int64[samples, 2]: pageblocks flipped so far, S -> N and N -> S."""
        return self._column(AT_FLIPS_S2N, 2)

    @property
    def flushes(self):
        """int64[samples]: TLB flushes so far, ranged and full."""
        return self._column(AT_FLUSHES, 1)[:, 0]

    @property
    def leaves(self):
        """int64[samples, 3]: leaves of 4K, 2M and 1G present in the restricted tree."""
        return self._column(AT_LEAVES, 3)

    @property
    def mapped_pages(self):
        """int64[samples]: frames present in the restricted tree."""
        return self._column(AT_MAPPED, 1)[:, 0]

    @property
    def unusable_index(self):
        """int64[samples]: the zone's unusable_free_index x 1000 at the order of a pageblock (mm/vmstat.c)."""
        return self._column(AT_UNUSABLE, 1)[:, 0]

    @property
    def blocks(self):
        """uint8[samples, columns]: the map of the zone's pageblocks."""
        out = np.zeros((self.length, self.ncolumns), np.uint8)
        cdef uint8_t[:, ::1] view = out
        if self.length and self.ncolumns:
            memcpy(&view[0, 0], self.rows, self.length * self.ncolumns)
        return out


cdef void take_numbers(Samples s, int64_t op, int64_t *out) noexcept nogil:
    cdef mm_t *mm = &s.machine.mm
    cdef physmap_t *pm = mm.physmap
    cdef const zone_t *z
    cdef uint32_t orders
    cdef int64_t pages, here, of_zone = 0, whole = 0
    cdef int i, k, ft, order, nft = mm.design.nft
    out[AT_OP] = op
    out[AT_FLIPS_S2N] = mm.stats.flips_s2n
    out[AT_FLIPS_N2S] = mm.stats.flips_n2s
    memset(out + AT_FLUSHES, 0, (s.width - AT_FLUSHES) * sizeof(int64_t))
    if pm != NULL:
        out[AT_FLUSHES] = pm.counters.flushes_ranged + pm.counters.flushes_full
        for k in range(3):
            out[AT_LEAVES + k] = pm.restricted.present[k + 1]
        out[AT_MAPPED] = physmap_present_pages(pm, RESTRICTED)
    for i in range(mm.nzones):
        z = mm.zones[i]
        for ft in range(nft):
            orders = z.nonempty[ft]
            pages = 0
            while orders:
                order = ctz(orders)
                orders &= orders - 1
                here = <int64_t>blocks_on(z, order, ft) << order
                pages += here
                if z == s.z and order >= z.pageblock_order:
                    whole += here
            out[AT_FREE + ft] += pages
            if z == s.z:
                of_zone += pages
    out[AT_UNUSABLE] = 1000 * (of_zone - whole) // of_zone if of_zone else 1000
    out[AT_FREE + nft] = pool_pages(mm, -1)


cdef void take_row(Samples s, uint8_t *out) noexcept nogil:
    cdef uint32_t i
    follow_labels(s)
    follow_whole_blocks(s)
    if s.any_changed:
        for i in range(s.ncolumns):
            if s.changed[i]:
                s.row[i] = most_frequent(s.kinds + s.edges[i], s.edges[i + 1] - s.edges[i])
        memset(s.changed, 0, s.ncolumns)
        s.any_changed = False
    memcpy(out, s.row, s.ncolumns)


cdef inline void changed(Samples s, uint32_t block) noexcept nogil:
    s.changed[s.column_of[block]] = 1
    s.any_changed = True


cdef void follow_labels(Samples s) noexcept nogil:
    # Types and mappings of the pageblocks, where they are not what they were.
    cdef const uint8_t *types = s.z.pbtype + s.z.first_block
    cdef const uint8_t *mapped = s.z.pbmapped + s.z.first_block
    cdef uint32_t b = 0, end, n = s.nblocks
    if memcmp(types, s.types, n) == 0 and memcmp(mapped, s.mapped, n) == 0:
        return
    while b < n:
        end = min(b + 64, n)
        if memcmp(types + b, s.types + b, end - b) or memcmp(mapped + b, s.mapped + b, end - b):
            while b < end:
                if types[b] != s.types[b] or mapped[b] != s.mapped[b]:
                    s.types[b] = types[b]
                    s.mapped[b] = mapped[b]
                    s.kinds[b] = (s.kinds[b] & WHOLLY_FREE) | types[b] | (MAPPED if mapped[b] else 0)
                    changed(s, b)
                b += 1
        b = end


cdef void follow_whole_blocks(Samples s) noexcept nogil:
    # Wholly free pageblocks: the lists of at least their order name them.  Since the last sample they changed
    # little, so that the links to come are where those of the last walk were, and can be fetched ahead.
    cdef const zone_t *z = s.z
    cdef uint64_t *before = s.whole
    cdef uint64_t *now = s.whole_before
    cdef uint64_t differ
    cdef uint32_t frame, b, end, i, n = 0
    cdef int ft, order
    for i in range(<uint32_t>AHEAD):
        prefetch(&z.links[s.walked[i]])
    s.whole_before = before
    s.whole = now
    memset(now, 0, s.nwords * sizeof(uint64_t))
    for ft in range(z.design.nft):
        if not z.nonempty[ft] >> z.pageblock_order:
            continue
        for order in range(z.pageblock_order, z.max_order + 1):
            frame = first_of(z, order, ft)
            while frame < z.nframes:
                b = block_of(z, frame) - z.first_block
                end = b + (1u << (order - z.pageblock_order))
                prefetch(&z.links[s.walked[n + AHEAD]])
                s.walked[n] = frame
                n += 1
                frame = z.links[frame].next
                while b < end:
                    now[b >> 6] |= <uint64_t>1 << (b & 63)
                    b += 1
    for i in range(s.nwords):
        differ = before[i] ^ now[i]
        while differ:
            b = (i << 6) + <uint32_t>ctzll(differ)
            differ &= differ - 1
            s.kinds[b] ^= WHOLLY_FREE
            changed(s, b)


cdef uint8_t most_frequent(const uint8_t *kinds, uint32_t n) noexcept nogil:
    cdef uint32_t counts[256]
    cdef uint32_t i
    cdef uint8_t kind, most = kinds[0]
    if memcmp(kinds, kinds + 1, n - 1) == 0:
        return most
    memset(counts, 0, sizeof(counts))
    for i in range(n):
        kind = kinds[i]
        counts[kind] += 1
        if counts[kind] > counts[most] or (counts[kind] == counts[most] and kind < most):
            most = kind
    return most
