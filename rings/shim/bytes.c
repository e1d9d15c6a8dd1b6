/* read(), write(), send(), recv() and their kin: a netmap descriptor has no bytes to read or write, and is no socket for
 * the program. So EINVAL and ENOTSOCK, as of netmap's, and nothing goes to the daemon. */
#include "calls.h"
#include "handles.h"

#include <errno.h>
#include <sys/uio.h>

/* ---- a file's ---- */

EXPORT ssize_t read(int fd, void *to, size_t size)
{
    return handle_refuses(fd, EINVAL) ? -1 : original()->read(fd, to, size);
}

EXPORT ssize_t readv(int fd, const struct iovec *parts, int count)
{
    return handle_refuses(fd, EINVAL) ? -1 : original()->readv(fd, parts, count);
}

EXPORT ssize_t write(int fd, const void *from, size_t size)
{
    return handle_refuses(fd, EINVAL) ? -1 : original()->write(fd, from, size);
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return handle_refuses(fd, EINVAL) ? -1 : original()->writev(fd, parts, count);
}

/* ---- a socket's. recvmsg() and recvmmsg() are in descriptors.c ---- */

EXPORT ssize_t send(int fd, const void *from, size_t size, int flags)
{
    return handle_refuses(fd, ENOTSOCK) ? -1 : original()->send(fd, from, size, flags);
}

EXPORT ssize_t sendto(int fd, const void *from, size_t size, int flags, const struct sockaddr *to, socklen_t length)
{
    return handle_refuses(fd, ENOTSOCK) ? -1 : original()->sendto(fd, from, size, flags, to, length);
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    return handle_refuses(fd, ENOTSOCK) ? -1 : original()->sendmsg(fd, message, flags);
}

EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
    return handle_refuses(fd, ENOTSOCK) ? -1 : original()->sendmmsg(fd, messages, count, flags);
}

EXPORT ssize_t recv(int fd, void *to, size_t size, int flags)
{
    return handle_refuses(fd, ENOTSOCK) ? -1 : original()->recv(fd, to, size, flags);
}

EXPORT ssize_t recvfrom(int fd, void *to, size_t size, int flags, struct sockaddr *from, socklen_t *length)
{
    return handle_refuses(fd, ENOTSOCK) ? -1 : original()->recvfrom(fd, to, size, flags, from, length);
}

/* ---- what read() and recv() are in a program that was compiled with _FORTIFY_SOURCE ---- */

EXPORT ssize_t __read_chk(int fd, void *to, size_t size, size_t room)
{
    return handle_refuses(fd, EINVAL) ? -1 : original()->read_chk(fd, to, size, room);
}

EXPORT ssize_t __recv_chk(int fd, void *to, size_t size, size_t room, int flags)
{
    return handle_refuses(fd, ENOTSOCK) ? -1 : original()->recv_chk(fd, to, size, room, flags);
}

EXPORT ssize_t __recvfrom_chk(int fd, void *to, size_t size, size_t room, int flags, struct sockaddr *from,
                              socklen_t *length)
{
    return handle_refuses(fd, ENOTSOCK) ? -1 : original()->recvfrom_chk(fd, to, size, room, flags, from, length);
}
