/* Stepping: one thread steps all software 82599s of this process, or a test steps one by hand.
 *
 * One lock (freeze.c) protects the NICs: the thread holds it during a round of steps, Python during each register
 * access that has an effect, except writes of tails (doorbells.c). All NICs share it, because a frame on a cable
 * changes two. A step is short (STEP_FRAMES per queue), and the lock is given in the order in which threads ask.
 */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "freeze.h"
#include "phase.h"
#include "receive.h"
#include "transmit.h"

enum {
    PAUSE_ROUNDS = 32,  /* idle rounds without a system call: an active driver rings again within 1 to 2 us */
    SPIN_ROUNDS = 2000, /* then rounds that only yield: a few hundred microseconds */
    NAP_ROUNDS = 4000,  /* then short sleeps, and longer ones */
    SLEEP_ROUNDS = 8000, /* after about a second of idleness the longest ones: the first frame comes up to 1 ms later */
    NAP_NS = 20000,
    SLEEP_NS = 200000,
    IDLE_NS = 1000000,
};

static struct {
    pthread_mutex_t lifecycle; /* protects start and stop of the thread */
    pthread_t thread;
    struct nic *nics;
    atomic_uint count;
    atomic_bool stop;
} engine = {.lifecycle = PTHREAD_MUTEX_INITIALIZER, .stop = true};

/* ---- the lock ---- */

struct nic *engine_first_nic(void)
{
    return engine.nics;
}

/* Whether the engine steps this NIC. Call it with the lock held; the pointer of a NIC that was closed is not used. */
bool engine_has(const struct nic *nic)
{
    for (const struct nic *each = engine.nics; each; each = each->next)
        if (each == nic)
            return true;
    return false;
}

/* No effect in a thread that already holds the lock: Ctrl-C may come after this call, before `with` can release it. */
EXPORT void engine_freeze(void)
{
    freeze_enter();
}

EXPORT void engine_resume(void)
{
    if (!freeze_held())
        return;
    for (struct nic *nic = engine.nics; nic; nic = nic->next)
        nic->settings.stale = true;
    freeze_leave();
}

/* ---- a step ---- */

static uint32_t step(struct nic *nic, uint64_t now_ns)
{
    if (nic->gone)
        return 0;
    if (nic->settings.stale)
        settings_read(nic);
    nic_link_update(nic);
    uint32_t moved = nic->wire.line ? line_deliver(nic, now_ns) : 0;
    moved += transmit_step(nic, now_ns) + receive_step(nic, now_ns);
    PHASE(ROUND);
    if (!moved && nic->wire.idle)
        nic->wire.idle(nic);
    receive_write_back(nic);
    if (nic->wire.peer)
        receive_write_back(nic->wire.peer);
    PHASE(RX_WRITE_BACK);
    send_messages(nic, now_ns);
    if (nic->vf_count)
        send_vf_messages(nic, now_ns);
    PHASE(MESSAGES);
    return moved;
}

/* One step by hand: advance the time by `ns`; each queue and the wire move at most `frames`. Returns frames moved. */
EXPORT uint32_t nic_step(struct nic *nic, uint32_t frames, uint64_t ns)
{
    PHASE_START();
    engine_freeze();
    nic->manual_ns += ns;
    nic->step_frames = frames;
    uint32_t moved = step(nic, nic->manual_ns);
    nic->step_frames = STEP_FRAMES;
    engine_resume();
    PHASE(ROUND);
    return moved;
}

/* One step of all NICs whose time is not stepped by hand. Returns frames moved. */
static uint32_t do_round(uint64_t now_ns)
{
    uint32_t moved = 0;
    freeze_enter();
    for (struct nic *nic = engine.nics; nic; nic = nic->next)
        if (!nic->manual)
            moved += step(nic, now_ns - nic->behind_ns);
    freeze_leave();
    return moved;
}

/* ---- another thread that does the rounds ---- */

/* Where there are few processors, a thread that works anyway may do the rounds: more threads that spin than processors
 * hold each other up. The engine's own thread sleeps meanwhile. It goes on when the other one ends, or has done no round
 * for IDLE_NS: that thread may have other work. */
static struct {
    atomic_uint works; /* a futex: 1 while another thread does the rounds */
    atomic_uint rounds;
} helper;

struct task;

/* A round by the calling thread. True if it moved a frame. The signature is that of a task of rings/service.h. */
EXPORT bool engine_help(struct task *unused, uint64_t now_ns)
{
    (void)unused;
    /* relaxed: the lock of a round orders everything else */
    atomic_fetch_add_explicit(&helper.rounds, 1, memory_order_relaxed);
    if (!atomic_load_explicit(&helper.works, memory_order_relaxed))
        atomic_store_explicit(&helper.works, 1, memory_order_relaxed);
    return do_round(now_ns);
}

