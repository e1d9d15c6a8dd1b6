/* txsync, rxsync, forward: the work done for each packet, and only that.
 *
 *        hwcur           head       tail = hwtail
 *    ------|--- to hand ---|--- mine ---|---- the NIC's ----> (circular)
 *
 * A sync hands slots [hwcur, head) to the NIC and moves tail over what the NIC has finished. A ring that breaks a rule
 * is put back to hwcur and hwtail and nothing of it moves: descriptors may have been written by then, but the NIC looks
 * only at those before its doorbell's value.
 *
 * Most frames are in one slot, ask for nothing and break nothing: tx_frames, rx_frames and forward_slots do those, and leave the first
 * that is otherwise to the function after them. Where there are more in one piece of the ring, vectors.h does the same by groups.
 *
 * Shared words: head is loaded with acquire (slots were written before it) and tail stored with release (slots first);
 * a slot is loaded once, 64 bits at once, relaxed, because the order comes from head.
 */
#define _POSIX_C_SOURCE 200809L

#include "hotloop.h"
#include "barriers.h"
#include "context.h"
#include "descriptor.h"
#include "frame.h"
#include "queue.h"
#include "vectors.h"

uint32_t widest(void)
{
    return widest_group();
}

/* ---- sending ---- */

/* Commands of a frame in one buffer, RS aside, and its length, twice: as that of the buffer and as PAYLEN. */
static inline uint64_t tx_control(uint32_t length)
{
    return TX_DATA + TX_EOP + length * (1 + (UINT64_C(1) << TX_PAYLEN_SHIFT));
}

/* RS on each RS_STEP-th of `slots` descriptors from `from` on, the slots `unreported` before them counted; returns those after the last. */
static inline uint32_t ask_for_status(struct queue *q, uint32_t from, uint32_t slots, uint32_t unreported)
{
    uint32_t i = RS_STEP - 1 - unreported;
    unreported += slots;
    for (; i < slots; i += RS_STEP, unreported -= RS_STEP)
        q->descriptors[from + i].control |= TX_RS;
    return unreported;
}

/* Frames in one slot each that may be sent as they are: nothing but NS_BUF_CHANGED in flags, and no padding to do. Stops at the first
 * slot that is not so. */
static inline struct run tx_frames(const struct queue *q, uint32_t from, uint32_t slots)
{
    struct run run = {0};
    if (slots >= LEAST_GROUP && q->group)
        run = tx_groups(q, from, slots);
    for (uint32_t i = from + run.slots; run.slots < slots; run.slots++, i++) {
        struct netmap_slot slot = read_slot(q->ring, i);
        if (!buffer_holds(q, slot.buf_idx) || !sent_as_it_is(q, slot))
            break;
        q->descriptors[i].address = buffer_address(q, slot.buf_idx);
        q->descriptors[i].control = tx_control(slot.len);
        run.flags |= slot.flags;
        run.bytes += slot.len;
    }
    return run;
}

/* What a pass over slots to send has come to. */
struct sending {
    uint32_t next;       /* slot to look at */
    uint32_t unreported; /* slots since the last descriptor with RS */
    uint32_t flags;      /* of all slots, joined */
    bool broken;         /* a rule was, and noted */
    uint64_t packets, bytes;
};

/* The slot in front of a frame that says what the NIC is to do with it. */
static bool tx_context(struct queue *q, struct sending *s, uint32_t head, struct context *context)
{
    uint32_t i = s->next;
    s->next = after(i, q->num_slots);
    s->flags |= NS_CONTEXT;
    s->unreported++;
    if (s->next == head)
        return violated(q, RULE_CONTEXT_ALONE, i, NS_CONTEXT, 0, 0);
    return write_context(q, i, context);
}

/* Any frame: over several slots, to be padded, reported, refused, or finished by the NIC.
 * PAYLEN is wanted on the first descriptor and known at the last, so it is added to the first one then. */
