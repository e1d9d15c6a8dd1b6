/* txsync: slots that the application advanced become descriptors, and slots that the NIC has sent come back.
 *
 *     lane         takes                                                          function
 *     any frame    everything: several slots, padding, NS_REPORT, a context,      write_frame
 *                  a broken rule
 *     plain run    frames in one slot, no flag but NS_BUF_CHANGED, scalar or      write_plain_frames, groups.h
 *                  by vectors
 *     one slot     a sync that advances one plain frame without a flag,           send_one_slot
 *                  or nothing
 *
 * The general path comes first, then the fast lanes. A lane stops at the first slot that needs the general path, and
 * leaves in memory exactly what the general path would leave.
 *
 * A ring that breaks a rule is put back to hwcur and hwtail, and nothing of it moves. Descriptors may be written by
 * then, but the NIC reads only those before its tail register.
 *
 * Shared words: head is loaded with acquire, because the application wrote the slots before it. tail is stored with
 * release, because slots must be written before it. A slot is loaded once, relaxed: head gives the order.
 */
#include "frame.h"
#include "vectors.h"

/* ---- the general path ---- */

/* The fast lane for plain frames, below. */
static inline struct run write_plain_frames(const struct queue *q, uint32_t from, uint32_t slots);

/* The state of a pass over the slots to send. */
struct sending {
    uint32_t next;       /* slot to read */
    uint32_t unreported; /* slots since the last descriptor with RS */
    uint32_t flags;      /* of all slots, ORed */
    bool broken;         /* a rule is broken, and the violation is noted */
    uint64_t packets, bytes;
};

/* The NIC rejects a PAYLEN below MIN_FRAME: fill up with zeroes in the frame's own buffer, which is always larger. With
 * offsets it may end too early: finish_addresses() refuses the slot then. A program that changes the offset meanwhile
 * only spoils its own frame. */
static uint32_t pad_frame(struct queue *q, uint32_t slot_number, struct netmap_slot slot)
{
    uint64_t offset = q->offset_mask ? read_offset(q, slot_number) : 0;
    if (offset > q->buf_size - MIN_FRAME)
        return MIN_FRAME;
    uint8_t *buffer = q->buffers + (uint64_t)slot.buf_idx * q->buf_size + offset;
    for (uint32_t i = slot.len; i < MIN_FRAME; i++)
        buffer[i] = 0;
    return MIN_FRAME;
}

/* Take the context of the next frame from its own slot, which is before the frame. */
static bool take_context(struct queue *q, struct sending *s, uint32_t head, struct context *context)
{
    uint32_t i = s->next;
    s->next = after(i, q->num_slots);
    s->flags |= NS_CONTEXT;
    s->unreported++;
    if (s->next == head)
        return violated(q, RULE_CONTEXT_ALONE, i, NS_CONTEXT, 0, 0);
    return write_context(q, i, context);
}

/* Turn one frame, of any kind, into descriptors. PAYLEN belongs on the first descriptor but is known at the last
 * slot, so it is added to the first descriptor then. */
__attribute__((noinline)) static struct sending write_frame(struct queue *q, struct sending s, uint32_t head)
{
    struct context context = {.longest = MAX_FRAME};
    uint32_t length = 0, slots = 0;
    s.broken = true;
    if ((read_slot(q->ring, s.next).flags & NS_CONTEXT) && !take_context(q, &s, head, &context))
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
        if (!tx_slot_valid(q, i, slot) || !frame_valid(q, &context, i, length, slots, ends))
            return s;
        bool own_crc = slot.flags & NS_OWN_CRC;
        if (own_crc && !own_crc_valid(q, &context, i, slot, slots))
            return s;
        if (length < MIN_FRAME && ends)
            length = data_length = pad_frame(q, i, slot);
        bool report = ends && ((slot.flags & NS_REPORT) || s.unreported >= RS_STEP);
        q->descriptors[i].address = buffer_address(q, slot.buf_idx);
        q->descriptors[i].control =
            (own_crc ? TX_DATA & ~TX_IFCS : TX_DATA) | (ends ? TX_EOP : 0) | (report ? TX_RS : 0) | data_length;
        if (report)
            s.unreported = 0;
        if (ends) {
            uint64_t payload = length - context.uncounted;
            q->descriptors[first].control |= context.commands | payload << TX_PAYLEN_SHIFT;
            s.next = after(i, q->num_slots);
            s.packets++;
            s.broken = false;
            return s;
        }
    }
    violated(q, RULE_CHAIN_NOT_ENDED, before(head, q->num_slots), slots, 0, 0);
    return s;
}

/* Turn slots [hwcur, head), at least one, into descriptors and hand them over. False if a rule is broken.
 * RS is set on the very last descriptor, so that the head write-back reports exactly what was sent. */
