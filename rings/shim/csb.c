#include "calls.h"
#include "csb.h"
#include "usercopy.h"
#include "view.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>

enum {
    ENTRY = 64, /* bytes of an entry of a control block, and its alignment */
    MOST_SLEEP_US = 1000000,
    LONGEST_WAIT_MS = 3000,
    PENDING_WAIT_MS = 1, /* frames are on their way: nothing tells this loop that they have left */
    KLOOP_RUNNING = 1, /* bits of handle.kloop */
    KLOOP_STOPPING = 2,
};

struct atok { /* the program writes it, the loop reads it */
    uint32_t head, cur;
    uint32_t appl_need_kick;
    uint32_t sync_flags;
    uint32_t pad[12];
};

struct ktoa { /* the loop writes it */
    uint32_t hwcur, hwtail;
    uint32_t kern_need_kick;
    uint32_t pad[13];
};
static_assert(sizeof(struct atok) == ENTRY && sizeof(struct ktoa) == ENTRY, "entries of a control block");

struct csb {
    struct view *view;
    int stop; /* eventfd: wakes a loop that is to stop */
    struct atok *atok; /* one for each bound ring, TX rings first */
    struct ktoa *ktoa;
    const struct answers *answers; /* tails come from there: cur and tail of the rings are the program's now */
    uint32_t head[CONTROL_TAILS]; /* what was last taken from the program */
};

/* ---- CSB mode ---- */

int csb_check(const struct nmreq_opt_csb *option, uint64_t flags)
{
    uint8_t entry[ENTRY];
    if (!(flags & NR_EXCLUSIVE) || option->csb_atok % ENTRY || option->csb_ktoa % ENTRY)
        return EINVAL;
    if (copy_in(entry, option->csb_atok, ENTRY) || copy_in(entry, option->csb_ktoa, ENTRY) ||
        copy_out(option->csb_ktoa, entry, ENTRY))
        return EFAULT;
    return 0;
}

/* The state that the program begins with. EFAULT: the blocks are shorter than the number of rings. */
static int write_blocks(struct csb *csb)
{
    for (uint32_t i = 0; i < csb->view->rings; i++) {
        const struct netmap_ring *ring = csb->view->ring[i];
        struct atok atok = {.head = ring->head, .cur = ring->cur, .appl_need_kick = 1, .sync_flags = 1};
        struct ktoa ktoa = {.hwcur = ring->head, .hwtail = ring->tail, .kern_need_kick = 1};
        if (copy_out((uintptr_t)&csb->atok[i], &atok, ENTRY) || copy_out((uintptr_t)&csb->ktoa[i], &ktoa, ENTRY))
            return EFAULT;
    }
    return 0;
}

static void release(struct csb *csb)
{
    view_release(csb->view);
    if (csb->stop >= 0)
        close_own(csb->stop);
    free(csb);
}

/* From the next request on, it takes only head from the rings, and gives the tails in the answers. */
static void tell_daemon(struct asks *asks)
{
    struct ask *each[] = {&asks->tx, &asks->rx, &asks->poll};
    for (int i = 0; i < 3; i++)
        __atomic_store_n(&each[i]->csb, 1, __ATOMIC_RELAXED);
}

int csb_enable(struct handle *h, const struct nmreq_opt_csb *option)
{
    struct csb *csb = calloc(1, sizeof *csb), *none = NULL;
    if (!csb)
        return ENOMEM;
    csb->atok = (void *)(uintptr_t)option->csb_atok;
    csb->ktoa = (void *)(uintptr_t)option->csb_ktoa;
    csb->answers = h->client.answers;
    csb->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int error = csb->stop < 0 ? errno : view_make(&csb->view, h->region, &h->bound);
    if (!error)
        error = write_blocks(csb);
    if (!error && !atomic_compare_exchange_strong(&h->csb, &none, csb))
        error = EBUSY;
    if (error)
        release(csb);
    else
        tell_daemon(h->client.asks);
    return error;
}

void csb_end(struct handle *h)
{
    struct csb *csb = atomic_exchange(&h->csb, NULL);
    if (csb)
        release(csb);
    atomic_store(&h->kloop, 0);
}

int csb_request(struct handle *h, struct request *r)
{
    struct nmreq_opt_csb *option = (void *)option_find(r, NETMAP_REQ_OPT_CSB);
    if (!option)
        return EINVAL;
    int error = 0;
    if (atomic_load(&h->kloop) & KLOOP_RUNNING)
        error = EBUSY;
    else if (handle_is_bound(h)) {
        error = csb_check(option, h->bound.nr_flags);
        if (!error)
            error = csb_enable(h, option);
    }
    option->nro_opt.nro_status = (uint32_t)error;
    return error;
}

/* ---- one round of the loop ---- */

