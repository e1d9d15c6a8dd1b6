/* Sends numbered frames.
 *
 *   nm_tx -i NAME [-n COUNT] [-l LENGTH] [-b BATCH] [-w poll|select|epoll|busy] [-s STREAM] [-r RATE] [-A] [-t SECONDS]
 *
 * -n 0: until SIGINT. -A: nm_rx -A acknowledges, and at most WINDOW frames are on their way, so none is lost. A ring's
 * frames are the stream STREAM + the ring's place. Ends with 1 when the port takes no frame for SECONDS, or the last
 * ones do not leave.
 */
#include "program.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

struct sender {
    struct port port;
    uint64_t count, sent, next[MOST_RINGS];
    uint32_t length, batch, stream;
    bool acknowledged;
    struct streams acks;
    double rate, start;
    uint64_t errors; /* POLLERR */
};

static uint64_t allowed(const struct sender *s)
{
    uint64_t left = s->count ? s->count - s->sent : UINT64_MAX;
    if (s->acknowledged) {
        uint64_t window = s->acks.next[ACKS] + WINDOW - s->sent;
        left = window < left ? window : left;
    }
    if (s->rate <= 0)
        return left;
    uint64_t due = (uint64_t)((now() - s->start) * s->rate) + 1;
    uint64_t more = due > s->sent ? due - s->sent : 0;
    return more < left ? more : left;
}

/* Fill the slots of one ring. Returns the number of frames. */
static uint32_t fill(struct sender *s, uint32_t place, uint64_t most)
{
    static char frame[LONGEST];
    struct netmap_ring *ring = s->port.tx[place];
    uint32_t head = ring->head, done = 0;
    for (; done < s->batch && done < most; done++) {
        frame_write(frame, s->length, s->stream + place, s->next[place]);
        uint32_t slots = frame_put(ring, head, frame, s->length);
        if (!slots)
            break;
        for (s->next[place]++; slots; slots--)
            head = nm_ring_next(ring, head);
    }
    ring_advance(ring, head);
    s->sent += done;
    return done;
}

/* An acknowledgement's number is one less than that of the frames which have come. */
static void take_acks(struct sender *s)
{
    static char frame[LONGEST];
    for (uint32_t i = 0; i < s->port.rx_count; i++) {
        struct netmap_ring *ring = s->port.rx[i];
        uint32_t head = ring->head, length;
        for (uint32_t slots; (slots = frame_get(ring, head, frame, &length));)
            for (frame_check(&s->acks, frame, length, true); slots; slots--)
                head = nm_ring_next(ring, head);
        ring_advance(ring, head);
    }
}

static void send_frames(struct sender *s, enum waiting how, double patience_s)
{
    double last = now();
    while (!stopping && (!s->count || s->sent < s->count)) {
        if (!allowed(s) && !s->acknowledged) {
            usleep(50);
            last = now();
            continue;
        }
        short ready = port_wait(&s->port, how, allowed(s) ? POLLOUT : POLLIN, 100);
        s->errors += !!(ready & POLLERR);
        uint32_t done = 0;
        if (s->acknowledged)
            take_acks(s);
        for (uint32_t i = 0; i < s->port.tx_count; i++)
            done += fill(s, i, allowed(s));
        if (done)
            last = now();
        else if (now() - last > patience_s)
            fail("no slot became free for %.0f s; %llu frames were sent", patience_s, (unsigned long long)s->sent);
    }
}

int main(int argc, char **argv)
{
    static struct sender s = {.length = SHORTEST, .batch = 256, .count = 1000};
    enum waiting how = WAIT_POLL;
    double patience_s = 20;
    const char *name = NULL;
    for (int letter; (letter = getopt(argc, argv, "i:n:l:b:w:s:r:At:")) != -1;)
        switch (letter) {
        case 'i':
            name = optarg;
            break;
        case 'n':
            s.count = strtoull(optarg, NULL, 10);
            break;
        case 'l':
            s.length = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'b':
            s.batch = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'w':
            how = parse_waiting(optarg);
            break;
        case 's':
            s.stream = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'r':
            s.rate = atof(optarg);
            break;
        case 'A':
            s.acknowledged = true;
            break;
        case 't':
            patience_s = atof(optarg);
            break;
        default:
            return 2;
        }
    if (!name || s.length < SHORTEST || s.length > LONGEST)
        fail("usage: nm_tx -i NAME [-n COUNT] [-l LENGTH, %d to %d] [-b BATCH] ...", SHORTEST, LONGEST);
    stop_on_signals();
    port_open(&s.port, name, 0);
    if (!s.port.tx_count)
        fail("%s has no TX ring", name);
    port_announce(&s.port);
    s.start = now();
    send_frames(&s, how, patience_s);
    bool all = port_flush(&s.port, stopping ? 1 : patience_s);
    double seconds = now() - s.start;
    printf("{\"frames\": %llu, \"pending\": %s, \"errors\": %llu, \"seconds\": %.6f, \"rate\": %.0f}\n",
           (unsigned long long)s.sent, all ? "false" : "true", (unsigned long long)s.errors, seconds,
           (double)s.sent / seconds);
    port_close(&s.port);
    return all ? 0 : 1;
}
