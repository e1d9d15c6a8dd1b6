/* epoll_create(), epoll_ctl(), epoll_wait() and their kin.
 *
 * The kernel's instance holds the handle's connection (whose end it reports, and which makes EEXIST and ENOENT right)
 * and the wake descriptors of the directions that are waited for, all with a token that no program has chosen. What the
 * program wants to hear is kept here. epoll_wait() asks the handles first, as poll() does, and takes the tokens out.
 *
 * The entries change under a lock, with signals blocked. A reader takes no lock: it copies them, and copies again if
 * they have changed meanwhile. So a signal handler never waits for the thread that it interrupted.
 */
#include "calls.h"
#include "epoll.h"
#include "wait.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>

enum {
    ENTRIES = 4096, /* in the whole process */
    ROOM = 64, /* events that one call takes from the kernel */
    WANT_RX = EPOLLIN | EPOLLRDNORM,
    WANT_TX = EPOLLOUT | EPOLLWRNORM,
};

struct entry {
    int epoll; /* -1: free */
    int fd;
    uint32_t events; /* 0 in the bits of a direction: EPOLLONESHOT has switched it off */
    uint32_t reported; /* EPOLLET: bits of TX that have been reported, and have not been off since */
    epoll_data_t data;
};

static struct entry entries[ENTRIES];
static _Atomic int used; /* no entry from here on is in use */
static _Atomic int live; /* entries in use */
static _Atomic uint32_t version; /* odd while an entry changes */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t token;

bool epoll_has_handles(void)
{
    return atomic_load_explicit(&live, memory_order_relaxed) > 0;
}

/* ---- the entries ---- */

static void begin_change(sigset_t *signals)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, signals);
    pthread_mutex_lock(&lock);
    atomic_fetch_add(&version, 1);
}

static void end_change(const sigset_t *signals)
{
    atomic_fetch_add(&version, 1);
    pthread_mutex_unlock(&lock);
    pthread_sigmask(SIG_SETMASK, signals, NULL);
}

/* A thread of the parent may have held the lock. */
static void after_fork(void)
{
    pthread_mutex_init(&lock, NULL);
    atomic_store(&version, atomic_load(&version) & ~1u);
}

__attribute__((constructor)) static void setup(void)
{
    int before = errno;
    if (getrandom(&token, sizeof token, GRND_NONBLOCK) != sizeof token)
        token = (uint64_t)(uintptr_t)&token * UINT64_C(0x9E3779B97F4A7C15);
    pthread_atfork(NULL, NULL, after_fork);
    errno = before;
}

/* Under the lock. */
static struct entry *find(int epoll, int fd)
{
    for (int i = 0; i < used; i++)
        if (entries[i].epoll == epoll && entries[i].fd == fd)
            return &entries[i];
    return NULL;
}

static struct entry *add(int epoll, int fd)
{
    struct entry *e = find(-1, -1);
    if (!e) {
        if (used == ENTRIES)
            return NULL;
        e = &entries[used++];
    }
    live++;
    *e = (struct entry){.epoll = epoll, .fd = fd};
    return e;
}

static void drop(struct entry *e)
{
    *e = (struct entry){.epoll = -1, .fd = -1};
    live--;
}

/* Copy one entry, as it is at one moment. False: it is not of this instance. */
static bool copy_entry(int i, int epoll, struct entry *to)
{
    for (;;) {
        uint32_t before = atomic_load_explicit(&version, memory_order_acquire);
        if (before & 1)
            continue;
        *to = entries[i];
        atomic_thread_fence(memory_order_acquire); /* the copy is complete before the version is compared */
        if (atomic_load_explicit(&version, memory_order_relaxed) == before)
            return to->epoll == epoll;
    }
}

/* ---- the kernel's instance ---- */

/* Under the lock: let the kernel watch the directions that any entry of this handle wants. Two entries may have one
 * handle, by two descriptors. */
static void watch(int epoll, const struct handle *h)
{
    uint32_t wanted = 0; /* EPOLLET only for TX: see ask_entry() */
    for (int i = 0; i < used; i++) {
        if (entries[i].epoll != epoll)
            continue;
        struct handle *other = handle_get(entries[i].fd);
        if (other == h)
            wanted |= entries[i].events;
        if (other)
            handle_put(other);
    }
    struct epoll_event event = {.events = EPOLLIN | (wanted & EPOLLEXCLUSIVE), .data.u64 = token};
    const struct calls *c = original();
    int before = errno;
    c->epoll_ctl(epoll, EPOLL_CTL_DEL, h->wake_rx, &event); /* fails if it was not there */
    c->epoll_ctl(epoll, EPOLL_CTL_DEL, h->wake_tx, &event);
    if (wanted & WANT_RX)
        c->epoll_ctl(epoll, EPOLL_CTL_ADD, h->wake_rx, &event);
    event.events |= wanted & EPOLLET;
    if (wanted & WANT_TX)
        c->epoll_ctl(epoll, EPOLL_CTL_ADD, h->wake_tx, &event);
    errno = before;
}