/* Take the program's head into the rings of a direction. acquire: its slots were written before its head. */
static void take_heads(struct csb *csb, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        csb->head[i] = __atomic_load_n(&csb->atok[i].head, __ATOMIC_ACQUIRE);
        __atomic_store_n(&csb->view->ring[i]->head, csb->head[i], __ATOMIC_RELAXED); /* the request releases it */
    }
}

/* Relaxed: it comes with the answer to a request, which was loaded with acquire. */
static uint32_t tail_of(const struct csb *csb, uint32_t i)
{
    return __atomic_load_n(&csb->answers->tails[i], __ATOMIC_RELAXED);
}

/* The daemon refused the head, which broke a rule, and put it back. */
static bool is_refused(const struct csb *csb, uint32_t i)
{
    return __atomic_load_n(&csb->view->ring[i]->head, __ATOMIC_RELAXED) != csb->head[i];
}

/* Tell the program what the sync has done. release: the slots come before the tail that gives them away. As in netmap,
 * an entry whose head is refused stays as it is. */
static bool give_tails(struct csb *csb, uint32_t from, uint32_t to, const struct kloop_eventfds *fds)
{
    static const uint64_t one = 1;
    bool moved = false;
    for (uint32_t i = from; i < to; i++) {
        struct ktoa *ktoa = &csb->ktoa[i];
        uint32_t cur = csb->head[i], tail = tail_of(csb, i);
        if (is_refused(csb, i))
            continue;
        bool tail_moved = ktoa->hwtail != tail;
        moved |= tail_moved || ktoa->hwcur != cur;
        __atomic_store_n(&ktoa->hwcur, cur, __ATOMIC_RELAXED);
        __atomic_store_n(&ktoa->hwtail, tail, __ATOMIC_RELEASE);
        /* the program stores appl_need_kick and then looks at hwtail; this does it in the other order */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (tail_moved && fds && fds[i].irqfd >= 0 && __atomic_load_n(&csb->atok[i].appl_need_kick, __ATOMIC_RELAXED) &&
            original()->write(fds[i].irqfd, &one, sizeof one) < 0)
            continue; /* full: the program has been told often enough */
    }
    return moved;
}

/* Both directions. Negative: the daemon has gone. Otherwise whether anything has moved. */
static int sync_all(struct handle *h, struct csb *csb, const struct kloop_eventfds *fds)
{
    take_heads(csb, 0, csb->view->tx);
    if (csb->view->tx && client_sync_tx(&h->client))
        return -ENXIO;
    bool moved = give_tails(csb, 0, csb->view->tx, fds);
    take_heads(csb, csb->view->tx, csb->view->rings);
    if (csb->view->rings > csb->view->tx && client_sync_rx(&h->client))
        return -ENXIO;
    return give_tails(csb, csb->view->tx, csb->view->rings, fds) || moved;
}

