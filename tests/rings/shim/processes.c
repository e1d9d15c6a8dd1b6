/* Handles in several processes, and in children of programs with threads.
 *
 *   processes PORT TEST      TEST: a name of the table at the end. The port's wire is a loop, and nobody else uses it.
 */
#include "tests.h"

#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/syscall.h>

extern char **environ;

/* ---- children ---- */

/* Its memory is this process's own, but its descriptors are not. */
static void a_vfork_child_closes_only_its_own(void)
{
    struct port port = open_port(name, 0);
    pid_t child = vfork();
    if (!child) {
        close(port.fd);
        close_range(3, ~0u, 0);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    expect("NIOCTXSYNC", ioctl(port.fd, NIOCTXSYNC, NULL), 0);
    expect("poll", poll_once(port.fd, POLLIN | POLLOUT, 1000), POLLOUT);
}

/* The parent ends, as daemon() does it, and the child goes on with the handle. */
static void a_program_becomes_a_daemon(void)
{
    int ends[2];
    char result = 0;
    expect("pipe", pipe(ends), 0);
    pid_t program = fork();
    if (!program) {
        struct port port = open_port(name, NR_EXCLUSIVE);
        close(ends[0]);
        expect("daemon", daemon(0, 0), 0);
        close_range((unsigned)(port.fd > ends[1] ? port.fd : ends[1]) + 1, ~0u, 0);
        put_frames(port.tx, 0, 1);
        expect("poll", poll_once(port.fd, POLLIN, PATIENCE_MS), POLLIN);
        expect("frames", take_frames(port.rx, 0), 1);
        expect("another handle", open_netmap() >= 0, 1);
        expect("write", write(ends[1], "y", 1), 1);
        _exit(0);
    }
    close(ends[1]);
    int status;
    expect("waitpid", waitpid(program, &status, 0), program);
    expect("the program's exit code", status, 0);
    expect("the daemon's answer", read(ends[0], &result, 1), 1);
}

/* The number that a_spawned_program_has_the_handle() gives to its handle. */
enum { INHERITED = 9 };

static void the_spawned_program(void)
{
    struct registration {
        uint64_t offset, size;
    } where;
    expect("poll", poll_once(INHERITED, POLLOUT, PATIENCE_MS), POLLOUT);
    expect("NIOCRXSYNC", ioctl(INHERITED, NIOCRXSYNC, NULL), 0);
    expect("read", read(0, &where, sizeof where), sizeof where);
    struct nmreq_register got = {.nr_offset = where.offset, .nr_memsize = where.size};
    struct port port = attach(INHERITED, &got);
    expect("frames", take_frames(port.rx, 0), 1);
}

static void a_spawned_program_has_the_handle(void)
{
    struct port port = open_port(name, 0);
    int ends[2], status;
    pid_t child;
    posix_spawn_file_actions_t actions;
    char *const arguments[] = {"processes", (char *)name, "the_spawned_program", NULL};
    uint64_t where[] = {port.got.nr_offset, port.got.nr_memsize};
    put_frames(port.tx, 0, 1);
    expect("poll", poll_once(port.fd, POLLIN, PATIENCE_MS), POLLIN);
    expect("pipe", pipe(ends), 0);
    expect("write", write(ends[1], where, sizeof where), sizeof where);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[0], 0);
    posix_spawn_file_actions_adddup2(&actions, port.fd, INHERITED);
    posix_spawn_file_actions_addclose(&actions, port.fd);
    expect("posix_spawn", posix_spawn(&child, "/proc/self/exe", &actions, NULL, arguments, environ), 0);
    expect("waitpid", waitpid(child, &status, 0), child);
    expect("the program's exit code", status, 0);
}

/* pidfd_getfd(): a handle that this process has never heard of. */
static void a_handle_is_taken_from_another_process(void)
{
    int ends[2], there, status;
    expect("pipe", pipe(ends), 0);
    pid_t child = fork();
    if (!child) {
        expect("read", read(ends[0], &there, sizeof there), sizeof there);
        int parent = (int)syscall(SYS_pidfd_open, getppid(), 0), here = (int)syscall(SYS_pidfd_getfd, parent, there, 0);
        if (here < 0 && (errno == EPERM || errno == ENOSYS)) /* a sandbox, or an old kernel */
            _exit(0);
        expect("NIOCRXSYNC", ioctl(here, NIOCRXSYNC, NULL), 0);
        expect("poll", poll_once(here, POLLOUT, PATIENCE_MS), POLLOUT);
        _exit(0);
    }
    struct port port = open_port(name, 0);
    expect("write", write(ends[1], &port.fd, sizeof port.fd), sizeof port.fd);
    expect("waitpid", waitpid(child, &status, 0), child);
    expect("the child's exit code", status, 0);
}