__attribute__((noinline)) static struct sending tx_frame(struct queue *q, struct sending s, uint32_t head)
{
    struct context context = {.longest = MAX_FRAME};
    uint32_t length = 0, slots = 0;
    s.broken = true;
    if ((read_slot(q->ring, s.next).flags & NS_CONTEXT) && !tx_context(q, &s, head, &context))
        return s;
    const uint32_t first = s.next;
    for (uint32_t i = first; i != head; i = after(i, q->num_slots)) {
        struct netmap_slot slot = read_slot(q->ring, i);
        uint32_t data_length = slot.len;
        length += slot.len;
        slots++;
        s.bytes += slot.len;
        s.flags |= slot.flags;
        s.unreported++;
        bool ends = !(slot.flags & NS_MOREFRAG);
        if (!tx_slot_holds(q, i, slot) || !frame_holds(q, &context, i, length, slots, ends))
            return s;
        if (length < MIN_FRAME && ends)
            length = data_length = pad_frame(q, slot);
        bool report = ends && ((slot.flags & NS_REPORT) || s.unreported >= RS_STEP);
        q->descriptors[i].address = buffer_address(q, slot.buf_idx);
        q->descriptors[i].control = TX_DATA | (ends ? TX_EOP : 0) | (report ? TX_RS : 0) | data_length;
        if (report)
            s.unreported = 0;
        if (ends) {
            q->descriptors[first].control |= context.commands | (uint64_t)(length - context.uncounted)
                                                                    << TX_PAYLEN_SHIFT;
            s.next = after(i, q->num_slots);
            s.packets++;
            s.broken = false;
            return s;
        }
    }
    violated(q, RULE_CHAIN_NOT_ENDED, before(head, q->num_slots), slots, 0, 0);
    return s;
}

enum { DONE_WITH = NS_BUF_CHANGED | NS_REPORT | NS_CONTEXT };

/* The slots were handed over: what the application asked for with these flags is done. */
static void clear_flags(struct queue *q, uint32_t from, uint32_t head)
{
    for (uint32_t i = from; i != head; i = after(i, q->num_slots)) {
        uint16_t *flags = &q->ring->slot[i].flags;
        uint16_t now = __atomic_load_n(flags, __ATOMIC_RELAXED);
        if (now & DONE_WITH)
            __atomic_store_n(flags, (uint16_t)(now & ~DONE_WITH), __ATOMIC_RELAXED);
    }
}

/* Descriptors up to `head` are the NIC's; one barrier and one TDT store say so. */
static inline void tx_hand_over(struct queue *q, uint32_t head, uint64_t packets, uint64_t bytes)
{
    before_doorbell();
    ring_doorbell(q->doorbell, head);
    q->hwcur = head;
    q->packets += packets;
    q->bytes += bytes;
}

/* A sync of one plain frame, as of a program that takes packet after packet: no more than it needs. False, and nothing done, otherwise. */
static inline bool tx_send_one(struct queue *q, const struct netmap_ring *ring, uint32_t head, uint32_t cur)
{
    uint32_t i = q->hwcur;
    if (!one_slot_advanced(q, head, cur))
        return false;
    struct netmap_slot slot = read_slot(ring, i);
    uint32_t length = slot.len_flags; /* a flag makes it larger than any */
    if (slot.buf_idx - RESERVED_BUFFERS >= q->direct_buffers || length - MIN_FRAME >= q->frame_lengths)
        return false;
    q->descriptors[i].address = buffer_address(q, slot.buf_idx);
    q->descriptors[i].control = tx_control(length) + TX_RS;
    tx_hand_over(q, head, 1, length);
    return true;
}

/* Slots [hwcur, head), at least one, become descriptors.
 * RS on the last descriptor of all makes the head write-back say exactly what was sent. */
static bool tx_send_all(struct queue *q, uint32_t head)
{
    struct sending s = {.next = q->hwcur};
    while (s.next != head) {
        uint32_t ahead = in_one_piece(s.next, head, q->num_slots);
        struct run run = tx_frames(q, s.next, ahead);
        s.unreported = ask_for_status(q, s.next, run.slots, s.unreported);
        s.next = skip(s.next, run.slots, q->num_slots);
        s.flags |= run.flags;
        s.packets += run.slots;
        s.bytes += run.bytes;
        if (run.slots < ahead)
            s = tx_frame(q, s, head);
        if (s.broken)
            return false;
    }
    q->descriptors[before(head, q->num_slots)].control |= TX_RS;
    if (q->pages)
        look_up_pages(q, q->hwcur, distance(q->hwcur, head, q->num_slots));
    if (s.flags & DONE_WITH)
        clear_flags(q, q->hwcur, head);
    tx_hand_over(q, head, s.packets, s.bytes);
    return true;
}

