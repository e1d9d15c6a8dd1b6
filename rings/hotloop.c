/* txsync, rxsync, forward: the work done for each packet, and only that.
 *
 *        hwcur           head       tail = hwtail
 *    ------|--- to hand ---|--- mine ---|---- the NIC's ----> (circular)
 *
 * A sync hands slots [hwcur, head) to the NIC and moves tail over what the NIC has finished. A ring that breaks a rule
 * is put back to hwcur and hwtail and nothing of it moves: descriptors may have been written by then, but the NIC looks
 * only at those before its doorbell's value.
 *
 * Shared words: head is loaded with acquire (slots were written before it) and tail stored with release (slots first);
 * a slot is loaded once, 64 bits at once, relaxed, because the order comes from head.
 */
#define _POSIX_C_SOURCE 200809L

#include "hotloop.h"

#include "barriers.h"
#include "queue.h"

/* Advanced data descriptor for sending (7.2.3.2.4). */
#define TX_DATA (UINT64_C(3) << 20 | UINT64_C(1) << 29 | UINT64_C(1) << 25) /* DTYP data, DEXT, IFCS */
#define TX_EOP (UINT64_C(1) << 24)
#define TX_RS (UINT64_C(1) << 27)
#define TX_PAYLEN_SHIFT 46

/* Advanced descriptor, written back by the receiver (7.1.6.2). */
#define RX_DD (UINT64_C(1) << 0)
#define RX_EOP (UINT64_C(1) << 1)
#define RX_RXE (UINT64_C(1) << 29)
#define RX_LENGTH_SHIFT 32

static bool tx_slot_holds(struct queue *q, uint32_t i, struct netmap_slot slot)
{
    if (!buffer_holds(q, slot.buf_idx))
        return bad_buffer(q, i, slot.buf_idx);
    if (slot.len == 0)
        return violated(q, RULE_LEN_ZERO, i, 0, 1, q->buf_size);
    if (slot.len > q->buf_size)
        return violated(q, RULE_LEN_OVER_BUFFER, i, slot.len, 1, q->buf_size);
    if (slot.flags & NS_INDIRECT)
        return violated(q, RULE_INDIRECT, i, slot.flags, 0, 0);
    return true;
}

static bool frame_holds(struct queue *q, uint32_t i, uint32_t bytes, uint32_t slots)
{
    if (slots > MAX_CHAIN)
        return violated(q, RULE_CHAIN_TOO_LONG, i, slots, 1, MAX_CHAIN);
    if (bytes > MAX_FRAME)
        return violated(q, RULE_FRAME_TOO_LONG, i, bytes, MIN_FRAME, MAX_FRAME);
    return true;
}

/* Zeroes up to the smallest frame the NIC takes, in the frame's own buffer: every buffer is longer than that. */
static uint32_t pad_frame(struct queue *q, struct netmap_slot slot)
{
    uint8_t *buffer = q->buffers + (uint64_t)slot.buf_idx * q->buf_size;
    for (uint32_t i = slot.len; i < MIN_FRAME; i++)
        buffer[i] = 0;
    return MIN_FRAME;
}

/* The slots were handed over: what the application asked for with these flags is done. */
static void clear_flags(struct queue *q, uint32_t from, uint32_t head)
{
    for (uint32_t i = from; i != head; i = after(i, q->num_slots)) {
        uint16_t *flags = &q->ring->slot[i].flags;
        uint16_t now = __atomic_load_n(flags, __ATOMIC_RELAXED);
        if (now & (NS_BUF_CHANGED | NS_REPORT))
            __atomic_store_n(flags, (uint16_t)(now & ~(NS_BUF_CHANGED | NS_REPORT)), __ATOMIC_RELAXED);
    }
}

/* Slots [hwcur, head), at least one, become descriptors; then one barrier and one TDT store.
 * PAYLEN is wanted on a frame's first descriptor and known at its last, so it is added to the first one then.
 * RS on the last descriptor of all makes the head write-back say exactly what was sent. */
