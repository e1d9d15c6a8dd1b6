/* What a netmap descriptor answers, and what else a program may do with it.
 *
 *   behaviour PORT TEST      TEST: a name of the table at the end. The port's wire is a loop, and nobody else uses it.
 */
#include "tests.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* ---- errors ---- */

static void an_unregistered_handle_refuses(void)
{
    int fd = open_netmap();
    expect_error("NIOCTXSYNC", ioctl(fd, NIOCTXSYNC, NULL), ENXIO);
    expect_error("NIOCRXSYNC", ioctl(fd, NIOCRXSYNC, NULL), ENXIO);
    void *mapping = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    expect_error("mmap", mapping == MAP_FAILED ? -1 : 0, EINVAL);
    expect("poll", poll_once(fd, POLLIN | POLLOUT, 1000), POLLERR);
    fd_set in, out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    FD_SET(fd, &in);
    FD_SET(fd, &out);
    expect("select, which shows POLLERR in both sets", select(fd + 1, &in, &out, NULL, NULL), 2);
}

static void requests_are_checked(void)
{
    int fd = open_netmap();
    struct nmreq_register got, body = {.nr_mode = NR_REG_ALL_NIC};
    struct nmreq_header header = {.nr_version = 14, .nr_reqtype = NETMAP_REQ_REGISTER, .nr_body = (uintptr_t)&body};
    snprintf(header.nr_name, sizeof header.nr_name, "%s", name);
    expect_error("a NULL argument", ioctl(fd, NIOCCTRL, NULL), EINVAL);
    expect_error("a bad address", ioctl(fd, NIOCCTRL, (void *)16), EFAULT);
    struct nmreq_header bad = header;
    bad.nr_version = 13;
    expect_error("version 13", ioctl(fd, NIOCCTRL, &bad), EINVAL);
    bad = header, bad.nr_body = 0;
    expect_error("no body", ioctl(fd, NIOCCTRL, &bad), EINVAL);
    bad = header, bad.nr_body = 16;
    expect_error("a bad body", ioctl(fd, NIOCCTRL, &bad), EFAULT);
    bad = header, bad.nr_options = 16;
    expect_error("a bad option", ioctl(fd, NIOCCTRL, &bad), EFAULT);
    bad = header, bad.nr_reqtype = 99;
    expect_error("an unknown request", ioctl(fd, NIOCCTRL, &bad), EINVAL);
    expect_error("no such port", try_register(fd, "nosuch", 0, 0, &got), ENXIO);
    struct nmreq old = {.nr_version = 11};
    expect_error("a legacy request of version 11", ioctl(fd, NIOCREGIF, &old), EINVAL);
    errno = ERANGE;
    expect("a request with the sign extended", ioctl(fd, (unsigned long)(int)NIOCCTRL, &header), 0);
    expect("errno after success", errno, ERANGE);
    expect_error("a second registration", try_register(fd, name, 0, 0, &got), EBUSY);
    size_t beyond = body.nr_memsize + 4096;
    expect_error("mmap beyond the region", mmap(NULL, beyond, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0,
                 EINVAL);
    expect_error("an ordinary file", ioctl(0, NIOCTXSYNC, NULL), ENOTTY);
}

static void options_get_their_status(void)
{
    int fd = open_netmap();
    struct nmreq_register got;
    struct nmreq_option unknown = {.nro_reqtype = 1234}, circle = {.nro_reqtype = 1234, .nro_status = 77};
    circle.nro_next = (uintptr_t)&circle;
    expect_error("an unknown option", try_register(fd, name, 0, (uintptr_t)&unknown, &got), EOPNOTSUPP);
    expect("its status", unknown.nro_status, EOPNOTSUPP);
    expect_error("a circle", try_register(fd, name, 0, (uintptr_t)&circle, &got), EMSGSIZE);
    expect("the status of a circle, which stays", circle.nro_status, 77);
    struct {
        struct nmreq_option option;
        uint64_t atok, ktoa;
    } csb[2] = {{.option = {.nro_reqtype = NETMAP_REQ_OPT_CSB}}, {.option = {.nro_reqtype = NETMAP_REQ_OPT_CSB}}};
    csb[0].option.nro_next = (uintptr_t)&csb[1];
    expect_error("an option twice", try_register(fd, name, NR_EXCLUSIVE, (uintptr_t)csb, &got), EINVAL);
    expect("the status of the first", csb[0].option.nro_status, EINVAL);
    expect("the status of the second", csb[1].option.nro_status, EINVAL);
    expect("nro_next, which stays", (long long)csb[0].option.nro_next, (long long)(uintptr_t)&csb[1]);
    csb[0].option.nro_next = 0, csb[0].atok = 16;
    expect_error("a control block at an odd address", try_register(fd, name, NR_EXCLUSIVE, (uintptr_t)csb, &got),
                 EINVAL);
    expect("a registration after refusals", try_register(fd, name, 0, 0, &got), 0);
}

/* Programs write to it by mistake: when it has the number of a standard stream that they had closed. */
static void bytes_are_refused(void)
{
    extern ssize_t __read_chk(int, void *, size_t, size_t);
    struct port port = open_port(name, 0);
    char byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    struct mmsghdr messages = {.msg_hdr = message};
    for (int registered = 0; registered < 2; registered++) {
        int fd = registered ? port.fd : open_netmap();
        expect_error("read", read(fd, &byte, 1), EINVAL);
        expect_error("__read_chk", __read_chk(fd, &byte, 1, 1), EINVAL);
        expect_error("readv", readv(fd, &part, 1), EINVAL);
        expect_error("write", write(fd, &byte, 1), EINVAL);
        expect_error("write of nothing", write(fd, &byte, 0), EINVAL);
        expect_error("writev", writev(fd, &part, 1), EINVAL);
        expect_error("send", send(fd, &byte, 1, 0), ENOTSOCK);
        expect_error("sendto", sendto(fd, &byte, 1, 0, NULL, 0), ENOTSOCK);
        expect_error("sendmsg", sendmsg(fd, &message, 0), ENOTSOCK);
        expect_error("sendmmsg", sendmmsg(fd, &messages, 1, 0), ENOTSOCK);
        expect_error("recv", recv(fd, &byte, 1, 0), ENOTSOCK);
        expect_error("recvfrom", recvfrom(fd, &byte, 1, 0, NULL, NULL), ENOTSOCK);
        expect_error("recvmsg", recvmsg(fd, &message, 0), ENOTSOCK);
        expect_error("recvmmsg", recvmmsg(fd, &messages, 1, 0, NULL), ENOTSOCK);
    }
}

/* What the C library writes for its streams does not pass through write(). */
static void stray_messages_do_no_harm(void)
{
    struct port port = open_port(name, 0);
    char long_line[40000];
    memset(long_line, 'x', sizeof long_line);
    for (int i = 0; i < 3; i++) {
        dprintf(port.fd, "an error: %d\n", i);
        syscall(SYS_sendto, port.fd, long_line, sizeof long_line, 0, NULL, 0);
        syscall(SYS_sendto, port.fd, "", 0, 0, NULL, 0); /* looks like the end of a connection */
        struct nmreq_register got;
        expect_error("a second registration", try_register(port.fd, name, 0, 0, &got), EBUSY);
        put_frames(port.tx, (uint32_t)i, 1);
        expect("poll", poll_once(port.fd, POLLIN, PATIENCE_MS), POLLIN);
        expect("frames", take_frames(port.rx, (uint32_t)i), 1);
    }
}

/* On a switch: the port `vale7:a` sends what is at slot->ptr. */
static void indirect_frames_come_from_the_programs_memory(void)
{
    static uint8_t frame[100];
    struct port a = open_port("vale7:a", 0), b = open_port("vale7:b", 0);
    memset(frame, 0xFF, sizeof frame);
    expect("NIOCRXSYNC", ioctl(b.fd, NIOCRXSYNC, NULL), 0);
    for (int way = 0; way < 3; way++) {
        struct netmap_slot *slot = &a.tx->slot[a.tx->head];
        frame[50] = (uint8_t)way;
        memset(buffer(a.tx, a.tx->head), 0, 100);
        *slot = (struct netmap_slot){slot->buf_idx, sizeof frame, 0x10, way == 2 ? 16 : (uintptr_t)frame};
        a.tx->head = a.tx->cur = nm_ring_next(a.tx, a.tx->head);
        if (way == 1)
            expect("poll", poll_once(a.fd, POLLIN, 0), 0);
        else
            expect("NIOCTXSYNC", ioctl(a.fd, NIOCTXSYNC, NULL), 0);
        expect("NS_INDIRECT after the sync", slot->flags & 0x10, 0);
        expect("poll", poll_once(b.fd, POLLIN, way == 2 ? 50 : PATIENCE_MS), way == 2 ? 0 : POLLIN);
        if (way == 2) /* memory that cannot be read: no bytes, which go nowhere */
            break;
        expect("length", b.rx->slot[b.rx->head].len, sizeof frame);
        expect("content", memcmp(buffer(b.rx, b.rx->head), frame, sizeof frame), 0);
        b.rx->head = b.rx->cur = nm_ring_next(b.rx, b.rx->head);
    }
    expect("poll of a port that broke no rule", poll_once(a.fd, POLLOUT, 1000), POLLOUT);
    struct netmap_slot *slot = &a.tx->slot[a.tx->head];
    *slot = (struct netmap_slot){slot->buf_idx, 0xFFFF, 0x10, (uintptr_t)frame};
    a.tx->head = a.tx->cur = nm_ring_next(a.tx, a.tx->head);
    expect("poll of a port with a frame longer than a buffer", poll_once(a.fd, POLLOUT, 1000) & POLLERR, POLLERR);
}

/* ---- descriptors ---- */

static void closed_descriptors_are_closed(void)
{
    struct port port = open_port(name, NR_EXCLUSIVE);
    int copies[] = {dup(port.fd), dup2(port.fd, 40), fcntl(port.fd, F_DUPFD, 50), fcntl(port.fd, F_DUPFD_CLOEXEC, 60),
                    dup3(port.fd, 70, O_CLOEXEC)};
    close(port.fd);
    for (int i = 0; i < 5; i++) {
        expect("NIOCTXSYNC of a copy", ioctl(copies[i], NIOCTXSYNC, NULL), 0);
        expect("poll of a copy", poll_once(copies[i], POLLOUT, 1000), POLLOUT);
    }
    for (int i = 0; i < 4; i++)
        close(copies[i]);
    expect_error("NIOCTXSYNC of a closed copy", ioctl(copies[1], NIOCTXSYNC, NULL), EBADF);
    expect("poll of a closed copy", poll_once(copies[1], POLLOUT, 1000), POLLNVAL);
    expect("NIOCTXSYNC of the last copy", ioctl(70, NIOCTXSYNC, NULL), 0);
    expect("dup2 over the last copy", dup2(0, 70), 70);
    expect_error("NIOCTXSYNC of another file", ioctl(70, NIOCTXSYNC, NULL), ENOTTY);
    for (double end = now() + 20;;) { /* the daemon sees the end of the connection a little later */
        struct nmreq_register got;
        int fd = open_netmap();
        if (!try_register(fd, name, NR_EXCLUSIVE, 0, &got))
            break;
        close(fd);
        if (errno != EBUSY || now() > end)
            FAIL("REGISTER after all copies are closed: %s", strerror(errno));
    }
}

/* As a program that becomes a daemon closes everything it does not know. */
static void a_program_closes_what_it_does_not_know(void)
{
    struct port port = open_port(name, 0);
    for (int fd = 3; fd < (int)sysconf(_SC_OPEN_MAX) && fd < 70000; fd++)
        if (fd != port.fd)
            close(fd);
    expect("close_range", close_range((unsigned)port.fd + 1, ~0u, 0), 0);
    expect("the lowest free descriptor", dup(0), port.fd + 1);
    expect("poll", poll_once(port.fd, POLLIN | POLLOUT, 1000), POLLOUT);
    expect("NIOCRXSYNC", ioctl(port.fd, NIOCRXSYNC, NULL), 0);
    void *again = mmap(NULL, port.got.nr_memsize, PROT_READ, MAP_SHARED, port.fd, 0);
    expect("another mapping", again == MAP_FAILED, 0);
    expect("close_range of everything", close_range(3, ~0u, 0), 0);
    expect_error("NIOCTXSYNC", ioctl(port.fd, NIOCTXSYNC, NULL), EBADF);
    for (int fd = 3; fd < 20000; fd++)
        expect("a descriptor that is still open", fcntl(fd, F_GETFD), -1);
}

static void threads_open_and_close(void)
{
    pthread_t threads[4];
    void *churn(void *argument);
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, churn, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

void *churn(void *argument)
{
    for (int i = 0; i < 20; i++) {
        struct port port = open_port(name, 0);
        expect("poll", poll_once(port.fd, POLLOUT, 20000), POLLOUT);
        munmap(port.region, port.got.nr_memsize);
        close(port.fd);
    }
    return argument;
}

/* ---- waits ---- */

static double cpu(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void a_wait_lasts_as_long_as_asked(void)
{
    struct port port = open_port(name, 0);
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = 7};
    expect("EPOLL_CTL_ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, port.fd, &event), 0);
    double before = cpu();
    for (int way = 0; way < 4; way++) {
        double start = now();
        struct timeval time = {.tv_usec = 100000};
        struct timespec exact = {.tv_nsec = 100000000};
        fd_set in;
        FD_ZERO(&in);
        FD_SET(port.fd, &in);
        int n = way == 0   ? poll_once(port.fd, POLLIN, 100)
                : way == 1 ? select(port.fd + 1, &in, NULL, NULL, &time)
                : way == 2 ? epoll_wait(epoll, &event, 1, 100)
                           : epoll_pwait2(epoll, &event, 1, &exact, NULL);
        expect("a wait for nothing", n, 0);
        if (now() - start < 0.0999)
            FAIL("way %d waited %.6f s, not 0.1 s", way, now() - start);
        if (way == 1 && (time.tv_sec || time.tv_usec || FD_ISSET(port.fd, &in)))
            FAIL("select() left %ld.%06ld s, or a bit in the set", time.tv_sec, time.tv_usec);
    }
    if (cpu() - before > 0.2)
        FAIL("0.4 s of waits took %.3f s of the processor", cpu() - before);
    expect("poll without a wait", poll_once(port.fd, POLLIN, 0), 0);
    expect("epoll_wait without a wait", epoll_wait(epoll, &event, 1, 0), 0);
}

static void *send_later(void *argument)
{
    struct port *port = argument;
    nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
    put_frames(port->tx, 0, 1);
    expect("NIOCTXSYNC", ioctl(port->fd, NIOCTXSYNC, NULL), 0);
    return NULL;
}

/* Another thread sends while this one sleeps. */
static void a_sleeper_is_woken(void)
{
    struct port port = open_port(name, 0);
    int epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = 7};
    expect("EPOLL_CTL_ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, port.fd, &event), 0);
    for (int way = 0; way < 3; way++) {
        pthread_t thread;
        fd_set in;
        FD_ZERO(&in);
        FD_SET(port.fd, &in);
        pthread_create(&thread, NULL, send_later, &port);
        if (way == 0)
            expect("poll", poll_once(port.fd, POLLIN, PATIENCE_MS), POLLIN);
        else if (way == 1)
            expect("select", select(port.fd + 1, &in, NULL, NULL, &(struct timeval){.tv_sec = 20}), 1);
        else
            expect("epoll_wait", epoll_wait(epoll, &event, 1, PATIENCE_MS), 1);
        expect("frames", take_frames(port.rx, 0), 1);
        pthread_join(thread, NULL);
    }
}

static void other_descriptors_are_reported(void)
{
    struct port port = open_port(name, 0);
    int ends[2];
    expect("pipe", pipe(ends), 0);
    struct pollfd entries[] = {{.fd = -1, .events = POLLIN, .revents = 99},
                               {.fd = ends[0], .events = POLLIN},
                               {.fd = port.fd, .events = POLLIN},
                               {.fd = ends[1], .events = POLLOUT}};
    expect("poll", poll(entries, 4, PATIENCE_MS), 1);
    expect("the pipe's other end", entries[3].revents, POLLOUT);
    expect("an entry that is switched off", entries[0].revents, 0);
    expect("write", write(ends[1], "x", 1), 1);
    entries[2].events = POLLIN | POLLOUT;
    expect("poll", poll(entries, 4, PATIENCE_MS), 3);
    expect("the pipe", entries[1].revents, POLLIN);
    expect("the port", entries[2].revents, POLLOUT);
    close(ends[1]);
    entries[2].events = POLLIN;
    expect("poll", poll(entries, 4, PATIENCE_MS), 2);
    expect("the pipe without a writer", entries[1].revents, POLLIN | POLLHUP);
    expect("a closed descriptor", entries[3].revents, POLLNVAL);
    fd_set in;
    FD_ZERO(&in);
    FD_SET(port.fd, &in);
    FD_SET(ends[1], &in);
    expect_error("select with a closed descriptor", select(100, &in, NULL, NULL, NULL), EBADF);
    expect("the set after an error", FD_ISSET(port.fd, &in) != 0, 1);
}

static void note(int number)
{
    (void)number;
}

static void signals_end_a_wait(void)
{
    struct port port = open_port(name, 0);
    sigset_t blocked, during;
    sigemptyset(&during);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = note}, NULL);
    sigaction(SIGUSR1, &(struct sigaction){.sa_handler = note}, NULL);
    setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_usec = 50000}, NULL);
    expect_error("poll", poll_once(port.fd, POLLIN, PATIENCE_MS), EINTR);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    raise(SIGUSR1);
    struct pollfd entry = {.fd = port.fd, .events = POLLIN};
    struct timespec patience = {.tv_sec = 20};
    expect_error("ppoll with a mask that lets the signal in", ppoll(&entry, 1, &patience, &during), EINTR);
    raise(SIGUSR1);
    fd_set in;
    FD_ZERO(&in);
    FD_SET(port.fd, &in);
    expect_error("pselect", pselect(port.fd + 1, &in, NULL, NULL, &patience, &during), EINTR);
    expect("ppoll without a mask", ppoll(&entry, 1, &(struct timespec){.tv_nsec = 1000}, NULL), 0);
}