/* What the application advanced, if it holds. */
__attribute__((noinline)) static bool tx_send(struct queue *q, uint32_t head, uint32_t cur)
{
    return indices_hold(q, head, cur) && (head == q->hwcur || tx_send_all(q, head));
}

/* Whether the NIC's head has moved from there. */
static inline bool tx_sent(const struct tx_queue *tx, uint32_t nic_head)
{
    return __atomic_load_n(tx->head_writeback, __ATOMIC_RELAXED) != nic_head;
}

/* Descriptors before the NIC's head are sent: of those that were handed over, [nic_head, hwcur), and no others. */
static bool tx_reclaim(struct tx_queue *tx)
{
    struct queue *q = &tx->q;
    uint32_t n = q->num_slots;
    uint32_t nic_head = __atomic_load_n(tx->head_writeback, __ATOMIC_RELAXED);
    if (nic_head == tx->nic_head)
        return true;
    if (nic_head >= n || distance(tx->nic_head, nic_head, n) > distance(tx->nic_head, q->hwcur, n))
        return violated(q, RULE_HEAD_WRITE_BACK, nic_head, nic_head, tx->nic_head, q->hwcur);
    after_completion();
    __atomic_store_n(&tx->nic_head, nic_head, __ATOMIC_RELAXED);
    q->hwtail = before(nic_head, n);
    return true;
}

/* Whatever the application did, and the NIC. */
__attribute__((noinline)) static int tx_sync_any(struct tx_queue *tx, uint32_t head, uint32_t cur)
{
    struct queue *q = &tx->q;
    if (!tx_send(q, head, cur) || !tx_reclaim(tx)) {
        reset_ring(q);
        return ATTENTION_VIOLATION;
    }
    publish_tail(q);
    return driver_attention(q);
}

static inline int tx_sync_one(struct tx_queue *tx)
{
    struct queue *q = &tx->q;
    struct netmap_ring *ring = q->ring;
    uint32_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
    uint32_t cur = __atomic_load_n(&ring->cur, __ATOMIC_RELAXED);
    if ((tx_send_one(q, ring, head, cur) || nothing_changed(q, head, cur)) && !tx_sent(tx, tx->nic_head))
        return check_due(q);
    return tx_sync_any(tx, head, cur);
}

int txsync(struct tx_queue **queues, int n)
{
    if (n == 1)
        return tx_sync_one(queues[0]);
    int attention = 0;
    for (int i = 0; i < n; i++)
        attention |= tx_sync_one(queues[i]);
    return attention;
}

/* ---- receiving ---- */

/* A fresh descriptor: address, and DD zero (7.1.6.1). */
static inline void rx_write(struct queue *q, uint32_t i, uint32_t buf_idx)
{
    q->descriptors[i].address = buffer_address(q, buf_idx);
    __atomic_store_n(&q->descriptors[i].control, 0, __ATOMIC_RELAXED);
}

static inline bool rx_write_slot(struct queue *q, uint32_t i, uint32_t *flags)
{
    struct netmap_slot slot = read_slot(q->ring, i);
    if (!buffer_holds(q, slot.buf_idx))
        return bad_buffer(q, i, slot.buf_idx);
    *flags |= slot.flags;
    rx_write(q, i, slot.buf_idx);
    return true;
}

/* Fresh descriptors for `slots` slots, which end where the ring does at the latest. Not posted yet. noinline: gcc 12 makes of two copies
 * what costs a cycle more a packet in batches of 32. */
__attribute__((noinline)) static bool rx_write_piece(struct queue *q, uint32_t from, uint32_t slots, uint32_t *flags)
{
    struct run run = {0};
    if (slots >= LEAST_GROUP && q->group)
        run = rx_write_groups(q, from, slots);
    *flags |= run.flags;
    for (uint32_t i = from + run.slots; i < from + slots; i++)
        if (!rx_write_slot(q, i, flags))
            return false;
    return true;
}

