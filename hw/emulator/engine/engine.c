/* The clock of the software 82599s of this process: one thread steps them all, or a test steps one by hand.
 *
 * One lock, `freeze`, orders the engine and everything else: Python takes it around each register access that has an
 * effect. One for all NICs, because a frame on a cable touches two. A step is short (STEP_FRAMES a queue), and the engine
 * lets anyone who waits go first.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "nic.h"

enum {
    REGISTER_BYTES = 0x20000,
    PAUSE_ROUNDS = 32, /* idle rounds without a system call: a driver at work rings again within a microsecond or two */
    SPIN_ROUNDS = 2000, /* idle rounds that only yield: a few hundred microseconds of readiness */
    NAP_ROUNDS = 4000, /* then naps, */
    NAP_NS = 20000,
    SLEEP_NS = 200000, /* then sleeps, so that an idle port costs about no CPU */
};

static struct {
    pthread_mutex_t freeze;
    atomic_uint waiting; /* threads that want `freeze`; the engine stands back for them */
    pthread_mutex_t lifecycle; /* orders starting and stopping the thread */
    pthread_t thread;
    struct nic *nics;
    atomic_uint count;
    atomic_bool stop;
} engine = {.freeze = PTHREAD_MUTEX_INITIALIZER, .lifecycle = PTHREAD_MUTEX_INITIALIZER, .stop = true};

static _Thread_local bool holds_freeze;

bool engine_holds_freeze(void)
{
    return holds_freeze;
}
struct nic *engine_first_nic(void)
{
    return engine.nics;
}

/* A thread that has it keeps it: Ctrl-C in Python can come after this call and before the `with` that undoes it. */
void engine_freeze(void)
{
    if (holds_freeze)
        return;
    /* relaxed: only a hint, the mutex orders */
    atomic_fetch_add_explicit(&engine.waiting, 1, memory_order_relaxed);
    pthread_mutex_lock(&engine.freeze);
    atomic_fetch_sub_explicit(&engine.waiting, 1, memory_order_relaxed);
    holds_freeze = true;
}

void engine_resume(void)
{
    if (!holds_freeze)
        return;
    for (struct nic *nic = engine.nics; nic; nic = nic->next)
        nic->settings.stale = true;
    holds_freeze = false;
    pthread_mutex_unlock(&engine.freeze);
}

static uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t nic_now(const struct nic *nic)
{
    return nic->manual ? nic->manual_ns : monotonic_ns();
}

/* ---- link (82599 3.7): carrier, then training, then LINKS says so and LSC is raised ---- */

void nic_link_update(struct nic *nic);

static void link_set(struct nic *nic, bool up)
{
    const uint32_t ten_gigabit = 3u << F_LINKS_SPEED_SHIFT;
    nic->link_up = up;
    reg_store(nic, R_LINKS,
              F_LINKS_LINK_10G_SERIAL_EN_MASK | (up ? F_LINKS_LINK_UP_MASK | F_LINKS_LNK_STAT_MASK | ten_gigabit : 0));
    uint32_t status = reg_load(nic, R_STATUS) & ~F_STATUS_LINK_UP_MASK;
    reg_store(nic, R_STATUS, up ? status | F_STATUS_LINK_UP_MASK : status);
    raise_other_cause(nic, F_CAUSES_LSC_MASK);
    if (nic->wire.peer) /* or one would send what the other does not receive yet */
        nic_link_update(nic->wire.peer);
}

static bool trained(const struct nic *nic)
{
    return nic_now(nic) - nic->link_training_since_ns >= nic->link_delay_ns;
}

/* A far end that trains reports a fault, so both ends of a cable come up and go down together. */
void nic_link_update(struct nic *nic)
{
    struct nic *peer = nic->wire.peer;
    bool forced = reg_load(nic, R_AUTOC) & F_AUTOC_FLU_MASK; /* whatever the other end does (8.2.3.22.19) */
    bool carrier = nic->cable_in && wire_has_far_end(nic);
    if (!carrier)
        nic->link_training_since_ns = nic_now(nic);
    bool up = forced || (carrier && trained(nic) && (!peer || trained(peer)));
    if (up != nic->link_up)
        link_set(nic, up);
}

/* Reset, or AUTOC.RESTART_AN: the link goes down and comes back. */
void nic_link_train(struct nic *nic)
{
    nic->link_training_since_ns = nic_now(nic);
    if (nic->link_up)
        link_set(nic, false);
    nic_link_update(nic);
}

/* ---- stepping ---- */