static void *wait_forever(void *argument)
{
    poll_once(*(int *)argument, POLLIN, -1);
    return NULL;
}

static void a_waiting_thread_can_be_cancelled(void)
{
    struct port port = open_port(name, 0);
    pthread_t thread;
    void *result;
    pthread_create(&thread, NULL, wait_forever, &port.fd);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    expect("the thread was cancelled", result == PTHREAD_CANCELED, 1);
}

static void *wait_shortly(void *argument)
{
    for (;;)
        poll_once(*(int *)argument, POLLIN, 0);
    return NULL;
}

/* A cancelled thread that kept the handle would keep its rings, too. */
static void cancelled_threads_keep_no_handle_open(void)
{
    struct nmreq_register got;
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        int fd = open("/dev/netmap", O_RDWR), error = EBUSY;
        for (int tries = 0; error == EBUSY && tries < 2000; tries++) {
            error = try_register(fd, name, NR_EXCLUSIVE, 0, &got) ? errno : 0;
            if (error)
                nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        }
        expect("REGISTER after the close of a handle with a cancelled thread", error, 0);
        pthread_create(&thread, NULL, wait_shortly, &fd);
        nanosleep(&(struct timespec){.tv_nsec = 200000 + i * 1000}, NULL);
        pthread_cancel(thread);
        pthread_join(thread, NULL);
        close(fd);
    }
}

