/* poll() and ppoll(). */
#include "calls.h"
#include "wait.h"

#include <errno.h>

extern void __chk_fail(void) __attribute__((noreturn)); /* glibc's end of a program that would overrun an array */

/* Any negative time is forever. */
static int poll_milliseconds(struct pollfd *fds, nfds_t count, int milliseconds)
{
    struct timespec time = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L};
    return wait_poll(fds, count, milliseconds < 0 ? NULL : &time, NULL);
}

EXPORT int poll(struct pollfd *fds, nfds_t count, int milliseconds)
{
    if (!handles_exist())
        return original()->poll(fds, count, milliseconds);
    return poll_milliseconds(fds, count, milliseconds);
}

EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask)
{
    if (!handles_exist())
        return original()->ppoll(fds, count, timeout, mask);
    return wait_poll(fds, count, timeout, mask);
}

/* What _FORTIFY_SOURCE puts in place of the above; `size` is the array's, in bytes. */
EXPORT int __poll_chk(struct pollfd *fds, nfds_t count, int milliseconds, size_t size)
{
    if (size / sizeof *fds < count)
        __chk_fail();
    return poll(fds, count, milliseconds);
}

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask,
                       size_t size)
{
    if (size / sizeof *fds < count)
        __chk_fail();
    return ppoll(fds, count, timeout, mask);
}
