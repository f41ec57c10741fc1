/* The least that a linked-list buddy allocator can do: one migratetype, no checks; without per-CPU lists, or with
 * an array of frames for each small order in front.
 *
 * Two links of 32 bits and a byte per frame, as in the engine.  Lists are circular through a sentinel per order,
 * so inserting and removing need no branch.  The operations and slots are those of asi_pa's replay; the frames
 * and slots of operations to come are prefetched.  An allocation that finds nothing empties its slot.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LIMIT_NIL 0xFFFFFFFFu
#define LIMIT_ORDERS 11
#define LIMIT_CACHED 4          /* orders with an array in front: those of the per-CPU lists, but for huge pages */
#define LIMIT_ROOM 512          /* frames in an array */
#define LIMIT_BATCH 63          /* what a refill takes; as the kernel's, one less than a power of two */

typedef struct { uint8_t op, order, cls, cpu; uint32_t slot; } limit_op;
typedef struct { uint32_t next, prev; } limit_link;

typedef struct {
    uint32_t n;
    uint32_t frame[LIMIT_ROOM];
} limit_array;

typedef struct {
    limit_link *links;          /* the last LIMIT_ORDERS are the lists' sentinels */
    uint8_t *state;             /* order + 1 where a free block starts, else 0 */
    uint32_t *slots;
    uint32_t nframes, nslots, nonempty;
    uint64_t failed;
    limit_array *arrays;        /* one an order; NULL: every operation goes to the lists */
} limit_buddy;

/* Memory of any content, in huge pages where the system gives them for the asking. */
static void *limit_memory(size_t size)
{
    const size_t huge = 2ul << 20;
    void *p;
    if (size < huge)
        return malloc(size);
    size = (size + huge - 1) & ~(huge - 1);
    p = aligned_alloc(huge, size);
    if (p)
        madvise(p, size, MADV_HUGEPAGE);
    return p;
}

static inline void limit_add(limit_buddy *b, uint32_t frame, unsigned order)
{
    limit_link *links = b->links;
    uint32_t list = b->nframes + order, first = links[list].next;
    links[frame].next = first;
    links[frame].prev = list;
    links[first].prev = frame;
    links[list].next = frame;
    b->state[frame] = (uint8_t)(order + 1);
    b->nonempty |= 1u << order;
}

static inline void limit_del(limit_buddy *b, uint32_t frame, unsigned order)
{
    limit_link *links = b->links;
    uint32_t next = links[frame].next, prev = links[frame].prev;
    links[prev].next = next;
    links[next].prev = prev;
    b->state[frame] = 0;
    if (next == prev && next == b->nframes + order)
        b->nonempty &= ~(1u << order);
}

static inline uint32_t limit_alloc(limit_buddy *b, unsigned order)
{
    uint32_t usable = b->nonempty >> order, frame;
    unsigned high;
    if (!usable)
        return LIMIT_NIL;
    high = order + (unsigned)__builtin_ctz(usable);
    frame = b->links[b->nframes + high].next;
    limit_del(b, frame, high);
    __builtin_prefetch(&b->links[b->links[b->nframes + high].next], 1);
    while (high > order) {
        high--;
        limit_add(b, frame + (1u << high), high);
    }
    return frame;
}

static inline void limit_free(limit_buddy *b, uint32_t frame, unsigned order)
{
    while (order < LIMIT_ORDERS - 1) {
        uint32_t buddy = frame ^ (1u << order);
        if (b->state[buddy] != order + 1)
            break;
        limit_del(b, buddy, order);
        frame &= buddy;
        order++;
    }
    limit_add(b, frame, order);
}

/* ---- the arrays: the last freed is handed out first; what is too much goes back from the other end ---- */

static inline void limit_fetch(const limit_buddy *b, uint32_t frame)
{
    __builtin_prefetch(&b->state[frame], 1);
    __builtin_prefetch(&b->links[frame], 1);
}

static __attribute__((noinline)) uint32_t limit_refill(limit_buddy *b, limit_array *a, unsigned order)
{
    uint32_t want = LIMIT_BATCH >> order, at = want;
    while (at) {
        uint32_t frame = limit_alloc(b, order);
        if (frame == LIMIT_NIL)
            break;
        a->frame[--at] = frame;
    }
    a->n = want - at;
    if (!a->n)
        return LIMIT_NIL;
    if (at)
        memmove(a->frame, a->frame + at, a->n * sizeof a->frame[0]);
    return a->frame[--a->n];
}

/* Half of a full array, the longest there first; the frames are known, so they are fetched ahead. */
static __attribute__((noinline)) void limit_spill(limit_buddy *b, limit_array *a, unsigned order)
{
    const uint32_t half = LIMIT_ROOM / 2, ahead = 8;
    for (uint32_t i = 0; i < half; i++) {
        limit_fetch(b, a->frame[i + ahead]);
        limit_free(b, a->frame[i], order);
    }
    memcpy(a->frame, a->frame + half, half * sizeof a->frame[0]);
    a->n = half;
}

