/* Costs of the hot loop in counter ticks: a fake NIC in plain memory, timed regions of REGION packets.
 *
 *     hotloop_bench tx|rx|forward BATCH same|other REGIONS SLOTS BUF_SIZE head|len 0|4|8 QUEUES CPU NIC_CPU plain|huge
 *
 * 0|4|8: slots at once by vectors, at most as many as the processor can do. The program prints the counter's
 * frequency in Hz and the number of slots at once, then each region's ticks, one a line. A region is REGION packets
 * for each queue. A sync is one call for all queues, with a batch for each. Before each region, untimed, the NIC
 * steps: it fetches the TX descriptors up to TDT and writes its head back, and completes REGION receive descriptors
 * with DD and length (82599 7.1.6.2, 7.2.3.5.2). It does not read or write packet bytes. "same": the NIC is a
 * function called on the driver's core. "other": it is a thread pinned to NIC_CPU, so descriptors, head word and tail
 * registers move between cores.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "hotloop.h"

#include "barriers.h"
#include "queue.h"
#include "ticks.h"

enum {
    REGION = 256,
    MAX_QUEUES = 16,
    FRAME = 60, /* bytes, without CRC */
    WARM_UP = 100,
    LINE = 64,
    PAGE = 4096,
    HUGEPAGE = 2 << 20,
    TOUCHED = 26, /* which byte of a packet: the first of an IPv4 source address */
    DD_EOP = 3,
};

#define TURN_LIMIT_NS UINT64_C(10000000000)
#define BUFFERS_IOVA UINT64_C(0x1000000000)

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "hotloop_bench: %s\n", what);
    exit(1);
}

/* Zeroed, and touched. Transparent hugepages are off, because the kernel gives them only sometimes. */
static uint8_t *mapped(size_t size, int flags)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (memory == MAP_FAILED)
        fail(flags ? "not enough hugepages of 2 MB. Run: echo 64 | sudo tee /proc/sys/vm/nr_hugepages"
                   : "no memory; ask for fewer slots or smaller buffers");
    madvise(memory, size, MADV_NOHUGEPAGE);
    memset(memory, 0, size);
    return memory;
}

/* The free part of the last hugepages; unused without --hugepages. */
static struct {
    bool wanted;
    uint8_t *at, *end;
} hugepages;

/* Memory that starts at a page: plain pages, or consecutive memory on hugepages, as in a port's region. */
static void *pages(size_t size)
{
    size = (size + PAGE - 1) / PAGE * PAGE;
    if (!hugepages.wanted)
        return mapped(size, 0);
    if (size > (size_t)(hugepages.end - hugepages.at)) {
        size_t whole = (size + HUGEPAGE - 1) / HUGEPAGE * HUGEPAGE;
        hugepages.at = mapped(whole, MAP_HUGETLB);
        hugepages.end = hugepages.at + whole;
    }
    hugepages.at += size;
    return hugepages.at - size;
}

/* ---- the NIC ---- */

/* The part of a queue that driver and NIC share, and the NIC's place in it. The NIC does not read the driver's
 * structures. */
struct nic_queue {
    struct descriptor *descriptors;
    uint32_t *tail;           /* TDT or RDT */
    uint32_t *head_writeback; /* TX */
    uint32_t slots, head;
};

struct nic {
    struct nic_queue tx[MAX_QUEUES], rx[MAX_QUEUES]; /* a queue without slots does not exist */
    uint64_t fetched; /* so that the compiler keeps the reads of descriptors */
};

static void nic_send(struct nic *nic, struct nic_queue *q)
{
    uint32_t tail = __atomic_load_n(q->tail, __ATOMIC_ACQUIRE);
    for (; q->head != tail; q->head = after(q->head, q->slots))
        nic->fetched += q->descriptors[q->head].address ^ q->descriptors[q->head].control;
    __atomic_store_n(q->head_writeback, q->head, __ATOMIC_RELEASE);
}

static void nic_receive(struct nic *nic, struct nic_queue *q)
{
    uint32_t tail = __atomic_load_n(q->tail, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < REGION; i++, q->head = after(q->head, q->slots)) {
        if (q->head == tail)
            fail("the driver did not give the NIC enough receive descriptors");
        nic->fetched += q->descriptors[q->head].address;
        __atomic_store_n(&q->descriptors[q->head].control, (uint64_t)FRAME << 32 | DD_EOP, __ATOMIC_RELEASE);
    }
}

