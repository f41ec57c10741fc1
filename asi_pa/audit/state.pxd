# A small zone's whole state in about a hundred bytes.
#
#   zone_t + arrays  --pack-->  bytes  --unpack-->  zone_t + arrays      one state of a search
#   zone_t + arrays  --save/load-->  bytes as they are in memory         the state that is being expanded
from libc.stdint cimport int16_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from asi_pa._core cimport FREE, KIND_MASK, PCP, POOL, QUEUED, zone_t
from asi_pa.engine.fill cimport ZONE_ARRAYS, array_t

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
    uint32_t shrunk             # blocks that the pool's shrinker gave something back of since their refill
    uint8_t due                 # operations until the free queue's worker runs, 0: nothing waits

cdef struct home_t:
    # A searched zone's arrays side by side, so that a state is copied and compared at once; and where they
    # are otherwise.
    void *arena
    size_t bytes                # of the arena that an operation may change
    int words                   # of 64 bits, without the heads of the free lists
    size_t image                # bytes of a state's image
    int narrays
    array_t arrays[ZONE_ARRAYS]
    void *were[ZONE_ARRAYS]

cdef int packed_size(const zone_t *z) noexcept nogil
cdef int home_move(home_t *home, zone_t *z) noexcept nogil
cdef void home_return(home_t *home) noexcept nogil
cdef void save_image(const home_t *home, const zone_t *z, uint8_t *image) noexcept nogil
cdef void load_image(const home_t *home, zone_t *z, const uint8_t *image) noexcept nogil
cdef bint same_image(const home_t *home, const zone_t *z, const uint8_t *image) noexcept nogil
cdef uint64_t fingerprint(const home_t *home) noexcept nogil
cdef void pack(const zone_t *z, const extra_t *x, uint8_t *out) noexcept nogil
cdef void unpack(zone_t *z, extra_t *x, const uint8_t *data) noexcept nogil
cdef uint64_t present_frames(const zone_t *z) noexcept nogil
cdef void set_present_frames(zone_t *z, uint64_t wanted) noexcept nogil

cdef inline uint64_t dirty_frames(const zone_t *z) noexcept nogil:
    # The frames that hold what a sensitive owner wrote; for arrays that home_move() placed.
    return (<const uint64_t *>z.dirty)[0]

cdef inline bint listed(uint8_t state) noexcept nogil:
    cdef int kind = state & KIND_MASK
    return kind == FREE or kind == PCP or kind == POOL or kind == QUEUED

cdef inline uint8_t *put(uint8_t *p, int64_t value) noexcept nogil:
    cdef int16_t v = <int16_t>value
    memcpy(p, &v, 2)
    return p + 2
