# The migration scanner: what is moved.
from asi_pa.engine.compact_control cimport compact_control_t

cdef bint isolate_migratepages(compact_control_t *cc) noexcept nogil
