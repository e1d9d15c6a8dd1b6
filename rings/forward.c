/* forward: frames received by one queue are sent by another, in one region. Buffers change places; no byte is copied.
 *
 *     lane         takes                                                            function
 *     any frame    everything: several slots, padding, a broken rule,               move_frames, then both syncs
 *                  scattered memory
 *     plain run    frames in one slot, scalar or by vectors: swap and both          forward_run, groups.h
 *                  descriptors in one pass
 *
 * The general path comes first, then the fast lane. The lane stops at the first slot that needs the general path, and
 * leaves in memory exactly what the general path would leave. Violations and shared words: as in tx.c.
 */
#include "frame.h"
#include "vectors.h"

/* ---- the general path: move frames from ring to ring, and let both syncs do the rest ---- */

/* Slots of the frame that starts at `from`; 0 if it breaks a rule, which is noted. The NIC delivers whole frames
 * in valid buffers, so a program wrote anything else. It is refused here, in the RX ring, and not later in the TX
 * ring. */
static uint32_t frame_slots(struct queue *q, uint32_t from, uint32_t end)
{
    const struct context none = {.longest = MAX_FRAME};
    uint32_t slots = 0, bytes = 0;
    for (uint32_t i = from; i != end; i = after(i, q->num_slots)) {
        struct netmap_slot slot = read_slot(q->ring, i);
        slot.flags &= NS_MOREFRAG; /* the only flag that crosses */
        bytes += slot.len;
        slots++;
        if (!tx_slot_valid(q, i, slot) || !frame_valid(q, &none, i, bytes, slots, !slot.flags))
            return 0;
        if (!slot.flags)
            return slots;
    }
    violated(q, RULE_CHAIN_NOT_ENDED, before(end, q->num_slots), slots, 0, 0);
    return 0;
}

/* Whether `slots` TX slots from `from` on have valid buffers, which go to the RX ring. */
static bool spare_buffers_valid(struct queue *q, uint32_t from, uint32_t slots)
{
    for (; slots; slots--, from = after(from, q->num_slots)) {
        uint32_t spare = read_slot(q->ring, from).buf_idx;
        if (!buffer_valid(q, spare))
            return buffer_violated(q, from, spare);
    }
    return true;
}

static void count_moved(struct forward *pair, uint32_t frames, uint32_t slots)
{
    pair->frames += frames;
    pair->slots += slots;
}

/* Move up to `limit` whole frames, until the TX space ends or a frame breaks a rule. The places to read and to
 * write come from the queues, not from the rings. */
static int move_frames(struct forward *pair, uint32_t limit)
{
    struct queue *rx = &pair->rx->q, *tx = &pair->tx->q;
    uint32_t from = rx->hwcur, to = tx->hwcur, frames = 0, moved = 0;
    uint32_t space = distance(to, tx->hwtail, tx->num_slots);
    bool rx_valid = true, tx_valid = true;
    while (frames < limit && from != rx->hwtail) {
        uint32_t slots = frame_slots(rx, from, rx->hwtail);
        rx_valid = slots != 0;
        if (!rx_valid || slots > space - moved)
            break;
        tx_valid = spare_buffers_valid(tx, to, slots);
        if (!tx_valid)
            break;
        for (uint32_t i = 0; i < slots; i++) {
            swap_buffers(&rx->ring->slot[from], &tx->ring->slot[to]);
            from = after(from, rx->num_slots);
            to = after(to, tx->num_slots);
        }
        moved += slots;
        frames++;
    }
    if (moved) {
        move_head(rx->ring, from);
        move_head(tx->ring, to);
        count_moved(pair, frames, moved);
    }
    int attention = rx_valid && tx_valid ? 0 : ATTENTION_VIOLATION;
    return moved && tx_valid ? attention | tx_sync_queue(pair->tx) : attention;
}

/* ---- fast lane: a run of plain frames ---- */