static void nic_step(struct nic *nic)
{
    for (int i = 0; i < MAX_QUEUES; i++) {
        if (nic->tx[i].slots)
            nic_send(nic, &nic->tx[i]);
        if (nic->rx[i].slots)
            nic_receive(nic, &nic->rx[i]);
    }
}

/* ---- turns, if the NIC has a core of its own ---- */

enum turn { DRIVER, NIC, END };

struct other_core {
    _Alignas(2 * LINE) uint32_t turn; /* in lines of its own: the waiting side spins on it while the other is timed */
    _Alignas(2 * LINE) struct nic *nic;
    int cpu;
    pthread_t thread;
};

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    if (pthread_setaffinity_np(pthread_self(), sizeof set, &set))
        fail("cannot be pinned to that CPU; taskset -p $$ shows the allowed ones");
}

/* acquire and release: one side sees what the other wrote in its turn */
static void pass(struct other_core *other, enum turn to)
{
    __atomic_store_n(&other->turn, to, __ATOMIC_RELEASE);
}

static enum turn wait_while(struct other_core *other, enum turn whose)
{
    uint64_t start = now_ns();
    uint32_t now;
    while ((now = __atomic_load_n(&other->turn, __ATOMIC_ACQUIRE)) == whose) {
        for (int spin = 0; spin < 64; spin++)
            relax();
        if (now_ns() - start > TURN_LIMIT_NS)
            fail("the other core did not answer within 10 s");
    }
    return (enum turn)now;
}

static void *other_run(void *argument)
{
    struct other_core *other = argument;
    pin(other->cpu);
    while (wait_while(other, DRIVER) == NIC) {
        nic_step(other->nic);
        pass(other, DRIVER);
    }
    return NULL;
}

/* ---- the driver's side ---- */

struct queue_pair {
    _Alignas(LINE) struct tx_queue tx;
    _Alignas(LINE) struct rx_queue rx;
    struct forward pair;
};

struct bench {
    struct queue_pair queue[MAX_QUEUES];
    struct tx_queue *tx[MAX_QUEUES]; /* the arguments of the syncs */
    struct rx_queue *rx[MAX_QUEUES];
    struct forward *pair[MAX_QUEUES];
    struct nic nic;
    struct other_core *other; /* NULL: same core */
    uint32_t slots, buf_size, batch;
    int queues;
    bool write_len;
    uint32_t group;
    uint64_t seen; /* so that the compiler keeps the application's reads */
};

static struct netmap_ring *make_ring(uint32_t slots, uint32_t first_buffer, uint32_t buf_size)
{
    struct netmap_ring *ring = pages(sizeof *ring + slots * sizeof(struct netmap_slot));
    ring->num_slots = slots;
    ring->nr_buf_size = buf_size;
    for (uint32_t i = 0; i < slots; i++)
        ring->slot[i] = (struct netmap_slot){.buf_idx = first_buffer + i, .len = FRAME};
    return ring;
}

/* Doorbell and head write-back share a page; each has a cache line of its own. */
static void join(const struct bench *bench, struct queue *q, struct nic_queue *nic, uint32_t first_buffer,
                 uint8_t *buffers)
{
    uint8_t *words = pages(PAGE);
    *q = (struct queue){
        .ring = make_ring(bench->slots, first_buffer, bench->buf_size),
        .buffers = buffers,
        .buffers_iova = BUFFERS_IOVA,
        .descriptors = pages(bench->slots * sizeof(struct descriptor)),
        .doorbell = (uint32_t *)(void *)words,
        .buf_size = bench->buf_size,
        .total_buffers = RESERVED_BUFFERS + 2 * bench->slots * (uint32_t)bench->queues,
        .num_slots = bench->slots,
        .direct_buffers = 2 * bench->slots * (uint32_t)bench->queues,
        .frame_lengths = bench->buf_size - MIN_FRAME + 1,
        .most_received = bench->buf_size,
        .group = bench->group,
        .statistics_due = UINT64_MAX,
        .syncs_left = CHECK_EVERY,
    };
    *nic = (struct nic_queue){q->descriptors, q->doorbell, (uint32_t *)(void *)(words + 4 * LINE), bench->slots, 0};
}

