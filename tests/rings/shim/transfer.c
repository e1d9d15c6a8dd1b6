/* Frames leave by the TX ring of a port whose wire is a loop, and come back by its RX ring, in order.
 *
 *   transfer PORT COUNT WAY          WAY: sync poll ppoll select pselect epoll epoll2 checked legacy
 *   transfer PORT COUNT threads      one thread sends, another receives, with the same descriptor
 *   transfer PORT COUNT fork         the child sends, its parent receives, with the same descriptor
 *   transfer PORT COUNT exec         a program inherits the descriptor
 *   transfer PORT COUNT pass         a program gets the descriptor by SCM_RIGHTS, and knows nothing of the port
 *   transfer PORT COUNT handoff      the registration is made by a child
 */
#include "netmap.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>

/* ---- ways to wait: true when the port is ready for what is wanted (POLLIN, POLLOUT) ---- */

static int epoll = -1;

static bool ready_by_poll(int fd, short events, const char *way)
{
    extern int __poll_chk(struct pollfd *, nfds_t, int, size_t);
    struct pollfd entry = {.fd = fd, .events = events};
    struct timespec patience = {.tv_sec = PATIENCE_MS / 1000};
    int n = !strcmp(way, "ppoll")     ? ppoll(&entry, 1, &patience, NULL)
            : !strcmp(way, "checked") ? __poll_chk(&entry, 1, PATIENCE_MS, sizeof entry)
                                      : poll(&entry, 1, PATIENCE_MS);
    expect("poll", n, 1);
    expect("bits of poll that nobody asked for", entry.revents & ~events, 0);
    return true;
}

static bool ready_by_select(int fd, short events, const char *way)
{
    fd_set in, out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    if (events & POLLIN)
        FD_SET(fd, &in);
    if (events & POLLOUT)
        FD_SET(fd, &out);
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    struct timespec time = {.tv_sec = PATIENCE_MS / 1000};
    int n = *way == 'p' ? pselect(fd + 1, &in, &out, NULL, &time, NULL) : select(fd + 1, &in, &out, NULL, &patience);
    if (n < 1)
        FAIL("select: %d, %s", n, strerror(errno));
    return FD_ISSET(fd, &in) || FD_ISSET(fd, &out);
}

static bool ready_by_epoll(int fd, short events, const char *way)
{
    struct epoll_event event = {.events = (uint32_t)events, .data.u64 = 0x1234567890ABCDEF};
    if (epoll < 0) {
        epoll = epoll_create1(EPOLL_CLOEXEC);
        expect("EPOLL_CTL_ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), 0);
    }
    expect("EPOLL_CTL_MOD", epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event), 0);
    struct timespec time = {.tv_sec = PATIENCE_MS / 1000};
    struct epoll_event seen[2];
    int n = strcmp(way, "epoll2") ? epoll_wait(epoll, seen, 2, PATIENCE_MS) : epoll_pwait2(epoll, seen, 2, &time, NULL);
    expect("epoll_wait", n, 1);
    expect("data of an event", (long long)seen[0].data.u64, 0x1234567890ABCDEF);
    return true;
}

static void wait_for(int fd, short events, const char *way)
{
    if (!strcmp(way, "sync") || !strcmp(way, "legacy")) {
        expect("NIOCTXSYNC", ioctl(fd, NIOCTXSYNC, NULL), 0);
        expect("NIOCRXSYNC", ioctl(fd, NIOCRXSYNC, NULL), 0);
    } else if (strstr(way, "select"))
        ready_by_select(fd, events, way);
    else if (strstr(way, "epoll"))
        ready_by_epoll(fd, events, way);
    else
        ready_by_poll(fd, events, way);
}

/* ---- transfers ---- */

static void check_time(double end, uint32_t number, uint32_t count)
{
    if (now() > end)
        FAIL("%u of %u frames came in time", number, count);
}

/* Frames that may be on their way. The NIC drops what finds no slot, and gets those that are released at the next sync. */
static uint32_t window(const struct port *port)
{
    return (port->rx->num_slots - 1) / 2;
}

static void transfer(struct port *port, uint32_t count, const char *way)
{
    uint32_t sent = 0, received = 0, space = window(port);
    for (double end = now() + PATIENCE_MS / 1000.0; received < count; check_time(end, received, count)) {
        uint32_t way_free = space - (sent - received);
        sent += put_frames(port->tx, sent, way_free < count - sent ? way_free : count - sent);
        wait_for(port->fd, sent < count && sent - received < space ? POLLIN | POLLOUT : POLLIN, way);
        received += take_frames(port->rx, received);
    }
    /* nm_tx_pending becomes 0 */
    for (double end = now() + PATIENCE_MS / 1000.0; nm_ring_next(port->tx, port->tx->tail) != port->tx->head;) {
        expect("NIOCTXSYNC", ioctl(port->fd, NIOCTXSYNC, NULL), 0);
        check_time(end, 0, 0);
    }
}

struct sender {
    struct port *port;
    uint32_t count;
    uint32_t *received; /* by the other side; they share the memory */
};

