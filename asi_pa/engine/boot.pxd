# From a description to the engine's structures.
from asi_pa._core cimport Zone
from asi_pa.engine.page_alloc cimport mm_t

cdef int check_spec(object spec) except -1
cdef int number_of(str field, str word) except -1
cdef dict design_numbers(object design, int pageblock_order)
cdef int build_zone(Zone zone, mm_t *mm, object spec, object machine, int boot, bint release,
                    bint protects) except -1