static bool tx_send(struct queue *q, uint32_t head)
{
    struct descriptor *const descriptors = q->descriptors;
    uint32_t first = q->hwcur, last = first, slots = 0, length = 0, unreported = 0, seen = 0;
    uint64_t packets = 0, bytes = 0;
    for (uint32_t i = first; i != head; i = after(i, q->num_slots)) {
        struct netmap_slot slot = read_slot(q, i);
        if (!tx_slot_holds(q, i, slot))
            return false;
        uint32_t data_length = slot.len;
        bytes += slot.len;
        length += slot.len;
        slots++;
        unreported++;
        seen |= slot.flags;
        uint64_t control = TX_DATA;
        if (slots > 1 && !frame_holds(q, i, length, slots))
            return false;
        if (!(slot.flags & NS_MOREFRAG)) {
            if (length < MIN_FRAME) {
                if (slots > 1)
                    return violated(q, RULE_FRAME_TOO_SHORT, i, length, MIN_FRAME, MAX_FRAME);
                length = data_length = pad_frame(q, slot);
            }
            control |= TX_EOP;
            if ((slot.flags & NS_REPORT) || unreported >= RS_STEP) {
                control |= TX_RS;
                unreported = 0;
            }
        }
        descriptors[i].address = q->buffers_iova + (uint64_t)slot.buf_idx * q->buf_size;
        descriptors[i].control = control | data_length;
        last = i;
        if (control & TX_EOP) {
            descriptors[first].control |= (uint64_t)length << TX_PAYLEN_SHIFT;
            first = after(i, q->num_slots);
            length = slots = 0;
            packets++;
        }
    }
    if (slots)
        return violated(q, RULE_CHAIN_NOT_ENDED, last, slots, 0, 0);
    descriptors[last].control |= TX_RS;
    if (q->pages)
        look_up_pages(q, q->hwcur, distance(q->hwcur, head, q->num_slots));
    if (seen & (NS_BUF_CHANGED | NS_REPORT))
        clear_flags(q, q->hwcur, head);
    before_doorbell();
    ring_doorbell(q->doorbell, head);
    q->hwcur = head;
    q->packets += packets;
    q->bytes += bytes;
    return true;
}

/* Descriptors before the NIC's head are sent. Nothing outstanding: its cache line is left alone. */
static bool tx_reclaim(struct tx_queue *tx)
{
    struct queue *q = &tx->q;
    uint32_t n = q->num_slots;
    uint32_t oldest = after(q->hwtail, n);
    if (oldest == q->hwcur)
        return true;
    uint32_t nic_head = __atomic_load_n(tx->head_writeback, __ATOMIC_RELAXED);
    if (nic_head >= n || distance(oldest, nic_head, n) > distance(oldest, q->hwcur, n))
        return violated(q, RULE_HEAD_WRITE_BACK, nic_head, nic_head, oldest, q->hwcur);
    after_completion();
    __atomic_store_n(&q->hwtail, before(nic_head, n), __ATOMIC_RELAXED);
    return true;
}

static int tx_sync_one(struct tx_queue *tx)
{
    struct queue *q = &tx->q;
    uint32_t head = __atomic_load_n(&q->ring->head, __ATOMIC_ACQUIRE);
    uint32_t cur = __atomic_load_n(&q->ring->cur, __ATOMIC_RELAXED);
    q->syncs++;
    if (!indices_hold(q, head, cur) || (head != q->hwcur && !tx_send(q, head)) || !tx_reclaim(tx)) {
        reset_ring(q);
        return ATTENTION_VIOLATION;
    }
    publish_tail(q);
    return statistics_attention(q);
}

int txsync(struct tx_queue **queues, int n)
{
    int attention = 0;
    for (int i = 0; i < n; i++) {
        if (!take(&queues[i]->q)) {
            attention |= ATTENTION_VIOLATION;
            continue;
        }
        attention |= tx_sync_one(queues[i]);
        give(&queues[i]->q);
    }
    return attention;
}

/* Write fresh descriptors for slots [from, head): address, and DD zero (7.1.6.1). Not posted yet. */
static bool rx_write_descriptors(struct queue *q, uint32_t from, uint32_t count, uint32_t *seen)
{
    uint32_t i = from;
    for (uint32_t done = 0; done < count; done++, i = after(i, q->num_slots)) {
        struct netmap_slot slot = read_slot(q, i);
        if (!buffer_holds(q, slot.buf_idx))
            return bad_buffer(q, i, slot.buf_idx);
        *seen |= slot.flags;
        q->descriptors[i].address = q->buffers_iova + (uint64_t)slot.buf_idx * q->buf_size;
        __atomic_store_n(&q->descriptors[i].control, 0, __ATOMIC_RELAXED);
    }
    if (q->pages)
        look_up_pages(q, from, count);
    return true;
}

