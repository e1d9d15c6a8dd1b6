/* Handles in epoll instances.
 *
 *   epoll PORT TEST      TEST: a name of the table at the end. The port's wire is a loop, and nobody else uses it.
 */
#include "tests.h"

#include <sys/select.h>

static void epoll_keeps_its_rules(void)
{
    struct port port = open_port(name, 0);
    int epoll = epoll_create(1), ends[2];
    struct epoll_event out = {.events = EPOLLOUT | EPOLLONESHOT, .data.u64 = 1}, both = {.events = EPOLLIN | EPOLLOUT};
    expect_error("EPOLL_CTL_MOD before ADD", epoll_ctl(epoll, EPOLL_CTL_MOD, port.fd, &out), ENOENT);
    expect("EPOLL_CTL_ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, port.fd, &out), 0);
    expect_error("EPOLL_CTL_ADD twice", epoll_ctl(epoll, EPOLL_CTL_ADD, port.fd, &out), EEXIST);
    expect("one shot", events_of(epoll, 1000), EPOLLOUT);
    expect("after one shot", events_of(epoll, 10), 0);
    expect("EPOLL_CTL_MOD", epoll_ctl(epoll, EPOLL_CTL_MOD, port.fd, &out), 0);
    expect("another shot", events_of(epoll, 1000), EPOLLOUT);
    both.events = EPOLLIN | EPOLLOUT | EPOLLET;
    expect("EPOLL_CTL_MOD", epoll_ctl(epoll, EPOLL_CTL_MOD, port.fd, &both), 0);
    expect("the first edge", events_of(epoll, 1000), EPOLLOUT);
    expect("no edge", events_of(epoll, 10), 0);
    put_frames(port.tx, 0, 1);
    expect("a frame comes", events_of(epoll, PATIENCE_MS) & EPOLLIN, EPOLLIN);
    expect("frames", take_frames(port.rx, 0), 1);
    both.events = EPOLLIN | EPOLLOUT;
    expect("EPOLL_CTL_MOD", epoll_ctl(epoll, EPOLL_CTL_MOD, port.fd, &both), 0);
    expect("a level", events_of(epoll, 1000), EPOLLOUT);
    expect("the same level", events_of(epoll, 1000), EPOLLOUT);

    /* a descriptor beside it is not starved, also with room for one event */
    expect("pipe", pipe(ends), 0);
    expect("EPOLL_CTL_ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &(struct epoll_event){.events = EPOLLIN}), 0);
    expect("write", write(ends[1], "x", 1), 1);
    int pipes = 0, ports = 0;
    for (int i = 0; i < 20; i++)
        *(events_of(epoll, 1000) == EPOLLIN ? &pipes : &ports) += 1;
    if (!pipes || !ports)
        FAIL("of 20 events the pipe had %d, the port %d", pipes, ports);
    expect("EPOLL_CTL_DEL", epoll_ctl(epoll, EPOLL_CTL_DEL, ends[0], NULL), 0);

    /* the instance can be waited for, too */
    struct pollfd entry = {.fd = epoll, .events = POLLIN};
    expect("poll of the instance", poll(&entry, 1, 1000), 1);
    expect("EPOLL_CTL_DEL", epoll_ctl(epoll, EPOLL_CTL_DEL, port.fd, NULL), 0);
    expect("after EPOLL_CTL_DEL", events_of(epoll, 10), 0);
}

static void epoll_forgets_what_is_closed(void)
{
    struct port port = open_port(name, 0);
    struct epoll_event out = {.events = EPOLLOUT};
    int epoll = epoll_create1(0), number = port.fd;
    expect("EPOLL_CTL_ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, port.fd, &out), 0);
    expect("an event", events_of(epoll, 1000), EPOLLOUT);
    close(port.fd);
    expect("after close", events_of(epoll, 10), 0);
    port = open_port(name, 0);
    expect("the number is used again", port.fd, number);
    expect("a new handle in an old place", events_of(epoll, 10), 0);
    expect("EPOLL_CTL_ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, port.fd, &out), 0);
    number = epoll;
    close(epoll);
    epoll = epoll_create1(0);
    expect("the number of the instance is used again", epoll, number);
    expect("a new instance", events_of(epoll, 10), 0);
    int unregistered = open_netmap();
    expect("EPOLL_CTL_ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, unregistered, &out), 0);
    expect("an unregistered handle", events_of(epoll, 1000), EPOLLERR);
    struct nmreq_register got;
    expect("REGISTER", try_register(unregistered, name, 0, 0, &got), 0);
    expect("the same handle, registered", events_of(epoll, 1000), EPOLLOUT);
}

static void epoll_takes_many_handles(void)
{
    enum { MANY = 300 };
    struct port port = open_port(name, 0);
    struct epoll_event seen[MANY];
    int epoll = epoll_create1(0), copies[MANY], reported[MANY] = {0}, missing = MANY;
    for (int i = 0; i < MANY; i++) {
        copies[i] = dup(port.fd);
        struct epoll_event out = {.events = EPOLLOUT, .data.fd = i};
        expect("EPOLL_CTL_ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, copies[i], &out), 0);
    }
    for (double end = now() + 20; missing && now() < end;)
        for (int i = 0, n = epoll_wait(epoll, seen, MANY, PATIENCE_MS); i < n; i++)
            missing -= !reported[seen[i].data.fd]++;
    expect("handles that were not reported", missing, 0);
}

/* All descriptors of an instance are the same, whichever of them a program waits with. */
static void copies_of_an_instance_know_its_handles(void)
{
    struct port port = open_port(name, 0);
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0), early = dup(epoll), number = epoll;
    expect("EPOLL_CTL_ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, port.fd, &event), 0);
    int late = fcntl(epoll, F_DUPFD, 0), onto = dup2(epoll, port.fd + 20);
    put_frames(port.tx, 0, 1);
    expect("a frame comes", events_of(early, PATIENCE_MS), EPOLLIN);
    expect("frames", take_frames(port.rx, 0), 1);
    event.events = EPOLLOUT;
    expect("EPOLL_CTL_MOD", epoll_ctl(late, EPOLL_CTL_MOD, port.fd, &event), 0);
    expect("the instance by dup2()", events_of(onto, PATIENCE_MS), EPOLLOUT);
    close(epoll);
    epoll = epoll_create1(0);
    expect("the number of the first is used again", epoll, number);
    expect("another instance", events_of(epoll, 10), 0);
    expect("the instance by F_DUPFD", events_of(late, PATIENCE_MS), EPOLLOUT);
    expect("dup2", dup2(epoll, onto), onto);
    expect("the number that dup2() has replaced", events_of(onto, 10), 0);
    expect("EPOLL_CTL_DEL", epoll_ctl(early, EPOLL_CTL_DEL, port.fd, NULL), 0);
    expect("after EPOLL_CTL_DEL", events_of(late, 10), 0);
}

/* A child has its parent's instance, and closes its own copies, as far as the parent is concerned. */
static void a_child_has_its_parents_instance(void)
{
    struct port port = open_port(name, 0);
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0), ends[2], status;
    expect("EPOLL_CTL_ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, port.fd, &event), 0);
    expect("pipe", pipe(ends), 0);
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        if (!child && i == 0) {
            put_frames(port.tx, 0, 1);
            expect("a frame comes to the child", events_of(epoll, PATIENCE_MS), EPOLLIN);
            expect("frames", take_frames(port.rx, 0), 1);
            close(port.fd);
            close(epoll);
            _exit(0);
        }
        if (!child) { /* while the parent sleeps, if it has begun to */
            nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
            put_frames(port.tx, 0, 1);
            expect("NIOCTXSYNC", ioctl(port.fd, NIOCTXSYNC, NULL), 0);
            _exit(0);
        }
        if (i == 1) {
            expect("a frame comes to the parent", events_of(epoll, PATIENCE_MS), EPOLLIN);
            expect("frames", take_frames(port.rx, 0), 1);
        }
        expect("waitpid", waitpid(child, &status, 0), child);
        expect("the child's exit code", status, 0);
    }
}

/* The kernel still reports a handle that only a child has now. It is not the parent's, whose wait ends in time. */
static void a_childs_handle_is_not_its_parents(void)
{
    struct port port = open_port(name, 0);
    struct epoll_event event = {.events = EPOLLIN};
    int epoll = epoll_create1(0), ends[2];
    char byte;
    expect("EPOLL_CTL_ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, port.fd, &event), 0);
    expect("no frame yet", events_of(epoll, 10), 0);
    expect("pipe", pipe(ends), 0);
    pid_t child = fork();
    if (!child) {
        close(ends[1]);
        expect("the end of the parent's part", read(ends[0], &byte, 1), 0);
        _exit(0);
    }
    put_frames(port.tx, 0, 1);
    expect("a frame", poll_once(epoll, POLLIN, PATIENCE_MS), POLLIN);
    close(port.fd);
    expect("epoll_wait", events_of(epoll, 100), 0);
    close(ends[1]);
    expect("waitpid", waitpid(child, NULL, 0), child);
}

/* select() and poll() of the instance ask its handles, too. */
static void an_instance_can_be_waited_for(void)
{
    struct port port = open_port(name, 0);
    struct epoll_event in = {.events = EPOLLIN};
    int epoll = epoll_create1(0);
    expect("EPOLL_CTL_ADD", epoll_ctl(epoll, EPOLL_CTL_ADD, port.fd, &in), 0);
    for (int way = 0; way < 2; way++) {
        fd_set set;
        FD_ZERO(&set);
        FD_SET(epoll, &set);
        put_frames(port.tx, 0, 1);
        expect("NIOCTXSYNC", ioctl(port.fd, NIOCTXSYNC, NULL), 0);
        if (way == 1)
            expect("poll", poll_once(epoll, POLLIN, PATIENCE_MS), POLLIN);
        else
            expect("select", select(epoll + 1, &set, NULL, NULL, &(struct timeval){.tv_sec = 20}), 1);
        expect("epoll_wait", events_of(epoll, PATIENCE_MS), EPOLLIN);
        expect("frames", take_frames(port.rx, 0), 1);
    }
}

static const struct test tests[] = {
    TEST(epoll_keeps_its_rules),
    TEST(epoll_forgets_what_is_closed),
    TEST(epoll_takes_many_handles),
    TEST(copies_of_an_instance_know_its_handles),
    TEST(a_child_has_its_parents_instance),
    TEST(a_childs_handle_is_not_its_parents),
    TEST(an_instance_can_be_waited_for),
};

int main(int argc, char **argv)
{
    return run_test(argc, argv, tests, sizeof tests / sizeof *tests);
}
