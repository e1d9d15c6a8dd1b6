/* A program that knows only netmap's published layout. It attaches to a port's region by file descriptor.
 *
 *   abi_client FD MEMSIZE OFFSET NAME TX_SLOTS RX_SLOTS check
 *   abi_client FD MEMSIZE OFFSET NAME TX_SLOTS RX_SLOTS send COUNT SEED
 *   abi_client FD MEMSIZE OFFSET NAME TX_SLOTS RX_SLOTS receive COUNT SEED
 *   abi_client FD MEMSIZE OFFSET NAME TX_SLOTS RX_SLOTS scribble MILLISECONDS SEED
 *
 * Another process owns the port and syncs it meanwhile. Exit status 0, or 1 with a sentence on stderr.
 */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

struct netmap_slot {
    uint32_t buf_idx;
    uint16_t len;
    uint16_t flags;
    uint64_t ptr;
};

struct netmap_ring {
    int64_t buf_ofs;
    uint32_t num_slots;
    uint32_t nr_buf_size;
    uint16_t ringid;
    uint16_t dir; /* netmap's enum txrx: 0 receive, 1 transmit */
    uint32_t head, cur, tail;
    uint32_t flags;
    struct timeval ts;
    uint64_t offset_mask, buf_align;
    uint8_t sem[128] __attribute__((aligned(128)));
    struct netmap_slot slot[];
};

struct netmap_if {
    char ni_name[16];
    uint32_t ni_version;
    uint32_t ni_flags;
    uint32_t ni_tx_rings, ni_rx_rings;
    uint32_t ni_bufs_head;
    uint32_t ni_host_tx_rings, ni_host_rx_rings;
    uint32_t ni_spare1[3];
    int64_t ring_ofs[];
};

_Static_assert(sizeof(struct netmap_slot) == 16, "netmap_slot");
_Static_assert(offsetof(struct netmap_ring, head) == 20 && offsetof(struct netmap_ring, slot) == 256, "netmap_ring");
_Static_assert(sizeof(struct netmap_if) == 56, "netmap_if");

enum { PATIENCE_S = 20, BATCH = 100, HEADER = 14, LENGTHS = 1400, NS_BUF_CHANGED = 1 };

static struct netmap_if *nifp;
static uint64_t memsize;

static _Noreturn void fail(const char *sentence, long long found, long long expected)
{
    fprintf(stderr, "%s: found %lld, expected %lld\n", sentence, found, expected);
    exit(1);
}

static void expect(const char *what, long long found, long long expected)
{
    if (found != expected)
        fail(what, found, expected);
}

static struct netmap_ring *ring_at(uint32_t i)
{
    return (struct netmap_ring *)(void *)((char *)nifp + nifp->ring_ofs[i]);
}
static struct netmap_ring *tx_ring(void)
{
    return ring_at(0);
}
static struct netmap_ring *rx_ring(void)
{
    return ring_at(nifp->ni_tx_rings + nifp->ni_host_tx_rings);
}
static uint8_t *buf(struct netmap_ring *ring, uint32_t index)
{
    return (uint8_t *)ring + ring->buf_ofs + (size_t)index * ring->nr_buf_size;
}
static uint32_t next(const struct netmap_ring *ring, uint32_t i)
{
    return i + 1 == ring->num_slots ? 0 : i + 1;
}

