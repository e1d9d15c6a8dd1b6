/* rxsync: slots that the application released become descriptors to fill, and descriptors written back become slots.
 *
 *     lane          takes                                                              function
 *     any slot      everything: frames over several slots, receive errors,             post_slot, take_descriptor
 *                   a broken rule
 *     plain run     slots with valid buffers; good frames in one slot:                 post_run, take_plain_frames,
 *                   scalar or by vectors                                               groups.h
 *     one slot      a sync that releases one slot without a flag, or nothing, when     post_one_slot
 *                   nothing was received
 *
 * The general path comes first, then the fast lanes. A lane stops at the first slot that needs the general path, and
 * leaves in memory exactly what the general path would leave. Violations and shared words: as in tx.c. Descriptors
 * are written back by the NIC at any moment: their second quadword is loaded once.
 */
#include "queue.h"
#include "vectors.h"

/* ---- the general path: slots to the NIC ---- */

/* The fast lanes for runs of slots, below. */
static bool post_run(struct queue *q, uint32_t from, uint32_t slots, uint32_t *flags);
static inline struct run take_plain_frames(const struct queue *q, uint32_t from, uint32_t slots);

static inline bool post_slot(struct queue *q, uint32_t i, uint32_t *flags)
{
    struct netmap_slot slot = read_slot(q->ring, i);
    if (!buffer_valid(q, slot.buf_idx))
        return buffer_violated(q, i, slot.buf_idx);
    *flags |= slot.flags;
    write_rx_descriptor(q, i, slot.buf_idx);
    return true;
}

/* Write descriptors for `slots` slots, over the end of the ring if necessary. They are not handed over yet. */
static bool post_slots(struct queue *q, uint32_t from, uint32_t slots, uint32_t *flags)
{
    uint32_t first = least(slots, q->num_slots - from);
    if (!post_run(q, from, first, flags) || (slots > first && !post_run(q, 0, slots - first, flags)))
        return false;
    return !q->second_pass || finish_addresses(q, from, slots);
}

/* Give the NIC the slots that the application released, [hwcur, head), if they are valid. */
__attribute__((noinline)) static bool rx_refill(struct queue *q, uint32_t head, uint32_t cur)
{
    uint32_t flags = 0;
    if (!indices_valid(q, head, cur))
        return false;
    if (head == q->hwcur)
        return true;
    if (!post_slots(q, q->hwcur, distance(q->hwcur, head, q->num_slots), &flags))
        return false;
    if (flags & NS_BUF_CHANGED)
        clear_flags(q, q->hwcur, head);
    hand_over(q, head, before(head, q->num_slots));
    return true;
}

/* ---- the general path: slots to the application ---- */

/* The state of a pass over written-back descriptors. */
struct receiving {
    uint32_t next;  /* descriptor to read */
    uint32_t tail;  /* slot after the last whole frame */
    uint32_t chain; /* descriptors of the unfinished frame */
    uint64_t packets, bytes;
};

static inline void fill_slot(const struct queue *q, uint32_t i, uint32_t length, uint32_t flags)
{
    __atomic_store_n(&q->ring->slot[i].len_flags, length | flags << 16, __ATOMIC_RELAXED);
}

/* Take the next descriptor, of any kind; false if it is not written back yet. The device is bounded, too: no length
 * beyond a buffer, no frame without end. */
static bool take_descriptor(struct rx_queue *rx, struct receiving *r)
{
    struct queue *q = &rx->q;
    uint64_t status = rx_status(q, r->next);
    if (!(status & RX_DD))
        return false;
    uint32_t length = (uint16_t)(status >> RX_LENGTH_SHIFT);
    bool more = !(status & RX_EOP);
    r->chain++;
    if ((status & RX_RXE) || length > q->most_received || (more && r->chain == MAX_CHAIN)) {
        rx->errors++;
        length = least(length, q->most_received);
        more = more && r->chain < MAX_CHAIN;
    }
    fill_slot(q, r->next, length, more ? NS_MOREFRAG : 0);
    r->bytes += length;
    r->next = after(r->next, q->num_slots);
    if (!more) {
        r->tail = r->next;
        r->chain = 0;
        r->packets++;
    }
    return true;
}

/* Turn written-back descriptors into slots. tail moves only past whole frames. One barrier for all of them comes before
 * anything reads the packets' bytes. Descriptors from `not_given` on do not belong to the NIC, so it stops there. */