/* recvmmsg() brings descriptors, too, and poll() knows them before any request. */
static void a_handle_comes_with_one_of_several_messages(void)
{
    struct port port = open_port(name, 0);
    int ends[2], got;
    char byte = 'x';
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } sent = {0}, received[2];
    struct iovec part = {&byte, 1};
    struct msghdr plain = {.msg_iov = &part, .msg_iovlen = 1}, rights = plain;
    struct mmsghdr messages[2] = {{.msg_hdr = plain}, {.msg_hdr = plain}};
    rights.msg_control = sent.bytes, rights.msg_controllen = sizeof sent.bytes;
    *CMSG_FIRSTHDR(&rights) =
        (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(CMSG_FIRSTHDR(&rights)), &port.fd, sizeof(int));
    expect("socketpair", socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
    expect("sendmsg", sendmsg(ends[0], &plain, 0), 1);
    expect("sendmsg with a handle", sendmsg(ends[0], &rights, 0), 1);
    close(port.fd);
    for (int i = 0; i < 2; i++) {
        messages[i].msg_hdr.msg_control = received[i].bytes;
        messages[i].msg_hdr.msg_controllen = sizeof received[i].bytes;
    }
    expect("recvmmsg", recvmmsg(ends[1], messages, 2, 0, NULL), 2);
    memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&messages[1].msg_hdr)), sizeof got);
    expect("poll", poll_once(got, POLLOUT, PATIENCE_MS), POLLOUT);
    expect("NIOCTXSYNC", ioctl(got, NIOCTXSYNC, NULL), 0);
}

/* ---- threads beside a fork ---- */

enum { SLOTS = 6, FORKS = 1200, BALLAST = 20 << 20 };

static int slots[SLOTS];
static atomic_bool stopping;

/* The old handle of a slot stays open a while, so that dup2() alone decides what the slot is. */
static void *replace(void *argument)
{
    int slot = (int)(intptr_t)argument, old = -1;
    while (!stopping) {
        struct nmreq_register got;
        int fd = open_netmap();
        if (try_register(fd, name, 0, 0, &got)) { /* memory for all of them may be short */
            close(fd);
            continue;
        }
        expect("dup2", dup2(fd, slots[slot]), slots[slot]);
        if (old >= 0)
            close(old);
        old = fd;
    }
    if (old >= 0)
        close(old);
    return NULL;
}

/* A fork copies descriptors first, memory later. A large heap makes that last. */
static void children_know_only_handles_that_they_have(void)
{
    pthread_t threads[SLOTS];
    char *ballast = sbrk(BALLAST);
    for (int i = 0; i < BALLAST; i += 4096)
        ballast[i] = 1;
    for (int i = 0; i < SLOTS; i++)
        slots[i] = open_port(name, 0).fd;
    for (intptr_t i = 0; i < SLOTS; i++)
        pthread_create(&threads[i], NULL, replace, (void *)i);
    double end = now() + 15;
    for (int i = 0; i < FORKS && now() < end; i++) {
        int status;
        pid_t child = fork();
        if (!child) {
            alarm(PATIENCE_MS / 1000); /* instead of a wait for ever */
            for (int k = 0; k < SLOTS; k++) {
                expect("poll", poll_once(slots[k], POLLIN, 0), 0);
                expect("NIOCRXSYNC", ioctl(slots[k], NIOCRXSYNC, NULL), 0);
            }
            _exit(0);
        }
        expect("waitpid", waitpid(child, &status, 0), child);
        expect("the child's status", status, 0);
    }
    stopping = true;
    for (int i = 0; i < SLOTS; i++)
        pthread_join(threads[i], NULL);
}

/* ---- what goes past the C library ---- */

/* poll() must not spin on wake descriptors that are not there. */
static void a_wait_without_the_librarys_descriptors_ends(void)
{
    struct port port = open_port(name, 0);
    int closed = 0;
    for (int fd = 3; fd < 2000; fd++) {
        char path[32], target[64] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        if (readlink(path, target, sizeof target - 1) > 0 && strstr(target, "eventpoll"))
            closed += !syscall(SYS_close, fd);
    }
    expect("wake descriptors", closed, 2);
    expect("poll", poll_once(port.fd, POLLIN, PATIENCE_MS), POLLERR);
}

static const struct test tests[] = {
    TEST(a_vfork_child_closes_only_its_own),
    TEST(a_program_becomes_a_daemon),
    PART(the_spawned_program),
    TEST(a_spawned_program_has_the_handle),
    TEST(a_handle_is_taken_from_another_process),
    TEST(a_handle_comes_with_one_of_several_messages),
    TEST(children_know_only_handles_that_they_have),
    TEST(a_wait_without_the_librarys_descriptors_ends),
};

int main(int argc, char **argv)
{
    return run_test(argc, argv, tests, sizeof tests / sizeof *tests);
}
