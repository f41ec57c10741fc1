/* What a peer's adapter has in common: the operations of benchmarks/streams.py by slot, as in limit/buddy.h.
 *
 * An adapter defines peer_t with a member `failed`, peer_alloc(peer, order) (PEER_NONE where there is nothing) and
 * peer_give(peer, frame, order), then PEER_RUN.  Slots to come are fetched ahead, as they are for the limit and the
 * engine; what a peer looks at inside is not known from outside.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct { uint8_t op, order, cls, cpu; uint32_t slot; } peer_op;

#define PEER_NONE 0xFFFFFFFFu
#define PEER_AHEAD 24

#define PEER_RUN                                                                                \
    void peer_run(peer_t *peer, uint32_t *slots, const peer_op *ops, size_t i, size_t end, size_t n) \
    {                                                                                           \
        for (; i < end; i++) {                                                                  \
            uint32_t *slot = &slots[ops[i].slot];                                               \
            if (i + PEER_AHEAD < n)                                                             \
                __builtin_prefetch(&slots[ops[i + PEER_AHEAD].slot], 1);                        \
            if (ops[i].op == 1) {                                                               \
                *slot = peer_alloc(peer, ops[i].order);                                         \
                peer->failed += *slot == PEER_NONE;                                             \
            } else if (*slot != PEER_NONE) {                                                    \
                peer_give(peer, *slot, ops[i].order);                                           \
                *slot = PEER_NONE;                                                              \
            }                                                                                   \
        }                                                                                       \
    }                                                                                           \
    uint64_t peer_failed(const peer_t *peer)                                                    \
    {                                                                                           \
        return peer->failed;                                                                    \
    }
