/* epoll_create(), epoll_ctl(), epoll_wait() and their kin.
 *
 * The kernel's instance holds the handle's connection (whose end it reports, and which makes EEXIST and ENOENT right)
 * and the wake descriptors of the directions that are waited for, all with a token that no program has chosen. What the
 * program wants to hear is kept here. epoll_wait() asks the handles first, as poll() does, and takes the tokens out.
 *
 * The entries belong to an instance, which may have several descriptors (dup). A forked child has a copy of them.
 *
 * The entries change between begin_change() and end_change(). A reader takes no lock: it copies them, and copies again
 * if they have changed meanwhile. So a signal handler never waits for the thread that it interrupted.
 */
#include "calls.h"
#include "changes.h"
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
    uint32_t instance; /* 0: free */
    int fd;
    uint32_t events; /* 0 in the bits of a direction: EPOLLONESHOT has switched it off */
    uint32_t reported; /* EPOLLET: bits of TX that have been reported, and have not been off since */
    epoll_data_t data;
};

static struct entry entries[ENTRIES];
static _Atomic int used; /* no entry from here on is in use */
static _Atomic int live; /* entries in use */
static _Atomic bool left; /* the kernel may report tokens of handles that are closed here: see drop_closed() */
static _Atomic uint32_t version; /* odd while an entry changes */
static uint64_t token;

/* By descriptor: the number of its instance, or 0. Memory that nobody touches costs nothing. */
static _Atomic uint32_t instances[DESCRIPTORS];
static _Atomic int highest = -1; /* no descriptor above has an instance */
static _Atomic uint32_t last_instance;
static _Atomic uint32_t last_shared; /* up to this one, another process may have the instance, too */

bool epoll_has_handles(void)
{
    return atomic_load_explicit(&live, memory_order_relaxed) > 0 || atomic_load_explicit(&left, memory_order_relaxed);
}

/* ---- instances ---- */

static uint32_t instance_of(int fd)
{
    return fd < 0 || fd >= DESCRIPTORS ? 0 : atomic_load_explicit(&instances[fd], memory_order_relaxed);
}

static void set_instance(int fd, uint32_t instance)
{
    int before = atomic_load(&highest);
    if (fd < 0 || fd >= DESCRIPTORS || handle_memory_is_borrowed())
        return;
    while (before < fd && !atomic_compare_exchange_weak(&highest, &before, fd))
        continue;
    atomic_store(&instances[fd], instance);
}

/* A number that no instance had before, for what epoll_create() has returned. */
static int begin_instance(int fd)
{
    if (fd >= 0)
        set_instance(fd, atomic_fetch_add(&last_instance, 1) + 1);
    return fd;
}

void epoll_copied(int fd, int copy)
{
    uint32_t instance = instance_of(fd);
    if (instance != instance_of(copy))
        set_instance(copy, instance);
}

/* Any descriptor of the instance, or -1. */
static int descriptor_of(uint32_t instance)
{
    for (int fd = 0; fd <= highest; fd++)
        if (instance_of(fd) == instance)
            return fd;
    return -1;
}

/* ---- the entries ---- */

static void begin(sigset_t *signals)
{
    begin_change(signals);
    atomic_fetch_add(&version, 1);
}

static void end(const sigset_t *signals)
{
    atomic_fetch_add(&version, 1);
    end_change(signals);
}

static void after_fork(void)
{
    atomic_store(&last_shared, atomic_load(&last_instance));
}

__attribute__((constructor)) static void setup(void)
{
    int before = errno;
    if (getrandom(&token, sizeof token, GRND_NONBLOCK) != sizeof token)
        token = (uint64_t)(uintptr_t)&token * UINT64_C(0x9E3779B97F4A7C15);
    pthread_atfork(NULL, after_fork, after_fork);
    errno = before;
}

/* Between begin() and end(), as what follows. */
static struct entry *find(uint32_t instance, int fd)
{
    for (int i = 0; i < used; i++)
        if (entries[i].instance == instance && entries[i].fd == fd)
            return &entries[i];
    return NULL;
}

static struct entry *add(uint32_t instance, int fd)
{
    struct entry *e = find(0, -1);
    if (!e) {
        if (used == ENTRIES)
            return NULL;
        e = &entries[used++];
    }
    live++;
    *e = (struct entry){.instance = instance, .fd = fd};
    return e;
}

static void drop(struct entry *e)
{
    *e = (struct entry){.fd = -1};
    live--;
}

/* Copy one entry, as it is at one moment. False: it is not of this instance. */
static bool copy_entry(int i, uint32_t instance, struct entry *to)
{
    for (;;) {
        uint32_t before = atomic_load_explicit(&version, memory_order_acquire);
        if (before & 1)
            continue;
        *to = entries[i];
        atomic_thread_fence(memory_order_acquire); /* the copy is complete before the version is compared */
        if (atomic_load_explicit(&version, memory_order_relaxed) == before)
            return instance && to->instance == instance;
    }
}

/* ---- the kernel's instance ---- */

/* Let the kernel watch the directions that any entry of this handle wants. Two entries may have one handle, by two
 * descriptors. */
