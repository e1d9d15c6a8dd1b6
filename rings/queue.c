/* Work that no packet waits for: broken rules, time stamps, scattered memory, busy_wait(), and the layout that queue.py
 * checks. */
#define _POSIX_C_SOURCE 200809L

#include <time.h>

#include "queue.h"
#include "vectors.h"

uint32_t widest(void)
{
    return widest_group();
}

bool violated(struct queue *q, enum rule rule, uint32_t slot, uint64_t value, uint64_t low, uint64_t high)
{
    q->last = (struct violation){rule, slot, value, low, high};
    q->violations++;
    return false;
}

/* A wrong index is reported as whichever mistake is closer: moved backwards, or past the tail. */
bool indices_violated(struct queue *q, uint32_t head, uint32_t cur)
{
    uint32_t n = q->num_slots;
    if (q->head_only && cur != head)
        return indices_valid(q, head, head);
    if (head >= n)
        return violated(q, RULE_HEAD_RANGE, head, head, 0, n - 1);
    if (cur >= n)
        return violated(q, RULE_CUR_RANGE, cur, cur, 0, n - 1);
    uint32_t owned = distance(q->hwcur, q->hwtail, n);
    uint32_t to_head = distance(q->hwcur, head, n);
    uint32_t to_cur = distance(q->hwcur, cur, n);
    if (to_head > owned) {
        bool backwards = n - to_head <= to_head - owned;
        return violated(q, backwards ? RULE_HEAD_BACKWARDS : RULE_HEAD_PAST_TAIL, head, head, q->hwcur, q->hwtail);
    }
    bool behind = to_cur < to_head || distance(cur, head, n) <= to_cur - owned;
    return violated(q, behind ? RULE_CUR_BEHIND_HEAD : RULE_CUR_PAST_TAIL, cur, cur, head, q->hwtail);
}

void reset_ring_to(struct queue *q, uint32_t head)
{
    __atomic_store_n(&q->ring->head, head, __ATOMIC_RELAXED);
    if (q->head_only)
        return;
    __atomic_store_n(&q->ring->tail, q->hwtail, __ATOMIC_RELEASE);
    __atomic_store_n(&q->ring->cur, head, __ATOMIC_RELAXED);
}

int restart_syncs_left(struct queue *q)
{
    q->syncs_left = CHECK_EVERY;
    return ATTENTION_DRIVER;
}

void stamp(struct netmap_ring *ring)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    ring->ts_sec = now.tv_sec;
    ring->ts_usec = now.tv_nsec / 1000;
}

/* In scattered memory buffers_iova is an offset in the region, so the descriptors contain offsets, too. */
static void look_up_pages(struct queue *q, uint32_t from, uint32_t count)
{
    uint64_t within = q->page_size - 1;
    int shift = __builtin_ctzll(q->page_size);
    uint32_t i = from;
    for (uint32_t done = 0; done < count; done++, i = after(i, q->num_slots)) {
        uint64_t offset = q->descriptors[i].address;
        if ((q->descriptors[i].control & TX_DTYP) == TX_CONTEXT_DTYP)
            continue; /* a context descriptor has no address */
        q->descriptors[i].address = q->pages[offset >> shift] + (offset & within);
    }
}

/* A slot to send has its length in the descriptor. One to receive may get most_received bytes. */
static bool add_offsets(struct queue *q, uint32_t from, uint32_t count)
{
    uint32_t i = from;
    for (uint32_t done = 0; done < count; done++, i = after(i, q->num_slots)) {
        struct descriptor *descriptor = &q->descriptors[i];
        if ((descriptor->control & TX_DTYP) == TX_CONTEXT_DTYP)
            continue; /* its ptr is the context */
        uint32_t length = descriptor->control ? (uint16_t)descriptor->control : q->most_received;
        uint64_t offset = read_offset(q, i);
        if (!offset_fits(q, offset, length))
            return offset_violated(q, i, offset, length);
        descriptor->address += offset;
    }
    return true;
}

/* All lanes write the address of a buffer's first byte. A separate pass before the doorbell mends that where it is not
 * the final one: it costs other queues only one branch a sync. */
bool finish_addresses(struct queue *q, uint32_t from, uint32_t count)
{
    if (q->offset_mask && !add_offsets(q, from, count))
        return false;
    if (q->pages)
        look_up_pages(q, from, count);
    return true;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static int spin(struct rx_queue **rx, int rx_count, struct tx_queue **tx, int tx_count, uint64_t timeout_ns)
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

/* Spin until a sync of one of these queues would find something (1), or until the time is over (0). Only reads. A
 * closed queue counts as something: its sync reports it. */
int busy_wait(struct rx_queue **rx, int rx_count, struct tx_queue **tx, int tx_count, uint64_t timeout_ns)
{
    int receiving = 0, sending = 0;
    while (receiving < rx_count && begin_watching(&rx[receiving]->q))
        receiving++;
    while (sending < tx_count && begin_watching(&tx[sending]->q))
        sending++;
    bool open = receiving == rx_count && sending == tx_count;
    int found = open ? spin(rx, rx_count, tx, tx_count, timeout_ns) : 1;
    while (receiving)
        end_watching(&rx[--receiving]->q);
    while (sending)
        end_watching(&tx[--sending]->q);
    return found;
}

const uint32_t hotloop_layout[] = {
    sizeof(struct violation),
    sizeof(struct queue),
    sizeof(struct tx_queue),
    sizeof(struct rx_queue),
    sizeof(struct forward),
    sizeof(struct frames),
    offsetof(struct queue, doorbell),
    offsetof(struct queue, hwcur),
    offsetof(struct queue, group),
    offsetof(struct queue, pages),
    offsetof(struct queue, packets),
    offsetof(struct queue, page_size),
    offsetof(struct queue, last),
    offsetof(struct queue, taken),
    offsetof(struct violation, value),
    offsetof(struct queue, offset_mask),
    offsetof(struct queue, direct_buffers),
    offsetof(struct queue, frame_lengths),
    offsetof(struct tx_queue, head_writeback),
    offsetof(struct tx_queue, nic_head),
    offsetof(struct rx_queue, errors),
    offsetof(struct rx_queue, next),
    RULE_CONTEXT_HEADERS,
    RULE_OFFSET,
    RULE_OWN_CRC_HERE,
    CHECK_EVERY,
    MAX_CHAIN,
    MIN_FRAME,
    MOVED_SHIFT,
};
const uint32_t hotloop_layout_count = sizeof(hotloop_layout) / sizeof(hotloop_layout[0]);