static void want_kicks(struct csb *csb, uint32_t wanted)
{
    for (uint32_t i = 0; i < csb->view->rings; i++)
        __atomic_store_n(&csb->ktoa[i].kern_need_kick, wanted, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the program moves head and then looks at kern_need_kick */
}

static bool heads_have_moved(const struct csb *csb)
{
    for (uint32_t i = 0; i < csb->view->rings; i++)
        if (__atomic_load_n(&csb->atok[i].head, __ATOMIC_ACQUIRE) != csb->head[i])
            return true;
    return false;
}

static bool frames_pending(const struct csb *csb)
{
    for (uint32_t i = 0; i < csb->view->tx; i++) {
        uint32_t tail = tail_of(csb, i);
        if ((tail + 1 == csb->view->ring[i]->num_slots ? 0 : tail + 1) != csb->head[i])
            return true;
    }
    return false;
}

/* ---- the loop ---- */

static bool is_stopped(struct handle *h)
{
    return atomic_load(&h->kloop) & KLOOP_STOPPING;
}

/* Both loops sync once more after the stop: what the program gave before it is sent. netmap leaves that to the next
 * start. */

/* Without descriptors: look at all rings, sleep, look again. */
static int loop_by_time(struct handle *h, struct csb *csb, uint32_t sleep_us)
{
    const struct timespec time = {.tv_sec = sleep_us / 1000000, .tv_nsec = sleep_us % 1000000 * 1000L};
    want_kicks(csb, 0);
    for (bool last = false; !last;) {
        last = is_stopped(h);
        if (sync_all(h, csb, NULL) < 0)
            return ENXIO;
        if (!last)
            nanosleep(&time, NULL);
    }
    return 0;
}

static void empty(const struct pollfd *entries, nfds_t count)
{
    uint64_t value;
    for (nfds_t i = 0; i < count; i++)
        if (entries[i].revents & POLLIN && original()->read(entries[i].fd, &value, sizeof value) < 0)
            continue; /* another reader was faster */
}

/* Sleep until the program kicks, an empty or full ring changes, or the loop is stopped. */
static int sleep_on(struct handle *h, struct csb *csb, struct pollfd *entries)
{
    int ready = client_poll(&h->client, CONTROL_RX | CONTROL_TX); /* arms what is not ready, and may move tails */
    if (ready < 0)
        return ENXIO;
    nfds_t kicks = csb->view->rings, count = kicks;
    entries[count++] = (struct pollfd){.fd = csb->stop, .events = POLLIN};
    if (csb->view->rings > csb->view->tx && !(ready & CONTROL_RX))
        entries[count++] = (struct pollfd){.fd = h->wake_rx, .events = POLLIN};
    if (csb->view->tx && !(ready & CONTROL_TX))
        entries[count++] = (struct pollfd){.fd = h->wake_tx, .events = POLLIN};
    original()->poll(entries, count, frames_pending(csb) ? PENDING_WAIT_MS : LONGEST_WAIT_MS);
    empty(entries, kicks);
    return 0;
}

static int loop_by_kicks(struct handle *h, struct csb *csb, const struct kloop_eventfds *fds)
{
    struct pollfd *entries = calloc(csb->view->rings + 3, sizeof *entries);
    int error = entries ? 0 : ENOMEM;
    for (uint32_t i = 0; i < csb->view->rings && !error; i++)
        entries[i] = (struct pollfd){.fd = fds[i].ioeventfd, .events = POLLIN};
    for (bool last = false; !error && !last;) {
        last = is_stopped(h);
        want_kicks(csb, 0);
        int moved = sync_all(h, csb, fds);
        if (moved > 0)
            continue;
        want_kicks(csb, 1);
        if (moved < 0)
            error = ENXIO;
        else if (!last && !heads_have_moved(csb))
            error = sleep_on(h, csb, entries);
    }
    free(entries);
    return error;
}

/* The options of KLOOP_START. 0 or an errno, which is also the status of the option at fault. */
static int check_options(struct csb *csb, struct request *r, const struct kloop_eventfds **fds)
{
    struct nmreq_option *events = option_find(r, NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS);
    struct nmreq_opt_sync_kloop_mode *mode = (void *)option_find(r, NETMAP_REQ_OPT_SYNC_KLOOP_MODE);
    bool kicks = events != NULL;
    if (mode)
        mode->nro_opt.nro_status = mode->mode & ~3u ? EINVAL : 0;
    if (events) {
        *fds = (const void *)(events + 1);
        bool right = events->nro_size == sizeof *events + csb->view->rings * sizeof **fds;
        for (uint32_t i = 0; right && i < csb->view->rings; i++)
            kicks &= (*fds)[i].ioeventfd >= 0;
        events->nro_status = !right || (mode && mode->mode && !kicks) ? EINVAL : 0;
        if (events->nro_status)
            return EINVAL;
    }
    if (!kicks)
        *fds = NULL;
    return mode && mode->nro_opt.nro_status ? EINVAL : 0;
}

static void wake_stoppers(struct handle *h)
{
    syscall(SYS_futex, &h->kloop, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

int kloop_start(struct handle *h, struct request *r)
{
    uint32_t sleep_us = ((struct nmreq_sync_kloop_start *)(void *)r->body)->sleep_us;
    const struct kloop_eventfds *fds = NULL;
    if (sleep_us > MOST_SLEEP_US)
        return EINVAL;
    if (!handle_is_bound(h))
        return ENXIO;
    struct csb *csb = atomic_load(&h->csb);
    if (!csb)
        return EINVAL;
    if (atomic_fetch_or(&h->kloop, KLOOP_RUNNING) & KLOOP_RUNNING)
        return EBUSY;
    int error = check_options(csb, r, &fds);
    if (!error)
        error = fds ? loop_by_kicks(h, csb, fds) : loop_by_time(h, csb, sleep_us);
    want_kicks(csb, 1);
    atomic_store(&h->kloop, 0);
    wake_stoppers(h);
    return error;
}

/* Also before a start: that loop then ends at once. */
int kloop_stop(struct handle *h)
{
    static const uint64_t one = 1;
    if (!handle_is_bound(h))
        return ENXIO;
    uint32_t state = atomic_fetch_or(&h->kloop, KLOOP_STOPPING) | KLOOP_STOPPING;
    struct csb *csb = atomic_load(&h->csb);
    if (csb && original()->write(csb->stop, &one, sizeof one) < 0)
        return errno == EAGAIN ? 0 : errno;
    while (state & KLOOP_RUNNING) {
        syscall(SYS_futex, &h->kloop, FUTEX_WAIT, state, NULL, NULL, 0);
        state = atomic_load(&h->kloop);
    }
    return 0;
}