static void watch(uint32_t instance, const struct handle *h)
{
    uint32_t wanted = 0; /* EPOLLET only for TX: see ask_entry() */
    for (int i = 0; i < used; i++) {
        if (entries[i].instance != instance)
            continue;
        struct handle *other = handle_get(entries[i].fd);
        if (other == h)
            wanted |= entries[i].events;
        if (other)
            handle_put(other);
    }
    struct epoll_event event = {.events = EPOLLIN | (wanted & EPOLLEXCLUSIVE), .data.u64 = token};
    const struct calls *c = original();
    int before = errno, epoll = descriptor_of(instance);
    c->epoll_ctl(epoll, EPOLL_CTL_DEL, h->wake_rx, &event); /* fails if it was not there */
    c->epoll_ctl(epoll, EPOLL_CTL_DEL, h->wake_tx, &event);
    if (wanted & WANT_RX)
        c->epoll_ctl(epoll, EPOLL_CTL_ADD, h->wake_rx, &event);
    event.events |= wanted & EPOLLET;
    if (wanted & WANT_TX)
        c->epoll_ctl(epoll, EPOLL_CTL_ADD, h->wake_tx, &event);
    errno = before;
}

/* It does not ask the daemon: that would end in epoll_bound(), which begins a change. */
static void watch_if_bound(uint32_t instance, struct handle *h)
{
    if (handle_is_known_bound(h))
        watch(instance, h);
}

void epoll_bound(struct handle *h)
{
    sigset_t signals;
    if (!epoll_has_handles())
        return;
    begin(&signals);
    for (int i = 0; i < used; i++) {
        struct handle *other = entries[i].instance ? handle_get(entries[i].fd) : NULL;
        if (other == h)
            watch(entries[i].instance, h);
        if (other)
            handle_put(other);
    }
    end(&signals);
}

/* The handle is closed here. If another process has the instance, too, that process may still wait for it. */
static void drop_closed(struct entry *e)
{
    uint32_t instance = e->instance;
    struct handle *h = instance > last_shared ? handle_get(e->fd) : NULL;
    left = left || !h;
    drop(e);
    if (h) {
        watch_if_bound(instance, h);
        handle_put(h);
    }
}

/* A reused number must not find the entries of its predecessor. */
void epoll_forget(int fd)
{
    sigset_t signals;
    uint32_t instance = instance_of(fd);
    if ((!instance && !epoll_has_handles()) || handle_memory_is_borrowed())
        return;
    begin(&signals);
    if (instance)
        atomic_store(&instances[fd], 0);
    bool last = instance && epoll_has_handles() && descriptor_of(instance) < 0;
    for (int i = 0; i < used; i++)
        if (last && entries[i].instance == instance)
            drop(&entries[i]);
        else if (entries[i].instance && entries[i].fd == fd)
            drop_closed(&entries[i]);
    end(&signals);
}

/* ---- epoll_ctl ---- */

EXPORT int epoll_create(int size)
{
    return begin_instance(original()->epoll_create(size));
}

EXPORT int epoll_create1(int flags)
{
    return begin_instance(original()->epoll_create1(flags));
}

/* The kernel judges the call, with the connection in place of the handle. EPOLLET: its end is reported once. */
static int control_handle(int epoll, int operation, int fd, const struct epoll_event *event, struct handle *h)
{
    sigset_t signals;
    struct epoll_event connection = {.events = EPOLLET, .data.u64 = token};
    if (event)
        connection.events |= event->events & EPOLLEXCLUSIVE;
    handle_is_bound(h); /* another process may have registered it */
    if (!instance_of(epoll)) /* it comes from another program, or from a direct system call */
        begin_instance(epoll);
    uint32_t instance = instance_of(epoll);
    begin(&signals);
    int result = original()->epoll_ctl(epoll, operation, fd, operation != EPOLL_CTL_DEL && !event ? NULL : &connection);
    struct entry *e = result ? NULL : operation == EPOLL_CTL_ADD ? add(instance, fd) : find(instance, fd);
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
        watch_if_bound(instance, h);
    end(&signals);
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
    begin(&signals);
    struct entry *e = find(seen->instance, seen->fd);
    if (e && seen->events & EPOLLONESHOT) {
        e->events &= ~(uint32_t)(WANT_RX | WANT_TX | EPOLLERR | EPOLLHUP);
        struct handle *h = handle_get(e->fd);
        if (h) {
            watch_if_bound(e->instance, h);
            handle_put(h);
        }
    } else if (e)
        e->reported = reported;
    end(&signals);
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
    uint32_t instance = instance_of(epoll);
    uint32_t count = (uint32_t)used, start = count > 1 ? atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed) : 0;
    int found = 0;
    for (uint32_t i = 0; i < count && found < room; i++) {
        struct entry e;
        uint32_t ready = copy_entry((int)((start + i) % count), instance, &e) ? ask_entry(&e) : 0;
        if (ready)
            events[found++] = (struct epoll_event){.events = ready, .data = e.data};
    }
    return found;
}

bool epoll_ask(int fd)
{
    bool ready = false;
    uint32_t instance = instance_of(fd);
    for (int i = 0; epoll_has_handles() && i < used; i++) {
        struct entry e;
        struct handle *h = copy_entry(i, instance, &e) && e.events & (WANT_RX | WANT_TX) ? handle_get(e.fd) : NULL;
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
        const struct timespec *wait = deadline_left(deadline, &left);
        int n = wait_for_others(epoll, events, room, wait, mask, &tokens);
        if (n || !tokens || (wait && !wait->tv_sec && !wait->tv_nsec))
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