/* ---- the daemon ends ---- */

/* Prints a line when it waits. */
static void the_daemon_ends(void)
{
    struct port port = open_port(name, 0);
    int epoll = epoll_create1(0);
    struct epoll_event in = {.events = EPOLLIN};
    expect("EPOLL_CTL_ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, port.fd, &in), 0);
    puts("waiting");
    fflush(stdout);
    expect("poll", poll_once(port.fd, POLLIN, PATIENCE_MS), POLLERR);
    expect("poll", poll_once(port.fd, POLLIN | POLLOUT, PATIENCE_MS), POLLERR);
    expect("epoll_wait", events_of(epoll, PATIENCE_MS), EPOLLERR);
    expect_error("NIOCTXSYNC", ioctl(port.fd, NIOCTXSYNC, NULL), ENXIO);
    expect_error("NIOCRXSYNC", ioctl(port.fd, NIOCRXSYNC, NULL), ENXIO);
    expect_error("open", open("/dev/netmap", O_RDWR), ENXIO);
    put_frames(port.tx, 0, 1); /* the memory is still there */
}

/* ---- flags ---- */

static void open_keeps_its_flags(void)
{
    extern int __open_2(const char *, int), __open64_2(const char *, int);
    int plain = open("/dev/netmap", O_RDWR), flagged = openat(AT_FDCWD, "/dev/netmap", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    expect("FD_CLOEXEC of a plain open", fcntl(plain, F_GETFD), 0);
    expect("O_NONBLOCK of a plain open", fcntl(plain, F_GETFL) & O_NONBLOCK, 0);
    expect("FD_CLOEXEC", fcntl(flagged, F_GETFD), FD_CLOEXEC);
    expect("O_NONBLOCK", fcntl(flagged, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    struct nmreq_register got;
    expect("REGISTER without blocking", try_register(flagged, name, 0, 0, &got), 0);
    int more[] = {__open_2("/dev/netmap", O_RDWR), __open64_2("/dev/netmap", O_RDWR),
                  openat(AT_FDCWD, "/dev/netmap", O_RDWR)};
    for (int i = 0; i < 3; i++)
        expect("poll", poll_once(more[i], POLLIN, 0), POLLERR);
    int file = open("/dev/null", O_RDONLY);
    expect("an ordinary file", file, more[2] + 1);
}

static const struct test tests[] = {
    TEST(an_unregistered_handle_refuses),
    TEST(requests_are_checked),
    TEST(options_get_their_status),
    TEST(bytes_are_refused),
    TEST(stray_messages_do_no_harm),
    TEST(indirect_frames_come_from_the_programs_memory),
    TEST(closed_descriptors_are_closed),
    TEST(a_program_closes_what_it_does_not_know),
    TEST(threads_open_and_close),
    TEST(a_wait_lasts_as_long_as_asked),
    TEST(a_sleeper_is_woken),
    TEST(other_descriptors_are_reported),
    TEST(signals_end_a_wait),
    TEST(a_waiting_thread_can_be_cancelled),
    TEST(cancelled_threads_keep_no_handle_open),
    TEST(open_keeps_its_flags),
    TEST(the_daemon_ends),
};

int main(int argc, char **argv)
{
    return run_test(argc, argv, tests, sizeof tests / sizeof *tests);
}