static void *send_all(void *argument)
{
    struct sender *s = argument;
    uint32_t space = window(s->port);
    double end = now() + PATIENCE_MS / 1000.0;
    for (uint32_t sent = 0; sent < s->count; check_time(end, sent, s->count)) {
        uint32_t room = space - (sent - __atomic_load_n(s->received, __ATOMIC_ACQUIRE));
        sent += put_frames(s->port->tx, sent, room < s->count - sent ? room : s->count - sent);
        expect("NIOCTXSYNC", ioctl(s->port->fd, NIOCTXSYNC, NULL), 0);
        if (room) {
            ready_by_poll(s->port->fd, POLLOUT, "poll");
        } else
            nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    return NULL;
}

static void receive_all(struct port *port, uint32_t count, uint32_t *received)
{
    for (uint32_t n = 0; n < count;) {
        ready_by_poll(port->fd, POLLIN, "poll");
        n += take_frames(port->rx, n);
        __atomic_store_n(received, n, __ATOMIC_RELEASE);
    }
}

static void transfer_by_two(struct port *port, uint32_t count, bool fork_one)
{
    uint32_t *received = mmap(NULL, sizeof *received, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct sender sender = {port, count, received};
    pthread_t thread;
    int status = 0;
    pid_t child = fork_one ? fork() : -1;
    if (!child) {
        send_all(&sender);
        exit(0);
    }
    if (!fork_one)
        pthread_create(&thread, NULL, send_all, &sender);
    receive_all(port, count, received);
    if (!fork_one)
        pthread_join(thread, NULL);
    else
        waitpid(child, &status, 0);
    expect("status of the sender", status, 0);
    transfer(port, 1, "poll"); /* the child has closed its descriptor; this one still works */
}

/* ---- other processes ---- */

static void pass(int socket, int fd)
{
    char byte = 0, control[CMSG_SPACE(sizeof fd)] = {0};
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    expect("sendmsg", sendmsg(socket, &message, 0), 1);
}

static int take(int socket)
{
    int fd;
    char byte, control[CMSG_SPACE(sizeof fd)] __attribute__((aligned(8)));
    struct iovec part = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    expect("recvmsg", recvmsg(socket, &message, 0), 1);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void run_with(const char *program, const char *count, const char *way, int fd, const struct port *port)
{
    char number[16], offset[32], size[32];
    snprintf(number, sizeof number, "%d", fd);
    snprintf(offset, sizeof offset, "%llu", (unsigned long long)port->got.nr_offset);
    snprintf(size, sizeof size, "%llu", (unsigned long long)port->got.nr_memsize);
    execl(program, program, "-", count, way, number, offset, size, (char *)NULL);
    FAIL("exec: %s", strerror(errno));
}

/* In a program that has got a descriptor from elsewhere. Its first call is poll(). */
static void go_on(char **argv, uint32_t count)
{
    int fd = atoi(argv[4]);
    struct nmreq_register got = {.nr_offset = strtoull(argv[5], NULL, 10), .nr_memsize = strtoull(argv[6], NULL, 10)};
    if (!strcmp(argv[3], "taken"))
        fd = take(fd);
    ready_by_poll(fd, POLLOUT, "poll");
    struct port port = attach(fd, &got);
    transfer(&port, count, "poll");
}

static void transfer_elsewhere(const char *program, const char *name, const char *count, bool by_message)
{
    struct port port = open_port(name, 0);
    int pair[2], status;
    expect("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    pid_t child = fork();
    if (!child && by_message) {
        close(port.fd);
        run_with(program, count, "taken", pair[1], &port);
    } else if (!child)
        run_with(program, count, "inherited", port.fd, &port);
    if (by_message)
        pass(pair[0], port.fd);
    close(port.fd); /* the other program has it now */
    waitpid(child, &status, 0);
    expect("status of the other program", status, 0);
}

static void register_in_child(const char *name, uint32_t count)
{
    int fd = open_netmap(), status;
    struct nmreq_register *got = mmap(NULL, sizeof *got, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (!child)
        _exit(try_register(fd, name, 0, 0, got) != 0);
    waitpid(child, &status, 0);
    expect("status of the child that registers", status, 0);
    struct port port = attach(fd, got);
    transfer(&port, count, "poll");
}

/* ---- legacy ---- */

static struct port open_legacy(const char *name)
{
    struct nmreq request = {.nr_version = 14, .nr_arg3 = 7};
    int fd = open_netmap();
    snprintf(request.nr_name, sizeof request.nr_name, "%s", name);
    struct nmreq info = request;
    expect("NIOCGINFO", ioctl(fd, NIOCGINFO, &info), 0);
    expect("NIOCREGIF", ioctl(fd, NIOCREGIF, &request), 0);
    expect("nr_memsize of NIOCGINFO", info.nr_memsize, request.nr_memsize);
    expect("nr_rx_slots of NIOCGINFO", info.nr_rx_slots, request.nr_rx_slots);
    expect("nr_version, which nobody writes", request.nr_version, 14);
    expect("nr_flags, which nobody writes", request.nr_flags, 0);
    expect("nr_arg3: extra buffers", request.nr_arg3, 7);
    struct nmreq_register got = {.nr_offset = request.nr_offset, .nr_memsize = request.nr_memsize};
    struct port port = attach(fd, &got);
    if (!port.netif->ni_bufs_head)
        FAIL("ni_bufs_head is 0, and 7 extra buffers were given");
    return port;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: transfer PORT COUNT WAY\n");
        return 2;
    }
    const char *name = argv[1], *way = argv[3];
    uint32_t count = (uint32_t)strtoul(argv[2], NULL, 10);
    if (argc == 7)
        go_on(argv, count);
    else if (!strcmp(way, "exec") || !strcmp(way, "pass"))
        transfer_elsewhere(argv[0], name, argv[2], !strcmp(way, "pass"));
    else if (!strcmp(way, "handoff"))
        register_in_child(name, count);
    else {
        struct port port = strcmp(way, "legacy") ? open_port(name, 0) : open_legacy(name);
        if (!strcmp(way, "threads") || !strcmp(way, "fork"))
            transfer_by_two(&port, count, !strcmp(way, "fork"));
        else
            transfer(&port, count, way);
        close(port.fd);
    }
    return 0;
}
