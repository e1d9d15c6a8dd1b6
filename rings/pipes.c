/* Pipes: what one program sends, another receives, in the same memory. Buffers change places; no byte is copied.
 *
 * A TX ring and the RX ring behind it (its twin) have equally many slots. A sync of the TX ring moves the frames up to
 * head: each slot gives its buffer to the twin's next free slot, and takes that slot's buffer. As in netmap, a slot of
 * the TX ring comes back to its program only when the other program has released a slot of the RX ring, and a frame in
 * several slots moves when it is whole.
 *
 *     TX   --|-- waits for room, or for the end of a frame --|-------- the program's --------|-- in the twin --
 *          hwcur                                        synced_head                        hwtail
 *
 *     RX   --|-------- the program's --------|-- the next sync publishes --|-- free --
 *          hwcur                           hwtail                       filled
 *
 * The service thread does both syncs. Each sync moves all that can be moved. Frames that still wait then need a sync of
 * the other side, so pipe_ready() only compares indices.
 */
#include "soft.h"

/* What a TX slot passes on. Flags that request something of its own sync stay behind. */
enum { FLAGS_PASSED_ON = 0xFFFF & ~(NS_BUF_CHANGED | NS_REPORT) };

struct moving {
    struct kring *from, *to; /* a TX ring and its twin */
    bool owners; /* their buffers have different owners */
    uint32_t tx, rx; /* the next slot of each */
    uint64_t packets, bytes;
};

/* Whether the buffers of both slots may change places. */
static inline bool may_swap(const struct moving *m, uint32_t full, uint32_t empty)
{
    return !m->owners || (owns(m->from, full) && owns(m->to, empty));
}

/* Store both slots, and count on. */
static inline void swap_slots(struct moving *m, struct netmap_slot full, struct netmap_slot empty)
{
    struct queue *tx = m->from->q, *rx = m->to->q;
    rx->ring->slot[m->rx].ptr = tx->ring->slot[m->tx].ptr; /* the programs' own: nobody here looks at it */
    write_slot(rx, m->rx, full.buf_idx, full.len, (full.flags & FLAGS_PASSED_ON) | NS_BUF_CHANGED);
    write_slot(tx, m->tx, empty.buf_idx, full.len, NS_BUF_CHANGED);
    if (m->owners) {
        m->from->zone_of[full.buf_idx] = (uint16_t)m->to->zone;
        m->from->zone_of[empty.buf_idx] = (uint16_t)m->from->zone;
    }
    m->bytes += full.len;
    m->tx = after(m->tx, tx->num_slots);
    m->rx = after(m->rx, rx->num_slots);
}

/* ---- the general path: one frame in several slots, or one that breaks a rule ---- */

/* The buffers of the twin's free slots. One that is not valid is the receiver's mistake, written after the release:
 * false, and the frame waits until the slot is right again. */
static bool read_spares(const struct moving *m, uint32_t slots, struct netmap_slot *spares)
{
    const struct queue *rx = m->to->q;
    uint32_t i = m->rx;
    for (uint32_t k = 0; k < slots; k++, i = after(i, rx->num_slots)) {
        spares[k] = read_slot(rx->ring, i);
        if (!buffer_valid(rx, spares[k].buf_idx))
            return false;
    }
    return !m->owners || claim(m->to, spares, slots) == slots;
}

/* A buffer of another program is refused, as one that does not exist. */
static bool claim_frame(const struct moving *m, const struct chain *chain)
{
    struct queue *tx = m->from->q;
    uint32_t claimed = m->owners ? claim(m->from, chain->slot, chain->slots) : chain->slots;
    if (claimed < chain->slots)
        return buffer_violated(tx, skip(m->tx, claimed, tx->num_slots), chain->slot[claimed].buf_idx);
    return true;
}

enum outcome { MOVED, WAITS, BROKEN };

__attribute__((noinline)) static enum outcome move_frame(struct moving *m, uint32_t head, uint32_t room)
{
    struct chain chain;
    struct netmap_slot spares[LONGEST_CHAIN];
    uint32_t longest = least(LONGEST_CHAIN, m->to->q->num_slots - 1);
    read_chain(m->from->q, m->tx, head, longest, &chain);
    if (chain.broken)
        chain_violated(m->from->q, m->tx, &chain, longest);
    if (chain.broken)
        return BROKEN;
    if (chain.slots == 0 || chain.slots > room)
        return WAITS;
    if (!claim_frame(m, &chain))
        return BROKEN;
    if (!read_spares(m, chain.slots, spares)) {
        if (m->owners)
            give_up(m->from, chain.slot, chain.slots);
        return WAITS;
    }
    for (uint32_t k = 0; k < chain.slots; k++) {
        uint32_t i = m->rx;
        swap_slots(m, chain.slot[k], spares[k]);
        pass_offset(m->to->q, i, chain.slot[k].ptr); /* 0 if the sender has no offsets */
    }
    m->packets++;
    return MOVED;
}

/* ---- fast lane: frames in one slot ---- */

