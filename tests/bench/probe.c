/* What a machine allows: the speed of NOPs on this CPU, and the cost of cache lines that another core has written.
 *
 * Two threads take turns, each pinned to a CPU. The owner writes one line in each of COUNT buffers, so that the lines
 * are dirty in its cache; then the other side reads, writes or copies to them, and only this is timed. The lines are
 * STRIDE bytes apart, as a port's buffers are, and come in a shuffled order, so that no hardware prefetcher helps.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ticks.h"

enum {
    LINE = 64,
    STRIDE = 2112, /* bytes of a buffer (driver/config.py) */
    COUNT = 256,   /* lines: a batch */
    AHEAD = 16,    /* lines between a prefetch and its use: as many as a core has in flight */
    WARM_UP = 10,
    NOP_LOOPS = 100,
};

#define TURN_LIMIT_NS UINT64_C(5000000000)

enum access { READ_ALONE, READ, READ_PREFETCHED, WRITE_ALONE, WRITE, WRITE_PREFETCHED, COPY, COPY_PREFETCHED };
enum turn { OWNER, OTHER, END };

struct buffers {
    _Alignas(2 * LINE) uint32_t turn;
    _Alignas(2 * LINE) uint8_t *lines;
    uint8_t *own; /* what a copy reads: lines of the timed side */
    uint32_t order[COUNT];
    int owner_cpu;
};

static bool pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return !pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

/* NOPs in a counter's tick, in `chunks` chunks of some 20 us. A neighbour on the same core halves it. */
void nop_rates(double *rates, int chunks)
{
    for (int chunk = 0; chunk < chunks; chunk++) {
        uint64_t start = counter();
        for (int loop = 0; loop < NOP_LOOPS; loop++)
            __asm__ volatile(".rept 2048\n\tnop\n\t.endr");
        rates[chunk] = NOP_LOOPS * 2048.0 / (double)(counter() - start);
    }
}

double ticks_a_second(void)
{
    return counter_hz();
}

/* prefetch for a write. __builtin_prefetch(p, 1) is a prefetch for a read, unless the compiler may assume PREFETCHW;
 * processors of x86-64 without it take it for a NOP. */
static inline void prefetch_to_write(const void *line)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw %0" ::"m"(*(const char *)line));
#else
    __builtin_prefetch(line, 1);
#endif
}

static uint8_t *line_of(struct buffers *b, uint32_t i)
{
    return b->lines + (size_t)b->order[i & (COUNT - 1)] * STRIDE;
}

/* release, acquire: each side sees what the other wrote in its turn */
static void pass(struct buffers *b, enum turn to)
{
    __atomic_store_n(&b->turn, to, __ATOMIC_RELEASE);
}

static bool wait_while(struct buffers *b, enum turn whose)
{
    uint64_t start = now_ns();
    while (__atomic_load_n(&b->turn, __ATOMIC_ACQUIRE) == whose)
        if (now_ns() - start > TURN_LIMIT_NS)
            return false;
    return true;
}

/* Makes all lines dirty in its cache. The first word of each is the place of the next line, for READ_ALONE. */
static void *owner_run(void *argument)
{
    struct buffers *b = argument;
    pin(b->owner_cpu);
    while (wait_while(b, OTHER) && __atomic_load_n(&b->turn, __ATOMIC_ACQUIRE) == OWNER) {
        for (uint32_t i = 0; i < COUNT; i++) {
            uint64_t next = (uint64_t)b->order[(i + 1) & (COUNT - 1)] * STRIDE;
            for (size_t word = 0; word < LINE; word += sizeof next)
                memcpy(line_of(b, i) + word, &next, sizeof next);
        }
        __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the stores have reached the cache before the turn ends */
        pass(b, OTHER);
    }
    return NULL;
}

static uint64_t read_lines(struct buffers *b, bool prefetched)
{
    uint64_t seen = 0, word;
    for (uint32_t i = 0; i < COUNT; i++) {
        if (prefetched)
            __builtin_prefetch(line_of(b, i + AHEAD), 0);
        memcpy(&word, line_of(b, i), sizeof word);
        seen += word;
    }
    return seen;
}

