# Decisions in Python.
from libc.stdint cimport int64_t, uint32_t

from asi_pa._core cimport zone_t


cdef class ZoneView:
    cdef zone_t *z
    cdef object design
    cdef object spec            # ZoneSpec; None: of no machine
    cdef object keeps           # what the zone lies in
    cdef public object error
    cdef uint32_t _frame(self, object pfn) except? 0xFFFFFFFF
    cdef int _type(self, name) except -1


cdef void ahead_hook(zone_t *z) noexcept with gil
cdef int64_t choose_hook(zone_t *z, int order, int ft) noexcept with gil
cdef int refill_hook(zone_t *z, int order) noexcept with gil
