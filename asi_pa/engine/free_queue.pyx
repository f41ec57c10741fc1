"""RFCv2's free queue: free pages are unmapped.

A freed nonsensitive page waits in a per-CPU list for a worker that unmaps and flushes it, then frees it past
the pcp lists; msgid 20250110-asi-rfc-v2-v2-0-8419288bc805@google.com, patch 14.
"""

from libc.stdint cimport uint8_t

from asi_pa._core cimport CTX_WORKER, EVENT_QUEUED, NIL, ORDER_MASK, QUEUED, free_to_buddy
from asi_pa.engine.mapping cimport log_event
from asi_pa.engine.page_alloc cimport may_wait, mm_alloc
from asi_pa.engine.remapped cimport is_remapped, map_chunk, remap_for
from asi_pa.physmap.physmap cimport physmap_flush


cdef int64_t queue_alloc(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil:
    cdef int64_t pfn
    if mm.queue_due and mm.now >= mm.queue_due:
        queue_run(mm, cpu)
    pfn = mm_alloc(mm, cpu, order, rq)
    if pfn < 0 and mm.queue_due and may_wait(&mm.design, rq, False):
        # it waits for the worker; as posted the pages are stuck
        queue_run(mm, cpu)
        mm.stats.flush_allocs += 1
        pfn = mm_alloc(mm, cpu, order, rq)
    return remap_for(mm, pfn, order, rq)


cdef bint queue_keep(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil:
    if not is_remapped(mm, z.links[frame].next):
        return False
    queue_add(mm, z, frame, order)
    return True


cdef void queue_add(mm_t *mm, zone_t *z, uint32_t frame, int order) noexcept nogil:
    # links: next in the queue; one queue a zone stands for the per-CPU lists, which one worker empties
    z.state[frame] = <uint8_t>(QUEUED | order)
    z.links[frame].next = z.queue
    z.links[frame].prev = NIL
    z.queue = frame
    mm.queued_chunks += 1
    mm.queued_pages += 1 << order
    log_event(z, EVENT_QUEUED, 0, 0, 0, frame, 1u << order, <uint32_t>mm.queued_chunks)
    if not mm.queue_due:
        mm.queue_due = mm.now + mm.design.queue_delay


cdef void queue_run(mm_t *mm, int cpu) noexcept nogil:
    # The worker: so many chunks are unmapped, flushed together, and only then free.
    cdef int64_t batch = mm.design.unmap_batch, unmapped, freed
    cdef int i
    cdef zone_t *z
    cdef uint32_t frame, n
    mm.queue_due = 0
    while True:
        unmapped = freed = 0
        for i in range(mm.nzones):
            z = mm.zones[i]
            frame = z.queue
            while frame != NIL and (unmapped < batch or not batch):
                n = 1u << (z.state[frame] & ORDER_MASK)
                map_chunk(mm, z, frame, n, False, True, CTX_WORKER, 0, 0)
                if batch == 1:
                    physmap_flush(mm.physmap, z.base_pfn + frame, n)
                unmapped += 1
                frame = z.links[frame].next
        if not unmapped:
            return
        if batch != 1:
            z = mm.zones[0]
            physmap_flush(mm.physmap, z.base_pfn + z.first, z.nframes - z.first)
        for i in range(mm.nzones):
            z = mm.zones[i]
            z.diff = &z.diffs[cpu]
            while freed < unmapped and z.queue != NIL:
                frame = z.queue
                z.queue = z.links[frame].next
                mm.queued_chunks -= 1
                mm.queued_pages -= 1 << (z.state[frame] & ORDER_MASK)
                free_to_buddy(z, frame, z.state[frame] & ORDER_MASK)
                freed += 1