/* It does not ask the daemon: that would end in epoll_bound(), which takes the lock. */
static void watch_if_bound(int epoll, struct handle *h)
{
    if (handle_is_known_bound(h))
        watch(epoll, h);
}

void epoll_bound(struct handle *h)
{
    sigset_t signals;
    if (!epoll_has_handles())
        return;
    begin_change(&signals);
    for (int i = 0; i < used; i++) {
        struct handle *other = entries[i].epoll < 0 ? NULL : handle_get(entries[i].fd);
        if (other == h)
            watch(entries[i].epoll, h);
        if (other)
            handle_put(other);
    }
    end_change(&signals);
}

/* A reused number must not find the entries of its predecessor. */
void epoll_forget(int fd)
{
    sigset_t signals;
    if (!epoll_has_handles() || handle_memory_is_borrowed())
        return;
    begin_change(&signals);
    for (int i = 0; i < used; i++) {
        int epoll = entries[i].epoll;
        struct handle *h = epoll >= 0 && entries[i].fd == fd ? handle_get(fd) : NULL;
        if (epoll >= 0 && (epoll == fd || entries[i].fd == fd))
            drop(&entries[i]);
        if (h) {
            watch_if_bound(epoll, h);
            handle_put(h);
        }
    }
    end_change(&signals);
}

/* ---- epoll_ctl ---- */

EXPORT int epoll_create(int size)
{
    int fd = original()->epoll_create(size);
    epoll_forget(fd);
    return fd;
}

EXPORT int epoll_create1(int flags)
{
    int fd = original()->epoll_create1(flags);
    epoll_forget(fd);
    return fd;
}

/* The kernel judges the call, with the connection in place of the handle. EPOLLET: its end is reported once. */
static int control_handle(int epoll, int operation, int fd, const struct epoll_event *event, struct handle *h)
{
    sigset_t signals;
    struct epoll_event connection = {.events = EPOLLET, .data.u64 = token};
    if (event)
        connection.events |= event->events & EPOLLEXCLUSIVE;
    handle_is_bound(h); /* another process may have registered it */
    begin_change(&signals);
    int result = original()->epoll_ctl(epoll, operation, fd, operation != EPOLL_CTL_DEL && !event ? NULL : &connection);
    struct entry *e = result ? NULL : operation == EPOLL_CTL_ADD ? add(epoll, fd) : find(epoll, fd);
    if (e && operation == EPOLL_CTL_DEL)
        drop(e);
    else if (e) {
        e->events = event->events | EPOLLERR | EPOLLHUP;
        e->data = event->data;
        e->reported = 0;
    } else if (!result && operation == EPOLL_CTL_ADD) {
        original()->epoll_ctl(epoll, EPOLL_CTL_DEL, fd, &connection);
        errno = ENOSPC;
        result = -1;
    }
    if (!result)
        watch_if_bound(epoll, h);
    end_change(&signals);
    return result;
}

EXPORT int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    struct handle *h = handle_get(fd);
    if (!h)
        return original()->epoll_ctl(epoll, operation, fd, event);
    int result = control_handle(epoll, operation, fd, event, h);
    handle_put(h);
    return result;
}

/* ---- epoll_wait ---- */

/* EPOLLONESHOT switches an entry off after a report; EPOLLET remembers what it has reported. */
static void note_report(const struct entry *seen, uint32_t reported)
{
    sigset_t signals;
    begin_change(&signals);
    struct entry *e = find(seen->epoll, seen->fd);
    if (e && seen->events & EPOLLONESHOT) {
        e->events &= ~(uint32_t)(WANT_RX | WANT_TX | EPOLLERR | EPOLLHUP);
        struct handle *h = handle_get(e->fd);
        if (h) {
            watch_if_bound(e->epoll, h);
            handle_put(h);
        }
    } else if (e)
        e->reported = reported;
    end_change(&signals);
}

/* What of the entry's handle is to be reported. EPOLLET silences a direction that was reported until it has been off;
 * but only TX: a program that left frames in its RX rings would never hear of later ones. */
static uint32_t ask_entry(const struct entry *e)
{
    if (!(e->events & EPOLLERR))
        return 0; /* switched off by EPOLLONESHOT */
    struct handle *h = handle_get(e->fd);
    if (!h)
        return 0;
    uint32_t ready = handle_poll(h, e->events & (WANT_RX | WANT_TX)); /* EPOLL bits are poll() bits */
    handle_put(h);
    uint32_t once = e->events & EPOLLET ? ready & WANT_TX : 0, news = ready & ~(once & e->reported);
    if (e->events & EPOLLONESHOT ? news != 0 : once != e->reported)
        note_report(e, once);
    return news ? ready : 0;
}