/* The calling thread is about to sleep. */
EXPORT void engine_help_ends(void)
{
    if (atomic_exchange_explicit(&helper.works, 0, memory_order_relaxed))
        syscall(SYS_futex, &helper.works, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* False if no other thread does the rounds, and nothing was done. */
static bool wait_for_helper(void)
{
    if (!atomic_load_explicit(&helper.works, memory_order_relaxed))
        return false;
    static const struct timespec most = {.tv_nsec = IDLE_NS};
    unsigned rounds = atomic_load_explicit(&helper.rounds, memory_order_relaxed);
    syscall(SYS_futex, &helper.works, FUTEX_WAIT_PRIVATE, 1, &most, NULL, 0);
    if (atomic_load_explicit(&helper.rounds, memory_order_relaxed) == rounds)
        atomic_store_explicit(&helper.works, 0, memory_order_relaxed);
    return true;
}

/* ---- the thread ---- */

static void rest(uint32_t idle_rounds)
{
    if (idle_rounds < PAUSE_ROUNDS)
        return;
    if (idle_rounds < SPIN_ROUNDS)
        sched_yield();
    else if (idle_rounds < NAP_ROUNDS)
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    else
        nanosleep(&(struct timespec){.tv_nsec = idle_rounds < SLEEP_ROUNDS ? SLEEP_NS : IDLE_NS}, NULL);
}

static void *run(void *unused)
{
    (void)unused;
    uint32_t idle_rounds = 0;
    prctl(PR_SET_NAME, "82599");
    prctl(PR_SET_TIMERSLACK, 1000ul);
    /* relaxed: pthread_join orders everything else after `stop` */
    while (!atomic_load_explicit(&engine.stop, memory_order_relaxed)) {
        if (wait_for_helper())
            idle_rounds = 0;
        else if (do_round(monotonic_ns()))
            idle_rounds = 0;
        else if (idle_rounds < SLEEP_ROUNDS)
            rest(idle_rounds++);
        else
            rest(idle_rounds);
    }
    return NULL;
}

/* The thread blocks all signals but SIGBUS: they belong to the program; SIGBUS goes to the thread that caused it. */
static int start_thread(void)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    atomic_store_explicit(&engine.stop, false, memory_order_relaxed);
    int error = pthread_create(&engine.thread, &attributes, run, NULL);
    if (error) /* no thread to join */
        atomic_store_explicit(&engine.stop, true, memory_order_relaxed);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

/* ---- fork ---- */

/* A forked child has no engine thread, and the lock is as it was at that moment. The child's copies of the parent's NICs
 * are never stepped again: their memory and their wires are shared with the parent. A new NIC starts a new thread. */
static void in_child(void)
{
    freeze_reset();
    atomic_store_explicit(&helper.works, 0, memory_order_relaxed);
    pthread_mutex_init(&engine.lifecycle, NULL);
    engine.nics = NULL;
    /* relaxed: the child has one thread */
    atomic_store_explicit(&engine.count, 0, memory_order_relaxed);
    atomic_store_explicit(&engine.stop, true, memory_order_relaxed);
}

__attribute__((constructor)) static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, in_child);
}

/* ---- start and stop ---- */

/* Let the engine step the NIC. 0, or the errno of starting the thread. */
EXPORT int nic_start(struct nic *nic)
{
    int error = 0;
    pthread_mutex_lock(&engine.lifecycle);
    if (atomic_load(&engine.count) == 0)
        error = start_thread();
    if (!error) {
        engine_freeze();
        nic->next = engine.nics;
        engine.nics = nic;
        engine_resume();
        atomic_fetch_add(&engine.count, 1);
    }
    pthread_mutex_unlock(&engine.lifecycle);
    return error;
}

/* Stop stepping the NIC and close its wire. With the last NIC the thread ends. */
EXPORT void nic_stop(struct nic *nic)
{
    pthread_mutex_lock(&engine.lifecycle);
    engine_freeze();
    for (struct nic **at = &engine.nics; *at; at = &(*at)->next)
        if (*at == nic) {
            *at = nic->next;
            atomic_fetch_sub(&engine.count, 1);
            break;
        }
    wire_close(nic);
    engine_resume();
    if (atomic_load(&engine.count) == 0 && !atomic_load(&engine.stop)) {
        atomic_store(&engine.stop, true);
        pthread_join(engine.thread, NULL);
    }
    pthread_mutex_unlock(&engine.lifecycle);
}
