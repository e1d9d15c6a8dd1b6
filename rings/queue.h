/* Steps that tx.c, rx.c and forward.c share: ring arithmetic, checks, the hand-over to the NIC, and the result of a
 * sync.
 *
 * Work done for each packet or each sync is inline here; rare work is in queue.c.
 */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>

#include "barriers.h"
#include "hotloop.h"

/* ---- slots of a ring ---- */

static inline uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint32_t after(uint32_t slot, uint32_t num_slots)
{
    return slot + 1 == num_slots ? 0 : slot + 1;
}

static inline uint32_t before(uint32_t slot, uint32_t num_slots)
{
    return slot == 0 ? num_slots - 1 : slot - 1;
}

static inline uint32_t skip(uint32_t slot, uint32_t slots, uint32_t num_slots)
{
    return slot + slots >= num_slots ? slot + slots - num_slots : slot + slots;
}

static inline uint32_t distance(uint32_t from, uint32_t to, uint32_t num_slots)
{
    return to >= from ? to - from : to + num_slots - from;
}

/* Slots from `from` to `to`, or to the end of the ring if that comes first. */
static inline uint32_t contiguous(uint32_t from, uint32_t to, uint32_t num_slots)
{
    return (to >= from ? to : num_slots) - from;
}

/* The only load of a slot: one 64-bit load, and the caller uses the copy. Relaxed: the acquire load of head comes
 * before. */
static inline struct netmap_slot read_slot(const struct netmap_ring *ring, uint32_t i)
{
    return (struct netmap_slot){.word = __atomic_load_n(&ring->slot[i].word, __ATOMIC_RELAXED)};
}

enum { ONE_SYNC_FLAGS = NS_BUF_CHANGED | NS_REPORT | NS_CONTEXT | NS_OWN_CRC };

/* Clear the flags that request something for one sync, in the slots that this sync hands over. Relaxed: no other
 * data depends on them. */
static inline void clear_flags(struct queue *q, uint32_t from, uint32_t head)
{
    for (uint32_t i = from; i != head; i = after(i, q->num_slots)) {
        uint16_t *flags = &q->ring->slot[i].flags;
        uint16_t now = __atomic_load_n(flags, __ATOMIC_RELAXED);
        if (now & ONE_SYNC_FLAGS)
            __atomic_store_n(flags, (uint16_t)(now & ~ONE_SYNC_FLAGS), __ATOMIC_RELAXED);
    }
}

/* The received buffer goes to the TX slot, and the sent buffer to the RX slot. The syncs check the result. */
static inline void swap_buffers(struct netmap_slot *rx, struct netmap_slot *tx)
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

/* ---- checks: true, or false after the violation was noted ---- */

/* Note a violation. Returns false, for `return violated(...)` in a check. */
COLD bool violated(struct queue *q, enum rule rule, uint32_t slot, uint64_t value, uint64_t low, uint64_t high);
/* Note which rule head and cur break. Returns false. */
COLD bool indices_violated(struct queue *q, uint32_t head, uint32_t cur);

/* The application owns [hwcur, hwtail) and may move head and cur in it:
 *
 *        hwcur                  head              cur         hwtail
 *    ------|-- to hand over ------|------ the application's -----|---- the NIC's ----> (circular)
 *
 *    hwcur <= head <= cur <= hwtail, all counted from hwcur
 */
static inline bool indices_valid(struct queue *q, uint32_t head, uint32_t cur)
{
    uint32_t n = q->num_slots;
    uint32_t owned = distance(q->hwcur, q->hwtail, n);
    uint32_t to_head = distance(q->hwcur, head, n);
    uint32_t to_cur = distance(q->hwcur, cur, n);
    if (head < n && cur < n && to_head <= to_cur && to_cur <= owned)
        return true;
    return indices_violated(q, head, cur);
}

/* The most frequent advance: one slot, and cur moved with head. The indices are valid then. */
static inline bool one_slot_advanced(const struct queue *q, uint32_t head, uint32_t cur)
{
    return head == cur && head == q->hwcur + 1 && head < q->num_slots && q->hwcur != q->hwtail;
}

/* Notes nothing: the caller knows which slot is concerned. */
static inline bool buffer_valid(const struct queue *q, uint32_t buf_idx)
{
    return buf_idx - RESERVED_BUFFERS < q->total_buffers - RESERVED_BUFFERS;
}

static inline bool buffer_violated(struct queue *q, uint32_t i, uint32_t buf_idx)
{
    return violated(q, RULE_BUF_IDX, i, buf_idx, RESERVED_BUFFERS, q->total_buffers - 1);
}

/* ---- descriptors, and the hand-over to the NIC ---- */

static inline uint64_t buffer_address(const struct queue *q, uint32_t buf_idx)
{
    return q->buffers_iova + (uint64_t)buf_idx * q->buf_size;
}

/* A descriptor for the NIC to fill: address, and DD zero (7.1.6.1). Relaxed: hand_over() makes it visible before
 * the doorbell. */
static inline void write_rx_descriptor(const struct queue *rx, uint32_t i, uint32_t buf_idx)
{
    rx->descriptors[i].address = buffer_address(rx, buf_idx);
    __atomic_store_n(&rx->descriptors[i].control, 0, __ATOMIC_RELAXED);
}

