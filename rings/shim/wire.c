#include "calls.h"
#include "wire.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

enum { PATIENCE_S = 10 };

/* A copy: a program may change or clear its environment before it opens netmap. */
static char socket_path[PATH_MAX];

bool wire_setup(void)
{
    const char *path = getenv("IXRINGS_SOCKET");
    if (path && *path && strlen(path) < sizeof socket_path)
        strcpy(socket_path, path);
    return wire_is_set_up();
}

bool wire_is_set_up(void)
{
    return socket_path[0];
}

/* A socket's address holds 107 characters. A longer path goes through a descriptor of its folder. */
static int address_of_path(struct sockaddr_un *address)
{
    address->sun_family = AF_UNIX;
    if (strlen(socket_path) < sizeof address->sun_path) {
        strcpy(address->sun_path, socket_path);
        return -1;
    }
    char folder[PATH_MAX];
    strcpy(folder, socket_path);
    char *name = strrchr(folder, '/');
    if (!name)
        return -1;
    *name++ = 0;
    int fd = original()->open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%.80s", fd, name);
    return fd;
}

int wire_connect(bool close_on_exec)
{
    struct sockaddr_un address = {0};
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | (close_on_exec ? SOCK_CLOEXEC : 0), 0);
    if (fd < 0)
        return -errno;
    int folder = address_of_path(&address);
    /* the system call itself: open() is a point of cancellation, and a cancelled thread would leave the socket open */
    long failed = syscall(SYS_connect, fd, &address, sizeof address);
    int error = errno;
    if (folder >= 0)
        close_own(folder);
    if (!failed)
        return fd;
    close_own(fd);
    return error == EACCES || error == EPERM ? -EACCES : error == EINTR ? -EINTR : -ENXIO;
}

static bool same_file(const char *a, const char *b)
{
    struct stat one, other;
    return !stat(a, &one) && !stat(b, &other) && one.st_ino == other.st_ino && one.st_dev == other.st_dev;
}

bool wire_is_daemon(int fd)
{
    struct sockaddr_un peer = {0};
    socklen_t length = sizeof peer - 1;
    int before = errno, type = 0;
    socklen_t size = sizeof type;
    bool is = wire_is_set_up() && !getpeername(fd, (struct sockaddr *)&peer, &length) && peer.sun_family == AF_UNIX &&
              peer.sun_path[0] && !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) && type == SOCK_SEQPACKET &&
              (!strcmp(peer.sun_path, socket_path) || same_file(peer.sun_path, socket_path));
    errno = before;
    return is;
}

/* The requests below use system calls directly: ioctl() is not a point of cancellation. */
static int wait_until(int fd, short events)
{
    struct timespec patience = {.tv_sec = PATIENCE_S}; /* the kernel stores here what is left of it */
    struct pollfd entry = {.fd = fd, .events = events};
    for (;;) {
        long n = syscall(SYS_ppoll, &entry, 1, &patience, NULL, 0);
        if (n > 0)
            return 0;
        if (!n)
            return EIO;
        if (errno != EINTR)
            return errno;
    }
}

static int send_message(int fd, const struct message *head, void *payload, int answer_to)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec parts[] = {{(void *)head, sizeof *head}, {payload, head->size}};
    struct msghdr message = {
        .msg_iov = parts, .msg_iovlen = 2, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    *rights = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(rights), &answer_to, sizeof answer_to);
    while (syscall(SYS_sendmsg, fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        if (errno == EAGAIN) {
            int error = wait_until(fd, POLLOUT);
            if (error)
                return error;
        } else if (errno != EINTR)
            return errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN ? ENXIO : errno;
    }
    return 0;
}

static void take_descriptors(struct msghdr *message, struct reply *reply)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            reply->count = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            memcpy(reply->fds, CMSG_DATA(c), (size_t)reply->count * sizeof(int));
        }
}

static int receive_reply(int fd, void *payload, size_t room, struct reply *reply)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * REPLY_DESCRIPTORS)];
    } control = {0};
    struct message head = {0};
    struct iovec parts[] = {{&head, sizeof head}, {payload, room}};
    struct msghdr message = {
        .msg_iov = parts, .msg_iovlen = 2, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    long n;
    int error = wait_until(fd, POLLIN);
    if (error)
        return error;
    do
        n = syscall(SYS_recvmsg, fd, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0) /* the end of the stream: the daemon closed its end without an answer */
        return n < 0 && errno != ECONNRESET ? errno : ENXIO;
    take_descriptors(&message, reply);
    reply->error = head.error;
    reply->value = head.value;
    reply->size = (size_t)n - sizeof head;
    bool whole = (size_t)n >= sizeof head && head.magic == MESSAGE_MAGIC && head.version == MESSAGE_VERSION &&
                 head.size == reply->size && !(message.msg_flags & (MSG_TRUNC | MSG_CTRUNC));
    if (whole)
        return 0;
    while (reply->count)
        close_own(reply->fds[--reply->count]);
    return EIO;
}

int wire_request(int socket, enum message_kind kind, uint64_t value, void *payload, size_t size, size_t room,
                 struct reply *reply)
{
    struct message head = {.magic = MESSAGE_MAGIC,
                           .version = MESSAGE_VERSION,
                           .kind = (uint16_t)kind,
                           .size = (uint32_t)size,
                           .value = value};
    int pair[2];
    *reply = (struct reply){0};
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return errno;
    int error = send_message(socket, &head, payload, pair[1]);
    close_own(pair[1]); /* now the daemon has the only copy, so its end is seen */
    if (!error)
        error = receive_reply(pair[0], payload, room, reply);
    close_own(pair[0]);
    return error;
}

int wire_refusal(int socket)
{
    struct message head = {0};
    long n = -1;
    for (int tries = 0; n < 0 && tries < 2; tries++) /* the first may report that the connection was reset */
        n = syscall(SYS_recvfrom, socket, &head, sizeof head, MSG_DONTWAIT, NULL, NULL);
    return n == sizeof head && head.magic == MESSAGE_MAGIC && head.kind == MESSAGE_REFUSED ? head.error : 0;
}
