/* A netmap program in the shape of pkt-gen, which counts the frames that it sends or receives.
 *
 *   netmap_client tx|rx|hold NAME [NAME ...] -c FILE [-l LENGTH] [-b BATCH] [-d MAC] [-u] [-k] [-H] [-n MICROSECONDS]
 *
 *   netmap_client copy [-l LENGTH] -c FILE
 *
 * FILE: the first 8 bytes are the number of frames so far, for whoever maps it. All ports take turns in one poll().
 * copy: memcpy of frames from 1024 buffers to 1024 others, without netmap. hold: open the ports and wait for SIGINT. -u: NIOCTXSYNC or NIOCRXSYNC instead of poll(). -k: leave buffers as they
 * are; otherwise a buffer that the sync has exchanged gets the frame again, as in pkt-gen. -H: a receiver first sends a
 * frame, so that a switch learns its address. -n: nap before each poll(). Ends on SIGINT.
 */
#include "program.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MOST_PORTS = 128 };

struct bench {
    struct port *ports;
    uint32_t count, batch, length;
    bool sends, busy, keeps;
    useconds_t nap;
    uint64_t frames, bytes;
    uint64_t *shown; /* what others see of `frames` */
    char frame[16384];
};

/* A frame of IPv4 and UDP, 60 bytes or more; `to` and `from`: the last byte of each address. */
static void make_frame(struct bench *b, uint32_t to, uint32_t from)
{
    frame_write(b->frame, b->length, 0, 0);
    memcpy(b->frame, "\2\0\0\0\0\0\2\0\0\0\0", 11);
    b->frame[5] = (char)to;
    b->frame[11] = (char)from;
}

static void fill_all(struct bench *b)
{
    for (uint32_t p = 0; p < b->count; p++)
        for (uint32_t i = 0; i < b->ports[p].tx_count; i++) {
            struct netmap_ring *ring = b->ports[p].tx[i];
            for (uint32_t k = 0; k < ring->num_slots; k++)
                memcpy(NETMAP_BUF(ring, ring->slot[k].buf_idx), b->frame, b->length);
        }
}

static void send_ring(struct bench *b, struct netmap_ring *ring)
{
    uint32_t space = nm_ring_space(ring), head = ring->head;
    uint32_t most = space < b->batch ? space : b->batch;
    for (uint32_t i = 0; i < most; i++) {
        struct netmap_slot *slot = &ring->slot[head];
        if ((slot->flags & NS_BUF_CHANGED) && !b->keeps)
            memcpy(NETMAP_BUF(ring, slot->buf_idx), b->frame, b->length);
        slot->flags = i + 1 == most ? NS_REPORT : 0;
        slot->len = (uint16_t)b->length;
        head = nm_ring_next(ring, head);
    }
    ring->head = ring->cur = head;
    b->frames += most;
}

static void receive_ring(struct bench *b, struct netmap_ring *ring)
{
    uint32_t space = nm_ring_space(ring), head = ring->head;
    uint32_t most = space < b->batch ? space : b->batch;
    for (uint32_t i = 0; i < most; i++) {
        b->bytes += ring->slot[head].len;
        head = nm_ring_next(ring, head);
    }
    ring->head = ring->cur = head;
    b->frames += most;
}

static void turn(struct bench *b)
{
    for (uint32_t p = 0; p < b->count; p++) {
        struct port *port = &b->ports[p];
        for (uint32_t i = 0; b->sends && i < port->tx_count; i++)
            send_ring(b, port->tx[i]);
        for (uint32_t i = 0; !b->sends && i < port->rx_count; i++)
            receive_ring(b, port->rx[i]);
    }
    __atomic_store_n(b->shown, b->frames, __ATOMIC_RELAXED);
}

static void wait_for_ports(const struct bench *b)
{
    struct pollfd asked[MOST_PORTS];
    for (uint32_t p = 0; p < b->count; p++) {
        asked[p] = (struct pollfd){.fd = b->ports[p].fd, .events = b->sends ? POLLOUT : POLLIN};
        if (b->busy && ioctl(b->ports[p].fd, b->sends ? NIOCTXSYNC : NIOCRXSYNC, NULL))
            fail("the sync failed");
    }
    if (b->nap)
        usleep(b->nap);
    if (!b->busy)
        poll(asked, b->count, 100);
}

