/* Steps that both directions share: indices, turns, violations, and the one read of a slot. */
#ifndef QUEUE_H
#define QUEUE_H

#include <sched.h>
#include <stdbool.h>
#include <time.h>

#include "hotloop.h"

#define BUSY_LIMIT_NS UINT64_C(1000000000)

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

static inline uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Note a violation. Returns false, for `return violated(...)` where false means broken. */
static inline bool violated(struct queue *q, enum rule rule, uint32_t slot, uint64_t value, uint64_t low, uint64_t high)
{
    q->last = (struct violation){rule, slot, value, low, high};
    q->violations++;
    return false;
}

/* Two threads in one queue (one polls, one sends) take turns. The holder never blocks, so the wait is short. */
static inline bool take(struct queue *q)
{
    if (!__atomic_exchange_n(&q->busy, 1, __ATOMIC_ACQUIRE))
        return true;
    uint64_t start = now_ns();
    while (__atomic_exchange_n(&q->busy, 1, __ATOMIC_ACQUIRE)) {
        if (now_ns() - start > BUSY_LIMIT_NS)
            return violated(q, RULE_BUSY, 0, BUSY_LIMIT_NS / 1000000, 0, 0);
        sched_yield();
    }
    return true;
}

static inline void give(struct queue *q)
{
    __atomic_store_n(&q->busy, 0, __ATOMIC_RELEASE);
}

/* Put the ring where the driver has it: the application's changes since the last good sync are void. */
static inline void reset_ring(struct queue *q)
{
    __atomic_store_n(&q->ring->tail, q->hwtail, __ATOMIC_RELEASE);
    __atomic_store_n(&q->ring->head, q->hwcur, __ATOMIC_RELAXED);
    __atomic_store_n(&q->ring->cur, q->hwcur, __ATOMIC_RELAXED);
}

/* Also restores a tail that the application changed. Stored only if it differs: the line may be another core's. */
static inline void publish_tail(struct queue *q)
{
    if (__atomic_load_n(&q->ring->tail, __ATOMIC_RELAXED) != q->hwtail)
        __atomic_store_n(&q->ring->tail, q->hwtail, __ATOMIC_RELEASE);
}

static inline int statistics_attention(const struct queue *q)
{
    return q->packets >= q->statistics_due ? ATTENTION_STATISTICS : 0;
}

/* hwcur <= head <= cur <= hwtail, circular. A wrong index is told by the mistake it is nearer to. */
static inline bool indices_hold(struct queue *q, uint32_t head, uint32_t cur)
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
    if (to_cur < to_head)
        return violated(q, RULE_CUR_BEHIND_HEAD, cur, cur, head, q->hwtail);
    if (to_cur > mine) {
        bool behind = distance(cur, head, n) <= to_cur - mine;
        return violated(q, behind ? RULE_CUR_BEHIND_HEAD : RULE_CUR_PAST_TAIL, cur, cur, head, q->hwtail);
    }
    return true;
}

/* The one read of a slot; what follows uses the copy. */
static inline struct netmap_slot read_slot(const struct queue *q, uint32_t i)
{
    return (struct netmap_slot){.word = __atomic_load_n(&q->ring->slot[i].word, __ATOMIC_RELAXED)};
}

static inline bool buffer_holds(const struct queue *q, uint32_t buf_idx)
{
    return buf_idx >= RESERVED_BUFFERS && buf_idx < q->total_buffers;
}

static inline bool bad_buffer(struct queue *q, uint32_t i, uint32_t buf_idx)
{
    return violated(q, RULE_BUF_IDX, i, buf_idx, RESERVED_BUFFERS, q->total_buffers - 1);
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
        q->descriptors[i].address = q->pages[offset >> shift] + (offset & within);
    }
}

#endif
