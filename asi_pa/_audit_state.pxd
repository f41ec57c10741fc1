# A small zone's whole state in about a hundred bytes, and its hash up to the symmetries of the engine.
#
#   zone_t + arrays  --pack-->  bytes  --unpack-->  zone_t + arrays      one state of a search
#   zone_t + arrays  --save/load-->  a second zone_t + arrays            the state that is being expanded
#   zone_t + arrays  --canonical_hash-->  128 bits                       equal for symmetric states
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from asi_pa._core cimport pcp_t, zone_t

cdef enum:
    MAX_FRAMES = 64             # of a searched zone: sets of frames are 64-bit masks
    MAX_BLOCKS = 32
    MAX_SEARCH_CPUS = 2
    INFO_CONTIG = 0x40          # beside INFO_* of _core: the page is part of a contiguous range

cdef struct extra_t:
    # what the auditor knows of a state and the engine does not
    uint8_t why[MAX_BLOCKS]     # the event since which label and mapping disagree (ctx + 1); 0: they agree
    uint64_t freed              # frames on a shared pcp list that a free put there (others: a refill)
    uint64_t unflushed          # frames whose entries were cleared and not flushed since
    uint8_t due                 # operations until the free queue's worker runs, 0: nothing waits

cdef struct hash_t:
    uint64_t a
    uint64_t b

cdef struct saved_t:
    # a copy of everything that an operation may change
    zone_t z
    void *arrays
    pcp_t pcps[MAX_SEARCH_CPUS]
    uint64_t present
    extra_t extra

cdef int packed_size(const zone_t *z) noexcept nogil
cdef int saved_init(saved_t *s, const zone_t *z) noexcept nogil
cdef void saved_destroy(saved_t *s) noexcept nogil
cdef void save_state(saved_t *s, const zone_t *z, const extra_t *x) noexcept nogil
cdef void load_state(const saved_t *s, zone_t *z, extra_t *x) noexcept nogil
cdef void pack(const zone_t *z, const extra_t *x, uint8_t *out) noexcept nogil
cdef void unpack(zone_t *z, extra_t *x, const uint8_t *data) noexcept nogil
cdef uint64_t dirty_frames(const zone_t *z) noexcept nogil
cdef uint64_t present_frames(const zone_t *z) noexcept nogil
cdef void set_present_frames(zone_t *z, uint64_t wanted) noexcept nogil
cdef hash_t canonical_hash(const zone_t *z, const extra_t *x) noexcept nogil
cdef hash_t plain_hash(const zone_t *z, const extra_t *x) noexcept nogil
