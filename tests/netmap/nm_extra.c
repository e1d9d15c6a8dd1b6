/* Extra buffers: a list comes in, frames are sent from them, a list goes out.
 *
 *   nm_extra -i NAME -e BUFFERS [-n COUNT] [-k]     -k: keep the buffers: write nothing back, and leave a wrong list
 */
#include "program.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct port port;
static uint32_t *free_buffers, left;

/* Any ring will do to find a buffer: buf_ofs counts from the ring. */
static struct netmap_ring *any_ring(void)
{
    return port.tx_count ? port.tx[0] : port.rx[0];
}

static uint32_t *link_in(uint32_t buffer)
{
    return (uint32_t *)(void *)NETMAP_BUF(any_ring(), buffer);
}

static bool in_a_slot(uint32_t buffer)
{
    for (uint32_t i = 0; i < port.tx_count + port.rx_count; i++) {
        struct netmap_ring *ring = i < port.tx_count ? port.tx[i] : port.rx[i - port.tx_count];
        for (uint32_t k = 0; k < ring->num_slots; k++)
            if (ring->slot[k].buf_idx == buffer)
                return true;
    }
    return false;
}

static void take_list(void)
{
    free_buffers = calloc(port.reg.nr_extra_bufs + 1, sizeof *free_buffers);
    for (uint32_t at = port.nifp->ni_bufs_head; at; at = *link_in(at)) {
        if (at < 2 || left == port.reg.nr_extra_bufs || in_a_slot(at))
            fail("extra buffer %u has the number %u, and %u were promised", left, at, port.reg.nr_extra_bufs);
        free_buffers[left++] = at;
    }
    if (left != port.reg.nr_extra_bufs)
        fail("the list has %u buffers, and %u were promised", left, port.reg.nr_extra_bufs);
    for (uint32_t i = 0; i < left; i++) /* each is memory of its own */
        memset(link_in(free_buffers[i]), (int)i, any_ring()->nr_buf_size);
    for (uint32_t i = 0; i < left; i++)
        if (*(uint8_t *)link_in(free_buffers[i]) != (uint8_t)i)
            fail("extra buffer %u overlaps another one", free_buffers[i]);
    port.nifp->ni_bufs_head = 0;
}

static void give_list(void)
{
    uint32_t head = 0;
    for (uint32_t i = 0; i < left; i++) {
        *link_in(free_buffers[i]) = head;
        head = free_buffers[i];
    }
    port.nifp->ni_bufs_head = head;
}

/* Each frame is written to an extra buffer, which changes places with the slot's own. */
static void send_frames(uint64_t count)
{
    double end = now() + 20;
    for (uint64_t number = 0; number < count;) {
        struct pollfd asked = {.fd = port.fd, .events = POLLOUT};
        poll(&asked, 1, 100);
        if (asked.revents & POLLERR || now() > end)
            fail("revents are %#x after %llu frames", (unsigned)asked.revents, (unsigned long long)number);
        struct netmap_ring *ring = port.tx[0];
        uint32_t head = ring->head;
        for (uint32_t space = nm_ring_space(ring); space && number < count; space--, number++) {
            uint32_t *spare = &free_buffers[number % left], buffer = ring->slot[head].buf_idx;
            frame_write(NETMAP_BUF(ring, *spare), SHORTEST, 0, number);
            ring->slot[head].buf_idx = *spare;
            ring->slot[head].len = SHORTEST;
            ring->slot[head].flags = NS_BUF_CHANGED;
            *spare = buffer;
            head = nm_ring_next(ring, head);
        }
        ring_advance(ring, head);
    }
    if (!port_flush(&port, 20))
        fail("the last frames did not leave");
}

int main(int argc, char **argv)
{
    const char *name = NULL;
    uint32_t extra = 0;
    uint64_t count = 0;
    bool keep = false;
    for (int letter; (letter = getopt(argc, argv, "i:e:n:k")) != -1;)
        switch (letter) {
        case 'i':
            name = optarg;
            break;
        case 'e':
            extra = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'n':
            count = strtoull(optarg, NULL, 10);
            break;
        case 'k':
            keep = true;
            break;
        default:
            return 2;
        }
    if (!name || !extra)
        fail("usage: nm_extra -i NAME -e BUFFERS [-n COUNT] [-k]");
    port_open(&port, name, extra);
    port_announce(&port);
    take_list();
    send_frames(count);
    if (keep)
        port.nifp->ni_bufs_head = 0x7FFFFFFF;
    else
        give_list();
    printf("{\"frames\": %llu, \"buffers\": %u}\n", (unsigned long long)count, left);
    port_close(&port);
    return 0;
}
