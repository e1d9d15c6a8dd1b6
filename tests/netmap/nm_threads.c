/* Threads that send and receive at the same time, on a port whose frames come back to it.
 *
 *   nm_threads -i NAME -m handle|queues|poll [-n COUNT]
 *
 * handle: one handle; one thread syncs its TX rings, another its RX rings, by ioctl(). poll: the same by poll(): both
 * threads poll one descriptor at once. queues: a handle for each queue, and a pair of threads for each. The senders
 * together stay at most WINDOW frames before the receivers, so no frame may be lost.
 */
#include "program.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { PATIENCE_S = 20 };

struct pair {
    struct port port;
    uint64_t count;
    uint32_t stream;
    bool polls;
    struct streams streams;
    pthread_t sender, receiver;
};

static _Atomic uint64_t sent_by_all, received_by_all; /* RSS decides which queue gets a sender's frames */
static uint64_t expected_by_all;

/* Whether one more frame may be on its way; it counts as sent then. */
static bool may_send(void)
{
    uint64_t sent = atomic_load(&sent_by_all);
    while (sent < atomic_load(&received_by_all) + WINDOW)
        if (atomic_compare_exchange_weak(&sent_by_all, &sent, sent + 1))
            return true;
    return false;
}

static void sync_or_wait(struct pair *p, short events)
{
    if (p->polls) {
        struct pollfd asked = {.fd = p->port.fd, .events = events};
        if (poll(&asked, 1, 100) < 0 || (asked.revents & POLLERR))
            fail("poll: revents are %#x", (unsigned)asked.revents);
    } else if (ioctl(p->port.fd, events == POLLIN ? NIOCRXSYNC : NIOCTXSYNC, NULL)) {
        fail("a sync failed");
    }
}

static void *send_all(void *of)
{
    struct pair *p = of;
    char frame[SHORTEST];
    double end = now() + PATIENCE_S;
    for (uint64_t sent = 0; sent < p->count;) {
        struct netmap_ring *ring = p->port.tx[0];
        uint32_t head = ring->head;
        uint64_t before = sent;
        while (sent < p->count && nm_ring_next(ring, head) != ring->tail && may_send()) {
            frame_write(frame, sizeof frame, p->stream, sent);
            frame_put(ring, head, frame, sizeof frame);
            head = nm_ring_next(ring, head);
            sent++;
        }
        ring_advance(ring, head);
        sync_or_wait(p, POLLOUT);
        if (sent != before)
            end = now() + PATIENCE_S;
        else if (now() > end)
            fail("the sender stands still after %llu frames", (unsigned long long)sent);
        else
            sched_yield();
    }
    return NULL;
}

static void *receive_all(void *of)
{
    struct pair *p = of;
    static _Thread_local char frame[LONGEST];
    double end = now() + PATIENCE_S;
    uint64_t others = 0; /* frames of all receivers, as of the last look */
    while (atomic_load(&received_by_all) < expected_by_all) {
        uint64_t before = p->streams.frames;
        sync_or_wait(p, POLLIN);
        for (uint32_t i = 0; i < p->port.rx_count; i++) {
            struct netmap_ring *ring = p->port.rx[i];
            uint32_t head = ring->head, length;
            while (frame_get(ring, head, frame, &length)) {
                frame_check(&p->streams, frame, length, false);
                head = nm_ring_next(ring, head);
            }
            ring_advance(ring, head);
        }
        uint64_t seen = atomic_fetch_add(&received_by_all, p->streams.frames - before);
        if (p->streams.frames != before || seen != others)
            end = now() + PATIENCE_S;
        else if (now() > end)
            fail(
                "the receivers stand still after %llu frames; %llu were left out before the last one, %llu are foreign",
                (unsigned long long)seen, (unsigned long long)p->streams.lost, (unsigned long long)p->streams.foreign);
        others = seen + p->streams.frames - before;
    }
    return NULL;
}

static void start(struct pair *p)
{
    if (pthread_create(&p->sender, NULL, send_all, p) || pthread_create(&p->receiver, NULL, receive_all, p))
        fail("no thread could be made");
}

int main(int argc, char **argv)
{
    const char *name = NULL, *mode = "handle";
    uint64_t count = 10000;
    for (int letter; (letter = getopt(argc, argv, "i:m:n:")) != -1;)
        switch (letter) {
        case 'i':
            name = optarg;
            break;
        case 'm':
            mode = optarg;
            break;
        case 'n':
            count = strtoull(optarg, NULL, 10);
            break;
        default:
            return 2;
        }
    if (!name)
        fail("usage: nm_threads -i NAME -m handle|queues|poll [-n COUNT]");
    static struct pair pairs[MOST_RINGS];
    uint32_t used = 1;
    bool queues = !strcmp(mode, "queues");
    for (uint32_t k = 0; k < used; k++) {
        char one[128];
        snprintf(one, sizeof one, queues ? "%s-%u" : "%s", name, k);
        port_open(&pairs[k].port, one, 0);
        pairs[k].count = count;
        pairs[k].stream = k;
        pairs[k].polls = strcmp(mode, "handle");
        if (queues)
            used = pairs[0].port.reg.nr_tx_rings < 4 ? pairs[0].port.reg.nr_tx_rings : 4;
    }
    port_announce(&pairs[0].port);
    expected_by_all = used * count;
    double began = now();
    for (uint32_t k = 0; k < used; k++)
        start(&pairs[k]);
    struct streams sum = {0};
    for (uint32_t k = 0; k < used; k++) {
        pthread_join(pairs[k].sender, NULL);
        pthread_join(pairs[k].receiver, NULL);
        sum.frames += pairs[k].streams.frames;
        sum.bytes += pairs[k].streams.bytes;
        sum.lost += pairs[k].streams.lost;
        sum.reordered += pairs[k].streams.reordered;
        sum.damaged += pairs[k].streams.damaged;
        sum.foreign += pairs[k].streams.foreign;
    }
    streams_print(&sum, now() - began);
    return sum.lost || sum.reordered || sum.damaged ? 1 : 0;
}