/* The same for slots that may go on at the ring's beginning. */
static bool rx_write_descriptors(struct queue *q, uint32_t from, uint32_t slots, uint32_t *flags)
{
    uint32_t to_end = q->num_slots - from, piece = slots < to_end ? slots : to_end;
    if (!rx_write_piece(q, from, piece, flags) || (slots > piece && !rx_write_piece(q, 0, slots - piece, flags)))
        return false;
    if (q->pages)
        look_up_pages(q, from, slots);
    return true;
}

/* Descriptors up to `head` are the NIC's but the one before it: 7.1.9 leaves one free. */
static inline void rx_hand_over(struct queue *q, uint32_t head, uint32_t tail)
{
    before_doorbell();
    ring_doorbell(q->doorbell, tail);
    q->hwcur = head;
}

/* One slot was released and is as it was: as tx_send_one. */
static inline bool rx_refill_one(struct queue *q, const struct netmap_ring *ring, uint32_t head, uint32_t cur)
{
    uint32_t i = q->hwcur;
    if (!one_slot_advanced(q, head, cur))
        return false;
    struct netmap_slot slot = read_slot(ring, i);
    if (slot.flags || slot.buf_idx - RESERVED_BUFFERS >= q->direct_buffers)
        return false;
    rx_write(q, i, slot.buf_idx);
    rx_hand_over(q, head, i);
    return true;
}

/* Slots the application released, [hwcur, head), go back to the NIC, if that holds. */
__attribute__((noinline)) static bool rx_refill(struct queue *q, uint32_t head, uint32_t cur)
{
    uint32_t flags = 0;
    if (!indices_hold(q, head, cur))
        return false;
    if (head == q->hwcur)
        return true;
    if (!rx_write_descriptors(q, q->hwcur, distance(q->hwcur, head, q->num_slots), &flags))
        return false;
    if (flags & NS_BUF_CHANGED)
        clear_flags(q, q->hwcur, head);
    rx_hand_over(q, head, before(head, q->num_slots));
    return true;
}

/* What a pass over completed descriptors has come to. */
struct receiving {
    uint32_t next;  /* descriptor to look at */
    uint32_t tail;  /* slot after the last whole frame */
    uint32_t chain; /* descriptors of the frame under way */
    uint64_t packets, bytes;
};

/* One load of the second quadword gives DD, EOP and length of one moment. */
static inline uint64_t rx_status(const struct queue *q, uint32_t i)
{
    return __atomic_load_n(&q->descriptors[i].control, __ATOMIC_RELAXED);
}

static inline void rx_fill_slot(const struct queue *q, uint32_t i, uint32_t length, uint32_t flags)
{
    __atomic_store_n(&q->ring->slot[i].len_flags, length | flags << 16, __ATOMIC_RELAXED);
}

/* Frames in one slot each that came undamaged. Stops at the first descriptor that is not so. */
static inline struct run rx_frames(const struct queue *q, uint32_t from, uint32_t slots)
{
    struct run run = {0};
    if (slots >= LEAST_GROUP && q->group && (rx_status(q, from + LEAST_GROUP - 1) & RX_DD))
        run = rx_groups(q, from, slots);
    for (uint32_t i = from + run.slots; run.slots < slots; run.slots++, i++) {
        uint64_t status = rx_status(q, i);
        uint32_t length = (uint16_t)(status >> RX_LENGTH_SHIFT);
        if ((status & (RX_DD | RX_EOP | RX_RXE)) != (RX_DD | RX_EOP) || length > q->buf_size)
            break;
        rx_fill_slot(q, i, length, 0);
        run.bytes += length;
    }
    return run;
}

/* Any completed descriptor; false if it is not completed.
 * The device is bounded too: no byte beyond a buffer, no frame without end. */
static bool rx_slot(struct rx_queue *rx, struct receiving *r)
{
    struct queue *q = &rx->q;
    uint64_t status = rx_status(q, r->next);
    if (!(status & RX_DD))
        return false;
    uint32_t length = (uint16_t)(status >> RX_LENGTH_SHIFT);
    bool more = !(status & RX_EOP);
    r->chain++;
    if ((status & RX_RXE) || length > q->buf_size || (more && r->chain == MAX_CHAIN)) {
        rx->errors++;
        length = least(length, q->buf_size);
        more = more && r->chain < MAX_CHAIN;
    }
    rx_fill_slot(q, r->next, length, more ? NS_MOREFRAG : 0);
    r->bytes += length;
    r->next = after(r->next, q->num_slots);
    if (!more) {
        r->tail = r->next;
        r->chain = 0;
        r->packets++;
    }
    return true;
}