/* One pass: the swap, the descriptor to send (without RS), and the descriptor to fill. By vectors as far as they
 * go, then slot by slot; the run crosses neither ring's end. */
static inline struct run forward_run(const struct queue *rx, const struct queue *tx, uint32_t from, uint32_t to,
                                     uint32_t slots)
{
    struct run run = {0};
    if (slots >= LEAST_GROUP && tx->group)
        run = forward_groups(rx, tx, from, to, slots);
    from += run.slots;
    to += run.slots;
    for (; run.slots < slots; run.slots++, from++, to++) {
        struct netmap_slot full = read_slot(rx->ring, from), empty = read_slot(tx->ring, to);
        uint32_t received = full.buf_idx;
        if (!buffer_valid(tx, received) || !is_plain(tx, full) || !buffer_valid(rx, empty.buf_idx))
            break;
        full.flags = 0;
        __atomic_store_n(&tx->ring->slot[to].word, full.word, __ATOMIC_RELAXED);
        full.buf_idx = empty.buf_idx;
        __atomic_store_n(&rx->ring->slot[from].word, full.word, __ATOMIC_RELAXED);
        tx->descriptors[to].address = buffer_address(tx, received);
        tx->descriptors[to].control = plain_frame_control(full.len);
        write_rx_descriptor(rx, from, empty.buf_idx);
        run.bytes += full.len;
    }
    return run;
}

/* Move up to `limit` plain frames from the beginning of what was received, and hand them to both NICs: the rings
 * look as after move_frames() and both syncs. Returns how many. */
static uint32_t forward_plain_frames(struct forward *pair, uint32_t limit)
{
    struct queue *rx = &pair->rx->q, *tx = &pair->tx->q;
    uint32_t from = rx->hwcur, to = tx->hwcur, moved = 0, unreported = 0;
    uint32_t received = distance(from, rx->hwtail, rx->num_slots), space = distance(to, tx->hwtail, tx->num_slots);
    uint32_t most = least(limit, least(received, space));
    if (most == 0 || rx->second_pass || tx->second_pass)
        return 0;
    uint32_t wanted, done;
    do {
        wanted = least(most - moved, least(rx->num_slots - from, tx->num_slots - to));
        struct run run = forward_run(rx, tx, from, to, wanted);
        unreported = request_status(tx, to, run.slots, unreported);
        done = run.slots;
        moved += done;
        tx->bytes += run.bytes;
        from = skip(from, done, rx->num_slots);
        to = skip(to, done, tx->num_slots);
    } while (done == wanted && moved < most);
    if (moved == 0)
        return 0;
    tx->descriptors[before(to, tx->num_slots)].control |= TX_RS;
    hand_over(tx, to, to);
    hand_over(rx, from, before(from, rx->num_slots));
    move_head(rx->ring, from);
    move_head(tx->ring, to);
    tx->packets += moved;
    count_moved(pair, moved, moved);
    return moved;
}

/* ---- forward ---- */

/* The first txsync sends what the application itself had put into the TX ring. */
static int forward_pair(struct forward *pair, uint32_t limit)
{
    int attention = rx_sync_queue(pair->rx) | tx_sync_queue(pair->tx);
    if (attention & ATTENTION_VIOLATION)
        return attention;
    uint32_t moved = forward_plain_frames(pair, limit);
    if (moved < limit)
        attention |= move_frames(pair, limit - moved);
    return attention | count_sync_and_packets(&pair->tx->q);
}

int forward(struct forward **pairs, int n, uint32_t limit)
{
    int attention = 0;
    uint64_t moved = 0; /* by all pairs: at most the slots of their rings, far below INT_MAX >> MOVED_SHIFT */
    for (int i = 0; i < n; i++) {
        moved -= pairs[i]->frames;
        attention |= forward_pair(pairs[i], limit);
        moved += pairs[i]->frames;
    }
    return attention | (int)moved << MOVED_SHIFT;
}