/* For a queue with a second pass: add the slots' offsets to the addresses in `count` descriptors, and look up the pages
 * of scattered memory. False, after noting the violation: an offset leaves its buffer. */
COLD bool finish_addresses(struct queue *q, uint32_t from, uint32_t count);

/* The offset in a slot's ptr. The only load of it, as of the slot itself. */
static inline uint64_t read_offset(const struct queue *q, uint32_t i)
{
    return __atomic_load_n(&q->ring->slot[i].ptr, __ATOMIC_RELAXED) & q->offset_mask;
}

/* Whether `length` bytes at an offset stay in their buffer. */
static inline bool offset_fits(const struct queue *q, uint64_t offset, uint32_t length)
{
    return offset <= q->offset_max && length <= q->buf_size - offset;
}

/* Returns false. */
static inline bool offset_violated(struct queue *q, uint32_t i, uint64_t offset, uint32_t length)
{
    uint64_t room = q->buf_size - least(length, q->buf_size);
    return violated(q, RULE_OFFSET, i, offset, 0, room < q->offset_max ? room : q->offset_max);
}

/* Give the NIC the descriptors before `tail`: one barrier, one store to TDT or RDT. `head` is the application's,
 * which hwcur follows; when receiving, tail is one slot before it (7.1.9 leaves one descriptor free). */
static inline void hand_over(struct queue *q, uint32_t head, uint32_t tail)
{
    before_doorbell();
    ring_doorbell(q->doorbell, tail);
    q->hwcur = head;
}

/* ---- the end of a sync ---- */

static inline bool tail_differs(const struct queue *q, const struct netmap_ring *ring)
{
    return __atomic_load_n(&ring->tail, __ATOMIC_RELAXED) != q->hwtail;
}

/* The application moved nothing and left tail as it was: the sync only looks at what the NIC did. */
static inline bool nothing_changed(const struct queue *q, uint32_t head, uint32_t cur)
{
    return head == cur && head == q->hwcur && !tail_differs(q, q->ring);
}

/* Also restores a tail that the application changed: checks use hwtail. Release: the slots before tail are written
 * first. It stores only a new value, because another core may hold the line. In CSB mode it stores nothing: the
 * application learns hwtail in another way, and may read its own tail at any moment (serve.c). In the other mode
 * the store needs no jump. */
static inline void publish_tail(struct queue *q)
{
    if (tail_differs(q, q->ring) && __builtin_expect(!q->head_only, 1))
        __atomic_store_n(&q->ring->tail, q->hwtail, __ATOMIC_RELEASE);
}

/* Put the ring back to the daemon's indices: the application's changes since the last good sync are void. */
COLD void reset_ring_to(struct queue *q, uint32_t head);

static inline void reset_ring(struct queue *q)
{
    reset_ring_to(q, q->hwcur);
}

/* For code that moves frames in place of a program. Release: the slots before head are written first. */
static inline void move_head(struct netmap_ring *ring, uint32_t head)
{
    __atomic_store_n(&ring->cur, head, __ATOMIC_RELAXED);
    __atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
}

static inline bool time_requested(const struct netmap_ring *ring)
{
    return __atomic_load_n(&ring->flags, __ATOMIC_RELAXED) & NR_TIMESTAMP;
}

/* NR_TIMESTAMP: the time of this sync. */
HIDDEN void stamp(struct netmap_ring *ring);

/* Count CHECK_EVERY syncs anew. Returns ATTENTION_DRIVER. */
COLD int restart_syncs_left(struct queue *q);

/* Every CHECK_EVERY syncs the driver checks that the NIC is still there, and reads its counters. */
static inline int count_sync(struct queue *q)
{
    return --q->syncs_left ? 0 : restart_syncs_left(q);
}

/* The same, and after many packets, before the NIC's counters overflow. */
static inline int count_sync_and_packets(struct queue *q)
{
    return count_sync(q) | (q->packets >= q->statistics_due ? ATTENTION_DRIVER : 0);
}

/* ---- one queue's sync, as forward() uses it, and what busy_wait() looks at ---- */

HIDDEN int tx_sync_queue(struct tx_queue *tx); /* tx.c */
HIDDEN int rx_sync_queue(struct rx_queue *rx); /* rx.c */

/* busy_wait() looks at the queue between the two; close_queue() waits for the second. False when it is closed. */
HIDDEN bool begin_watching(struct queue *q); /* exclusive.c */
HIDDEN void end_watching(struct queue *q);

/* Whether the NIC's head has moved on from `nic_head`. Relaxed: tx_reclaim() has the barrier. */
static inline bool tx_sent(const struct tx_queue *tx, uint32_t nic_head)
{
    return __atomic_load_n(tx->head_writeback, __ATOMIC_RELAXED) != nic_head;
}

/* One load of the second quadword gives DD, EOP and length of one moment. Relaxed: rx_receive() has the barrier. */
static inline uint64_t rx_status(const struct queue *q, uint32_t i)
{
    return __atomic_load_n(&q->descriptors[i].control, __ATOMIC_RELAXED);
}

#endif
