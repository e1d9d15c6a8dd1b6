/* Hands every frame on to the other side: from the NIC to the host, and back, without a look at it.
 *
 *   nm_forward -i NAME     a name with NIC and host rings, such as netmap:ix0*
 *
 * The program only marks the slots that it releases, netmap(4), NR_FORWARD. Ends on SIGINT.
 */
#include "program.h"

#include <poll.h>
#include <unistd.h>

enum { NR_FORWARD = 0x4, NS_FORWARD = 0x4 };

static uint64_t hand_on(struct netmap_ring *ring)
{
    uint32_t head = ring->head, count = nm_ring_space(ring);
    for (uint32_t i = 0; i < count; i++, head = nm_ring_next(ring, head))
        ring->slot[head].flags |= NS_FORWARD;
    ring_advance(ring, head);
    return count;
}

int main(int argc, char **argv)
{
    static struct port port;
    if (argc != 3 || getopt(argc, argv, "i:") != 'i')
        fail("usage: nm_forward -i NAME");
    stop_on_signals();
    port_open(&port, optarg, 0);
    for (uint32_t i = 0; i < port.rx_count; i++)
        port.rx[i]->flags |= NR_FORWARD;
    port_announce(&port);
    uint64_t up = 0, down = 0, errors = 0;
    while (!stopping) {
        struct pollfd asked = {.fd = port.fd, .events = POLLIN};
        poll(&asked, 1, 100);
        errors += !!(asked.revents & POLLERR);
        for (uint32_t i = 0; i < port.rx_count; i++)
            *(i + 1 < port.rx_count ? &up : &down) += hand_on(port.rx[i]);
    }
    printf("{\"up\": %llu, \"down\": %llu, \"errors\": %llu}\n", (unsigned long long)up, (unsigned long long)down,
           (unsigned long long)errors);
    return 0;
}
