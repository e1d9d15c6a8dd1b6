/* A handle's requests: syncs, polls, and the wake-up of programs that wait for a ring.
 *
 * The program may write anything into `asks` at any moment. Each word is loaded once a look, and a look does at most
 * one sync of each direction and one poll, whatever the words are.
 */
#define _GNU_SOURCE

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "service.h"

enum { WOKEN_AT_ONCE = 64 }; /* threads; others of the handle wait until they look by themselves (client.c) */

/* ---- the answer ---- */

static void wake_waiting(const struct answer *answer)
{
    syscall(SYS_futex, &answer->done, FUTEX_WAKE, WOKEN_AT_ONCE, NULL, NULL, 0);
}

/* Release: what the sync wrote. The fence is for the other side, client.c: either the program's thread finds its ticket
 * done before it sleeps, or this finds that it sleeps. A fence after the store costs the program less than a store that
 * is sequentially consistent, which would wait for the stores before it. */
static void finish(struct answer *answer, const struct ask *ask, uint32_t ticket, uint32_t ready)
{
    __atomic_store_n(&answer->both, (uint64_t)ready << 32 | ticket, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&ask->sleepers, __ATOMIC_RELAXED))
        wake_waiting(answer);
}

/* ---- one ring ---- */

/* Tell the program which rule it broke: the last one, then their number (release). */
__attribute__((cold)) static void report(struct answer *answer, const struct queue *q)
{
    answer->rule = q->last.rule;
    answer->ringid = q->ring->ringid;
    answer->slot = q->last.slot;
    answer->value = q->last.value;
    answer->low = q->last.low;
    answer->high = q->last.high;
    __atomic_store_n(&answer->violations, answer->violations + 1, __ATOMIC_RELEASE);
}

__attribute__((cold)) static void note(struct service *s, struct handle *h, struct kring *k, int attention)
{
    k->attention |= (uint32_t)attention;
    if (attention & ATTENTION_VIOLATION) {
        report(k->tx ? &h->answers->tx : &h->answers->rx, k->q);
        s->broken = h->broken = 1;
    }
    if (attention & SYNC_ENDED)
        h->broken = 1;
    if (attention & ATTENTION_DRIVER)
        s->attention |= ATTENTION_DRIVER;
}

/* CSB mode. Another handle that has the same ring may be in another mode. */
static int sync_by_head(struct kring *k)
{
    k->q->head_only = 1;
    int attention = kring_sync(k);
    k->q->head_only = 0;
    return attention;
}

static inline void sync_ring(struct service *s, struct handle *h, struct kring *k)
{
    int attention = h->csb ? sync_by_head(k) : kring_sync(k);
    h->syncs++;
    s->syncs++;
    if (attention)
        note(s, h, k, attention);
}

static void sync_rings(struct service *s, struct handle *h, struct kring **rings, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        sync_ring(s, h, rings[i]);
}

/* What poll() calls ready: the program's wake-up point is not the tail. */
static inline bool has_slots(const struct handle *h, const struct kring *k)
{
    const struct netmap_ring *ring = k->q->ring;
    return __atomic_load_n(h->csb ? &ring->head : &ring->cur, __ATOMIC_RELAXED) != k->q->hwtail;
}

static inline bool to_hand_over(const struct kring *k)
{
    return __atomic_load_n(&k->q->ring->head, __ATOMIC_RELAXED) != k->q->hwcur;
}

/* ---- CSB mode ---- */

/* The program sets the word before its first request in this mode. */
static inline void take_mode(struct handle *h, const struct ask *ask)
{
    h->csb = __atomic_load_n(&ask->csb, __ATOMIC_RELAXED);
}

/* Before finish(), whose store releases them. */
static inline void give_tails(struct handle *h)
{
    for (uint32_t i = 0; h->csb && i < h->tx_count + h->rx_count && i < CONTROL_TAILS; i++) {
        const struct kring *k = i < h->tx_count ? h->tx[i] : h->rx[i - h->tx_count];
        __atomic_store_n(&h->answers->tails[i], k->q->hwtail, __ATOMIC_RELAXED);
    }
}

/* ---- poll ---- */

/* Rings with slots to send are synced in any case, others only to find the first one with space. */
static bool poll_tx(struct service *s, struct handle *h, bool wanted)
{
    bool found = false;
    for (uint32_t i = 0; i < h->tx_count; i++) {
        struct kring *k = h->tx[i];
        if (to_hand_over(k) || (wanted && !found))
            sync_ring(s, h, k);
        found = found || has_slots(h, k);
    }
    return found;
}

static bool poll_rx(struct service *s, struct handle *h)
{
    bool found = false;
    for (uint32_t i = 0; i < h->rx_count; i++) {
        sync_ring(s, h, h->rx[i]);
        found = found || has_slots(h, h->rx[i]);
    }
    return found;
}

