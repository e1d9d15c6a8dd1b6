/* Where the switch copies frames to. */
#ifndef SINK_H
#define SINK_H

#include "soft.h"

/* A ring that frames are copied into: a program's RX ring, or the TX ring of a member. */
struct sink {
    struct kring *ring;
    uint32_t put, room; /* the next free slot, and the number of free slots */
    uint32_t plain; /* bytes that one slot takes if nobody has offsets; 0 if somebody has */
    uint64_t packets, bytes;
};

static inline struct sink open_sink(struct kring *ring, const struct queue *from, uint32_t *attention)
{
    struct sink sink = {.ring = ring};
    sink.plain = from->offset_mask | ring->q->offset_mask ? 0 : ring->q->buf_size;
    if (!ring->tx) {
        sink.put = ring->filled;
        sink.room = room_in(ring);
        return sink;
    }
    if (kring_ready(ring))
        sync_for(ring, attention);
    sink.put = owned_from(ring);
    sink.room = distance(sink.put, ring->q->hwtail, ring->q->num_slots);
    return sink;
}

static inline void close_sink(struct sink *sink, uint32_t *attention)
{
    struct kring *ring = sink->ring;
    if (!sink->packets)
        return;
    if (ring->tx) {
        move_head(ring->q->ring, sink->put);
        sync_for(ring, attention);
        return;
    }
    fill_up_to(ring, sink->put);
    ring->q->packets += sink->packets;
    ring->q->bytes += sink->bytes;
}

#endif
