/* Steps that the programs here share. netmap_abi.h is the one of lab 11. */
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

#include "netmap_abi.h"

/* A handle with its region. */
struct port {
    int fd;
    char *region;
    struct nmreq_register got;
    struct netmap_if *netif;
    struct netmap_ring *tx, *rx; /* the first of each that is bound, or NULL */
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

static inline int try_register(int fd, const char *name, uint32_t flags, uint64_t options, struct nmreq_register *got)
{
    struct nmreq_header header = {
        .nr_version = 14, .nr_reqtype = NETMAP_REQ_REGISTER, .nr_options = options, .nr_body = (uintptr_t)got};
    snprintf(header.nr_name, sizeof header.nr_name, "%s", name);
    *got = (struct nmreq_register){.nr_mode = NR_REG_ALL_NIC, .nr_flags = flags};
    return ioctl(fd, NIOCCTRL, &header);
}

static inline struct netmap_ring *first_ring(struct netmap_if *netif, uint32_t from, uint32_t count)
{
    for (uint32_t i = from; i < from + count; i++)
        if (netif->ring_ofs[i])
            return (struct netmap_ring *)(void *)((char *)netif + netif->ring_ofs[i]);
    return NULL;
}

/* Map what is registered. */
static inline struct port attach(int fd, const struct nmreq_register *got)
{
    struct port port = {.fd = fd, .got = *got};
    port.region = mmap(NULL, got->nr_memsize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (port.region == MAP_FAILED)
        FAIL("mmap: %s", strerror(errno));
    port.netif = (struct netmap_if *)(void *)(port.region + got->nr_offset);
    port.tx = first_ring(port.netif, 0, port.netif->ni_tx_rings);
    port.rx = first_ring(port.netif, port.netif->ni_tx_rings + port.netif->ni_host_tx_rings, port.netif->ni_rx_rings);
    return port;
}

static inline struct port open_port(const char *name, uint32_t flags)
{
    struct nmreq_register got;
    int fd = open_netmap();
    if (try_register(fd, name, flags, 0, &got))
        FAIL("REGISTER of %s: %s", name, strerror(errno));
    return attach(fd, &got);
}

static inline uint8_t *buffer(struct netmap_ring *ring, uint32_t slot)
{
    return (uint8_t *)ring + ring->buf_ofs + (size_t)ring->slot[slot].buf_idx * ring->nr_buf_size;
}

/* Put up to `most` frames into the TX ring: each has its number. Returns how many. */
static inline uint32_t put_frames(struct netmap_ring *ring, uint32_t number, uint32_t most)
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
        head = nm_ring_next(ring, head);
    }
    ring->head = ring->cur = head;
    return n;
}

/* Take all frames from the RX ring, and check that their numbers go on from `number`. Returns how many. */
static inline uint32_t take_frames(struct netmap_ring *ring, uint32_t number)
{
    uint32_t n = 0, head = ring->head;
    for (; head != ring->tail; n++, head = nm_ring_next(ring, head)) {
        uint32_t seen;
        memcpy(&seen, buffer(ring, head) + 54, sizeof seen);
        expect("length of a frame", ring->slot[head].len, 60);
        expect("number of a frame", seen, number + n);
    }
    ring->head = ring->cur = head;
    return n;
}

#endif
