/* What a program of ours does with the rings of its handles, besides asking for syncs (client.c): forward, and spin. */
#define _POSIX_C_SOURCE 200809L

#include "client.h"

#include <errno.h>
#include <time.h>

#include "queue.h"

/* One RX ring and the TX ring that gets its frames. The slots are counted by Python, not read from the rings. */
struct client_pair {
    struct netmap_ring *rx, *tx;
    uint32_t rx_slots, tx_slots;
};

EXPORT int client_forward(struct client *from, struct client *to, struct client_pair **pairs, int n, uint32_t limit);
EXPORT int client_spin(struct client *c, struct netmap_ring **rx, int rx_count, struct netmap_ring **tx, int tx_count,
                       uint64_t timeout_ns);
EXPORT extern const uint32_t client_size;

const uint32_t client_size = sizeof(struct client); /* compared with the mirror in client.py */

/* The slots that the program owns: [*head, tail). 0 if an index is not a slot: the daemon's next sync reports it.
 * Acquire: the slots before tail were written first. */
static uint32_t owned(const struct netmap_ring *ring, uint32_t num_slots, uint32_t *head)
{
    uint32_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
    *head = __atomic_load_n(&ring->head, __ATOMIC_RELAXED);
    return *head < num_slots && tail < num_slots ? distance(*head, tail, num_slots) : 0;
}

/* Slots of the frame that starts in `from`; 0 if it does not end within `most` slots. */
static uint32_t whole_frame(const struct netmap_ring *ring, uint32_t from, uint32_t num_slots, uint32_t most)
{
    for (uint32_t slots = 1; slots <= most; slots++, from = after(from, num_slots))
        if (!(read_slot(ring, from).flags & NS_MOREFRAG))
            return slots;
    return 0;
}

/* Move up to `limit` frames, as long as there is room. The daemon checks what the slots say. Returns how many. */
static uint32_t move_pair(const struct client_pair *pair, uint32_t limit)
{
    uint32_t from, to, frames = 0;
    uint32_t received = owned(pair->rx, pair->rx_slots, &from), space = owned(pair->tx, pair->tx_slots, &to);
    while (frames < limit && received) {
        uint32_t slots = whole_frame(pair->rx, from, pair->rx_slots, received);
        if (!slots || slots > space)
            break;
        received -= slots;
        space -= slots;
        frames++;
        for (; slots; slots--) {
            swap_buffers(&pair->rx->slot[from], &pair->tx->slot[to]);
            from = after(from, pair->rx_slots);
            to = after(to, pair->tx_slots);
        }
    }
    if (frames) {
        move_head(pair->rx, from);
        move_head(pair->tx, to);
    }
    return frames;
}

/* Returns how many frames moved, or -errno of a sync before anything moved. The first txsync sends what the program
 * itself had put into the TX rings, and makes room. */
int client_forward(struct client *from, struct client *to, struct client_pair **pairs, int n, uint32_t limit)
{
    int error = client_sync_rx(from);
    if (!error)
        error = client_sync_tx(to);
    if (error)
        return -error;
    uint32_t moved = 0;
    for (int i = 0; i < n; i++)
        moved += move_pair(pairs[i], limit);
    if (moved)
        client_sync_tx(to); /* an error comes again at the next call; the ticket is out, so the daemon will sync */
    return (int)moved;
}

static bool any_slot(struct netmap_ring **rings, int n)
{
    for (int i = 0; i < n; i++)
        if (__atomic_load_n(&rings[i]->cur, __ATOMIC_RELAXED) != __atomic_load_n(&rings[i]->tail, __ATOMIC_ACQUIRE))
            return true;
    return false;
}

static uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Sync until a ring has a slot for the program: 1. 0 after timeout_ns, or -errno. */
int client_spin(struct client *c, struct netmap_ring **rx, int rx_count, struct netmap_ring **tx, int tx_count,
                uint64_t timeout_ns)
{
    uint64_t start = monotonic_ns();
    do {
        int error = rx_count ? client_sync_rx(c) : 0;
        if (!error && tx_count)
            error = client_sync_tx(c);
        if (error)
            return -error;
        if (any_slot(rx, rx_count) || any_slot(tx, tx_count))
            return 1;
        relax();
    } while (monotonic_ns() - start < timeout_ns);
    return 0;
}
