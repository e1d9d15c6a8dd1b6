/* Steps that both directions share: indices, violations, and the one read of a slot. */
#ifndef QUEUE_H
#define QUEUE_H

#include <stdbool.h>
#include <time.h>

#include "hotloop.h"

#include "descriptor.h"

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

static inline uint32_t distance(uint32_t from, uint32_t to, uint32_t num_slots)
{
    return to >= from ? to - from : to + num_slots - from;
}

/* Slots from `from` to `to`, or to the end of the ring if that comes first. */
static inline uint32_t in_one_piece(uint32_t from, uint32_t to, uint32_t num_slots)
{
    return (to >= from ? to : num_slots) - from;
}

static inline uint32_t skip(uint32_t slot, uint32_t slots, uint32_t num_slots)
{
    return slot + slots >= num_slots ? slot + slots - num_slots : slot + slots;
}

static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Note a violation. Returns false, for `return violated(...)` where false means broken. */
__attribute__((noinline, cold)) static bool violated(struct queue *q, enum rule rule, uint32_t slot, uint64_t value,
                                                     uint64_t low, uint64_t high)
{
    q->last = (struct violation){rule, slot, value, low, high};
    q->violations++;
    return false;
}

/* Put the ring where the driver has it: the application's changes since the last good sync are void. */
static inline void reset_ring(struct queue *q)
{
    __atomic_store_n(&q->ring->tail, q->hwtail, __ATOMIC_RELEASE);
    __atomic_store_n(&q->ring->head, q->hwcur, __ATOMIC_RELAXED);
    __atomic_store_n(&q->ring->cur, q->hwcur, __ATOMIC_RELAXED);
}

static inline bool tail_differs(const struct queue *q, const struct netmap_ring *ring)
{
    return __atomic_load_n(&ring->tail, __ATOMIC_RELAXED) != q->hwtail;
}

/* Also restores a tail that the application changed; what it may hand over goes by hwtail. Stored only if it differs: the line may be
 * another core's. */
static inline void publish_tail(struct queue *q)
{
    if (tail_differs(q, q->ring))
        __atomic_store_n(&q->ring->tail, q->hwtail, __ATOMIC_RELEASE);
}

__attribute__((noinline, cold)) static int now_due(struct queue *q)
{
    q->syncs_left = CHECK_EVERY;
    return ATTENTION_DRIVER;
}

/* Now and then the driver has to look after the NIC: is it there, and are its counters to be read? A loop that only syncs must come by that. */
static inline int check_due(struct queue *q)
{
    return --q->syncs_left ? 0 : now_due(q);
}

/* The same after many packets, which fill counters. */
static inline int driver_attention(struct queue *q)
{
    return check_due(q) | (q->packets >= q->statistics_due ? ATTENTION_DRIVER : 0);
}

/* Which rule head and cur break. A wrong index is told by the mistake it is nearer to. */
__attribute__((noinline, cold)) static bool indices_broken(struct queue *q, uint32_t head, uint32_t cur)
{
    uint32_t n = q->num_slots;
    if (head >= n)
        return violated(q, RULE_HEAD_RANGE, head, head, 0, n - 1);
    if (cur >= n)
        return violated(q, RULE_CUR_RANGE, cur, cur, 0, n - 1);
    uint32_t mine = distance(q->hwcur, q->hwtail, n);
    uint32_t to_head = distance(q->hwcur, head, n);
    uint32_t to_cur = distance(q->hwcur, cur, n);
    if (to_head > mine) {
        bool backwards = n - to_head <= to_head - mine;
        return violated(q, backwards ? RULE_HEAD_BACKWARDS : RULE_HEAD_PAST_TAIL, head, head, q->hwcur, q->hwtail);
    }
    bool behind = to_cur < to_head || distance(cur, head, n) <= to_cur - mine;
    return violated(q, behind ? RULE_CUR_BEHIND_HEAD : RULE_CUR_PAST_TAIL, cur, cur, head, q->hwtail);
}

/* hwcur <= head <= cur <= hwtail, circular. */
static inline bool indices_hold(struct queue *q, uint32_t head, uint32_t cur)
{
    uint32_t n = q->num_slots;
    uint32_t mine = distance(q->hwcur, q->hwtail, n);
    uint32_t to_head = distance(q->hwcur, head, n);
    uint32_t to_cur = distance(q->hwcur, cur, n);
    if (head < n && cur < n && to_head <= to_cur && to_cur <= mine)
        return true;
    return indices_broken(q, head, cur);
}

/* The commonest advance of all: by one slot of mine, cur with it. Then the indices hold. */
static inline bool one_slot_advanced(const struct queue *q, uint32_t head, uint32_t cur)
{
    return head == cur && head == q->hwcur + 1 && head < q->num_slots && q->hwcur != q->hwtail;
}

/* Or nothing has, and tail is as it was left: a look at what the NIC did. */
static inline bool nothing_changed(const struct queue *q, uint32_t head, uint32_t cur)
{
    return head == cur && head == q->hwcur && !tail_differs(q, q->ring);
}

/* The one read of a slot; what follows uses the copy. */
static inline struct netmap_slot read_slot(const struct netmap_ring *ring, uint32_t i)
{
    return (struct netmap_slot){.word = __atomic_load_n(&ring->slot[i].word, __ATOMIC_RELAXED)};
}

static inline bool buffer_holds(const struct queue *q, uint32_t buf_idx)
{
    return buf_idx - RESERVED_BUFFERS < q->total_buffers - RESERVED_BUFFERS;
}

/* A frame in one slot that asks for nothing, and that the NIC takes without padding: a flag makes len_flags larger than any length. */
static inline bool sent_as_it_is(const struct queue *q, struct netmap_slot slot)
{
    uint32_t length = slot.len_flags & ~((uint32_t)NS_BUF_CHANGED << 16);
    return length - MIN_FRAME < q->frame_lengths;
}

static inline uint64_t buffer_address(const struct queue *q, uint32_t buf_idx)
{
    return q->buffers_iova + (uint64_t)buf_idx * q->buf_size;
}

/* Scattered memory: the addresses written into `count` descriptors were offsets, from buffers_iova 0 on; look them up. A pass of
 * its own, before the doorbell and out of line, so that memory in one piece pays one branch a sync for it. */
__attribute__((noinline, cold)) static void look_up_pages(struct queue *q, uint32_t from, uint32_t count)
{
    uint64_t within = q->page_size - 1;
    int shift = __builtin_ctzll(q->page_size);
    uint32_t i = from;
    for (uint32_t done = 0; done < count; done++, i = after(i, q->num_slots)) {
        uint64_t offset = q->descriptors[i].address;
        if ((q->descriptors[i].control & TX_DTYP) == TX_CONTEXT_DTYP)
            continue; /* it has no address, but the application's word */
        q->descriptors[i].address = q->pages[offset >> shift] + (offset & within);
    }
}

static inline bool wants_time(const struct netmap_ring *ring)
{
    return __atomic_load_n(&ring->flags, __ATOMIC_RELAXED) & NR_TIMESTAMP;
}

/* NR_TIMESTAMP: when the last sync was. */
static inline void stamp(struct netmap_ring *ring)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    ring->ts_sec = now.tv_sec;
    ring->ts_usec = now.tv_nsec / 1000;
}

static inline bool bad_buffer(struct queue *q, uint32_t i, uint32_t buf_idx)
{
    return violated(q, RULE_BUF_IDX, i, buf_idx, RESERVED_BUFFERS, q->total_buffers - 1);
}

#endif