static uint32_t step(struct nic *nic, uint64_t now_ns)
{
    if (nic->gone)
        return 0;
    if (nic->settings.stale)
        settings_read(nic);
    nic_link_update(nic);
    uint32_t moved = transmit_step(nic, now_ns) + receive_step(nic, now_ns);
    if (!moved && nic->wire.idle)
        nic->wire.idle(nic);
    receive_write_back(nic);
    if (nic->wire.peer)
        receive_write_back(nic->wire.peer);
    send_messages(nic, now_ns);
    return moved;
}

/* By hand: time goes on by `ns`, each queue and the wire move at most `frames`. Returns frames moved. */
uint32_t nic_step(struct nic *nic, uint32_t frames, uint64_t ns)
{
    engine_freeze();
    nic->manual_ns += ns;
    nic->step_frames = frames;
    uint32_t moved = step(nic, nic->manual_ns);
    nic->step_frames = STEP_FRAMES;
    engine_resume();
    return moved;
}

static void rest(uint32_t idle_rounds)
{
    if (idle_rounds < PAUSE_ROUNDS)
        return;
    if (idle_rounds < SPIN_ROUNDS)
        sched_yield();
    else
        nanosleep(&(struct timespec){.tv_nsec = idle_rounds < NAP_ROUNDS ? NAP_NS : SLEEP_NS}, NULL);
}

static void *run(void *unused)
{
    (void)unused;
    uint32_t idle_rounds = 0;
    prctl(PR_SET_NAME, "82599");
    prctl(PR_SET_TIMERSLACK, 1000ul);
    /* relaxed: whatever must be seen after `stop` is ordered by the join */
    while (!atomic_load_explicit(&engine.stop, memory_order_relaxed)) {
        uint32_t moved = 0;
        uint64_t now = monotonic_ns();
        pthread_mutex_lock(&engine.freeze);
        holds_freeze = true;
        for (struct nic *nic = engine.nics; nic; nic = nic->next)
            if (!nic->manual)
                moved += step(nic, now);
        holds_freeze = false;
        pthread_mutex_unlock(&engine.freeze);
        while (atomic_load_explicit(&engine.waiting, memory_order_relaxed))
            sched_yield();
        if (moved)
            idle_rounds = 0;
        else if (idle_rounds < NAP_ROUNDS)
            rest(idle_rounds++);
        else
            rest(idle_rounds);
    }
    return NULL;
}

/* Signals are for the program's own threads; but SIGBUS comes to the thread that caused it (guard.c). */
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

/* ---- a NIC's life ---- */

void nic_destroy(struct nic *nic)
{
    if (!nic)
        return;
    for (uint32_t i = 0; i < nic->window_count; i++)
        if (nic->windows[i].mapping)
            munmap(nic->windows[i].mapping, nic->windows[i].mapped);
    remote_destroy(nic);
    director_close(nic);
    if (nic->regs)
        munmap((void *)(uintptr_t)nic->regs, REGISTER_BYTES);
    if (nic->doorbell_fd >= 0)
        close(nic->doorbell_fd);
    free(nic->windows);
    free(nic->buffer.bytes);
    free(nic->large);
    free(nic);
}

