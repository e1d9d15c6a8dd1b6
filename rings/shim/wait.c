#include "calls.h"
#include "epoll.h"
#include "indirect.h"
#include "wait.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ON_STACK = 256, WANT_RX = POLLIN | POLLRDNORM, WANT_TX = POLLOUT | POLLWRNORM };

static const struct timespec no_time;

bool deadline_after(struct deadline *deadline, const struct timespec *timeout)
{
    deadline->never = !timeout;
    if (!timeout)
        return true;
    if (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec >= 1000000000)
        return false;
    if (!timeout->tv_sec && !timeout->tv_nsec) { /* no wait: the clock need not be read */
        deadline->at = no_time;
        return true;
    }
    clock_gettime(CLOCK_MONOTONIC, &deadline->at);
    if (__builtin_add_overflow(deadline->at.tv_sec, timeout->tv_sec + 1, &deadline->at.tv_sec)) {
        deadline->never = true;
        return true;
    }
    deadline->at.tv_sec--;
    deadline->at.tv_nsec += timeout->tv_nsec;
    if (deadline->at.tv_nsec >= 1000000000) {
        deadline->at.tv_sec++;
        deadline->at.tv_nsec -= 1000000000;
    }
    return true;
}

const struct timespec *deadline_left(const struct deadline *deadline, struct timespec *left)
{
    if (deadline->never)
        return NULL;
    *left = no_time;
    if (!deadline->at.tv_sec)
        return left;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t seconds = deadline->at.tv_sec - now.tv_sec, ns = deadline->at.tv_nsec - now.tv_nsec;
    if (ns < 0) {
        seconds--;
        ns += 1000000000;
    }
    if (seconds >= 0)
        *left = (struct timespec){.tv_sec = seconds, .tv_nsec = ns};
    return left;
}

uint32_t handle_poll(struct handle *h, uint32_t events)
{
    if (!handle_is_bound(h) || atomic_load_explicit(&h->csb, memory_order_relaxed) || atomic_load(&h->gone))
        return POLLERR;
    uint32_t asked = (events & WANT_RX ? CONTROL_RX : 0) | (events & WANT_TX ? CONTROL_TX : 0);
    indirect_copy(h);
    int ready = client_poll(&h->client, asked);
    if (ready < 0)
        return POLLERR;
    return (ready & CONTROL_RX ? events & WANT_RX : 0) | (ready & CONTROL_TX ? events & WANT_TX : 0) |
           (ready & CONTROL_ERROR ? POLLERR : 0);
}

/* What the kernel waits on: an entry for each of the caller's, then the wake descriptors of handles. */
struct entries {
    struct pollfd *fds;
    nfds_t count;
    nfds_t plain; /* of the caller's entries, those that are no handles */
    int ready; /* handles that are ready */
    bool lost; /* a wake descriptor does not exist */
};

/* Ask all handles, also after one is ready: a poll sends what waits in the TX rings of each. */
static void ask_handles(struct pollfd *fds, nfds_t count, struct entries *all)
{
    all->count = count;
    all->plain = 0;
    all->ready = 0;
    for (nfds_t i = 0; i < count; i++) {
        struct handle *h = handle_get(fds[i].fd);
        all->fds[i] = fds[i];
        if (!h) {
            all->plain += fds[i].fd >= 0;
            if (fds[i].events & WANT_RX && epoll_ask(fds[i].fd)) /* an epoll instance with handles in it */
                fds[i].revents = fds[i].events & WANT_RX;
            all->ready += fds[i].revents != 0;
            continue;
        }
        fds[i].revents = (short)handle_poll(h, (uint32_t)(uint16_t)fds[i].events);
        all->ready += fds[i].revents != 0;
        all->fds[i].events = 0; /* the connection itself: only its end is of interest */
        if (fds[i].events & WANT_RX && !fds[i].revents)
            all->fds[all->count++] = (struct pollfd){.fd = h->wake_rx, .events = POLLIN};
        if (fds[i].events & WANT_TX && !fds[i].revents)
            all->fds[all->count++] = (struct pollfd){.fd = h->wake_tx, .events = POLLIN};
        handle_put(h);
    }
}

