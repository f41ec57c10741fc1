// Virtuoso's buddy behind the operations of benchmarks/streams.py: vectors of free blocks that never merge.
#include <iostream>

#include "memory_management/physical_memory_allocators/buddy.h"

extern "C" {
#include "peer.h"
}

struct Silent {
    void on_init(int, int, int) {}
    void on_out_of_memory(UInt64, UInt64, UInt64) {}
    void on_fragmentation_done() {}
    void log(const std::string &) const {}
};

struct peer_t {
    Buddy<Silent> buddy;
    uint64_t failed = 0;

    explicit peer_t(uint32_t frames) : buddy(int(frames) * 4, 10, 0, "largepage") {}
};

static inline uint32_t peer_alloc(peer_t *peer, unsigned order)
{
    return uint32_t(peer->buddy.allocate(UInt64(4096) << order));       // -1 where there is nothing
}

static inline void peer_give(peer_t *peer, uint32_t frame, unsigned order)
{
    peer->buddy.free(frame, UInt64(frame) + (UInt64(1) << order) - 1);
}

extern "C" {
PEER_RUN

peer_t *peer_new(uint32_t frames)
{
    std::cout.setstate(std::ios::failbit);      // it prints what it is made of
    peer_t *peer = new peer_t(frames);
    std::cout.clear();
    return peer;
}

void peer_delete(peer_t *peer)
{
    delete peer;
}
}