static bool send_slots(struct queue *q, uint32_t head)
{
    struct sending s = {.next = q->hwcur};
    while (s.next != head) {
        uint32_t slots = contiguous(s.next, head, q->num_slots);
        struct run run = write_plain_frames(q, s.next, slots);
        s.unreported = request_status(q, s.next, run.slots, s.unreported);
        s.next = skip(s.next, run.slots, q->num_slots);
        s.flags |= run.flags;
        s.packets += run.slots;
        s.bytes += run.bytes;
        if (run.slots < slots)
            s = write_frame(q, s, head);
        if (s.broken)
            return false;
    }
    q->descriptors[before(head, q->num_slots)].control |= TX_RS;
    if (q->second_pass && !finish_addresses(q, q->hwcur, distance(q->hwcur, head, q->num_slots)))
        return false;
    if (s.flags & ONE_SYNC_FLAGS)
        clear_flags(q, q->hwcur, head);
    hand_over(q, head, head);
    q->packets += s.packets;
    q->bytes += s.bytes;
    return true;
}

/* Send what the application advanced, if its indices are valid. */
static bool tx_send(struct queue *q, uint32_t head, uint32_t cur)
{
    return indices_valid(q, head, cur) && (head == q->hwcur || send_slots(q, head));
}

/* Take back the descriptors before the NIC's head. The head must be in [nic_head, hwcur], the descriptors handed
 * over. */
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
    __atomic_store_n(&tx->nic_head, nic_head, __ATOMIC_RELAXED); /* busy_wait() of another thread reads it */
    q->hwtail = before(nic_head, n);
    return true;
}

__attribute__((noinline)) static int tx_sync_any(struct tx_queue *tx, uint32_t head, uint32_t cur)
{
    struct queue *q = &tx->q;
    if (!tx_send(q, head, cur) || !tx_reclaim(tx)) {
        reset_ring(q);
        return ATTENTION_VIOLATION;
    }
    publish_tail(q);
    return count_sync_and_packets(q);
}

/* ---- fast lane: a run of plain frames ---- */

/* By vectors as far as they go, then slot by slot. No RS yet. */
static inline struct run write_plain_frames(const struct queue *q, uint32_t from, uint32_t slots)
{
    struct run run = {0};
    if (slots >= LEAST_GROUP && q->group)
        run = tx_groups(q, from, slots);
    for (uint32_t i = from + run.slots; run.slots < slots; run.slots++, i++) {
        struct netmap_slot slot = read_slot(q->ring, i);
        if (!buffer_valid(q, slot.buf_idx) || !is_plain(q, slot))
            break;
        q->descriptors[i].address = buffer_address(q, slot.buf_idx);
        q->descriptors[i].control = plain_frame_control(slot.len);
        run.flags |= slot.flags;
        run.bytes += slot.len;
    }
    return run;
}

/* ---- fast lane: one slot, for a program that sends packet after packet ---- */

/* False, and nothing done, unless the application advanced exactly one plain frame without a flag. */
static inline bool send_one_slot(struct queue *q, const struct netmap_ring *ring, uint32_t head, uint32_t cur)
{
    uint32_t i = q->hwcur;
    if (!one_slot_advanced(q, head, cur))
        return false;
    struct netmap_slot slot = read_slot(ring, i);
    uint32_t length = slot.len_flags; /* any flag makes it larger than every length */
    if (slot.buf_idx - RESERVED_BUFFERS >= q->direct_buffers || length - MIN_FRAME >= q->frame_lengths)
        return false;
    q->descriptors[i].address = buffer_address(q, slot.buf_idx);
    q->descriptors[i].control = plain_frame_control(length) + TX_RS;
    hand_over(q, head, head);
    q->packets++;
    q->bytes += length;
    return true;
}

/* ---- txsync ---- */

/* After the one-slot lane, tx_sync_any() finds head at hwcur: it only takes back what was sent. */
int tx_sync_queue(struct tx_queue *tx)
{
    struct queue *q = &tx->q;
    struct netmap_ring *ring = q->ring;
    uint32_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
    uint32_t cur = __atomic_load_n(&ring->cur, __ATOMIC_RELAXED);
    if ((send_one_slot(q, ring, head, cur) || nothing_changed(q, head, cur)) && !tx_sent(tx, tx->nic_head))
        return count_sync(q);
    return tx_sync_any(tx, head, cur);
}

int txsync(struct tx_queue **queues, int n)
{
    if (n == 1)
        return tx_sync_queue(queues[0]);
    int attention = 0;
    for (int i = 0; i < n; i++)
        attention |= tx_sync_queue(queues[i]);
    return attention;
}