/* Whether the handle's own connection has ended. The event may be of another one, whose number dup2() has given to this
 * handle meanwhile. */
static bool has_ended(const struct handle *h)
{
    struct timespec none = {0};
    struct pollfd connection = {.fd = h->socket};
    return syscall(SYS_ppoll, &connection, 1, &none, NULL, 0) == 1; /* no point of cancellation */
}

/* A direct system call has closed the library's descriptors: the kernel would report that at once, for ever. */
static bool is_lost(const struct entries *all, nfds_t count, const struct handle *h)
{
    for (nfds_t i = count; i < all->count; i++)
        if (all->fds[i].revents & POLLNVAL && (all->fds[i].fd == h->wake_rx || all->fds[i].fd == h->wake_tx))
            return true;
    return false;
}

/* Results for the caller, from what the kernel reports. Returns their number. */
static int gather(struct pollfd *fds, nfds_t count, const struct entries *all)
{
    int found = 0;
    for (nfds_t i = 0; i < count; i++) {
        short seen = all->fds[i].revents;
        struct handle *h = seen || all->lost ? handle_get(fds[i].fd) : NULL;
        if (h) {
            if (has_ended(h) || is_lost(all, count, h)) {
                fds[i].revents = fds[i].revents ? fds[i].revents : POLLERR;
                atomic_store(&h->gone, true);
            }
            handle_put(h);
        } else if (seen)
            fds[i].revents = seen;
        found += fds[i].revents != 0;
    }
    return found;
}

static void clear(struct pollfd *fds, nfds_t count)
{
    for (nfds_t i = 0; i < count; i++)
        fds[i].revents = 0;
}

/* After each wake-up the handles are asked again, because what is ready may be gone: another thread took it. */
static int poll_handles(struct pollfd *fds, nfds_t count, const struct deadline *deadline, const sigset_t *mask,
                        struct pollfd *room)
{
    for (;;) {
        struct entries all = {.fds = room};
        struct timespec left;
        clear(fds, count);
        ask_handles(fds, count, &all);
        if (all.ready && !all.plain)
            return all.ready;
        const struct timespec *wait = all.ready ? &no_time : deadline_left(deadline, &left);
        clear(all.fds, all.count);
        int n = original()->ppoll(all.fds, all.count, wait, all.ready ? NULL : mask);
        if (n < 0)
            return all.ready ? all.ready : -1;
        for (nfds_t i = count; i < all.count; i++)
            all.lost |= all.fds[i].revents & POLLNVAL;
        int found = gather(fds, count, &all);
        if (found || !n || (wait && !wait->tv_sec && !wait->tv_nsec))
            return found;
    }
}

int wait_poll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
    struct deadline deadline;
    struct pollfd stack[ON_STACK], *room = stack;
    bool any = epoll_has_handles();
    int before = errno;
    for (nfds_t i = 0; i < count && !any; i++) {
        struct handle *h = handle_get(fds[i].fd);
        if (h) {
            any = true;
            handle_put(h);
        }
    }
    if (!any)
        return original()->ppoll(fds, count, timeout, mask);
    pthread_testcancel(); /* a handle that is ready needs no system call, which would look for it */
    if (!deadline_after(&deadline, timeout)) {
        errno = EINVAL;
        return -1;
    }
    if (count > ON_STACK / 3 && !(room = malloc(3 * count * sizeof *room))) {
        errno = ENOMEM;
        return -1;
    }
    int result = poll_handles(fds, count, &deadline, mask, room);
    int error = errno;
    if (room != stack)
        free(room);
    errno = result < 0 ? error : before;
    return result;
}
