/* Forwards frames between two ports, both ways: by swapping buffers if the ports share their memory, else by copying.
 *
 *   nm_bridge -i NAME -i NAME [-c]     -c: always copy
 *
 * There is no sync call: poll() also flushes the TX rings of a port that is only asked for POLLIN. Ends on SIGINT.
 */
#include "program.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

static uint64_t forward(struct netmap_ring *from, struct netmap_ring *to, bool swap)
{
    uint32_t count = nm_ring_space(from), room = nm_ring_space(to), in = from->head, out = to->head;
    if (count > room)
        count = room;
    for (uint32_t i = 0; i < count; i++, in = nm_ring_next(from, in), out = nm_ring_next(to, out)) {
        struct netmap_slot *received = &from->slot[in], *sent = &to->slot[out];
        sent->len = received->len;
        sent->flags = received->flags & NS_MOREFRAG;
        if (swap) {
            uint32_t buffer = sent->buf_idx;
            sent->buf_idx = received->buf_idx;
            received->buf_idx = buffer;
            sent->flags |= NS_BUF_CHANGED;
            received->flags |= NS_BUF_CHANGED;
        } else {
            memcpy(NETMAP_BUF(to, sent->buf_idx), NETMAP_BUF(from, received->buf_idx), received->len);
        }
    }
    ring_advance(from, in);
    ring_advance(to, out);
    return count;
}

static uint64_t forward_all(struct port *from, struct port *to, bool swap)
{
    uint64_t moved = 0;
    for (uint32_t i = 0; i < from->rx_count; i++)
        for (uint32_t k = 0; k < to->tx_count; k++)
            moved += forward(from->rx[i], to->tx[(i + k) % to->tx_count], swap);
    return moved;
}

int main(int argc, char **argv)
{
    static struct port ports[2];
    const char *names[2] = {NULL, NULL};
    int given = 0;
    bool copy = false;
    for (int letter; (letter = getopt(argc, argv, "i:c")) != -1;)
        if (letter == 'c')
            copy = true;
        else if (letter == 'i' && given < 2)
            names[given++] = optarg;
        else
            return 2;
    if (given < 2)
        fail("usage: nm_bridge -i NAME -i NAME [-c]");
    stop_on_signals();
    port_open(&ports[0], names[0], 0);
    port_open(&ports[1], names[1], 0);
    bool swap = !copy && ports[0].reg.nr_mem_id == ports[1].reg.nr_mem_id;
    port_announce(&ports[0]);
    port_announce(&ports[1]);
    uint64_t there = 0, back = 0, errors = 0;
    while (!stopping) {
        struct pollfd asked[2];
        for (int i = 0; i < 2; i++) { /* while frames wait for room at the other port: wait for that room */
            bool waiting = total_space(ports[1 - i].rx, ports[1 - i].rx_count) > 0;
            asked[i] = (struct pollfd){.fd = ports[i].fd, .events = waiting ? POLLOUT : POLLIN};
        }
        poll(asked, 2, 100);
        errors += !!(asked[0].revents & POLLERR) + !!(asked[1].revents & POLLERR);
        there += forward_all(&ports[0], &ports[1], swap);
        back += forward_all(&ports[1], &ports[0], swap);
    }
    printf("{\"there\": %llu, \"back\": %llu, \"swapped\": %s, \"errors\": %llu}\n", (unsigned long long)there,
           (unsigned long long)back, swap ? "true" : "false", (unsigned long long)errors);
    return 0;
}
