/* LLFree (C) behind the operations of benchmarks/streams.py: one core, small and huge frames apart as in its
 * example (llfree_classing_simple). */
#include "llfree.h"

#include "peer.h"

#define CORES 1

typedef struct {
    llfree_t *state;
    llfree_meta_t meta;
    uint64_t failed;
} peer_t;

static uint8_t *room(size_t size)
{
    uint8_t *p = aligned_alloc(LLFREE_ALIGN, (size + LLFREE_ALIGN - 1) / LLFREE_ALIGN * LLFREE_ALIGN);
    if (p)
        memset(p, 0, size);
    return p;
}

void peer_delete(peer_t *peer)
{
    free(peer->state);
    free(peer->meta.local);
    free(peer->meta.trees);
    free(peer->meta.lower);
    free(peer);
}

peer_t *peer_new(uint32_t frames)
{
    llfree_classing_t classing = llfree_classing_simple(CORES);
    llfree_meta_size_t size = llfree_metadata_size(&classing, frames);
    peer_t *peer = calloc(1, sizeof *peer);
    if (!peer)
        return NULL;
    peer->state = (llfree_t *)room(size.llfree);
    peer->meta = (llfree_meta_t){ .local = room(size.local), .trees = room(size.trees), .lower = room(size.lower) };
    if (!peer->state || !peer->meta.local || !peer->meta.trees || !peer->meta.lower
        || !llfree_is_ok(llfree_init(peer->state, frames, LLFREE_INIT_FREE, peer->meta, &classing))) {
        peer_delete(peer);
        return NULL;
    }
    return peer;
}

static inline uint32_t peer_alloc(peer_t *peer, uint8_t order)
{
    llfree_result_t got = llfree_get(peer->state, frame_id_none(), llfree_simple_request(CORES, order, 0));
    return llfree_is_ok(got) ? (uint32_t)got.frame.value : PEER_NONE;
}

static inline void peer_give(peer_t *peer, uint32_t frame, uint8_t order)
{
    llfree_result_t done = llfree_put(peer->state, frame_id(frame), llfree_simple_request(CORES, order, 0));
    peer->failed += !llfree_is_ok(done);
}

PEER_RUN