/* Written-back descriptors become slots; tail moves only past whole frames. What they promise (the packet's bytes) is read after one
 * barrier for all of them. No descriptor is believed that the NIC was not given. */
__attribute__((noinline)) static void rx_receive(struct rx_queue *rx, uint32_t not_given)
{
    struct queue *q = &rx->q;
    struct receiving r = {.next = rx->next, .tail = q->hwtail, .chain = rx->chain};
    while (r.next != not_given) {
        uint32_t ahead = in_one_piece(r.next, not_given, q->num_slots);
        if (r.chain == 0) {
            struct run run = rx_frames(q, r.next, ahead);
            r.next = r.tail = skip(r.next, run.slots, q->num_slots);
            r.packets += run.slots;
            r.bytes += run.bytes;
            if (run.slots == ahead)
                continue;
        }
        if (!rx_slot(rx, &r))
            break;
    }
    after_completion();
    __atomic_store_n(&rx->next, r.next, __ATOMIC_RELAXED);
    rx->chain = r.chain;
    q->hwtail = r.tail;
    q->packets += r.packets;
    q->bytes += r.bytes;
}

/* Whatever the application did, and the NIC. */
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
    if (wants_time(q->ring))
        stamp(q->ring);
    publish_tail(q);
    return driver_attention(q);
}

static inline int rx_sync_one(struct rx_queue *rx)
{
    struct queue *q = &rx->q;
    struct netmap_ring *ring = q->ring;
    uint32_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
    uint32_t cur = __atomic_load_n(&ring->cur, __ATOMIC_RELAXED);
    if ((rx_refill_one(q, ring, head, cur) || nothing_changed(q, head, cur)) && !(rx_status(q, rx->next) & RX_DD) &&
        !wants_time(ring))
        return check_due(q);
    return rx_sync_any(rx, head, cur);
}

int rxsync(struct rx_queue **queues, int n)
{
    if (n == 1)
        return rx_sync_one(queues[0]);
    int attention = 0;
    for (int i = 0; i < n; i++)
        attention |= rx_sync_one(queues[i]);
    return attention;
}

/* The first fill: every descriptor, then RDT = num_slots - 1 (4.6.7). RDT is lost before RXDCTL.ENABLE reads 1. */
int rx_fill(struct rx_queue **queues, int n)
{
    int attention = 0;
    for (int i = 0; i < n; i++) {
        struct queue *q = &queues[i]->q;
        uint32_t flags = 0;
        if (!rx_write_descriptors(q, 0, q->num_slots, &flags)) {
            attention |= ATTENTION_VIOLATION;
            continue;
        }
        before_doorbell();
        ring_doorbell(q->doorbell, q->num_slots - 1);
    }
    return attention;
}

/* ---- forwarding ---- */

/* Slots of the frame that starts at `from`; 0 if it breaks a rule, which is noted. The NIC gives whole frames in buffers of ours, so
 * what is otherwise somebody wrote there: it is refused where it stands, before it is the TX ring's trouble. */
static uint32_t frame_slots(struct queue *q, uint32_t from, uint32_t end)
{
    const struct context none = {.longest = MAX_FRAME};
    uint32_t slots = 0, bytes = 0;
    for (uint32_t i = from; i != end; i = after(i, q->num_slots)) {
        struct netmap_slot slot = read_slot(q->ring, i);
        slot.flags &= NS_MOREFRAG; /* of a slot's flags only this crosses */
        bytes += slot.len;
        slots++;
        if (!tx_slot_holds(q, i, slot) || !frame_holds(q, &none, i, bytes, slots, !slot.flags))
            return 0;
        if (!slot.flags)
            return slots;
    }
    violated(q, RULE_CHAIN_NOT_ENDED, before(end, q->num_slots), slots, 0, 0);
    return 0;
}