static inline uint32_t limit_take(limit_buddy *b, limit_array *a, unsigned order)
{
    return a->n ? a->frame[--a->n] : limit_refill(b, a, order);
}

static inline void limit_put(limit_buddy *b, limit_array *a, uint32_t frame, unsigned order)
{
    if (a->n == LIMIT_ROOM)
        limit_spill(b, a, order);
    a->frame[a->n++] = frame;
}

/* An operation names a slot, the slot a frame: the slot is fetched twice as far ahead as the frame. */
#define LIMIT_AHEAD 12

static inline __attribute__((always_inline)) void limit_run_some(
    limit_buddy *b, const limit_op *ops, size_t i, size_t end, size_t n, const unsigned cached)
{
    uint32_t *slots = b->slots;
    for (; i < end; i++) {
        uint32_t slot = ops[i].slot, frame;
        unsigned order = ops[i].order;
        if (i + 2 * LIMIT_AHEAD < n) {
            __builtin_prefetch(&slots[ops[i + 2 * LIMIT_AHEAD].slot], 1);
            frame = slots[ops[i + LIMIT_AHEAD].slot];
            /* frame 0 instead of none and of what goes to an array: a branch would cost more */
            frame &= -(uint32_t)((frame != LIMIT_NIL) & (ops[i + LIMIT_AHEAD].order >= cached));
            limit_fetch(b, frame);
        }
        if (ops[i].op == 1) {
            frame = order < cached ? limit_take(b, &b->arrays[order], order) : limit_alloc(b, order);
            slots[slot] = frame;
            b->failed += frame == LIMIT_NIL;
        } else if (ops[i].op == 2) {
            frame = slots[slot];
            if (frame != LIMIT_NIL) {
                slots[slot] = LIMIT_NIL;
                if (order < cached)
                    limit_put(b, &b->arrays[order], frame, order);
                else
                    limit_free(b, frame, order);
            }
        } else if (ops[i].op == 3) {
            frame = slots[slot];
            if (frame != LIMIT_NIL)
                for (uint32_t k = 1; k < 1u << order; k++)
                    slots[slot + k] = frame + k;
        }
    }
}

static void limit_run(limit_buddy *b, const limit_op *ops, size_t i, size_t end, size_t n)
{
    if (b->arrays)
        limit_run_some(b, ops, i, end, n, LIMIT_CACHED);
    else
        limit_run_some(b, ops, i, end, n, 0);
}

static int limit_init(limit_buddy *b, uint32_t nframes, uint32_t nslots, int arrays)
{
    memset(b, 0, sizeof *b);
    b->nframes = nframes;
    b->nslots = nslots;
    b->links = limit_memory(((size_t)nframes + LIMIT_ORDERS) * sizeof *b->links);
    b->state = limit_memory(nframes + 1ul);
    b->slots = limit_memory((nslots + 1ul) * sizeof *b->slots);
    b->arrays = arrays ? calloc(LIMIT_CACHED, sizeof *b->arrays) : NULL;
    if (!b->links || !b->state || !b->slots || (arrays && !b->arrays))
        return -1;
    memset(b->state, 0, nframes + 1ul);
    memset(b->slots, 0xff, (nslots + 1ul) * sizeof *b->slots);
    for (uint32_t o = 0; o < LIMIT_ORDERS; o++)
        b->links[nframes + o].next = b->links[nframes + o].prev = nframes + o;
    return 0;
}

static void limit_destroy(limit_buddy *b)
{
    free(b->links);
    free(b->state);
    free(b->slots);
    free(b->arrays);
}

/* Pages on the free lists and in the arrays; links both ways checked.  -1: broken. */
static int64_t limit_free_pages(const limit_buddy *b)
{
    int64_t pages = 0;
    for (unsigned o = 0; o < LIMIT_ORDERS; o++) {
        uint32_t list = b->nframes + o, at = b->links[list].next, before = list;
        while (at != list) {
            if (b->state[at] != o + 1 || b->links[at].prev != before)
                return -1;
            pages += 1 << o;
            before = at;
            at = b->links[at].next;
        }
    }
    for (unsigned o = 0; b->arrays && o < LIMIT_CACHED; o++)
        pages += (int64_t)b->arrays[o].n << o;
    return pages;
}

/* ---- memory: a random cycle through cache lines, and memset ---- */

static inline uint64_t limit_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* lines of 64 bytes; the first word of each holds the number of the next: one cycle (Sattolo) */
static void chase_build(uint32_t *memory, uint32_t lines, uint64_t seed)
{
    for (uint32_t i = 0; i < lines; i++)
        memory[(size_t)i * 16] = i;
    for (uint32_t i = lines - 1; i > 0; i--) {
        uint32_t j = (uint32_t)(limit_random(&seed) % i), t = memory[(size_t)i * 16];
        memory[(size_t)i * 16] = memory[(size_t)j * 16];
        memory[(size_t)j * 16] = t;
    }
}

static uint32_t chase_run(const uint32_t *memory, uint32_t at, uint64_t steps)
{
    while (steps--)
        at = memory[(size_t)at * 16];
    return at;
}
