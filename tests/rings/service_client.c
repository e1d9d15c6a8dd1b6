/* A program that uses a handle of the service: rings in the region, requests by client.c.
 *
 *   service_client REGION_FD MEMSIZE OFFSET ASKS ANSWERS KICK WAKE_RX WAKE_TX SPIN_NS COMMAND...
 *
 *   sync tx|rx COUNT          that many syncs
 *   both COUNT                a thread syncs TX and another one RX, each COUNT times
 *   receive COUNT             wait with poll(2) alone until COUNT frames have come; the first byte of each counts up
 *   send COUNT                the same for frames to send
 *   pollers COUNT             two threads poll at once: one receives COUNT frames, the other one sends COUNT
 *   time tx|rx COUNT BATCH    that many syncs, each after an advance by BATCH slots; prints nanoseconds a sync
 *   scribble tx SEED          write anything into the asks until killed
 *   forever tx|rx             sync until killed
 *
 * It prints "ready" before it begins. Exit status 0, or 1 with a sentence on stderr.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "client.h"
#include "hotloop.h"

enum { PATIENCE_MS = 30 * 1000, RING_OFS_AT = 56 };

static struct client client;
static struct netmap_ring *tx, *rx;
static int wake_rx, wake_tx;

static _Noreturn void fail(const char *sentence, ...)
{
    va_list values;
    va_start(values, sentence);
    vfprintf(stderr, sentence, values);
    fputc('\n', stderr);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void *map(int fd, size_t size, int protection)
{
    void *memory = mmap(NULL, size, protection, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        fail("mmap of fd %d: %s", fd, strerror(errno));
    return memory;
}

static struct netmap_ring *ring_at(uint8_t *interface, uint32_t i)
{
    int64_t offset;
    memcpy(&offset, interface + RING_OFS_AT + sizeof(offset) * i, sizeof(offset));
    return offset ? (struct netmap_ring *)(void *)(interface + offset) : NULL;
}

static void attach(char **words)
{
    uint8_t *region = map(atoi(words[0]), strtoull(words[1], NULL, 0), PROT_READ | PROT_WRITE);
    uint8_t *interface = region + strtoull(words[2], NULL, 0);
    tx = ring_at(interface, 0);
    rx = ring_at(interface, 1);
    client.asks = map(atoi(words[3]), CONTROL_PAGE, PROT_READ | PROT_WRITE);
    client.answers = map(atoi(words[4]), CONTROL_PAGE, PROT_READ);
    client.kick = atoi(words[5]);
    wake_rx = atoi(words[6]);
    wake_tx = atoi(words[7]);
    client.spin_ns = strtoull(words[8], NULL, 0);
    client.socket = -1;
    if (mmap(NULL, CONTROL_PAGE, PROT_WRITE, MAP_SHARED, atoi(words[4]), 0) != MAP_FAILED)
        fail("the answers can be mapped for writing");
}

static int sync_ring(bool sending)
{
    return sending ? client_sync_tx(&client) : client_sync_rx(&client);
}

/* Move head and cur on. Only this program writes them, so plain loads; release: the daemon reads slots after head. */
static void advance(struct netmap_ring *ring, uint32_t slots)
{
    uint32_t head = (ring->head + slots) % ring->num_slots;
    ring->cur = head;
    __atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
}

static uint32_t space(const struct netmap_ring *ring)
{
    uint32_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
    return (tail + ring->num_slots - ring->head) % ring->num_slots;
}

static void sync_often(bool sending, long count)
{
    for (long i = 0; i < count || count < 0; i++) {
        int error = sync_ring(sending);
        if (error)
            fail("sync: %s", strerror(error));
    }
}

/* As a program that calls poll(): ask, wait only if nothing is ready, and look again. */
static void await(uint32_t direction)
{
    for (;;) {
        int ready = client_poll(&client, direction);
        if (ready < 0)
            fail("poll: %s", strerror(-ready));
        if (ready & CONTROL_ERROR)
            fail("poll: a rule is broken");
        if (ready & direction)
            return;
        struct pollfd wake = {.fd = direction == CONTROL_RX ? wake_rx : wake_tx, .events = POLLIN};
        if (poll(&wake, 1, PATIENCE_MS) != 1)
            fail("nobody woke this program in %d ms (%u)", PATIENCE_MS, direction);
    }
}

/* Of the frame in the slot at head. */
static uint8_t *first_byte(struct netmap_ring *ring)
{
    return (uint8_t *)ring + ring->buf_ofs + (uint64_t)ring->slot[ring->head].buf_idx * ring->nr_buf_size;
}

