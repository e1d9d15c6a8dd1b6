/* A request of a program, and its wait for the daemon.
 *
 * System calls are made directly: write() and poll() are points of cancellation, and a thread that is cancelled there
 * would leave what its caller holds (rings/shim: a reference to the handle, which then never closes). */
#define _GNU_SOURCE

#include "client.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "barriers.h"

enum {
    LOOKS_PER_CLOCK = 16,
    LIFE_NS = 100 * 1000 * 1000, /* while it waits, look this often whether the daemon still lives */
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Tickets go round after 2^32. Acquire: what the daemon's sync wrote. Sequentially consistent, for sleep(). */
static inline bool is_done(const struct answer *answer, uint32_t ticket)
{
    return (int32_t)(__atomic_load_n(&answer->done, __ATOMIC_SEQ_CST) - ticket) >= 0;
}

/* 0, or the errno of every request. */
static int closed(const struct client *c)
{
    return (int)__atomic_load_n(&c->answers->closed, __ATOMIC_ACQUIRE);
}

static bool hung_up(const struct client *c)
{
    static const struct timespec no_time;
    struct timespec left = no_time; /* the kernel may write to it */
    struct pollfd socket = {.fd = c->socket}; /* poll() always reports POLLHUP, and skips a negative fd */
    return syscall(SYS_ppoll, &socket, 1, &left, NULL, 0) == 1 && (socket.revents & (POLLHUP | POLLERR | POLLNVAL));
}

/* The ticket was added before. Both sides are sequentially consistent (service.c): the daemon finds the ticket before
 * it sleeps, or this finds that it sleeps. */
static void kick_sleeping(const struct client *c)
{
    static const uint64_t one = 1;
    if (__atomic_load_n(&c->answers->sleeping, __ATOMIC_SEQ_CST)) {
        long written = syscall(SYS_write, c->kick, &one, sizeof(one));
        (void)written; /* full: the daemon has been told often enough */
    }
}

/* Let another thread have this processor, perhaps the daemon's, and look again. */
static bool yield_until(const struct answer *answer, uint32_t ticket, uint64_t end_ns)
{
    while (now_ns() < end_ns) {
        sched_yield();
        if (is_done(answer, ticket))
            return true;
    }
    return false;
}

/* Look again and again for c->spin_ns. *start: when it began. */
static bool spin(const struct client *c, const struct answer *answer, uint32_t ticket, uint64_t *start)
{
    uint64_t now = 0;
    do {
        for (int look = 0; look < LOOKS_PER_CLOCK; look++) {
            if (is_done(answer, ticket))
                return true;
            relax();
        }
        now = now_ns();
        if (!*start)
            *start = now;
    } while (now - *start < c->spin_ns);
    return false;
}

/* After a spin in vain the next ones are left out: the daemon's thread may wait for this processor, and then only a yield
 * brings the answer. */
static bool wait_awake(const struct client *c, const struct answer *answer, uint32_t ticket)
{
    static _Thread_local uint32_t left_out;
    uint64_t start = 0;
    if (!c->spin_ns)
        return false;
    if (left_out && c->patience != CLIENT_SPINS) {
        left_out--;
        start = now_ns();
    } else if (spin(c, answer, ticket, &start)) {
        return true;
    } else {
        left_out = CONTROL_SPINS_LEFT_OUT;
    }
    return c->patience != CLIENT_SPINS && yield_until(answer, ticket, start + CONTROL_YIELD_NS);
}

/* Wait in the kernel. `sleepers` is added before the last look at `done`, and the daemon stores `done` before it looks
 * at `sleepers` (serve.c): one of them sees the other. The futex itself compares `done` once more. */
static int sleep_until_done(const struct client *c, struct ask *ask, const struct answer *answer, uint32_t ticket)
{
    static const struct timespec life = {.tv_nsec = LIFE_NS};
    int error = 0;
    __atomic_fetch_add(&ask->sleepers, 1, __ATOMIC_SEQ_CST);
    while (!error && !is_done(answer, ticket)) {
        uint32_t seen = __atomic_load_n(&answer->done, __ATOMIC_SEQ_CST);
        error = closed(c);
        if (!error && (int32_t)(seen - ticket) < 0 &&
            syscall(SYS_futex, &answer->done, FUTEX_WAIT, seen, &life, NULL, 0)) {
            bool returns = c->patience == CLIENT_RETURNS && errno != EAGAIN;
            if (errno == ETIMEDOUT) {
                if (hung_up(c))
                    error = ENXIO;
                kick_sleeping(c);
            }
            if (!error && returns && !is_done(answer, ticket))
                error = EINTR;
        }
    }
    __atomic_fetch_sub(&ask->sleepers, 1, __ATOMIC_SEQ_CST);
    return error;
}

/* Get the next ticket, and wait until it is done. */
static int request(const struct client *c, struct ask *ask, const struct answer *answer, uint32_t *ticket)
{
    int why = closed(c);
    if (why)
        return why;
    *ticket = __atomic_add_fetch(&ask->ticket, 1, __ATOMIC_SEQ_CST);
    kick_sleeping(c);
    if (wait_awake(c, answer, *ticket))
        return 0;
    return c->patience == CLIENT_SPINS ? EAGAIN : sleep_until_done(c, ask, answer, *ticket);
}

int client_sync_tx(struct client *c)
{
    uint32_t ticket;
    return request(c, &c->asks->tx, &c->answers->tx, &ticket);
}

int client_sync_rx(struct client *c)
{
    uint32_t ticket;
    return request(c, &c->asks->rx, &c->answers->rx, &ticket);
}

/* Other threads may poll at the same time (control.h). A direction may be ready by the answer to another thread. That
 * nothing is ready counts only in the answer to the caller's own request, because only it has armed its directions. */
int client_poll(struct client *c, uint32_t events)
{
    struct ask *ask = &c->asks->poll;
    const struct answer *answer = &c->answers->poll;
    for (;;) {
        uint32_t ticket;
        __atomic_fetch_or(&ask->events, events, __ATOMIC_RELAXED); /* the ticket's release comes after */
        int error = request(c, ask, answer, &ticket);
        if (error)
            return -error;
        uint64_t both = __atomic_load_n(&answer->both, __ATOMIC_ACQUIRE);
        uint32_t ready = both >> 32 & (events | CONTROL_ERROR), looked = both >> 32 >> CONTROL_LOOKED_SHIFT;
        if (ready || ((uint32_t)both == ticket && (looked & events) == events))
            return (int)ready;
    }
}