/* Ask the handles of one instance, starting at a different one each time, so that none is always beyond `room`. */
static int ask_entries(int epoll, struct epoll_event *events, int room)
{
    static _Atomic uint32_t turn;
    uint32_t count = (uint32_t)used, start = count > 1 ? atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed) : 0;
    int found = 0;
    for (uint32_t i = 0; i < count && found < room; i++) {
        struct entry e;
        uint32_t ready = copy_entry((int)((start + i) % count), epoll, &e) ? ask_entry(&e) : 0;
        if (ready)
            events[found++] = (struct epoll_event){.events = ready, .data = e.data};
    }
    return found;
}

bool epoll_ask(int fd)
{
    bool ready = false;
    for (int i = 0; epoll_has_handles() && i < used; i++) {
        struct entry e;
        struct handle *h = copy_entry(i, fd, &e) && e.events & (WANT_RX | WANT_TX) ? handle_get(e.fd) : NULL;
        if (h) {
            ready |= handle_poll(h, e.events & (WANT_RX | WANT_TX)) != 0;
            handle_put(h);
        }
    }
    return ready;
}

static int milliseconds(const struct timespec *time)
{
    if (!time)
        return -1;
    int64_t ms = time->tv_sec > 2000000 ? 2000000000 : time->tv_sec * 1000 + (time->tv_nsec + 999999) / 1000000;
    return (int)ms;
}

/* The kernel's own wait. epoll_pwait2() is younger than glibc 2.34 and Linux 5.11. */
static int kernel_wait(int epoll, struct epoll_event *events, int room, const struct timespec *time,
                       const sigset_t *mask)
{
    int before = errno;
    if (original()->epoll_pwait2) {
        int n = original()->epoll_pwait2(epoll, events, room, time, mask);
        if (n >= 0 || errno != ENOSYS)
            return n;
        errno = before;
    }
    return original()->epoll_pwait(epoll, events, room, milliseconds(time), mask);
}

/* Up to `room` events of other descriptors. Returns their number; `*tokens`: whether the kernel reported one of ours.
 * A call takes ROOM events at most; as always with epoll, the next call gets the others. */
static int wait_for_others(int epoll, struct epoll_event *events, int room, const struct timespec *time,
                           const sigset_t *mask, bool *tokens)
{
    struct epoll_event seen[ROOM];
    int found = 0, n = kernel_wait(epoll, seen, room < ROOM ? room : ROOM, time, mask);
    for (int i = 0; i < n; i++)
        if (seen[i].data.u64 == token)
            *tokens = true;
        else
            events[found++] = seen[i];
    return n < 0 ? n : found;
}

static int wait_handles(int epoll, struct epoll_event *events, int room, const struct deadline *deadline,
                        const sigset_t *mask)
{
    static const struct timespec no_time;
    for (;;) {
        struct timespec left;
        bool tokens = false;
        /* half of the room is for others, if there is more than one place; with one place they take turns */
        static _Atomic uint32_t turn;
        int share = room > 1 ? room / 2 : (int)(atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed) & 1);
        int others = 0;
        if (share)
            others = wait_for_others(epoll, events, share, &no_time, NULL, &tokens);
        if (others < 0)
            return others;
        int found = others + ask_entries(epoll, events + others, room - others);
        if (found)
            return found;
        tokens = false;
        int n = wait_for_others(epoll, events, room, deadline_left(deadline, &left), mask, &tokens);
        if (n || !tokens)
            return n;
    }
}

static int wait_any(int epoll, struct epoll_event *events, int room, const struct timespec *timeout,
                    const sigset_t *mask)
{
    struct deadline deadline;
    int before = errno;
    pthread_testcancel();
    if (room <= 0 || !deadline_after(&deadline, timeout)) {
        errno = EINVAL;
        return -1;
    }
    int result = wait_handles(epoll, events, room, &deadline, mask);
    if (result >= 0)
        errno = before;
    return result;
}

static int wait_milliseconds(int epoll, struct epoll_event *events, int room, int ms, const sigset_t *mask)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    return wait_any(epoll, events, room, ms < 0 ? NULL : &time, mask);
}

EXPORT int epoll_wait(int epoll, struct epoll_event *events, int room, int ms)
{
    if (!epoll_has_handles())
        return original()->epoll_wait(epoll, events, room, ms);
    return wait_milliseconds(epoll, events, room, ms, NULL);
}

EXPORT int epoll_pwait(int epoll, struct epoll_event *events, int room, int ms, const sigset_t *mask)
{
    if (!epoll_has_handles())
        return original()->epoll_pwait(epoll, events, room, ms, mask);
    return wait_milliseconds(epoll, events, room, ms, mask);
}

EXPORT int epoll_pwait2(int epoll, struct epoll_event *events, int room, const struct timespec *timeout,
                        const sigset_t *mask)
{
    if (!epoll_has_handles())
        return kernel_wait(epoll, events, room, timeout, mask);
    return wait_any(epoll, events, room, timeout, mask);
}