/* One frame to everybody, from the address that the other side's frames go to. */
static void say_hello(struct bench *b, uint32_t own)
{
    struct port *port = &b->ports[0];
    char frame[SHORTEST];
    frame_write(frame, sizeof frame, 0, 0);
    memset(frame, 0xFF, 6);
    memcpy(frame + 6, "\2\0\0\0\0", 5);
    frame[11] = (char)own;
    if (!frame_put(port->tx[0], port->tx[0]->head, frame, sizeof frame))
        fail("there is no room for the first frame");
    ring_advance(port->tx[0], nm_ring_next(port->tx[0], port->tx[0]->head));
    if (!port_flush(port, 10))
        fail("the first frame did not leave");
}

static uint64_t *map_counter(const char *path)
{
    int fd = open(path, O_RDWR);
    void *counter = fd < 0 ? MAP_FAILED : mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (counter == MAP_FAILED)
        fail("%s cannot be mapped", path);
    close(fd);
    return counter;
}

/* What one core can copy, from and to buffers as a ring has them. */
static void copy_frames(struct bench *b)
{
    enum { BUFFERS = 1024, STRIDE = 2048 + 64 };
    char *memory = aligned_alloc(64, (size_t)2 * BUFFERS * STRIDE);
    if (!memory || b->length > STRIDE)
        fail("the buffers have %d bytes", STRIDE);
    memset(memory, 1, (size_t)2 * BUFFERS * STRIDE);
    while (!stopping) {
        for (uint32_t i = 0; i < BUFFERS; i++)
            memcpy(memory + (size_t)(BUFFERS + i) * STRIDE, memory + (size_t)i * STRIDE, b->length);
        b->frames += BUFFERS;
        __atomic_store_n(b->shown, b->frames, __ATOMIC_RELEASE); /* the copies are not left out */
    }
}

int main(int argc, char **argv)
{
    static struct bench b = {.batch = 256, .length = SHORTEST};
    static uint64_t nobody;
    uint32_t to = 1;
    bool hello = false;
    b.shown = &nobody;
    for (int letter; (letter = getopt(argc, argv, "c:l:b:d:n:ukH")) != -1;)
        switch (letter) {
        case 'c':
            b.shown = map_counter(optarg);
            break;
        case 'l':
            b.length = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'b':
            b.batch = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'd':
            to = (uint32_t)strtoul(optarg, NULL, 10);
            break;
        case 'n':
            b.nap = (useconds_t)strtoul(optarg, NULL, 10);
            break;
        case 'u':
            b.busy = true;
            break;
        case 'k':
            b.keeps = true;
            break;
        case 'H':
            hello = true;
            break;
        default:
            return 2;
        }
    const char *what = optind < argc ? argv[optind++] : "";
    bool copies = !strcmp(what, "copy");
    if (argc - optind < !copies || argc - optind > MOST_PORTS || b.length < SHORTEST || b.length > sizeof b.frame)
        fail("usage: netmap_client tx|rx|hold NAME [NAME ...] [-c FILE] [-l LENGTH] [-b BATCH] ...");
    stop_on_signals();
    b.count = (uint32_t)(argc - optind);
    b.ports = calloc(b.count + 1, sizeof *b.ports);
    b.sends = !strcmp(what, "tx");
    for (uint32_t p = 0; p < b.count; p++)
        port_open(&b.ports[p], argv[optind + (int)p], 0);
    make_frame(&b, to, to + 1);
    if (b.sends)
        fill_all(&b);
    if (hello)
        say_hello(&b, to);
    if (copies)
        printf("{}\n"), fflush(stdout), copy_frames(&b);
    else
        port_announce(&b.ports[0]);
    while (!stopping)
        if (!strcmp(what, "hold")) {
            pause();
        } else {
            wait_for_ports(&b);
            turn(&b);
        }
    printf("{\"frames\": %llu, \"bytes\": %llu}\n", (unsigned long long)b.frames, (unsigned long long)b.bytes);
    return 0;
}
