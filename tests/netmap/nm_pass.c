/* A netmap descriptor in other hands: it is duplicated, inherited, kept over exec(), or sent to another process.
 *
 *   nm_pass -i NAME -m dup|fork|exec|send [-n COUNT]
 *
 * The program opens NAME and sends COUNT numbered frames; who has the descriptor then sends COUNT more, after the first
 * owner has closed its own. A receiver of NAME's frames thus gets 2 * COUNT frames of stream 0 in order.
 */
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_S = 20 };

static void send_frames(struct port *port, uint64_t first, uint64_t count)
{
    char frame[SHORTEST];
    double end = now() + PATIENCE_S;
    for (uint64_t number = first; number < first + count;) {
        struct pollfd asked = {.fd = port->fd, .events = POLLOUT};
        poll(&asked, 1, 1000);
        if (asked.revents & (POLLERR | POLLHUP | POLLNVAL))
            fail("poll of the descriptor %d: revents are %#x", port->fd, (unsigned)asked.revents);
        struct netmap_ring *ring = port->tx[0];
        uint32_t head = ring->head;
        for (; number < first + count; number++) {
            frame_write(frame, sizeof frame, 0, number);
            if (!frame_put(ring, head, frame, sizeof frame))
                break;
            head = nm_ring_next(ring, head);
        }
        ring_advance(ring, head);
        if (now() > end)
            fail("%llu frames were not sent in time", (unsigned long long)count);
    }
    if (!port_flush(port, PATIENCE_S))
        fail("the last frames did not leave");
}

static void wait_for(pid_t child)
{
    int status;
    if (waitpid(child, &status, 0) != child || status)
        fail("the other process ended with the status %#x", (unsigned)status);
}

static void by_dup(struct port *port, uint64_t count)
{
    int copies[] = {dup(port->fd), dup2(port->fd, 100), fcntl(port->fd, F_DUPFD_CLOEXEC, 50)};
    close(port->fd);
    close(copies[0]);
    port->fd = copies[1];
    send_frames(port, count, count / 2);
    close(copies[1]);
    port->fd = copies[2];
    send_frames(port, count + count / 2, count - count / 2);
}

/* The child has the memory and the descriptor; the parent closes its own before the child goes on. */
static void by_fork(struct port *port, uint64_t count)
{
    int closed[2];
    char byte;
    if (pipe(closed))
        fail("pipe: %s", strerror(errno));
    pid_t child = fork();
    if (!child) {
        close(closed[1]);
        if (read(closed[0], &byte, 1))
            _exit(3);
        send_frames(port, count, count);
        _exit(0);
    }
    close(closed[0]);
    port_close(port);
    close(closed[1]);
    wait_for(child);
}

static void by_exec(struct port *port, uint64_t count)
{
    char fd[16], size[32], offset[32], frames[32];
    snprintf(fd, sizeof fd, "%d", port->fd);
    snprintf(size, sizeof size, "%llu", (unsigned long long)port->reg.nr_memsize);
    snprintf(offset, sizeof offset, "%llu", (unsigned long long)port->reg.nr_offset);
    snprintf(frames, sizeof frames, "%llu", (unsigned long long)count);
    fflush(stdout);
    execl("/proc/self/exe", "nm_pass", "continue", fd, size, offset, frames, (char *)NULL);
    fail("exec: %s", strerror(errno));
}

struct handed { /* what a process needs to know about a descriptor that it gets */
    uint64_t memsize, offset, count;
};

static void go_on(int fd, struct handed handed)
{
    static struct port port;
    port.fd = fd;
    port.reg.nr_memsize = handed.memsize;
    port.reg.nr_offset = handed.offset;
    port_map(&port);
    send_frames(&port, handed.count, handed.count);
}

static void hand_over(int socket, int fd, struct handed handed)
{
    char space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {&handed, sizeof handed};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(rights), &fd, sizeof fd);
    if (sendmsg(socket, &message, 0) != sizeof handed)
        fail("sendmsg: %s", strerror(errno));
}

static void take_over(int socket)
{
    char space[CMSG_SPACE(sizeof(int))] = {0};
    struct handed handed;
    struct iovec data = {&handed, sizeof handed};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    if (recvmsg(socket, &message, 0) != sizeof handed)
        fail("recvmsg: %s", strerror(errno));
    char byte;
    if (read(socket, &byte, 1)) /* the end of the stream: the sender has ended, and closed its descriptor */
        fail("more came than the descriptor");
    int fd;
    struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
    if (!rights || rights->cmsg_type != SCM_RIGHTS)
        fail("no descriptor came");
    memcpy(&fd, CMSG_DATA(rights), sizeof fd);
    go_on(fd, handed);
}

/* The process that gets the descriptor never opens /dev/netmap. */
static void by_message(const char *name, uint64_t count)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends))
        fail("socketpair: %s", strerror(errno));
    pid_t first = fork();
    if (!first) {
        struct port port;
        close(ends[1]);
        port_open(&port, name, 0);
        port_announce(&port);
        send_frames(&port, 0, count);
        hand_over(ends[0], port.fd, (struct handed){port.reg.nr_memsize, port.reg.nr_offset, count});
        exit(0);
    }
    close(ends[0]);
    take_over(ends[1]);
    wait_for(first);
}

int main(int argc, char **argv)
{
    if (argc == 6 && !strcmp(argv[1], "continue")) {
        go_on(atoi(argv[2]),
              (struct handed){strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10), strtoull(argv[5], NULL, 10)});
        printf("{\"passed\": true}\n");
        return 0;
    }
    static struct port port;
    const char *name = NULL, *mode = "";
    uint64_t count = 100;
    for (int letter; (letter = getopt(argc, argv, "i:m:n:")) != -1;)
        switch (letter) {
        case 'i':
            name = optarg;
            break;
        case 'm':
            mode = optarg;
            break;
        case 'n':
            count = strtoull(optarg, NULL, 10);
            break;
        default:
            return 2;
        }
    void (*pass)(struct port *, uint64_t) = !strcmp(mode, "dup")    ? by_dup
                                            : !strcmp(mode, "fork") ? by_fork
                                            : !strcmp(mode, "exec") ? by_exec
                                                                    : NULL;
    if (!name || (!pass && strcmp(mode, "send")))
        fail("usage: nm_pass -i NAME -m dup|fork|exec|send [-n COUNT]");
    if (pass) {
        port_open(&port, name, 0);
        port_announce(&port);
        send_frames(&port, 0, count);
        pass(&port, count);
    } else {
        by_message(name, count);
    }
    printf("{\"passed\": true}\n");
    return 0;
}