__attribute__((noinline)) static void rx_receive(struct rx_queue *rx, uint32_t not_given)
{
    struct queue *q = &rx->q;
    struct receiving r = {.next = rx->next, .tail = q->hwtail, .chain = rx->chain};
    while (r.next != not_given) {
        uint32_t slots = contiguous(r.next, not_given, q->num_slots);
        if (r.chain == 0) {
            struct run run = take_plain_frames(q, r.next, slots);
            r.next = r.tail = skip(r.next, run.slots, q->num_slots);
            r.packets += run.slots;
            r.bytes += run.bytes;
            if (run.slots == slots)
                continue;
        }
        if (!take_descriptor(rx, &r))
            break;
    }
    after_completion();
    __atomic_store_n(&rx->next, r.next, __ATOMIC_RELAXED); /* busy_wait() of another thread reads it */
    rx->chain = r.chain;
    q->hwtail = r.tail;
    q->packets += r.packets;
    q->bytes += r.bytes;
}

/* ---- the general path: a whole sync ---- */

__attribute__((noinline)) static int rx_sync_any(struct rx_queue *rx, uint32_t head, uint32_t cur)
{
    struct queue *q = &rx->q;
    if (!rx_refill(q, head, cur)) {
        reset_ring(q);
        return ATTENTION_VIOLATION;
    }
    uint32_t not_given = before(q->hwcur, q->num_slots);
    if (rx->next != not_given && (rx_status(q, rx->next) & RX_DD))
        rx_receive(rx, not_given);
    if (time_requested(q->ring))
        stamp(q->ring);
    publish_tail(q);
    return count_sync_and_packets(q);
}

/* The first fill: every descriptor, then RDT = num_slots - 1 (4.6.7). The NIC ignores RDT before RXDCTL.ENABLE
 * reads 1. */
int rx_fill(struct rx_queue **queues, int n)
{
    int attention = 0;
    for (int i = 0; i < n; i++) {
        struct queue *q = &queues[i]->q;
        uint32_t flags = 0;
        if (post_slots(q, 0, q->num_slots, &flags))
            hand_over(q, q->hwcur, q->num_slots - 1);
        else
            attention |= ATTENTION_VIOLATION;
    }
    return attention;
}

/* ---- fast lane: a run of slots with valid buffers, and of good frames in one slot ---- */

/* By vectors as far as they go, then slot by slot; the run does not cross the ring's end. noinline: gcc 12 inlines
 * it twice in post_slots(), which costs a cycle more for each packet in batches of 32. */
__attribute__((noinline)) static bool post_run(struct queue *q, uint32_t from, uint32_t slots, uint32_t *flags)
{
    struct run run = {0};
    if (slots >= LEAST_GROUP && q->group)
        run = rx_post_groups(q, from, slots);
    *flags |= run.flags;
    for (uint32_t i = from + run.slots; i < from + slots; i++)
        if (!post_slot(q, i, flags))
            return false;
    return true;
}

static inline struct run take_plain_frames(const struct queue *q, uint32_t from, uint32_t slots)
{
    struct run run = {0};
    if (slots >= LEAST_GROUP && q->group && (rx_status(q, from + LEAST_GROUP - 1) & RX_DD))
        run = rx_take_groups(q, from, slots);
    for (uint32_t i = from + run.slots; run.slots < slots; run.slots++, i++) {
        uint64_t status = rx_status(q, i);
        uint32_t length = (uint16_t)(status >> RX_LENGTH_SHIFT);
        if ((status & (RX_DD | RX_EOP | RX_RXE)) != (RX_DD | RX_EOP) || length > q->most_received)
            break;
        fill_slot(q, i, length, 0);
        run.bytes += length;
    }
    return run;
}

/* ---- fast lane: one slot, for a program that takes packet after packet ---- */

/* False, and nothing done, unless the application released exactly one slot, without a flag. */
static inline bool post_one_slot(struct queue *q, const struct netmap_ring *ring, uint32_t head, uint32_t cur)
{
    uint32_t i = q->hwcur;
    if (!one_slot_advanced(q, head, cur))
        return false;
    struct netmap_slot slot = read_slot(ring, i);
    if (slot.flags || slot.buf_idx - RESERVED_BUFFERS >= q->direct_buffers)
        return false;
    write_rx_descriptor(q, i, slot.buf_idx);
    hand_over(q, head, i);
    return true;
}

/* ---- rxsync ---- */

/* After the one-slot lane, rx_sync_any() finds head at hwcur: it only takes what was received. */
int rx_sync_queue(struct rx_queue *rx)
{
    struct queue *q = &rx->q;
    struct netmap_ring *ring = q->ring;
    uint32_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
    uint32_t cur = __atomic_load_n(&ring->cur, __ATOMIC_RELAXED);
    if ((post_one_slot(q, ring, head, cur) || nothing_changed(q, head, cur)) && !(rx_status(q, rx->next) & RX_DD) &&
        !time_requested(ring))
        return count_sync(q);
    return rx_sync_any(rx, head, cur);
}

int rxsync(struct rx_queue **queues, int n)
{
    if (n == 1)
        return rx_sync_queue(queues[0]);
    int attention = 0;
    for (int i = 0; i < n; i++)
        attention |= rx_sync_queue(queues[i]);
    return attention;
}