static void set_up(struct bench *bench, bool tx, bool rx)
{
    uint32_t first_buffer = RESERVED_BUFFERS;
    uint8_t *buffers = pages((RESERVED_BUFFERS + 2 * (size_t)bench->slots * (size_t)bench->queues) * bench->buf_size);
    for (int i = 0; i < bench->queues; i++, first_buffer += 2 * bench->slots) {
        struct queue_pair *queue = &bench->queue[i];
        bench->tx[i] = &queue->tx;
        bench->rx[i] = &queue->rx;
        bench->pair[i] = &queue->pair;
        queue->pair = (struct forward){.rx = &queue->rx, .tx = &queue->tx};
        if (tx) {
            join(bench, &queue->tx.q, &bench->nic.tx[i], first_buffer, buffers);
            queue->tx.head_writeback = bench->nic.tx[i].head_writeback;
            queue->tx.q.hwtail = queue->tx.q.ring->tail = bench->slots - 1;
        }
        if (rx)
            join(bench, &queue->rx.q, &bench->nic.rx[i], first_buffer + bench->slots, buffers);
    }
    if (rx && rx_fill(bench->rx, bench->queues))
        fail("the receive ring could not be filled");
}

/* The application is done with `n` more slots. */
static void advance(struct netmap_ring *ring, uint32_t n)
{
    uint32_t head = ring->head + n;
    if (head >= ring->num_slots)
        head -= ring->num_slots;
    ring->cur = head;
    /* release, as netmap's users do: the slots are written first */
    __atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
}

static uint32_t available(const struct netmap_ring *ring)
{
    return distance(ring->head, __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE), ring->num_slots);
}

static uint32_t up_to_a_batch(const struct bench *bench, uint32_t slots)
{
    return slots < bench->batch ? slots : bench->batch;
}

/* The application's slots in one or two contiguous pieces; the second starts at slot 0. */
struct pieces {
    uint32_t start, first, second;
};

static struct pieces pieces_of(const struct netmap_ring *ring, uint32_t n)
{
    uint32_t to_end = ring->num_slots - ring->head, first = n < to_end ? n : to_end;
    return (struct pieces){ring->head, first, n - first};
}

static void write_lengths(struct netmap_slot *slot, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        slot[i].len = FRAME;
}

/* Hand over the next slot as netmap's users do: nm_ring_next(). */
static void pass_one(struct netmap_ring *ring)
{
    uint32_t head = after(ring->head, ring->num_slots);
    ring->cur = head;
    __atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
}

/* Batches of one, as in a simple application that sends slot after slot. */
static void transmit_each(struct bench *bench)
{
    struct netmap_ring *ring = bench->tx[0]->q.ring;
    for (uint32_t sent = 0; sent < REGION; sent++) {
        if (bench->write_len)
            ring->slot[ring->head].len = FRAME;
        pass_one(ring);
        txsync(bench->tx, 1);
    }
}

static void receive_each(struct bench *bench)
{
    struct netmap_ring *ring = bench->rx[0]->q.ring;
    for (uint32_t got = 0; got < REGION; got++) {
        rxsync(bench->rx, 1);
        if (ring->head == __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE))
            fail("a packet did not arrive");
        bench->seen += ring->slot[ring->head].len;
        pass_one(ring);
    }
    rxsync(bench->rx, 1);
}

/* A generator that sends the same buffers again and again: head moves, and slots keep their lengths or get them
 * again. */
static void transmit(struct bench *bench)
{
    if (bench->batch == 1 && bench->queues == 1) {
        transmit_each(bench);
        return;
    }
    for (uint32_t sent = 0; sent < REGION; sent += bench->batch) {
        for (int i = 0; i < bench->queues; i++) {
            struct netmap_ring *ring = bench->tx[i]->q.ring;
            if (bench->write_len) {
                struct pieces pieces = pieces_of(ring, bench->batch);
                write_lengths(&ring->slot[pieces.start], pieces.first);
                write_lengths(&ring->slot[0], pieces.second);
            }
            advance(ring, bench->batch);
        }
        txsync(bench->tx, bench->queues);
    }
}

static uint64_t read_lengths(const struct netmap_slot *slot, uint32_t n)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++)
        total += slot[i].len;
    return total;
}

/* Read each packet's length and release its slot; the last sync gives the last batch back to the NIC. All queues
 * move the same number. */
static void receive(struct bench *bench)
{
    if (bench->batch == 1 && bench->queues == 1) {
        receive_each(bench);
        return;
    }
    for (uint32_t got = 0; got < REGION;) {
        uint32_t n = 0;
        rxsync(bench->rx, bench->queues);
        for (int i = 0; i < bench->queues; i++) {
            struct netmap_ring *ring = bench->rx[i]->q.ring;
            n = up_to_a_batch(bench, available(ring));
            struct pieces pieces = pieces_of(ring, n);
            bench->seen +=
                read_lengths(&ring->slot[pieces.start], pieces.first) + read_lengths(&ring->slot[0], pieces.second);
            advance(ring, n);
        }
        got += n;
        if (!n)
            fail("a packet did not arrive");
    }
    rxsync(bench->rx, bench->queues);
}

