/* One thread at a time uses a queue, and none after it is closed.
 *
 * With Python's GIL a sync is one step for all threads, so only busy_wait() and close need what is here. Without the
 * GIL, hotloop.py calls the functions with _alone: they take each queue before they use it. A second thread is told so
 * and does not wait: two threads in one queue are a mistake of the program. */
#include "queue.h"

enum { CLOSED = UINT32_C(1) << 31 };

/* Acquire, and release in give_back(): what a thread did to the queue is visible to the next one. */
static inline bool take(struct queue *q)
{
    return !__atomic_exchange_n(&q->taken, 1, __ATOMIC_ACQUIRE);
}

static inline void give_back(struct queue *q)
{
    __atomic_store_n(&q->taken, 0, __ATOMIC_RELEASE);
}

int txsync_alone(struct tx_queue **queues, int n)
{
    int taken = 0, result = ATTENTION_TAKEN;
    while (taken < n && take(&queues[taken]->q))
        taken++;
    if (taken == n)
        result = txsync(queues, n);
    while (taken)
        give_back(&queues[--taken]->q);
    return result;
}

int rxsync_alone(struct rx_queue **queues, int n)
{
    int taken = 0, result = ATTENTION_TAKEN;
    while (taken < n && take(&queues[taken]->q))
        taken++;
    if (taken == n)
        result = rxsync(queues, n);
    while (taken)
        give_back(&queues[--taken]->q);
    return result;
}

/* Several pairs may have one queue in common, so each pair takes its queues for its own turn. */
int forward_alone(struct forward **pairs, int n, uint32_t limit)
{
    int result = 0;
    for (int i = 0; i < n; i++) {
        struct queue *rx = &pairs[i]->rx->q, *tx = &pairs[i]->tx->q;
        if (!take(rx))
            return ATTENTION_TAKEN;
        if (!take(tx)) {
            give_back(rx);
            return ATTENTION_TAKEN;
        }
        int one = forward(&pairs[i], 1, limit);
        give_back(tx);
        give_back(rx);
        result = (result | (one & ((1 << MOVED_SHIFT) - 1))) + (one >> MOVED_SHIFT << MOVED_SHIFT);
    }
    return result;
}

/* Acquire: no read of the queue's memory comes before. */
bool begin_watching(struct queue *q)
{
    if (!(__atomic_fetch_add(&q->watchers, 1, __ATOMIC_ACQUIRE) & CLOSED))
        return true;
    end_watching(q);
    return false;
}

/* Release: the last read of the queue's memory is done. */
void end_watching(struct queue *q)
{
    __atomic_fetch_sub(&q->watchers, 1, __ATOMIC_RELEASE);
}

/* From now on the queue stays taken, and no busy_wait() begins. Returns when the last thread has left the queue. */
void close_queue(struct queue *q)
{
    while (!take(q))
        relax();
    __atomic_fetch_or(&q->watchers, CLOSED, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&q->watchers, __ATOMIC_ACQUIRE) != CLOSED)
        relax();
}
