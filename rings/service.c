/* The loop of the daemon's service thread, and how it falls asleep. */
#define _POSIX_C_SOURCE 200809L

#include "service.h"

#include <sched.h>
#include <time.h>

/* Python is told of broken rules at most this often: a program that breaks one in each sync must not slow others. */
enum { TELL_EVERY_NS = 100 * 1000 * 1000, PASSES_PER_CLOCK = 8 };

static uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static void set_sleeping(struct service *s, uint32_t sleeping)
{
    s->asleep = sleeping;
    for (uint32_t i = 0; i < s->handle_count; i++)
        __atomic_store_n(&s->handles[i]->answers->sleeping, sleeping, __ATOMIC_RELAXED);
}

int service_ready(const struct service *s)
{
    for (uint32_t i = 0; i < s->handle_count; i++)
        if (handle_waits(s->handles[i]))
            return 1;
    return 0;
}

/* A program adds its ticket and then looks at `sleeping`; this stores `sleeping` and then looks at the tickets. Both
 * sides are sequentially consistent, here by a fence for all handles. So at least one of them sees the other: the
 * program writes to its eventfd, or this finds its ticket. False if there is something to do. */
static bool fall_asleep(struct service *s)
{
    set_sleeping(s, 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!service_ready(s))
        return true;
    set_sleeping(s, 0);
    return false;
}

static bool work(struct service *s)
{
    bool worked = false;
    for (uint32_t i = 0; i < s->handle_count; i++) {
        struct handle *h = s->handles[i];
        worked |= serve(s, h);
        if (h->armed)
            worked |= wake_armed(h);
    }
    if (s->task_count)
        s->now_ns = monotonic_ns();
    for (uint32_t i = 0; i < s->task_count; i++) {
        struct task *task = s->tasks[i];
        worked |= task->work(task, s->now_ns);
        s->attention |= task->attention;
        task->attention = 0;
    }
    s->passes++;
    return worked;
}

/* Acquire: what Python wrote before it stored 1. */
static bool stopped(struct service *s)
{
    return __atomic_load_n(&s->stop, __ATOMIC_RELAXED) && __atomic_exchange_n(&s->stop, 0, __ATOMIC_ACQUIRE);
}

/* Clears what is told. */
__attribute__((cold)) static bool tell_broken(struct service *s, bool at_once)
{
    uint64_t now = monotonic_ns();
    if (!at_once && now - s->told_ns < TELL_EVERY_NS)
        return false;
    s->told_ns = now;
    s->broken = 0;
    return true;
}

struct idle {
    uint32_t passes; /* without work, since the last work */
    uint64_t since_ns, for_ns;
    bool spins;
    uint32_t left_out; /* spins to leave out, as in client.c */
};

/* `passes` without work are counted, because a clock costs as much as a pass. */
static void idle_pass(const struct service *s, struct idle *idle)
{
    if (idle->passes++ % PASSES_PER_CLOCK && idle->for_ns < s->spin_ns)
        return;
    uint64_t now = monotonic_ns();
    if (idle->passes == 1)
        idle->since_ns = now;
    idle->for_ns = now - idle->since_ns;
}

/* Look again soon: at once for spin_ns, then after other threads on this processor, one of which may be the program that
 * asks next. False: time to sleep. */
static bool waits_awake(const struct service *s, struct idle *idle)
{
    if (!idle->passes) {
        idle->spins = !idle->left_out;
        idle->left_out -= !idle->spins;
    }
    idle_pass(s, idle);
    if (idle->spins && idle->for_ns < s->spin_ns) {
        relax();
        return true;
    }
    if (idle->spins)
        idle->left_out = CONTROL_SPINS_LEFT_OUT;
    if (!s->spin_ns || idle->for_ns >= CONTROL_YIELD_NS)
        return false;
    sched_yield();
    return true;
}

static void end_idleness(struct idle *idle)
{
    idle->passes = 0;
    idle->for_ns = 0;
}

int service_run(struct service *s)
{
    struct idle idle = {0};
    s->attention = 0;
    if (s->asleep)
        set_sleeping(s, 0);
    for (;;) {
        if (stopped(s))
            return SERVICE_COMMAND;
        bool worked = work(s);
        if (s->attention)
            return SERVICE_ATTENTION;
        if (s->broken && tell_broken(s, false))
            return SERVICE_VIOLATION;
        if (worked)
            end_idleness(&idle);
        if (worked || waits_awake(s, &idle))
            continue;
        if (s->broken && tell_broken(s, true))
            return SERVICE_VIOLATION;
        if (fall_asleep(s))
            return SERVICE_SLEEP;
        end_idleness(&idle);
    }
}

const uint32_t service_layout[] = {
    sizeof(struct kring),
    sizeof(struct handle),
    sizeof(struct task),
    sizeof(struct service),
    sizeof(struct asks),
    sizeof(struct answers),
    offsetof(struct kring, filled),
    offsetof(struct kring, behind),
    offsetof(struct kring, zone_of),
    offsetof(struct kring, stamp),
    offsetof(struct kring, drops),
    offsetof(struct kring, attention),
    offsetof(struct handle, tx),
    offsetof(struct handle, kick),
    offsetof(struct handle, armed),
    offsetof(struct handle, syncs),
    offsetof(struct service, tasks),
    offsetof(struct service, stop),
    offsetof(struct service, spin_ns),
    offsetof(struct service, asleep),
    offsetof(struct service, told_ns),
    offsetof(struct asks, poll),
    offsetof(struct ask, events),
    offsetof(struct ask, csb),
    offsetof(struct answers, sleeping),
    offsetof(struct answers, tails),
    offsetof(struct answer, violations),
    offsetof(struct answer, value),
    KRING_KINDS,
    CONTROL_VERSION,
};
const uint32_t service_layout_count = sizeof(service_layout) / sizeof(service_layout[0]);