static void touch(struct queue *q, const struct netmap_slot *slot, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        q->buffers[(uint64_t)slot[i].buf_idx * q->buf_size + TOUCHED]++;
}

/* Read and write one byte of each packet before it is forwarded. forward() syncs RX, too, so this function syncs
 * only when less than a batch waits. All queues move the same number. */
static void forward_region(struct bench *bench)
{
    for (uint32_t moved = 0; moved < REGION;) {
        if (available(bench->rx[0]->q.ring) < bench->batch)
            rxsync(bench->rx, bench->queues);
        uint32_t n = up_to_a_batch(bench, available(bench->rx[0]->q.ring));
        for (int i = 0; i < bench->queues; i++) {
            struct queue *q = &bench->rx[i]->q;
            struct pieces pieces = pieces_of(q->ring, n);
            touch(q, &q->ring->slot[pieces.start], pieces.first);
            touch(q, &q->ring->slot[0], pieces.second);
        }
        forward(bench->pair, bench->queues, n);
        moved += n;
        if (!n)
            fail("a packet did not arrive");
    }
}

static void step_nic(struct bench *bench)
{
    if (!bench->other) {
        nic_step(&bench->nic);
        return;
    }
    pass(bench->other, NIC);
    wait_while(bench->other, NIC);
}

/* The times mean nothing if the loop loses or invents packets. */
static void check(const struct bench *bench, uint64_t packets)
{
    for (int i = 0; i < bench->queues; i++) {
        const struct queue_pair *queue = &bench->queue[i];
        if (queue->tx.q.violations || queue->rx.q.violations || queue->rx.errors)
            fail("the hot loop reported a violation");
        if ((bench->nic.tx[i].slots && queue->tx.q.packets != packets) ||
            (bench->nic.rx[i].slots && queue->rx.q.packets != packets))
            fail("not every packet of a region went through");
    }
}

static void measure(struct bench *bench, void (*region)(struct bench *), uint64_t *ticks, uint32_t regions)
{
    for (uint32_t i = 0; i < WARM_UP + regions; i++) {
        step_nic(bench);
        uint64_t start = counter();
        region(bench);
        uint64_t spent = counter() - start;
        check(bench, (i + 1) * (uint64_t)REGION);
        if (i >= WARM_UP)
            ticks[i - WARM_UP] = spent;
    }
}

int main(int argc, char **argv)
{
    if (argc != 13)
        fail("started without its twelve arguments; start hotloop.py instead");
    hugepages.wanted = !strcmp(argv[12], "huge");
    bool transmits = !strcmp(argv[1], "tx"), receives = !strcmp(argv[1], "rx"), forwards = !transmits && !receives;
    uint32_t regions = (uint32_t)strtoul(argv[4], NULL, 10);
    struct bench *bench = pages(sizeof *bench);
    uint64_t *ticks = pages(regions * sizeof *ticks);
    bench->batch = (uint32_t)strtoul(argv[2], NULL, 10);
    bench->slots = (uint32_t)strtoul(argv[5], NULL, 10);
    bench->buf_size = (uint32_t)strtoul(argv[6], NULL, 10);
    bench->write_len = !strcmp(argv[7], "len");
    bench->group = least((uint32_t)atoi(argv[8]), widest());
    bench->queues = atoi(argv[9]);
    pin(atoi(argv[10]));
    set_up(bench, transmits || forwards, receives || forwards);
    printf("%.0f %u\n", counter_hz(), bench->group);

    struct other_core other = {.turn = DRIVER, .nic = &bench->nic, .cpu = atoi(argv[11])};
    if (!strcmp(argv[3], "other")) {
        bench->other = &other;
        if (pthread_create(&other.thread, NULL, other_run, &other))
            fail("no thread for the NIC");
    }
    measure(bench, transmits ? transmit : receives ? receive : forward_region, ticks, regions);
    if (bench->other) {
        pass(&other, END);
        pthread_join(other.thread, NULL);
    }
    for (uint32_t i = 0; i < regions; i++)
        printf("%llu\n", (unsigned long long)ticks[i]);
    return bench->seen + bench->nic.fetched == UINT64_MAX; /* always 0; the compiler has to keep both counts */
}