/* Slots the application released, [hwcur, head), go back to the NIC. RDT is the slot before head: 7.1.9 leaves one free. */
static bool rx_refill(struct queue *q, uint32_t head)
{
    uint32_t seen = 0;
    if (!rx_write_descriptors(q, q->hwcur, distance(q->hwcur, head, q->num_slots), &seen))
        return false;
    if (seen & NS_BUF_CHANGED)
        clear_flags(q, q->hwcur, head);
    before_doorbell();
    ring_doorbell(q->doorbell, before(head, q->num_slots));
    __atomic_store_n(&q->hwcur, head, __ATOMIC_RELAXED);
    return true;
}

/* Written-back descriptors become slots; tail moves only past whole frames. One load of the second quadword gives DD,
 * EOP and length of one moment; what they promise (the packet's bytes) is read after one barrier for all of them.
 * The device is bounded too: no byte beyond a buffer, no frame without end, no descriptor it was not given. */
static void rx_receive(struct rx_queue *rx)
{
    struct queue *q = &rx->q;
    uint32_t n = q->num_slots, not_given = before(q->hwcur, n);
    uint32_t i = rx->next, tail = q->hwtail, chain = rx->chain;
    while (i != not_given) {
        uint64_t status = __atomic_load_n(&q->descriptors[i].control, __ATOMIC_RELAXED);
        if (!(status & RX_DD))
            break;
        uint32_t length = (uint16_t)(status >> RX_LENGTH_SHIFT);
        bool more = !(status & RX_EOP);
        chain++;
        if ((status & RX_RXE) || length > q->buf_size || (more && chain == MAX_CHAIN)) {
            rx->errors++;
            length = length > q->buf_size ? q->buf_size : length;
            more = more && chain < MAX_CHAIN;
        }
        uint32_t flags = more ? NS_MOREFRAG : 0;
        __atomic_store_n(&q->ring->slot[i].len_flags, length | flags << 16, __ATOMIC_RELAXED);
        q->bytes += length;
        i = after(i, n);
        if (!more) {
            tail = i;
            chain = 0;
            q->packets++;
        }
    }
    after_completion();
    __atomic_store_n(&rx->next, i, __ATOMIC_RELAXED);
    rx->chain = chain;
    q->hwtail = tail;
}

static void stamp(struct netmap_ring *ring)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    ring->ts_sec = now.tv_sec;
    ring->ts_usec = now.tv_nsec / 1000;
}

static int rx_sync_one(struct rx_queue *rx)
{
    struct queue *q = &rx->q;
    uint32_t head = __atomic_load_n(&q->ring->head, __ATOMIC_ACQUIRE);
    uint32_t cur = __atomic_load_n(&q->ring->cur, __ATOMIC_RELAXED);
    q->syncs++;
    if (!indices_hold(q, head, cur) || (head != q->hwcur && !rx_refill(q, head))) {
        reset_ring(q);
        return ATTENTION_VIOLATION;
    }
    rx_receive(rx);
    if (__atomic_load_n(&q->ring->flags, __ATOMIC_RELAXED) & NR_TIMESTAMP)
        stamp(q->ring);
    publish_tail(q);
    return statistics_attention(q);
}

int rxsync(struct rx_queue **queues, int n)
{
    int attention = 0;
    for (int i = 0; i < n; i++) {
        if (!take(&queues[i]->q)) {
            attention |= ATTENTION_VIOLATION;
            continue;
        }
        attention |= rx_sync_one(queues[i]);
        give(&queues[i]->q);
    }
    return attention;
}

/* The first fill: every descriptor, then RDT = num_slots - 1 (4.6.7). RDT is lost before RXDCTL.ENABLE reads 1. */
int rx_fill(struct rx_queue **queues, int n)
{
    int attention = 0;
    for (int i = 0; i < n; i++) {
        struct queue *q = &queues[i]->q;
        uint32_t seen = 0;
        if (!take(q)) {
            attention |= ATTENTION_VIOLATION;
            continue;
        }
        if (rx_write_descriptors(q, 0, q->num_slots, &seen)) {
            before_doorbell();
            ring_doorbell(q->doorbell, q->num_slots - 1);
        } else {
            attention |= ATTENTION_VIOLATION;
        }
        give(q);
    }
    return attention;
}

