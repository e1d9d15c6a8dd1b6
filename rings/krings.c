/* One sync of any kind of ring, and the kinds that need no file of their own: a NIC's, a null and a monitor's. */
#include "service.h"

/* A ring whose frames only its own sync moves: frames of a null TX ring vanish, and an RX ring shows what was
 * filled in since its last sync: a monitor's frames, or nothing. */
static int simple_sync(struct kring *k)
{
    struct queue *q = k->q;
    uint32_t head = __atomic_load_n(&q->ring->head, __ATOMIC_ACQUIRE); /* acquire: the slots were written before */
    uint32_t cur = __atomic_load_n(&q->ring->cur, __ATOMIC_RELAXED);
    if (!indices_valid(q, head, cur)) {
        reset_ring(q);
        return ATTENTION_VIOLATION;
    }
    if (k->tx)
        q->packets += distance(q->hwcur, head, q->num_slots);
    q->hwcur = head;
    q->hwtail = k->tx ? before(head, q->num_slots) : k->filled;
    publish_tail(q);
    return 0;
}

/* A monitor that has lost its port shows what it still has, and then ends. */
static int ended_sync(struct kring *k)
{
    bool left = !k->tx && k->filled != k->q->hwtail;
    return simple_sync(k) | (left ? 0 : SYNC_ENDED);
}

static int nic_sync(struct kring *k)
{
    if (k->tx)
        return tx_sync_queue((struct tx_queue *)k->q);
    if (k->behind)
        host_forward_up(k);
    return rx_sync_queue((struct rx_queue *)k->q);
}

static int sync_of_kind(struct kring *k)
{
    switch ((enum kring_kind)k->kind) {
    case KRING_NIC:
        return nic_sync(k);
    case KRING_PIPE:
        return pipe_sync(k);
    case KRING_SWITCH:
        return switch_sync(k);
    case KRING_HOST:
        return host_sync(k);
    case KRING_ENDED:
        return ended_sync(k);
    case KRING_MONITOR:
    case KRING_NULL:
    case KRING_KINDS:
        break;
    }
    return simple_sync(k);
}

/* netmap stamps a ring at each rxsync. The program reads `ts` after its call has returned. */
int kring_sync(struct kring *k)
{
    int attention = k->monitors ? monitored_sync(k, sync_of_kind) : sync_of_kind(k);
    if (!k->tx && (k->stamp || (k->kind != KRING_NIC && time_requested(k->q->ring))))
        stamp(k->q->ring);
    return attention;
}

/* A descriptor that the NIC does not have may still hold DD of its last use. */
static bool nic_received(const struct rx_queue *rx)
{
    return rx->next != before(rx->q.hwcur, rx->q.num_slots) && (rx_status(&rx->q, rx->next) & RX_DD);
}

static bool nic_sent(const struct tx_queue *tx)
{
    return tx_sent(tx, tx->nic_head);
}

bool kring_ready(const struct kring *k)
{
    switch ((enum kring_kind)k->kind) {
    case KRING_NIC:
        return k->tx ? nic_sent((const struct tx_queue *)k->q) : nic_received((const struct rx_queue *)k->q);
    case KRING_PIPE:
        return pipe_ready(k);
    case KRING_SWITCH:
        return switch_ready(k);
    case KRING_HOST:
        return host_ready(k);
    case KRING_ENDED:
        return true; /* poll() has something to report */
    case KRING_MONITOR:
    case KRING_NULL:
    case KRING_KINDS:
        break;
    }
    return !k->tx && k->filled != k->q->hwtail;
}
