/* Receives numbered frames, and checks their order and every byte.
 *
 *   nm_rx -i NAME [-n COUNT] [-q MILLISECONDS] [-w poll|select|epoll|busy] [-a] [-A] [-d] [-t SECONDS]
 *
 * Ends after COUNT frames (0: never), after MILLISECONDS of silence behind the first frame (0: never), on SIGINT, or
 * with 1 when no frame comes for SECONDS. -a: a stream may start with any number. -A: acknowledge frames, for nm_tx -A.
 * -d: also fail if a tail moves outside a call.
 */
#include "program.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct receiver {
    struct port port;
    struct streams streams;
    uint64_t count, errors;
    uint64_t acknowledged_frames;
    bool anywhere, watch, acknowledges;
    uint32_t tails[MOST_RINGS];
};

static uint64_t take(struct receiver *r, struct netmap_ring *ring)
{
    static char frame[LONGEST];
    uint32_t head = ring->head, length;
    uint64_t before = r->streams.frames;
    while (!r->count || r->streams.frames < r->count) {
        uint32_t slots = frame_get(ring, head, frame, &length);
        if (!slots)
            break;
        frame_check(&r->streams, frame, length, r->anywhere);
        for (; slots; slots--)
            head = nm_ring_next(ring, head);
    }
    ring_advance(ring, head);
    return r->streams.frames - before;
}

/* Between two calls of the program no tail may move: programs that read until a ring is empty rely on it. */
static void watch_tails(struct receiver *r)
{
    for (uint32_t i = 0; i < r->port.rx_count; i++)
        r->tails[i] = r->port.rx[i]->tail;
    usleep(200);
    for (uint32_t i = 0; i < r->port.rx_count; i++) {
        uint32_t tail = *(volatile uint32_t *)&r->port.rx[i]->tail;
        if (tail != r->tails[i])
            fail("the tail of RX ring %u moved from %u to %u outside a call", i, r->tails[i], tail);
    }
}

/* The next wait sends it. Without room for it, a later one tells the same. */
static void acknowledge(struct receiver *r)
{
    char frame[SHORTEST];
    struct netmap_ring *ring = r->port.tx[0];
    if (r->acknowledged_frames == r->streams.frames)
        return;
    frame_write(frame, sizeof frame, ACKS, r->streams.frames - 1);
    if (!frame_put(ring, ring->head, frame, sizeof frame))
        return;
    ring_advance(ring, nm_ring_next(ring, ring->head));
    r->acknowledged_frames = r->streams.frames;
}

static void receive_frames(struct receiver *r, enum waiting how, double patience_s, double quiet_s)
{
    double last = now();
    while (!stopping && (!r->count || r->streams.frames < r->count)) {
        short ready = port_wait(&r->port, how, POLLIN, quiet_s > 0 && quiet_s < 0.1 ? (int)(quiet_s * 1000) : 100);
        r->errors += !!(ready & POLLERR);
        uint64_t frames = 0;
        if (r->watch && ready)
            watch_tails(r);
        for (uint32_t i = 0; i < r->port.rx_count; i++)
            frames += take(r, r->port.rx[i]);
        if (r->acknowledges)
            acknowledge(r);
        double silence_s = now() - last;
        if (frames)
            last = now();
        else if (r->streams.frames && quiet_s > 0 && silence_s > quiet_s)
            return;
        else if (silence_s > patience_s)
            fail("no frame came for %.0f s; %llu were received", patience_s, (unsigned long long)r->streams.frames);
    }
}

int main(int argc, char **argv)
{
    static struct receiver r;
    enum waiting how = WAIT_POLL;
    double patience_s = 20, quiet_s = 0;
    const char *name = NULL;
    for (int letter; (letter = getopt(argc, argv, "i:n:q:w:aAdt:")) != -1;)
        switch (letter) {
        case 'i':
            name = optarg;
            break;
        case 'n':
            r.count = strtoull(optarg, NULL, 10);
            break;
        case 'q':
            quiet_s = atof(optarg) / 1000;
            break;
        case 'w':
            how = parse_waiting(optarg);
            break;
        case 'a':
            r.anywhere = true;
            break;
        case 'A':
            r.acknowledges = true;
            break;
        case 'd':
            r.watch = true;
            break;
        case 't':
            patience_s = atof(optarg);
            break;
        default:
            return 2;
        }
    if (!name)
        fail("usage: nm_rx -i NAME [-n COUNT] [-q MILLISECONDS] [-w poll|select|epoll|busy] ...");
    stop_on_signals();
    port_open(&r.port, name, 0);
    if (!r.port.rx_count)
        fail("%s has no RX ring", name);
    port_announce(&r.port);
    double start = now();
    receive_frames(&r, how, patience_s, quiet_s);
    ioctl(r.port.fd, NIOCRXSYNC, NULL); /* the other end of a pipe gets back only what a sync has released */
    streams_print(&r.streams, now() - start);
    port_close(&r.port);
    return r.streams.damaged || r.streams.reordered || r.errors ? 1 : 0;
}