static void receive(long count)
{
    for (long taken = 0; taken < count;) {
        await(CONTROL_RX);
        for (; space(rx) && taken < count; advance(rx, 1), taken++) {
            uint8_t number = *first_byte(rx);
            if (number != (uint8_t)taken)
                fail("frame %ld has the number %u", taken, number);
        }
    }
}

static void send_frames(long count)
{
    for (long sent = 0; sent < count;) {
        await(CONTROL_TX);
        for (; space(tx) && sent < count; advance(tx, 1), sent++) {
            *first_byte(tx) = (uint8_t)sent;
            tx->slot[tx->head].len_flags = 60;
        }
    }
    if (client_sync_tx(&client))
        fail("the last txsync");
}

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* What a tenth and the half of the chunks took at most, so that an interrupted one does not count. */
static void time_syncs(bool sending, long count, uint32_t batch)
{
    enum { CHUNK = 50 };
    struct netmap_ring *ring = sending ? tx : rx;
    double *chunks = calloc((size_t)count / CHUNK + 1, sizeof(*chunks));
    size_t n = 0;
    for (uint32_t i = 0; sending && i < ring->num_slots; i++)
        ring->slot[i].len_flags = 60;
    for (long done = 0; done + CHUNK <= count; done += CHUNK) {
        uint64_t start = now_ns();
        for (int i = 0; i < CHUNK; i++) {
            if (batch)
                advance(ring, batch < space(ring) ? batch : space(ring));
            if (sync_ring(sending))
                fail("a timed sync");
        }
        chunks[n++] = (double)(now_ns() - start) / CHUNK;
    }
    qsort(chunks, n, sizeof(*chunks), by_value);
    printf("%.0f %.0f\n", chunks[n / 10], chunks[n / 2]);
}

/* Tickets, sleepers and events: wild values, and steps of one, at any moment; at times the whole page goes, or a kick
 * comes. */
static _Noreturn void scribble(uint32_t seed)
{
    uint32_t *words = (uint32_t *)client.asks;
    for (uint64_t x = seed * 2654435761u + 1;; x = x * UINT64_C(6364136223846793005) + 1442695040888963407u) {
        uint32_t *word = &words[(x >> 40) % (sizeof(struct asks) / 4)];
        if (x >> 33 & 1)
            __atomic_fetch_add(word, 1, __ATOMIC_RELAXED);
        else
            __atomic_store_n(word, (uint32_t)(x >> 30), __ATOMIC_RELAXED);
        if (x >> 50 == 1 && madvise(client.asks, CONTROL_PAGE, MADV_REMOVE))
            fail("MADV_REMOVE: %s", strerror(errno));
        if (x >> 50 == 2 && write(client.kick, &(uint64_t){1}, sizeof(uint64_t)) < 0)
            fail("a kick: %s", strerror(errno));
    }
}

static void *thread_tx(void *count)
{
    sync_often(true, *(long *)count);
    return NULL;
}

static void *thread_send(void *count)
{
    send_frames(*(long *)count);
    return NULL;
}

static void do_nothing(int number)
{
    (void)number;
}

int main(int argc, char **argv)
{
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = do_nothing}, NULL); /* without SA_RESTART: EINTR */
    if (argc < 12)
        fail("usage: see the file");
    attach(argv + 1);
    const char *command = argv[10];
    bool sending = !strcmp(argv[11], "tx");
    long count = argc > 12 ? atol(argv[12]) : atol(argv[11]);
    pthread_t other;
    puts("ready");
    fflush(stdout);
    if (!strcmp(command, "sync"))
        sync_often(sending, count);
    else if (!strcmp(command, "forever"))
        sync_often(sending, -1);
    else if (!strcmp(command, "receive"))
        receive(count);
    else if (!strcmp(command, "send"))
        send_frames(count);
    else if (!strcmp(command, "time"))
        time_syncs(sending, count, (uint32_t)atol(argv[13]));
    else if (!strcmp(command, "scribble"))
        scribble((uint32_t)count);
    else if (!strcmp(command, "both") || !strcmp(command, "pollers")) {
        bool polls = *command == 'p';
        if (pthread_create(&other, NULL, polls ? thread_send : thread_tx, &count))
            fail("no thread");
        if (polls)
            receive(count);
        else
            sync_often(false, count);
        pthread_join(other, NULL);
    } else
        fail("no such command: %s", command);
    return 0;
}
