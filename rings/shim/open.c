/* open("/dev/netmap"), by any of its names. */
#include "calls.h"
#include "handles.h"
#include "wire.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

static bool is_netmap(const char *path)
{
    return path && path[0] == '/' && !strcmp(path, "/dev/netmap") && wire_is_set_up();
}

/* Whether the daemon serves this user: then it answers the first question, with ENXIO because nothing is registered. */
static int ask_for_admission(int fd)
{
    struct nmreq_register bound;
    struct reply reply;
    int error = wire_request(fd, MESSAGE_ATTACH, 0, &bound, 0, sizeof bound, &reply);
    while (reply.count)
        close_own(reply.fds[--reply.count]);
    int refusal = error ? wire_refusal(fd) : 0;
    return refusal ? refusal : error ? error : reply.error == ENXIO ? 0 : reply.error;
}

static int open_netmap(int flags)
{
    int before = errno, fd = wire_connect(flags & O_CLOEXEC);
    if (fd < 0) {
        errno = -fd;
        return -1;
    }
    int error = ask_for_admission(fd);
    if (!error && !handle_add(fd))
        error = errno;
    if (error) {
        close_own(fd);
        errno = error;
        return -1;
    }
    if (flags & O_NONBLOCK)
        original()->fcntl(fd, F_SETFL, O_NONBLOCK);
    errno = before;
    return fd;
}

/* The mode is there only when a file may be created. */
static mode_t mode_of(int flags, va_list rest)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

EXPORT int open(const char *path, int flags, ...)
{
    if (is_netmap(path))
        return open_netmap(flags);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return original()->open(path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...)
{
    if (is_netmap(path))
        return open_netmap(flags);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return original()->open64(path, flags, mode);
}

EXPORT int openat(int folder, const char *path, int flags, ...)
{
    if (is_netmap(path))
        return open_netmap(flags);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return original()->openat(folder, path, flags, mode);
}

EXPORT int openat64(int folder, const char *path, int flags, ...)
{
    if (is_netmap(path))
        return open_netmap(flags);
    va_list rest;
    va_start(rest, flags);
    mode_t mode = mode_of(flags, rest);
    va_end(rest);
    return original()->openat64(folder, path, flags, mode);
}

/* The names that _FORTIFY_SOURCE puts in place of the above. */
EXPORT int __open_2(const char *path, int flags)
{
    return is_netmap(path) ? open_netmap(flags) : original()->open_2(path, flags);
}

EXPORT int __open64_2(const char *path, int flags)
{
    return is_netmap(path) ? open_netmap(flags) : original()->open64_2(path, flags);
}

EXPORT int __openat_2(int folder, const char *path, int flags)
{
    return is_netmap(path) ? open_netmap(flags) : original()->openat_2(folder, path, flags);
}

EXPORT int __openat64_2(int folder, const char *path, int flags)
{
    return is_netmap(path) ? open_netmap(flags) : original()->openat64_2(folder, path, flags);
}
