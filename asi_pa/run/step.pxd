# Any operation on any machine.
from asi_pa.engine.page_alloc cimport mm_t
from asi_pa.run.loop cimport run_t
from asi_pa.trace.ops cimport op_t


cdef inline int cpu_of(const mm_t *mm, const op_t *op) noexcept nogil:
    # a tick may name no CPU
    return op.cpu if op.cpu < mm.ncpus else 0


cdef void allocate(run_t *run, const op_t *op) noexcept nogil
cdef bint step(run_t *run, const op_t *op) noexcept nogil
cdef bint step_ahead(run_t *run, const op_t *op) noexcept nogil
