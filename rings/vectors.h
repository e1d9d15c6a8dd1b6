/* Groups of plain slots by vectors, where the processor has them. groups.h is compiled once for each width. */
#ifndef VECTORS_H
#define VECTORS_H

#include <stdbool.h>

#include "hotloop.h"

/* Consecutive slots that a fast lane took: how many, their flags ORed, their bytes. */
struct run {
    uint32_t slots;
    uint32_t flags;
    uint64_t bytes;
};

static inline struct run and_then(struct run first, struct run next)
{
    return (struct run){first.slots + next.slots, first.flags | next.flags, first.bytes + next.bytes};
}

enum { AVX2_GROUP = 4, AVX512_GROUP = 8, LEAST_GROUP = AVX2_GROUP }; /* slots */

#if defined(__x86_64__)

typedef struct run ring_groups(const struct queue *q, uint32_t from, uint32_t count);
typedef struct run pair_groups(const struct queue *rx, const struct queue *tx, uint32_t from, uint32_t to,
                               uint32_t count);
HIDDEN ring_groups tx_groups_avx2, tx_groups_avx512, rx_post_groups_avx2, rx_post_groups_avx512, rx_take_groups_avx2,
    rx_take_groups_avx512;
HIDDEN pair_groups forward_groups_avx2, forward_groups_avx512;

/* Processors older than those with VBMI2 slow down for a while when they run 64-byte vectors. */
static inline uint32_t widest_group(void)
{
    if (__builtin_cpu_supports("avx512vbmi2"))
        return AVX512_GROUP;
    return __builtin_cpu_supports("avx2") ? AVX2_GROUP : 0;
}

/* Wide groups first, then narrow groups for the rest. */
__attribute__((always_inline)) static inline struct run in_groups(const struct queue *q, ring_groups *wide,
                                                                  ring_groups *narrow, uint32_t from, uint32_t count)
{
    struct run run = {0};
    if (q->group == AVX512_GROUP && count >= AVX512_GROUP)
        run = wide(q, from, count);
    if (count - run.slots >= AVX2_GROUP)
        run = and_then(run, narrow(q, from + run.slots, count - run.slots));
    return run;
}

static inline struct run tx_groups(const struct queue *q, uint32_t from, uint32_t count)
{
    return in_groups(q, tx_groups_avx512, tx_groups_avx2, from, count);
}

static inline struct run rx_post_groups(const struct queue *q, uint32_t from, uint32_t count)
{
    return in_groups(q, rx_post_groups_avx512, rx_post_groups_avx2, from, count);
}

static inline struct run rx_take_groups(const struct queue *q, uint32_t from, uint32_t count)
{
    return in_groups(q, rx_take_groups_avx512, rx_take_groups_avx2, from, count);
}

static inline struct run forward_groups(const struct queue *rx, const struct queue *tx, uint32_t from, uint32_t to,
                                        uint32_t count)
{
    struct run run = {0};
    if (tx->group == AVX512_GROUP && count >= AVX512_GROUP)
        run = forward_groups_avx512(rx, tx, from, to, count);
    if (count - run.slots >= AVX2_GROUP)
        run = and_then(run, forward_groups_avx2(rx, tx, from + run.slots, to + run.slots, count - run.slots));
    return run;
}

#else /* no vectors: every queue's group is 0, so these are never called */

static inline uint32_t widest_group(void)
{
    return 0;
}

static inline struct run tx_groups(const struct queue *q, uint32_t from, uint32_t count)
{
    (void)q, (void)from, (void)count;
    return (struct run){0};
}

static inline struct run rx_post_groups(const struct queue *q, uint32_t from, uint32_t count)
{
    return tx_groups(q, from, count);
}

static inline struct run rx_take_groups(const struct queue *q, uint32_t from, uint32_t count)
{
    return tx_groups(q, from, count);
}

static inline struct run forward_groups(const struct queue *rx, const struct queue *tx, uint32_t from, uint32_t to,
                                        uint32_t count)
{
    (void)tx, (void)to;
    return tx_groups(rx, from, count);
}

#endif

#endif