/* acquire: the driver's slots and buffers are read after the tail that gives them to the program */
static uint32_t load(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* release: slots and buffers are written before the head that gives them to the driver */
static void store(uint32_t *word, uint32_t value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

static uint32_t space(struct netmap_ring *ring)
{
    int32_t n = (int32_t)(load(&ring->tail) - ring->head);
    return (uint32_t)(n < 0 ? n + (int32_t)ring->num_slots : n);
}

/* In netmap the application itself syncs. Here a sync comes at any time, so cur moves first: head never passes it. */
static void advance(struct netmap_ring *ring, uint32_t head)
{
    store(&ring->cur, head);
    store(&ring->head, head);
}

static void pause_briefly(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* ---- frames: number and a pattern that both sides can compute ---- */

static uint16_t length_of(uint32_t number)
{
    return (uint16_t)(60 + number * 7 % LENGTHS);
}

static uint8_t byte_of(uint32_t number, uint32_t at, uint32_t seed)
{
    return (uint8_t)(number * 31 + at * 7 + seed);
}

static void write_frame(uint8_t *frame, uint32_t number, uint32_t seed)
{
    static const uint8_t header[HEADER] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0xC, 0x88, 0xB5};
    memcpy(frame, header, HEADER);
    for (uint32_t at = HEADER; at < length_of(number); at++)
        frame[at] = byte_of(number, at, seed);
}

static void check_frame(const uint8_t *frame, uint16_t length, uint32_t number, uint32_t seed)
{
    expect("length of a received frame", length, length_of(number));
    for (uint32_t at = HEADER; at < length; at++)
        if (frame[at] != byte_of(number, at, seed))
            fail("a byte of a received frame", frame[at], byte_of(number, at, seed));
}

/* ---- the tasks ---- */

static void check_ring(struct netmap_ring *ring, int dir, long slots)
{
    expect("alignment of a ring", (long long)((uintptr_t)ring % 128), 0);
    expect("dir", ring->dir, dir);
    expect("ringid", ring->ringid, 0);
    expect("num_slots", ring->num_slots, slots);
    for (uint32_t i = 0; i < ring->num_slots; i++) {
        uint8_t *place = buf(ring, ring->slot[i].buf_idx);
        if (ring->slot[i].buf_idx < 2 || place < (uint8_t *)nifp ||
            place + ring->nr_buf_size > (uint8_t *)nifp + memsize)
            fail("buf_idx of a slot", ring->slot[i].buf_idx, 2);
    }
}

static void check(const char *name, long tx_slots, long rx_slots)
{
    if (strncmp(nifp->ni_name, name, sizeof nifp->ni_name - 1) || nifp->ni_name[15])
        fail("ni_name differs at byte 15", nifp->ni_name[15], 0);
    expect("ni_version", nifp->ni_version, 14);
    expect("ni_tx_rings", nifp->ni_tx_rings, 1);
    expect("ni_rx_rings", nifp->ni_rx_rings, 1);
    check_ring(tx_ring(), 1, tx_slots);
    check_ring(rx_ring(), 0, rx_slots);
}

static void send_frames(uint32_t count, uint32_t seed)
{
    struct netmap_ring *ring = tx_ring();
    double end = now() + PATIENCE_S;
    for (uint32_t number = 0; number < count;) {
        uint32_t head = ring->head, n = space(ring);
        for (uint32_t k = 0; k < n && k < BATCH && number < count; k++, number++) {
            struct netmap_slot *slot = &ring->slot[head];
            write_frame(buf(ring, slot->buf_idx), number, seed);
            slot->len = length_of(number), slot->flags = 0;
            head = next(ring, head);
        }
        advance(ring, head);
        if (now() > end)
            fail("frames sent in time", number, count);
        if (!n)
            pause_briefly();
    }
    while (next(ring, load(&ring->tail)) != ring->head) { /* nm_tx_pending */
        if (now() > end)
            fail("tail when everything was sent", ring->tail, ring->head);
        pause_briefly();
    }
}

static void receive_frames(uint32_t count, uint32_t seed)
{
    struct netmap_ring *ring = rx_ring();
    double end = now() + PATIENCE_S;
    for (uint32_t number = 0; number < count;) {
        uint32_t head = ring->head, n = space(ring);
        for (; n && number < count; n--, number++) {
            check_frame(buf(ring, ring->slot[head].buf_idx), ring->slot[head].len, number, seed);
            head = next(ring, head);
        }
        advance(ring, head);
        if (now() > end)
            fail("frames received in time", number, count);
        if (!space(ring))
            pause_briefly();
    }
}

/* Write anything, allowed or not, into indices, slots and ring headers, but nothing outside the rings.
 * The slot counts are arguments: an earlier scribbler may have left any number in num_slots. */
static void scribble(uint32_t tx_slots, uint32_t rx_slots, uint32_t milliseconds, uint32_t seed)
{
    struct netmap_ring *rings[] = {tx_ring(), rx_ring()};
    const uint32_t slots[] = {tx_slots, rx_slots};
    const uint32_t indices[] = {0, 1, 2, 3, UINT32_MAX, 1u << 31, 100000, 64};
    const uint16_t lengths[] = {0, 60, 64, 2112, 2113, 65535, 1514, 16};
    const uint16_t flags[] = {0, 0, 0, NS_BUF_CHANGED, 0x10, 0x20, 0xFFFF, 2};
    double end = now() + milliseconds / 1000.0;
    srand(seed);
    while (now() < end)
        for (uint32_t turn = 0; turn < 2000; turn++) {
            uint32_t which = (uint32_t)rand() % 2, k = (uint32_t)rand() % slots[which];
            volatile struct netmap_ring *ring = rings[which];
            volatile struct netmap_slot *slot = &ring->slot[k];
            slot->buf_idx = indices[rand() % 8], slot->len = lengths[rand() % 8], slot->flags = flags[rand() % 8];
            slot->buf_idx = 2 + (uint32_t)rand() % 100;
            if (rand() % 64) /* most slots end valid, so that some frames are sent between the refusals */
                slot->len = 60, slot->flags = 0;
            if (turn % 10)
                continue;
            ring->head = (rand() % 8 ? ring->head + (uint32_t)rand() % 4 : (uint32_t)rand()) % (slots[which] + 3);
            ring->cur = rand() % 4 ? ring->head : indices[rand() % 8];
            ring->tail = indices[rand() % 8];
            ring->num_slots = indices[rand() % 8];
            ring->nr_buf_size = indices[rand() % 8];
            ring->buf_ofs = (int64_t)indices[rand() % 8] << 20;
        }
}

int main(int argc, char **argv)
{
    if (argc < 8) {
        fprintf(
            stderr,
            "usage: abi_client FD MEMSIZE OFFSET NAME TX_SLOTS RX_SLOTS check|send|receive|scribble [COUNT SEED]\n");
        return 2;
    }
    int fd = atoi(argv[1]);
    uint64_t offset = strtoull(argv[3], NULL, 10);
    struct stat file;
    memsize = strtoull(argv[2], NULL, 10);
    if (fstat(fd, &file) || (uint64_t)file.st_size != memsize)
        fail("size of the file", file.st_size, (long long)memsize);
    char *region = mmap(NULL, memsize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (region == MAP_FAILED)
        fail("mmap", 0, 1);
    nifp = (struct netmap_if *)(void *)(region + offset);
    uint32_t count = argc > 8 ? (uint32_t)strtoul(argv[8], NULL, 10) : 0,
             seed = argc > 9 ? (uint32_t)strtoul(argv[9], NULL, 10) : 0;
    if (strcmp(argv[7], "scribble"))
        check(argv[4], atol(argv[5]), atol(argv[6]));
    printf("attached\n");
    fflush(stdout);
    if (!strcmp(argv[7], "send"))
        send_frames(count, seed);
    else if (!strcmp(argv[7], "receive"))
        receive_frames(count, seed);
    else if (!strcmp(argv[7], "scribble"))
        scribble((uint32_t)atol(argv[5]), (uint32_t)atol(argv[6]), count, seed);
    return 0;
}
