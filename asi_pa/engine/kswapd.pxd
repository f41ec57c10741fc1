# kswapd: who wakes it, what it does when it runs.
from libc.stdint cimport uint32_t

from asi_pa._core cimport request_t, zone_t
from asi_pa.engine.page_alloc cimport mm_t

cdef enum:
    KSWAPD_EVERY = 100      # operations between two chances to run: 1 to 5 ms of a busy machine

cdef void wakeup_kswapd(mm_t *mm, const zone_t *z, bint block, int order, int highest) noexcept nogil
cdef void wake_all_kswapds(mm_t *mm, int cpu, int order, const request_t *rq) noexcept nogil
cdef void kswapd(mm_t *mm, int cpu) noexcept nogil
