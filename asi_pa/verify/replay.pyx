"""Replays the operations of a recorded kernel run through the engine, at engine speed."""

from libc.stdlib cimport free, malloc

from asi_pa.engine.compact_control cimport LOG_DIRECT, compact_log
from asi_pa.engine.compaction_gates cimport reset_isolation_suitable
from asi_pa.engine.compaction cimport (
    alloc_pages_direct_compact,
    compact_node,
    kcompactd_do_work,
    try_to_compact_pages,
)
from asi_pa._core cimport ALLOC, KIND_MASK, MIGRATE_ISOLATE, NIL, ORDER_MASK, blocks_on, zone_t
from asi_pa.engine.highatomic cimport unreserve_highatomic
from asi_pa.engine.page_isolation cimport (
    alloc_contig_range,
    free_contig_range,
    start_isolate_page_range,
    take_and_putback,
    undo_isolate_page_range,
)
from asi_pa.engine.machine cimport Machine
from asi_pa.engine.migrate cimport free_allocated, lru_add_drain
from asi_pa.engine.page_alloc cimport decode_request, mm_t, zone_of
from asi_pa.engine.pcp cimport pcp_decay, pcp_drain
from asi_pa.physmap.physmap cimport physmap_present_pages
from asi_pa.engine.pool cimport pool_pages
from asi_pa.engine.wrappers cimport design_alloc, has_pool

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint32_t

from asi_pa._core cimport request_t
from asi_pa.verify.codes cimport (
    OP_ALLOC,
    OP_COMPACT,
    OP_COMPACT_NODE,
    OP_CONTIG,
    OP_DIRECT_COMPACT,
    OP_DRAIN,
    OP_FREE,
    OP_ISOLATE,
    OP_KCOMPACTD,
    OP_RESET_SKIP,
    OP_SHRINK,
    OP_TAKE,
    OP_TICK,
    OP_UNISOLATE,
    OP_UNRESERVE,
    OP_WORKER,
)