/* Each line tells where the next one is, so that one load waits for the other. */
static uint64_t read_alone(struct buffers *b)
{
    uint64_t place = (uint64_t)b->order[0] * STRIDE;
    for (uint32_t i = 0; i < COUNT; i++)
        memcpy(&place, b->lines + place, sizeof place);
    return place;
}

/* The same, with an exchange: a plain store would not wait for the one before it. */
static uint64_t write_alone(struct buffers *b)
{
    uint64_t place = (uint64_t)b->order[0] * STRIDE;
    for (uint32_t i = 0; i < COUNT; i++)
        place = __atomic_exchange_n((uint64_t *)(void *)(b->lines + place), 0, __ATOMIC_RELAXED);
    return place;
}

static void write_lines(struct buffers *b, bool prefetched)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        if (prefetched)
            prefetch_to_write(line_of(b, i + AHEAD));
        __atomic_store_n((uint64_t *)(void *)line_of(b, i), i, __ATOMIC_RELAXED);
    }
}

static void copy_lines(struct buffers *b, bool prefetched)
{
    for (uint32_t i = 0; i < COUNT; i++) {
        if (prefetched)
            prefetch_to_write(line_of(b, i + AHEAD));
        memcpy(line_of(b, i), b->own + (size_t)i * LINE, LINE);
    }
}

static uint64_t timed(struct buffers *b, enum access access, uint64_t *seen)
{
    uint64_t start = counter();
    if (access == READ_ALONE)
        *seen += read_alone(b);
    else if (access == READ || access == READ_PREFETCHED)
        *seen += read_lines(b, access == READ_PREFETCHED);
    else if (access == WRITE_ALONE)
        *seen += write_alone(b);
    else if (access == WRITE || access == WRITE_PREFETCHED)
        write_lines(b, access == WRITE_PREFETCHED);
    else
        copy_lines(b, access == COPY_PREFETCHED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* stores that still wait for their lines belong to the time */
    return counter() - start;
}

static void shuffle(uint32_t *order)
{
    uint32_t random = 1;
    for (uint32_t i = 0; i < COUNT; i++)
        order[i] = i;
    for (uint32_t i = COUNT - 1; i; i--) {
        random = random * 1664525 + 1013904223;
        uint32_t other = (random >> 8) % (i + 1), swapped = order[i];
        order[i] = order[other];
        order[other] = swapped;
    }
}

static uint8_t *mapped(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static int measure(struct buffers *b, enum access access, double *ticks_a_line, int rounds)
{
    uint64_t seen = 0;
    for (int round = -WARM_UP; round < rounds; round++) {
        pass(b, OWNER);
        if (!wait_while(b, OWNER))
            return -1;
        for (uint32_t i = 0; i < COUNT; i++) /* the source of a copy is in this core's cache */
            b->own[(size_t)i * LINE] = (uint8_t)round;
        uint64_t ticks = timed(b, access, &seen);
        if (round >= 0)
            ticks_a_line[round] = (double)ticks / COUNT;
    }
    return seen == 1; /* always 0: places are multiples of STRIDE; the compiler has to keep the reads */
}

/* Counter ticks a line, for each of `rounds` rounds. The calling thread runs on `cpu` from then on. Returns 0, or -1
 * if the threads or their memory cannot be had. */
int line_costs(int access, int cpu, int owner_cpu, double *ticks_a_line, int rounds)
{
    struct buffers b = {.turn = OTHER, .owner_cpu = owner_cpu};
    size_t size = (size_t)COUNT * STRIDE, own_size = (size_t)COUNT * LINE;
    pthread_t owner;
    int result = -1;
    shuffle(b.order);
    b.lines = mapped(size);
    b.own = mapped(own_size);
    if (b.lines && b.own && pin(cpu) && !pthread_create(&owner, NULL, owner_run, &b)) {
        result = measure(&b, (enum access)access, ticks_a_line, rounds);
        pass(&b, END);
        pthread_join(owner, NULL);
    }
    if (b.lines)
        munmap(b.lines, size);
    if (b.own)
        munmap(b.own, own_size);
    return result;
}