/* Slots of the frame that starts at `from`; 0 if it does not end before `end`. */
static uint32_t frame_slots(const struct queue *q, uint32_t from, uint32_t end)
{
    uint32_t slots = 0;
    for (uint32_t i = from; i != end; i = after(i, q->num_slots)) {
        slots++;
        if (!(read_slot(q, i).flags & NS_MOREFRAG))
            return slots;
    }
    return 0;
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

/* Up to `limit` whole frames, as far as there is TX space. Where to read and write comes from the queues, not the rings. */
static bool move_frames(struct forward *pair, uint32_t limit)
{
    struct queue *rx = &pair->rx->q, *tx = &pair->tx->q;
    uint32_t from = rx->hwcur, to = tx->hwcur, frames = 0, moved = 0;
    uint32_t space = distance(to, tx->hwtail, tx->num_slots);
    while (frames < limit) {
        uint32_t slots = frame_slots(rx, from, rx->hwtail);
        if (slots == 0 || slots > space - moved)
            break;
        for (uint32_t i = 0; i < slots; i++) {
            swap_buffers(&rx->ring->slot[from], &tx->ring->slot[to]);
            from = after(from, rx->num_slots);
            to = after(to, tx->num_slots);
        }
        moved += slots;
        frames++;
    }
    if (moved == 0)
        return false;
    move_head(rx->ring, from);
    move_head(tx->ring, to);
    pair->frames += frames;
    pair->slots += moved;
    return true;
}

/* What the application had put in the TX ring itself goes first, as the first txsync's part. */
static int forward_one(struct forward *pair, uint32_t limit)
{
    int attention = rx_sync_one(pair->rx) | tx_sync_one(pair->tx);
    if (!(attention & ATTENTION_VIOLATION) && move_frames(pair, limit))
        attention |= tx_sync_one(pair->tx);
    return attention;
}

/* RX before TX everywhere, so two threads that forward in opposite directions cannot wait for each other. */
int forward(struct forward **pairs, int n, uint32_t limit)
{
    int attention = 0;
    for (int i = 0; i < n; i++) {
        struct queue *rx = &pairs[i]->rx->q, *tx = &pairs[i]->tx->q;
        if (!take(rx)) {
            attention |= ATTENTION_VIOLATION;
            continue;
        }
        if (take(tx)) {
            attention |= forward_one(pairs[i], limit);
            give(tx);
        } else {
            attention |= ATTENTION_VIOLATION;
        }
        give(rx);
    }
    return attention;
}

static bool rx_ready(const struct rx_queue *rx)
{
    uint32_t next = __atomic_load_n(&rx->next, __ATOMIC_RELAXED);
    return __atomic_load_n(&rx->q.descriptors[next].control, __ATOMIC_RELAXED) & RX_DD;
}

static bool tx_ready(const struct tx_queue *tx)
{
    uint32_t hwtail = __atomic_load_n(&tx->q.hwtail, __ATOMIC_RELAXED);
    return __atomic_load_n(tx->head_writeback, __ATOMIC_RELAXED) != after(hwtail, tx->q.num_slots);
}

/* Spin until a sync of one of these queues would find something, 1, or the time is over, 0. Rings are not touched. */
int busy_wait(struct rx_queue **rx, int rx_count, struct tx_queue **tx, int tx_count, uint64_t timeout_ns)
{
    uint64_t start = now_ns();
    do {
        for (int spin = 0; spin < 16; spin++) {
            for (int i = 0; i < rx_count; i++)
                if (rx_ready(rx[i]))
                    return 1;
            for (int i = 0; i < tx_count; i++)
                if (tx_ready(tx[i]))
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
    offsetof(struct queue, packets),
    offsetof(struct queue, pages),
    offsetof(struct queue, last),
    offsetof(struct violation, value),
    offsetof(struct tx_queue, head_writeback),
    offsetof(struct rx_queue, errors),
    offsetof(struct rx_queue, next),
    RULE_BUSY,
};
const uint32_t hotloop_layout_count = sizeof(hotloop_layout) / sizeof(hotloop_layout[0]);
