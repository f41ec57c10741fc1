# The machine as Python sees it; other extensions reach the engine through ``mm``.
from libc.stdint cimport uint64_t

from asi_pa._core cimport zone_t
from asi_pa.engine.page_alloc cimport mm_t


# What stands where a machine was never made: no zones, no CPUs, so every check refuses.
cdef Machine NOT_MADE

cdef class Machine:
    cdef mm_t mm
    cdef readonly object spec
    cdef readonly object design
    cdef readonly object kernel
    cdef readonly tuple zones
    cdef readonly object physmap
    cdef list views
    cdef object on_window
    cdef object window_error
    cdef int watched            # somebody acts after an operation: the worker, Python that is asked
    cdef zone_t *_zone(self, int zone) except NULL
    cdef zone_t *_range(self, int zone, uint64_t start, uint64_t end) except NULL
    cdef int _afterwards(self) except -1
    cdef int _watch(self) except -1
    cdef int _made(self, str what) except -1
    cdef int _check_order(self, int order) except -1
    cdef int _check_cpu(self, int cpu) except -1