/* Returns how many moved; stops at the first slot that needs the general path. */
static inline uint32_t move_plain(struct moving *m, uint32_t slots)
{
    uint32_t done = 0;
    for (; done < slots; done++) {
        struct netmap_slot full = read_slot(m->from->q->ring, m->tx), empty = read_slot(m->to->q->ring, m->rx);
        if ((full.flags & NS_MOREFRAG) || !slot_sound(m->from->q, full) || !buffer_valid(m->to->q, empty.buf_idx) ||
            !may_swap(m, full.buf_idx, empty.buf_idx))
            break;
        swap_slots(m, full, empty);
    }
    m->packets += done;
    return done;
}

/* ---- syncs ---- */

/* Move frames from [hwcur, synced_head) of a TX ring as far as its twin has room. False: a frame in the TX ring breaks
 * a rule, and the frames before it have moved. */
static bool move_frames(struct kring *from, struct kring *to)
{
    struct queue *tx = from->q, *rx = to->q;
    struct moving m = {.from = from, .to = to, .owners = zones_differ(from, to), .tx = tx->hwcur, .rx = to->filled};
    enum outcome outcome = MOVED;
    bool offsets = tx->offset_mask | rx->offset_mask; /* then all frames take the general path */
    uint32_t room = room_in(to), first = to->filled;
    while (outcome == MOVED && m.tx != from->synced_head && room) {
        uint32_t wanted = least(room, distance(m.tx, from->synced_head, tx->num_slots));
        uint32_t moved = offsets ? 0 : move_plain(&m, wanted);
        if (moved < wanted)
            outcome = move_frame(&m, from->synced_head, room - moved);
        room -= distance(first, m.rx, rx->num_slots);
        first = m.rx;
    }
    if (from->monitors)
        monitor_copy(from->monitors, rx, to->filled, m.rx, NS_TXMON, COPYING);
    tx->hwcur = m.tx;
    fill_up_to(to, m.rx);
    tx->packets += m.packets;
    tx->bytes += m.bytes;
    rx->packets += m.packets;
    rx->bytes += m.bytes;
    return outcome != BROKEN;
}

/* The first slot that the sender does not own: as many slots are its own as the receiver has free ones. It never takes
 * back a slot that the sender owns: a ring may be opened anew while the receiver has frames of the earlier program. */
static uint32_t sender_tail(const struct kring *tx)
{
    const struct kring *rx = tx->behind;
    const struct queue *q = tx->q;
    uint32_t n = q->num_slots;
    if (!rx)
        return q->hwtail;
    uint32_t tail = skip(q->hwcur, least(room_in(rx), n - 1), n);
    uint32_t waiting = distance(q->hwcur, tx->synced_head, n), from_hwcur = distance(q->hwcur, tail, n);
    return from_hwcur < waiting || from_hwcur < distance(q->hwcur, q->hwtail, n) ? q->hwtail : tail;
}

static int send(struct kring *tx)
{
    uint32_t head;
    if (!take_head(tx, &head))
        return refuse(tx);
    tx->synced_head = head;
    if (tx->behind && !move_frames(tx, tx->behind)) {
        tx->synced_head = tx->q->hwcur; /* from the broken frame on, all is the program's again */
        return refuse(tx);
    }
    tx->q->hwtail = sender_tail(tx);
    publish_tail(tx->q);
    return 0;
}

/* Zero-copy monitors of both ends get the frames that the receiver has done with. */
static void show_released(struct kring *rx, uint32_t head)
{
    const struct kring *tx = rx->behind;
    if (tx && tx->monitors)
        monitor_copy(tx->monitors, rx->q, rx->q->hwcur, head, NS_TXMON, ZERO_COPY);
    if (rx->monitors)
        monitor_take(rx, rx->q->hwcur, head, 0);
}

/* A slot that the receiver releases with another program's buffer is refused. */
static bool released_owned(struct kring *rx, uint32_t head)
{
    struct queue *q = rx->q;
    for (uint32_t i = q->hwcur; i != head; i = after(i, q->num_slots)) {
        uint32_t buf_idx = read_slot(q->ring, i).buf_idx;
        if (buffer_valid(q, buf_idx) && !owns(rx, buf_idx))
            return buffer_violated(q, i, buf_idx);
    }
    return true;
}

/* A broken frame of the sender waits: the sender's own sync reports it. */
static int receive(struct kring *rx)
{
    struct kring *tx = rx->behind;
    uint32_t head;
    if (!take_head(rx, &head))
        return refuse(rx);
    show_released(rx, head);
    if ((tx && zones_differ(tx, rx) && !released_owned(rx, head)) || !take_released(rx, head))
        return refuse(rx);
    if (tx && tx->q->hwcur != tx->synced_head)
        move_frames(tx, rx);
    return publish_filled(rx);
}

int pipe_sync(struct kring *k)
{
    return k->tx ? send(k) : receive(k);
}

bool pipe_ready(const struct kring *k)
{
    return k->tx ? sender_tail(k) != k->q->hwtail : k->filled != k->q->hwtail;
}