static void signal_ready(struct handle *h, uint32_t direction)
{
    static const uint64_t one = 1;
    ssize_t written = write(direction == CONTROL_TX ? h->wake_tx : h->wake_rx, &one, sizeof(one));
    (void)written; /* it is an eventfd of this process with a value of 0 */
    h->armed &= ~direction;
    h->signalled |= direction;
}

/* The direction is not ready: its eventfd is not readable from now on, and the next look that finds it ready makes it
 * readable again. */
static void arm(struct handle *h, uint32_t direction)
{
    h->armed |= direction;
    if (h->signalled & direction) {
        uint64_t value;
        ssize_t got = read(direction == CONTROL_TX ? h->wake_tx : h->wake_rx, &value, sizeof(value));
        (void)got; /* non-blocking */
        h->signalled &= ~direction;
    }
}

static uint32_t poll_rings(struct service *s, struct handle *h, uint32_t events)
{
    uint32_t ready = 0;
    if ((events & CONTROL_TX) || !(h->poll_flags & HANDLE_NO_TX_POLL))
        ready |= poll_tx(s, h, events & CONTROL_TX) ? CONTROL_TX : 0;
    if ((events & CONTROL_RX) || (h->poll_flags & HANDLE_DO_RX_POLL))
        ready |= poll_rx(s, h) ? CONTROL_RX : 0;
    uint32_t missing = events & ~ready;
    if (missing & CONTROL_RX)
        arm(h, CONTROL_RX);
    if (missing & CONTROL_TX)
        arm(h, CONTROL_TX);
    return ready & events;
}

/* Acquire: the events of the ticket's owner were ORed in before. */
static void serve_poll(struct service *s, struct handle *h, uint32_t ticket)
{
    uint32_t taken = __atomic_exchange_n(&h->asks->poll.events, 0, __ATOMIC_ACQUIRE);
    uint32_t events = taken & (CONTROL_RX | CONTROL_TX);
    h->broken = 0;
    take_mode(h, &h->asks->poll);
    uint32_t ready = poll_rings(s, h, events);
    if (h->broken)
        ready |= CONTROL_ERROR;
    h->poll_done = ticket;
    give_tails(h);
    finish(&h->answers->poll, &h->asks->poll, ticket, ready | events << CONTROL_LOOKED_SHIFT);
}

/* ---- a look at a handle ---- */

/* Sequentially consistent, as the store of `sleeping` in service.c, and as client.c; also an acquire: the program wrote
 * its rings before. */
static inline uint32_t ticket_of(const struct ask *ask)
{
    return __atomic_load_n(&ask->ticket, __ATOMIC_SEQ_CST);
}

bool serve(struct service *s, struct handle *h)
{
    bool served = false;
    uint32_t ticket = ticket_of(&h->asks->tx);
    if (ticket != h->tx_done) {
        take_mode(h, &h->asks->tx);
        sync_rings(s, h, h->tx, h->tx_count);
        h->tx_done = ticket;
        give_tails(h);
        finish(&h->answers->tx, &h->asks->tx, ticket, 0);
        served = true;
    }
    ticket = ticket_of(&h->asks->rx);
    if (ticket != h->rx_done) {
        take_mode(h, &h->asks->rx);
        sync_rings(s, h, h->rx, h->rx_count);
        h->rx_done = ticket;
        give_tails(h);
        finish(&h->answers->rx, &h->asks->rx, ticket, 0);
        served = true;
    }
    ticket = ticket_of(&h->asks->poll);
    if (ticket != h->poll_done) {
        serve_poll(s, h, ticket);
        served = true;
    }
    return served;
}

static bool any_ready(const struct handle *h, struct kring **rings, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (has_slots(h, rings[i]) || kring_ready(rings[i]))
            return true;
    return false;
}

static uint32_t armed_and_ready(const struct handle *h)
{
    uint32_t ready = 0;
    if ((h->armed & CONTROL_RX) && any_ready(h, h->rx, h->rx_count))
        ready |= CONTROL_RX;
    if ((h->armed & CONTROL_TX) && any_ready(h, h->tx, h->tx_count))
        ready |= CONTROL_TX;
    return ready;
}

bool wake_armed(struct handle *h)
{
    uint32_t ready = armed_and_ready(h);
    if (ready & CONTROL_RX)
        signal_ready(h, CONTROL_RX);
    if (ready & CONTROL_TX)
        signal_ready(h, CONTROL_TX);
    return ready;
}

bool handle_waits(const struct handle *h)
{
    return ticket_of(&h->asks->tx) != h->tx_done || ticket_of(&h->asks->rx) != h->rx_done ||
           ticket_of(&h->asks->poll) != h->poll_done || (h->armed && armed_and_ready(h));
}

void handle_close(struct handle *h, int error)
{
    __atomic_store_n(&h->answers->closed, (uint32_t)error, __ATOMIC_SEQ_CST);
    wake_waiting(&h->answers->tx);
    wake_waiting(&h->answers->rx);
    wake_waiting(&h->answers->poll);
}