/* Whether the TX slots that a frame is to go to have buffers to give back. */
static bool spares_hold(struct queue *q, uint32_t from, uint32_t slots)
{
    for (; slots; slots--, from = after(from, q->num_slots)) {
        uint32_t spare = read_slot(q->ring, from).buf_idx;
        if (!buffer_holds(q, spare))
            return bad_buffer(q, from, spare);
    }
    return true;
}

/* The received buffer goes to the TX slot, the sent one comes back. The syncs check what was swapped. */
static void swap_buffers(struct netmap_slot *rx, struct netmap_slot *tx)
{
    struct netmap_slot full = {.word = __atomic_load_n(&rx->word, __ATOMIC_RELAXED)};
    struct netmap_slot empty = {.word = __atomic_load_n(&tx->word, __ATOMIC_RELAXED)};
    uint32_t received = full.buf_idx;
    full.buf_idx = empty.buf_idx;
    empty.buf_idx = received;
    empty.len = full.len;
    empty.flags = (full.flags & NS_MOREFRAG) | NS_BUF_CHANGED;
    full.flags = NS_BUF_CHANGED;
    __atomic_store_n(&tx->word, empty.word, __ATOMIC_RELAXED);
    __atomic_store_n(&rx->word, full.word, __ATOMIC_RELAXED);
}

static void move_head(struct netmap_ring *ring, uint32_t head)
{
    __atomic_store_n(&ring->cur, head, __ATOMIC_RELAXED);
    __atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
}

/* Up to `limit` whole frames, as far as there is TX space, and up to one that breaks a rule. Where to read and write comes from the
 * queues, not the rings. */
static int move_frames(struct forward *pair, uint32_t limit)
{
    struct queue *rx = &pair->rx->q, *tx = &pair->tx->q;
    uint32_t from = rx->hwcur, to = tx->hwcur, frames = 0, moved = 0;
    uint32_t space = distance(to, tx->hwtail, tx->num_slots);
    bool rx_holds = true, tx_holds = true;
    while (frames < limit && from != rx->hwtail) {
        uint32_t slots = frame_slots(rx, from, rx->hwtail);
        rx_holds = slots != 0;
        if (!rx_holds || slots > space - moved)
            break;
        tx_holds = spares_hold(tx, to, slots);
        if (!tx_holds)
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
        pair->frames += frames;
        pair->slots += moved;
    }
    int attention = rx_holds && tx_holds ? 0 : ATTENTION_VIOLATION;
    return moved && tx_holds ? attention | tx_sync_one(pair->tx) : attention;
}

/* What forward_slots() wrote goes to both NICs: up to `from` to receive into, up to `to` to send. */
static void hand_over(struct forward *pair, uint32_t from, uint32_t to, uint32_t moved)
{
    struct queue *rx = &pair->rx->q, *tx = &pair->tx->q;
    tx->descriptors[before(to, tx->num_slots)].control |= TX_RS;
    before_doorbell();
    ring_doorbell(tx->doorbell, to);
    ring_doorbell(rx->doorbell, before(from, rx->num_slots));
    rx->hwcur = from;
    tx->hwcur = to;
    tx->packets += moved;
    move_head(rx->ring, from);
    move_head(tx->ring, to);
    pair->frames += moved;
    pair->slots += moved;
}

/* Frames in one slot each, in one pass: the swap, the descriptor to send, and the one to fill. Stops at the first slot that is not so. */
static struct run forward_slots(const struct queue *rx, const struct queue *tx, uint32_t from, uint32_t to,
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
        if (!buffer_holds(tx, received) || !sent_as_it_is(tx, full) || !buffer_holds(rx, empty.buf_idx))
            break;
        full.flags = 0;
        __atomic_store_n(&tx->ring->slot[to].word, full.word, __ATOMIC_RELAXED);
        full.buf_idx = empty.buf_idx;
        __atomic_store_n(&rx->ring->slot[from].word, full.word, __ATOMIC_RELAXED);
        tx->descriptors[to].address = buffer_address(tx, received);
        tx->descriptors[to].control = tx_control(full.len);
        rx->descriptors[from].address = buffer_address(rx, empty.buf_idx);
        __atomic_store_n(&rx->descriptors[from].control, 0, __ATOMIC_RELAXED);
        run.bytes += full.len;
    }
    return run;
}

