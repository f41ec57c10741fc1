# A zone's initial state, brought into a machine made with boot=False.
from libc.stdint cimport uint8_t, uint32_t

from asi_pa._core cimport zone_t
from asi_pa.run.loop cimport run_t

cdef struct start_t:
    # The columns of a Population (asi_pa.trace.initial), and what is found on the way.
    const uint32_t *held_pfn
    const uint8_t *held_order
    const uint8_t *held_cls
    const uint32_t *held_slot
    Py_ssize_t held
    const uint32_t *free_pfn
    const uint8_t *free_order
    Py_ssize_t free
    const uint8_t *block_mt     # from the zone's first pageblock on
    uint32_t *kinds             # [pageblock][2]: pages of held allocations, sensitive and not; zeroed
    uint8_t *misplaced          # [held]: allocated anew, zeroed
    uint32_t mapped_blocks
    uint32_t mixed_blocks
    Py_ssize_t left             # misplaced ones

cdef void count_kinds(const zone_t *z, const run_t *run, start_t *start) noexcept nogil
cdef void type_blocks(zone_t *z, const run_t *run, start_t *start) noexcept nogil
cdef void soil(zone_t *z, const run_t *run) noexcept nogil
cdef void fill_lists(zone_t *z, const start_t *start) noexcept nogil
cdef void fill_held(zone_t *z, run_t *run, start_t *start) noexcept nogil
cdef void free_misplaced(zone_t *z, const start_t *start) noexcept nogil
