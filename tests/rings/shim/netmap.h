/* netmap's published layout and requests (API 14), as far as the programs here use them, and steps that they share. */
#ifndef TESTS_NETMAP_H
#define TESTS_NETMAP_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NIOCCTRL 0xC0586997u
#define NIOCGINFO 0xC03C6991u
#define NIOCREGIF 0xC03C6992u
#define NIOCTXSYNC 0x6994u
#define NIOCRXSYNC 0x6995u

enum { REQ_REGISTER = 1, REQ_PORT_INFO_GET = 2, REQ_KLOOP_START = 13, REQ_KLOOP_STOP = 14, REQ_CSB_ENABLE = 15 };
enum { OPT_EVENTFDS = 2, OPT_CSB = 3 };
enum { ALL_NIC = 1, EXCLUSIVE = 0x800, RX_ONLY = 0x2000, TX_ONLY = 0x4000 };

struct slot {
    uint32_t buf_idx;
    uint16_t len;
    uint16_t flags;
    uint64_t ptr;
};

struct ring {
    int64_t buf_ofs;
    uint32_t num_slots;
    uint32_t nr_buf_size;
    uint16_t ringid, dir;
    uint32_t head, cur, tail;
    uint32_t flags;
    struct timeval ts;
    uint64_t offset_mask, buf_align;
    uint8_t sem[128] __attribute__((aligned(128)));
    struct slot slot[];
};

struct netif {
    char name[16];
    uint32_t version, flags;
    uint32_t tx_rings, rx_rings;
    uint32_t bufs_head;
    uint32_t host_tx_rings, host_rx_rings;
    uint32_t spare[3];
    int64_t ring_ofs[];
};

struct header {
    uint16_t version, reqtype;
    uint32_t reserved;
    char name[64];
    uint64_t options, body;
};

struct option {
    uint64_t next;
    uint32_t reqtype, status;
    uint64_t size;
};

struct registration {
    uint64_t offset, memsize;
    uint32_t tx_slots, rx_slots;
    uint16_t tx_rings, rx_rings, host_tx_rings, host_rx_rings;
    uint16_t mem_id, ringid;
    uint32_t mode, extra_bufs, pad;
    uint64_t flags;
};

struct legacy {
    char name[16];
    uint32_t version, offset, memsize, tx_slots, rx_slots;
    uint16_t tx_rings, rx_rings, ringid, cmd, arg1, arg2;
    uint32_t arg3, flags, spare;
};

_Static_assert(sizeof(struct slot) == 16 && offsetof(struct ring, head) == 20 && offsetof(struct ring, slot) == 256,
               "netmap_ring");
_Static_assert(sizeof(struct netif) == 56 && sizeof(struct header) == 88 && sizeof(struct registration) == 56,
               "netmap's structures");
_Static_assert(sizeof(struct legacy) == 60 && sizeof(struct option) == 24, "netmap's structures");

/* A handle with its region. */
struct port {
    int fd;
    char *region;
    struct registration got;
    struct netif *netif;
    struct ring *tx, *rx; /* the first of each that is bound, or NULL */
};

enum { PATIENCE_MS = 20000 };

#define FAIL(...) (fprintf(stderr, __VA_ARGS__), fputc('\n', stderr), exit(1))

static inline void expect(const char *what, long long found, long long expected)
{
    if (found != expected)
        FAIL("%s: found %lld, expected %lld (errno %d)", what, found, expected, errno);
}

/* The call fails with this errno. */
static inline void expect_error(const char *what, long long result, int error)
{
    int seen = result < 0 ? errno : 0;
    if (seen != error)
        FAIL("%s: errno %d (%s), expected %d (%s)", what, seen, strerror(seen), error, strerror(error));
}

static inline double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static inline int open_netmap(void)
{
    int fd = open("/dev/netmap", O_RDWR);
    if (fd < 0)
        FAIL("open(/dev/netmap): %s", strerror(errno));
    return fd;
}

static inline int try_register(int fd, const char *name, uint32_t flags, uint64_t options, struct registration *got)
{
    struct header header = {.version = 14, .reqtype = REQ_REGISTER, .options = options, .body = (uintptr_t)got};
    snprintf(header.name, sizeof header.name, "%s", name);
    *got = (struct registration){.mode = ALL_NIC, .flags = flags};
    return ioctl(fd, NIOCCTRL, &header);
}

static inline struct ring *first_ring(struct netif *netif, uint32_t from, uint32_t count)
{
    for (uint32_t i = from; i < from + count; i++)
        if (netif->ring_ofs[i])
            return (struct ring *)(void *)((char *)netif + netif->ring_ofs[i]);
    return NULL;
}

/* Map what is registered. */
static inline struct port attach(int fd, const struct registration *got)
{
    struct port port = {.fd = fd, .got = *got};
    port.region = mmap(NULL, got->memsize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (port.region == MAP_FAILED)
        FAIL("mmap: %s", strerror(errno));
    port.netif = (struct netif *)(void *)(port.region + got->offset);
    port.tx = first_ring(port.netif, 0, port.netif->tx_rings);
    port.rx = first_ring(port.netif, port.netif->tx_rings + port.netif->host_tx_rings, port.netif->rx_rings);
    return port;
}

static inline struct port open_port(const char *name, uint32_t flags)
{
    struct registration got;
    int fd = open_netmap();
    if (try_register(fd, name, flags, 0, &got))
        FAIL("REGISTER of %s: %s", name, strerror(errno));
    return attach(fd, &got);
}

static inline uint8_t *buffer(struct ring *ring, uint32_t slot)
{
    return (uint8_t *)ring + ring->buf_ofs + (size_t)ring->slot[slot].buf_idx * ring->nr_buf_size;
}

static inline uint32_t next(const struct ring *ring, uint32_t i)
{
    return i + 1 == ring->num_slots ? 0 : i + 1;
}

/* Put up to `most` frames into the TX ring: each has its number. Returns how many. */
static inline uint32_t put_frames(struct ring *ring, uint32_t number, uint32_t most)
{
    uint32_t n = 0, head = ring->head;
    for (; n < most && head != ring->tail; n++, number++) {
        uint8_t *frame = buffer(ring, head);
        memset(frame, 0xFF, 6);
        memcpy(frame + 6, "\2\0\0\0\0\xC\x88\xB5", 8);
        for (uint32_t at = 14; at < 60; at += sizeof number)
            memcpy(frame + at, &number, sizeof number);
        ring->slot[head].len = 60;
        ring->slot[head].flags = 0;
        head = next(ring, head);
    }
    ring->head = ring->cur = head;
    return n;
}

/* Take all frames from the RX ring, and check that their numbers go on from `number`. Returns how many. */
static inline uint32_t take_frames(struct ring *ring, uint32_t number)
{
    uint32_t n = 0, head = ring->head;
    for (; head != ring->tail; n++, head = next(ring, head)) {
        uint32_t seen;
        memcpy(&seen, buffer(ring, head) + 54, sizeof seen);
        expect("length of a frame", ring->slot[head].len, 60);
        expect("number of a frame", seen, number + n);
    }
    ring->head = ring->cur = head;
    return n;
}

#endif
