/* Calls that close, duplicate or receive descriptors. */
#include "calls.h"
#include "epoll.h"
#include "handles.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>

/* A hidden descriptor does not exist for the program. A vfork() child may close its own copy. */
static bool is_hidden_here(int fd)
{
    return handles_exist() && handle_is_hidden(fd) && !handle_memory_is_borrowed();
}

/* First the table, then the descriptor: another thread may get the number at once. */
static void forget(int fd)
{
    epoll_forget(fd);
    handle_forget(fd);
}

EXPORT int close(int fd)
{
    if (is_hidden_here(fd)) {
        errno = EBADF;
        return -1;
    }
    forget(fd);
    int result = original()->close(fd);
    handle_closed(fd);
    return result;
}

/* ---- ranges ---- */

static int close_run(unsigned first, unsigned last, int flags)
{
    if (original()->close_range)
        return original()->close_range(first, last, flags);
    return (int)syscall(SYS_close_range, first, last, flags);
}

/* Close all but the hidden descriptors. */
static int close_around_hidden(unsigned first, unsigned last, int flags)
{
    unsigned start = first, end = (unsigned)handle_highest();
    bool closes = !(flags & CLOSE_RANGE_CLOEXEC);
    for (unsigned fd = first; fd <= last && fd <= end; fd++) {
        if (handle_is_hidden((int)fd)) {
            if (fd > start && close_run(start, fd - 1, flags))
                return -1;
            start = fd + 1;
        } else if (closes)
            forget((int)fd);
    }
    int result = start <= last ? close_run(start, last, flags) : 0;
    for (unsigned fd = first; closes && fd <= last && fd <= end; fd++)
        handle_closed((int)fd);
    return result;
}

EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    if ((!handles_exist() && !epoll_has_handles()) || first > last || handle_memory_is_borrowed())
        return close_run(first, last, flags);
    return close_around_hidden(first, last, flags);
}

EXPORT void closefrom(int first)
{
    if (handles_exist() && !handle_memory_is_borrowed())
        close_around_hidden(first < 0 ? 0 : (unsigned)first, ~0u, 0);
    else if (original()->closefrom)
        original()->closefrom(first);
    else
        close_run(first < 0 ? 0 : (unsigned)first, ~0u, 0);
}

/* ---- duplicates ---- */

static void note_copy(int fd, int copy)
{
    epoll_copied(fd, copy);
    handle_copied(fd, copy);
}

EXPORT int dup(int fd)
{
    int copy = original()->dup(fd);
    if (copy >= 0)
        note_copy(fd, copy);
    return copy;
}

/* A hidden descriptor cannot be replaced: EBUSY, which dup2() also gives while another thread opens a file there. */
static bool may_replace(int fd, int copy)
{
    if (is_hidden_here(copy)) {
        errno = EBUSY;
        return false;
    }
    if (copy != fd && handles_exist() && original()->fcntl(fd, F_GETFD) >= 0)
        forget(copy); /* dup2() closes it */
    return true;
}

EXPORT int dup2(int fd, int copy)
{
    if (!may_replace(fd, copy))
        return -1;
    int result = original()->dup2(fd, copy);
    if (result >= 0)
        note_copy(fd, copy);
    if (copy != fd)
        handle_closed(copy); /* it was a handle, and is none now */
    return result;
}

EXPORT int dup3(int fd, int copy, int flags)
{
    if (!may_replace(fd, copy))
        return -1;
    int result = original()->dup3(fd, copy, flags);
    if (result >= 0)
        note_copy(fd, copy);
    if (copy != fd)
        handle_closed(copy);
    return result;
}

static int note_duplicate(int fd, int command, int result)
{
    if (result >= 0 && (command == F_DUPFD || command == F_DUPFD_CLOEXEC))
        note_copy(fd, result);
    return result;
}

EXPORT int fcntl(int fd, int command, ...)
{
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return note_duplicate(fd, command, original()->fcntl(fd, command, argument));
}

EXPORT int fcntl64(int fd, int command, ...)
{
    va_list rest;
    va_start(rest, command);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return note_duplicate(fd, command, original()->fcntl64(fd, command, argument));
}

/* ---- descriptors from other processes ---- */

/* Handles among descriptors that have just arrived. Then poll() knows such a handle also before its first request. */
static void adopt_received(struct msghdr *message)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t at = CMSG_LEN(0); at + sizeof(int) <= c->cmsg_len; at += sizeof(int)) {
            int fd;
            memcpy(&fd, (char *)c + at, sizeof fd);
            struct handle *h = handle_adopt(fd);
            if (h)
                handle_put(h);
        }
    }
}

EXPORT ssize_t recvmsg(int socket, struct msghdr *message, int flags)
{
    if (handle_refuses(socket, ENOTSOCK))
        return -1;
    ssize_t result = original()->recvmsg(socket, message, flags);
    if (result >= 0 && message->msg_controllen)
        adopt_received(message);
    return result;
}

EXPORT int recvmmsg(int socket, struct mmsghdr *messages, unsigned count, int flags, struct timespec *timeout)
{
    if (handle_refuses(socket, ENOTSOCK))
        return -1;
    int result = original()->recvmmsg(socket, messages, count, flags, timeout);
    for (int i = 0; i < result; i++)
        if (messages[i].msg_hdr.msg_controllen)
            adopt_received(&messages[i].msg_hdr);
    return result;
}
