#   zone_t + arrays  --canonical_hash-->  128 bits                       equal for symmetric states
from asi_pa.audit.met cimport hash_t
from asi_pa.audit.state cimport extra_t
from asi_pa._core cimport zone_t

cdef hash_t canonical_hash(const zone_t *z, const extra_t *x) noexcept nogil
cdef hash_t plain_hash(const zone_t *z, const extra_t *x) noexcept nogil
