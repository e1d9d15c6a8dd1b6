/* select() and pselect(), by poll(): the kernel's own table of which poll() bits mean which set. */
#include "calls.h"
#include "epoll.h"
#include "wait.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    ON_STACK = 64, /* entries */
    READ_ASKED = POLLIN | POLLRDNORM,
    READ_SET = POLLRDNORM | POLLRDBAND | POLLIN | POLLHUP | POLLERR,
    WRITE_ASKED = POLLOUT | POLLWRNORM,
    WRITE_SET = POLLWRBAND | POLLWRNORM | POLLOUT | POLLERR,
    EXCEPT_SET = POLLPRI,
};

/* A set may be longer than fd_set: programs that allocate it themselves do so. */
static bool has(const fd_set *set, int fd)
{
    return set && ((const unsigned long *)(const void *)set)[fd / 64] >> (fd % 64) & 1;
}

static void add(fd_set *set, int fd)
{
    ((unsigned long *)(void *)set)[fd / 64] |= 1UL << (fd % 64);
}

static void clear(fd_set *set, int count)
{
    if (set)
        memset(set, 0, (size_t)(count + 63) / 64 * 8);
}

static int count_members(int count, const fd_set *in, const fd_set *out, const fd_set *except, bool *any_handle)
{
    int members = 0;
    for (int fd = 0; fd < count; fd++) {
        if (!has(in, fd) && !has(out, fd) && !has(except, fd))
            continue;
        struct handle *h = handle_get(fd);
        if (h)
            handle_put(h);
        *any_handle |= h != NULL;
        members++;
    }
    return members;
}

static nfds_t to_entries(int count, const fd_set *in, const fd_set *out, const fd_set *except, struct pollfd *fds)
{
    nfds_t n = 0;
    for (int fd = 0; fd < count; fd++) {
        int events =
            (has(in, fd) ? READ_ASKED : 0) | (has(out, fd) ? WRITE_ASKED : 0) | (has(except, fd) ? POLLPRI : 0);
        if (events)
            fds[n++] = (struct pollfd){.fd = fd, .events = (short)events};
    }
    return n;
}

/* -1 with EBADF, and the sets as they were, if one of the descriptors is not open. */
static int to_sets(const struct pollfd *fds, nfds_t n, int count, fd_set *in, fd_set *out, fd_set *except)
{
    int found = 0;
    for (nfds_t i = 0; i < n; i++)
        if (fds[i].revents & POLLNVAL) {
            errno = EBADF;
            return -1;
        }
    clear(in, count);
    clear(out, count);
    clear(except, count);
    for (nfds_t i = 0; i < n; i++) {
        if (fds[i].events & READ_ASKED && fds[i].revents & READ_SET)
            add(in, fds[i].fd), found++;
        if (fds[i].events & WRITE_ASKED && fds[i].revents & WRITE_SET)
            add(out, fds[i].fd), found++;
        if (fds[i].events & POLLPRI && fds[i].revents & EXCEPT_SET)
            add(except, fds[i].fd), found++;
    }
    return found;
}

/* `members` from count_members(). */
static int select_handles(int count, int members, fd_set *in, fd_set *out, fd_set *except,
                          const struct timespec *timeout, const sigset_t *mask)
{
    struct pollfd stack[ON_STACK], *fds = members > ON_STACK ? malloc((size_t)members * sizeof *fds) : stack;
    if (!fds) {
        errno = ENOMEM;
        return -1;
    }
    nfds_t n = to_entries(count, in, out, except, fds);
    int result = wait_poll(fds, n, timeout, mask);
    if (result >= 0)
        result = to_sets(fds, n, count, in, out, except);
    if (fds != stack) {
        int error = errno;
        free(fds);
        errno = error;
    }
    return result;
}

EXPORT int pselect(int count, fd_set *in, fd_set *out, fd_set *except, const struct timespec *timeout,
                   const sigset_t *mask)
{
    bool any = epoll_has_handles(); /* an instance may be in the sets */
    int members = handles_exist() ? count_members(count, in, out, except, &any) : 0;
    if (!any)
        return original()->pselect(count, in, out, except, timeout, mask);
    return select_handles(count, members, in, out, except, timeout, mask);
}

/* As Linux does, select() leaves in `timeout` what is left of it. */
EXPORT int select(int count, fd_set *in, fd_set *out, fd_set *except, struct timeval *timeout)
{
    bool any = epoll_has_handles(); /* an instance may be in the sets */
    int members = handles_exist() ? count_members(count, in, out, except, &any) : 0;
    if (!any)
        return original()->select(count, in, out, except, timeout);
    if (!timeout)
        return select_handles(count, members, in, out, except, NULL, NULL);
    struct timespec time = {.tv_sec = timeout->tv_sec + timeout->tv_usec / 1000000,
                            .tv_nsec = timeout->tv_usec % 1000000 * 1000};
    struct deadline deadline;
    if (timeout->tv_sec < 0 || timeout->tv_usec < 0 || !deadline_after(&deadline, &time)) {
        errno = EINVAL;
        return -1;
    }
    int result = select_handles(count, members, in, out, except, &time, NULL), error = errno;
    struct timespec left;
    if (deadline_left(&deadline, &left))
        *timeout = (struct timeval){.tv_sec = left.tv_sec, .tv_usec = left.tv_nsec / 1000};
    errno = error;
    return result;
}