/* forward's short way: up to `limit` frames at the beginning of what was received, as long as they are in one slot each. They are
 * handed to both NICs here; the rings look as after move_frames() and both syncs. Returns how many. */
static uint32_t forward_frames(struct forward *pair, uint32_t limit)
{
    struct queue *rx = &pair->rx->q, *tx = &pair->tx->q;
    uint32_t from = rx->hwcur, to = tx->hwcur, moved = 0, unreported = 0;
    uint32_t most =
        least(limit, least(distance(from, rx->hwtail, rx->num_slots), distance(to, tx->hwtail, tx->num_slots)));
    if (most == 0 || rx->pages || tx->pages)
        return 0;
    uint32_t wanted, done;
    do {
        wanted = least(most - moved, least(rx->num_slots - from, tx->num_slots - to));
        struct run run = forward_slots(rx, tx, from, to, wanted);
        unreported = ask_for_status(tx, to, run.slots, unreported);
        done = run.slots;
        moved += done;
        tx->bytes += run.bytes;
        from = skip(from, done, rx->num_slots);
        to = skip(to, done, tx->num_slots);
    } while (done == wanted && moved < most);
    if (moved)
        hand_over(pair, from, to, moved);
    return moved;
}

/* What the application had put in the TX ring itself goes first, as the first txsync's part. */
static int forward_one(struct forward *pair, uint32_t limit)
{
    int attention = rx_sync_one(pair->rx) | tx_sync_one(pair->tx);
    if (attention & ATTENTION_VIOLATION)
        return attention;
    uint32_t moved = forward_frames(pair, limit);
    if (moved < limit)
        attention |= move_frames(pair, limit - moved);
    return attention | driver_attention(&pair->tx->q);
}

int forward(struct forward **pairs, int n, uint32_t limit)
{
    int attention = 0;
    uint64_t moved = 0; /* of all pairs: no more than their slots, far from int's end */
    for (int i = 0; i < n; i++) {
        moved -= pairs[i]->frames;
        attention |= forward_one(pairs[i], limit);
        moved += pairs[i]->frames;
    }
    return attention | (int)moved << MOVED_SHIFT;
}

/* ---- waiting ---- */

/* Spin until a sync of one of these queues would find something, 1, or the time is over, 0. Rings are not touched. */
int busy_wait(struct rx_queue **rx, int rx_count, struct tx_queue **tx, int tx_count, uint64_t timeout_ns)
{
    uint64_t start = now_ns();
    do {
        for (int spin = 0; spin < 16; spin++) {
            for (int i = 0; i < rx_count; i++)
                if (rx_status(&rx[i]->q, __atomic_load_n(&rx[i]->next, __ATOMIC_RELAXED)) & RX_DD)
                    return 1;
            for (int i = 0; i < tx_count; i++)
                if (tx_sent(tx[i], __atomic_load_n(&tx[i]->nic_head, __ATOMIC_RELAXED)))
                    return 1;
            relax();
        }
    } while (now_ns() - start < timeout_ns);
    return 0;
}

/* Sizes and offsets, for the mirror of these structures in hotloop.py to be compared with. */
const uint32_t hotloop_layout[] = {
    sizeof(struct violation),
    sizeof(struct queue),
    sizeof(struct tx_queue),
    sizeof(struct rx_queue),
    sizeof(struct forward),
    offsetof(struct queue, doorbell),
    offsetof(struct queue, hwcur),
    offsetof(struct queue, group),
    offsetof(struct queue, pages),
    offsetof(struct queue, packets),
    offsetof(struct queue, page_size),
    offsetof(struct queue, last),
    offsetof(struct violation, value),
    offsetof(struct queue, direct_buffers),
    offsetof(struct queue, frame_lengths),
    offsetof(struct tx_queue, head_writeback),
    offsetof(struct tx_queue, nic_head),
    offsetof(struct rx_queue, errors),
    offsetof(struct rx_queue, next),
    RULE_CONTEXT_HEADERS,
    CHECK_EVERY,
    MAX_CHAIN,
    MIN_FRAME,
    MOVED_SHIFT,
};
const uint32_t hotloop_layout_count = sizeof(hotloop_layout) / sizeof(hotloop_layout[0]);