cdef class Recording:
    """The operations of one recorded run and where its replay stands.

    ops : int32 (n, 6): code, order, class of the request, a, b, cpu; a and b as recorded.
    requests : uint32 request words, indexed by class.
    answers : int32 (n, 4), filled by ``run``: result, pcp count, pcp high, NR_FREE_PAGES.
    """

    cdef Machine machine
    cdef const int32_t[:, ::1] ops
    cdef request_t *requests
    cdef uint32_t[::1] pfn_of_row       # the slots that compaction tells where a page went
    cdef readonly object answers
    cdef int32_t[:, ::1] got
    cdef int32_t[:, ::1] gotx
    cdef readonly object watched
    cdef bint watch
    cdef int64_t managed        # pages present at first

    def __init__(self, Machine machine, ops, requests, bint watch):
        cdef int i
        self.machine = machine
        self.ops = ops
        self.requests = <request_t *>malloc(max(1, len(requests)) * sizeof(request_t))
        if self.requests == NULL:
            raise MemoryError("no memory for requests")
        for i in range(len(requests)):
            decode_request(&machine.mm, requests[i], &self.requests[i])
        self.pfn_of_row = np.full(max(1, len(ops)), 0xFFFFFFFF, np.uint32)
        machine.mm.slots = &self.pfn_of_row[0]
        self.answers = np.zeros((len(ops), 4), np.int32)
        self.got = self.answers
        self.watched = np.zeros((len(ops) if watch else 0, 8), np.int32)
        self.gotx = self.watched
        self.watch = watch
        # the worker and the shrinker run when the recording says so, reclaim never
        machine.mm.design.queue_delay = <int64_t>1 << 62
        machine.mm.design.shrink_batch = 0
        if machine.mm.physmap != NULL:
            self.managed = physmap_present_pages(machine.mm.physmap, machine.mm.design.tree)

    def __dealloc__(self):
        free(self.requests)

    def run(self, Py_ssize_t start, Py_ssize_t end):
        """Runs operations [start, end); they must have been checked (``verify.read_recording``)."""
        if not 0 <= start <= end <= self.ops.shape[0]:
            raise ValueError(f"operations [{start}, {end}) are not among the {self.ops.shape[0]}")
        with nogil:
            self._run(start, end)

    def live(self):
        """int32 (n, 3) of what the first zone has allocated: frame, order, the operation that asked; -1 where
        that is unknown (what a folio that was split left)."""
        cdef zone_t *z = self.machine.mm.zones[0]
        cdef uint32_t frame, owner
        rows = []
        for frame in range(z.first, z.nframes):
            if z.state[frame] & KIND_MASK == ALLOC:
                owner = z.links[frame].prev
                rows.append((frame - z.first, z.state[frame] & ORDER_MASK,
                             owner if owner < self.ops.shape[0] else -1))
        return np.array(rows, np.int32).reshape(-1, 3)

    cdef int64_t _allocated(self, mm_t *mm, Py_ssize_t row, int64_t pfn) noexcept nogil:
        # What an operation got: its slot, and the frame as recordings have it
        cdef zone_t *z
        cdef int64_t frame
        if pfn < 0:
            return -1
        z = zone_of(mm, pfn)
        self.pfn_of_row[row] = <uint32_t>pfn
        z.links[pfn - <int64_t>z.base_pfn].prev = <uint32_t>row
        frame = pfn - <int64_t>(z.base_pfn + z.first)
        return frame if z == mm.zones[0] else frame + 0x40000000

    cdef void _free(self, mm_t *mm, int cpu, Py_ssize_t row) noexcept nogil:
        cdef uint32_t pfn = self.pfn_of_row[row]
        cdef zone_t *z
        if pfn == NIL:
            return
        self.pfn_of_row[row] = NIL
        z = zone_of(mm, pfn)
        if self.ops[row, 0] == OP_CONTIG:
            free_contig_range(z, cpu, <uint32_t>(pfn - z.base_pfn), self.ops[row, 4] - self.ops[row, 3])
        else:
            free_allocated(mm, z, cpu, <uint32_t>(pfn - z.base_pfn), self.ops[row, 1])

    cdef int64_t _compact(self, mm_t *mm, Py_ssize_t row) noexcept nogil:
        # The operations of compaction; the recorder drains the batch on its way to the LRU after each.
        cdef zone_t *z = mm.zones[0]
        cdef int code = self.ops[row, 0], order = self.ops[row, 1], a = self.ops[row, 3]
        cdef int cpu = self.ops[row, 5]
        cdef const request_t *rq = &self.requests[self.ops[row, 2]]
        cdef int64_t result = 0
        cdef int status
        if code == OP_COMPACT_NODE:
            compact_node(mm, cpu, z.nid, a)
        elif code == OP_COMPACT:
            result = try_to_compact_pages(mm, cpu, order, rq, rq.slow_flags, a, order, NULL, NULL)
        elif code == OP_DIRECT_COMPACT:
            result = alloc_pages_direct_compact(mm, cpu, order, rq, rq.slow_flags, a, &status)
            result = self._allocated(mm, row, result)
            compact_log(mm, LOG_DIRECT, status, result, 0, 0)
        elif code == OP_RESET_SKIP:
            reset_isolation_suitable(z)
        elif code == OP_KCOMPACTD:
            kcompactd_do_work(mm, cpu, z.nid, order, z.zone_idx)
        lru_add_drain(mm)
        return result

    cdef void _run(self, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        cdef mm_t *mm = &self.machine.mm
        cdef zone_t *z = mm.zones[0]
        cdef Py_ssize_t i
        cdef int code, order, cpu
        cdef int64_t result, start_pfn = <int64_t>(z.base_pfn + z.first)
        cdef uint32_t first = z.first
        cdef int32_t a, b
        for i in range(start, end):
            code = self.ops[i, 0]
            order = self.ops[i, 1]
            a = self.ops[i, 3]
            b = self.ops[i, 4]
            cpu = self.ops[i, 5]
            z.diff = &z.diffs[cpu]
            z.now = i
            result = 0
            if code == OP_ALLOC:
                result = self._allocated(mm, i, design_alloc(mm, cpu, order, &self.requests[self.ops[i, 2]]))
            elif code == OP_FREE:
                self._free(mm, cpu, a)
            elif code == OP_DRAIN:
                if z.pcps != NULL:
                    pcp_drain(z, &z.pcps[cpu])
            elif code == OP_ISOLATE:
                # 6.12 has no modes: the recorder asked for MIGRATE_MOVABLE
                result = start_isolate_page_range(z, first + a, first + b,
                                                  order if z.kernel.isolate_is_bit else 2)
            elif code == OP_UNISOLATE:
                undo_isolate_page_range(z, first + a, first + b)
            elif code == OP_CONTIG:
                result = alloc_contig_range(z, first + a, first + b, 1 if order else 2, 0)
                if result == 0:
                    self.pfn_of_row[i] = <uint32_t>(start_pfn + a)
            elif code == OP_UNRESERVE:
                result = unreserve_highatomic(z, self.ops[i, 2], a)
            elif code == OP_TICK:
                result = -1 if z.pcps == NULL else pcp_decay(z, &z.pcps[cpu])
            elif code == OP_TAKE:
                result = take_and_putback(z, a, b)
                if result >= 0:
                    result -= first
            elif code == OP_WORKER:
                result = mm.queued_chunks
                mm.wrapper.work(mm, cpu)
            elif code == OP_SHRINK:
                result = mm.wrapper.shrink(mm, cpu, a)
                if result == 0:
                    result = -1         # SHRINK_STOP
            elif code >= OP_COMPACT_NODE:
                result = self._compact(mm, i)
            self.got[i, 0] = <int32_t>result
            if z.pcps != NULL:
                self.got[i, 1] = <int32_t>z.pcps[cpu].count
                self.got[i, 2] = <int32_t>z.pcps[cpu].high
            self.got[i, 3] = <int32_t>(z.nr_free if z.nr_free > 0 else 0)
            if self.watch:
                self.gotx[i, 0] = <int32_t>z.nevents
                self.gotx[i, 1] = <int32_t>z.stats.exposed_now
                self.gotx[i, 2] = <int32_t>z.stats.hidden_now
                if mm.wrapper == NULL:
                    self._watch_blocks(z, i, code == OP_ALLOC and result < 0)
                else:
                    self._watch_pages(mm, i)

    cdef void _watch_pages(self, mm_t *mm, Py_ssize_t i) noexcept nogil:
        cdef int64_t present = <int64_t>physmap_present_pages(mm.physmap, mm.design.tree)
        if has_pool(mm):
            self.gotx[i, 3] = <int32_t>mm.pool_wrong
            self.gotx[i, 4] = <int32_t>pool_pages(mm, -1)
            self.gotx[i, 5] = <int32_t>(self.managed - present)
        else:
            self.gotx[i, 3] = <int32_t>mm.queued_pages
            self.gotx[i, 4] = <int32_t>mm.queued_chunks
            self.gotx[i, 5] = <int32_t>present
        self.gotx[i, 6] = <int32_t>(mm.physmap.counters.flushes_ranged + mm.physmap.counters.flushes_full
                                    - mm.physmap.counters.flushes_split)
        self.gotx[i, 7] = <int32_t>mm.stats.pages_zeroed

    cdef void _watch_blocks(self, zone_t *z, Py_ssize_t i, bint failed) noexcept nogil:
        cdef uint32_t b
        cdef int ft, order, mine
        cdef int64_t pages = 0, blocks = 0
        for b in range(z.first_block, z.nblocks):
            ft = z.pbtype[b]
            if z.pbmapped[b]:
                self.gotx[i, 5] += 1
                if not z.design.mapped[ft]:
                    self.gotx[i, 3] += 1
            elif z.design.mapped[ft]:
                self.gotx[i, 4] += 1
        if failed:
            mine = z.design.mapped[self.requests[self.ops[i, 2]].ft]
            for ft in range(z.design.nft):
                if z.design.mapped[ft] == mine or z.design.mt[ft] == MIGRATE_ISOLATE:
                    continue
                for order in range(z.max_order + 1):
                    pages += <int64_t>blocks_on(z, order, ft) << order
                    if order >= z.pageblock_order:
                        blocks += <int64_t>blocks_on(z, order, ft) << (order - z.pageblock_order)
            self.gotx[i, 6] = <int32_t>blocks
            self.gotx[i, 7] = <int32_t>pages