struct nic *nic_create(void)
{
    struct nic *nic = calloc(1, sizeof *nic);
    if (!nic)
        return NULL;
    nic->doorbell_fd = -1;
    void *registers = mmap(NULL, REGISTER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    nic->regs = registers == MAP_FAILED ? NULL : registers;
    nic->buffer.bytes = malloc(512 * 1024 + FRAME_MAX);
    nic->large = malloc(LARGE_MAX);
    if (!nic->regs || !nic->buffer.bytes || !nic->large) {
        nic_destroy(nic);
        return NULL;
    }
    for (uint32_t vector = 0; vector < VECTORS; vector++)
        nic->eventfds[vector] = -1;
    nic->step_frames = STEP_FRAMES;
    nic->cable_in = true;
    nic->settings.stale = true;
    return nic;
}

uint32_t *nic_registers(struct nic *nic)
{
    return (uint32_t *)(uintptr_t)nic->regs;
}

/* Let the engine step the NIC. 0, or an errno when no thread could be had. */
int nic_start(struct nic *nic)
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

/* The engine lets go of the NIC and its wire; the last one to stop takes the thread with it. */
void nic_stop(struct nic *nic)
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

/* What CTRL.RST does to the parts that are not registers; Python resets those. */
void nic_reset(struct nic *nic)
{
    for (uint32_t number = 0; number < QUEUES; number++) {
        nic->tx[number] = (struct tx_queue){0};
        nic->rx[number] = (struct rx_queue){0};
    }
    nic->tx_enabled[0] = nic->tx_enabled[1] = nic->rx_enabled[0] = nic->rx_enabled[1] = 0;
    nic->sent = 0;
    for (uint32_t vector = 0; vector < VECTORS; vector++)
        nic->next_message_ns[vector] = 0;
    nic->counters = (struct counters){0};
    packet_buffer_reset(nic);
    nic->paused = nic->pausing = false;
    director_close(nic);
    nic->clock = (struct clock){0};
    if (nic->remote)
        remote_forget(nic);
}

/* ---- doorbells for another process ---- */

/* A file with the pages of BAR0 that hold tail registers, receive queues 0..63 and 64..127, then transmit queues 0..127, so
 * that whoever maps it can ring without a message. Those pages hold other registers too, of the same queues; a store there
 * has no effect but the value. Nothing else of the NIC is in the file, and its size is sealed. -1 when it cannot be had. */
static const uint32_t doorbell_pages[] = {R_RDBAL, R_RDBAL_64, R_TDBAL, R_TDBAL + 0x1000};
enum { BAR_PAGE = 0x1000, DOORBELL_PAGES = sizeof doorbell_pages / sizeof *doorbell_pages };

int nic_share_doorbells(struct nic *nic)
{
    if (nic->doorbell_fd >= 0 || sysconf(_SC_PAGESIZE) != BAR_PAGE)
        return nic->doorbell_fd;
    int fd = memfd_create("ixrings-doorbells", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    uint8_t *registers = (uint8_t *)(uintptr_t)nic->regs;
    bool ready = !ftruncate(fd, BAR_PAGE * DOORBELL_PAGES);
    for (uint32_t i = 0; ready && i < DOORBELL_PAGES; i++)
        ready = pwrite(fd, registers + doorbell_pages[i], BAR_PAGE, BAR_PAGE * i) == BAR_PAGE;
    ready = ready && !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    for (uint32_t i = 0; ready && i < DOORBELL_PAGES; i++)
        ready = mmap(registers + doorbell_pages[i], BAR_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                     BAR_PAGE * i) != MAP_FAILED;
    if (!ready) {
        close(fd); /* pages that were replaced hold the same values, so the NIC goes on */
        return -1;
    }
    return nic->doorbell_fd = fd;
}

/* Pages of our own again, with the same values: whoever still maps the file has no hand on what the next one does. */
bool nic_unshare_doorbells(struct nic *nic)
{
    if (nic->doorbell_fd < 0)
        return true;
    uint8_t *registers = (uint8_t *)(uintptr_t)nic->regs, values[BAR_PAGE];
    bool ready = true;
    for (uint32_t i = 0; ready && i < DOORBELL_PAGES; i++) {
        uint8_t *page = registers + doorbell_pages[i];
        memcpy(values, page, BAR_PAGE);
        ready =
            mmap(page, BAR_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
        if (ready)
            memcpy(page, values, BAR_PAGE);
    }
    if (!ready)
        return false; /* no memory for a page: the file stays shared, and known as such */
    close(nic->doorbell_fd);
    nic->doorbell_fd = -1;
    return true;
}

/* ---- switches ---- */

void nic_set_manual(struct nic *nic, bool manual)
{
    nic->manual = manual;
}
void nic_set_paced(struct nic *nic, bool paced)
{
    nic->paced = paced;
}
void nic_set_bus_master(struct nic *nic, bool on)
{
    nic->bus_master = on;
}
bool nic_master_abort(const struct nic *nic)
{
    return nic->master_abort;
}
void nic_clear_master_abort(struct nic *nic)
{
    nic->master_abort = false;
}
void nic_set_gone(struct nic *nic)
{
    nic->gone = true;
}
void nic_break_write_back(struct nic *nic, bool head, bool receive)
{
    nic->no_head_writeback = head, nic->no_rx_writeback = receive;
    transmit_mend(nic);
}
void nic_set_cable(struct nic *nic, bool in)
{
    nic->cable_in = in;
}
void nic_set_link_delay(struct nic *nic, uint64_t ns)
{
    nic->link_delay_ns = ns;
}
void nic_set_eventfd(struct nic *nic, uint32_t vector, int fd)
{
    nic->eventfds[vector] = fd;
}
void nic_send_messages(struct nic *nic)
{
    send_messages(nic, nic_now(nic));
}
uint64_t nic_finding_count(const struct nic *nic)
{
    return nic->finding_count;
}
void nic_clear_findings(struct nic *nic)
{
    nic->finding_count = 0;
}
const struct finding *nic_findings(const struct nic *nic)
{
    return nic->findings;
}
