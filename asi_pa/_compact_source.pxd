# The migration scanner: what is moved.
from asi_pa._compact cimport compact_control_t

cdef bint isolate_migratepages(compact_control_t *cc) noexcept nogil
