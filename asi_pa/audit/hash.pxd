#   zone_t + arrays  --canonical_hash-->  128 bits                       equal for symmetric states
from libc.stdint cimport uint64_t

from asi_pa.audit.state cimport extra_t
from asi_pa._core cimport zone_t

cdef struct hash_t:
    uint64_t a
    uint64_t b

cdef hash_t canonical_hash(const zone_t *z, const extra_t *x) noexcept nogil
cdef hash_t plain_hash(const zone_t *z, const extra_t *x) noexcept nogil
