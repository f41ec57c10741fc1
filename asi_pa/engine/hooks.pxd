# Decisions in Python.
from libc.stdint cimport int64_t

from asi_pa._core cimport zone_t


cdef class ZoneView:
    cdef zone_t *z
    cdef object design
    cdef object zone
    cdef public object error


cdef void ahead_hook(zone_t *z) noexcept with gil
cdef int64_t choose_hook(zone_t *z, int order, int ft) noexcept with gil
