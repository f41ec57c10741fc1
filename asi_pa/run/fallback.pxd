# What callers do when a try failed.
from libc.stdint cimport uint32_t

from asi_pa.engine.page_alloc cimport mm_t
from asi_pa.run.loop cimport run_t
from asi_pa.trace.ops cimport op_t

cdef bint answered(run_t *run, const op_t *op) noexcept nogil
cdef void failed(run_t *run, const op_t *op) noexcept nogil
cdef bint is_in_pages(const run_t *run, const op_t *op) noexcept nogil
cdef void split_in_pages(run_t *run, const op_t *op) noexcept nogil
cdef void free_in_pages(run_t *run, const op_t *op) noexcept nogil
cdef void own(mm_t *mm, uint32_t pfn, uint32_t slot) noexcept nogil
