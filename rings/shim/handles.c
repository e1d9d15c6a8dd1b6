#include "calls.h"
#include "handles.h"
#include "changes.h"
#include "csb.h"
#include "epoll.h"
#include "indirect.h"
#include "view.h"
#include "wire.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

enum { TABLE = DESCRIPTORS, HANDLES = 4096, HIDDEN_FROM = 768 };
enum { UNBOUND, BOUND };

_Atomic int32_t handle_descriptors;

/* By descriptor. Memory that nobody touches costs nothing. */
static _Atomic(struct handle *) table[TABLE];
static struct handle handles[HANDLES];
static struct handle hidden; /* its address marks the hidden descriptors */
static struct handle closing; /* and descriptors that another thread is about to close: nobody may adopt them */
static _Atomic int highest;
static pid_t owner; /* the process whose descriptors the table describes */

/* What another thread of the parent was about to close, nobody closes here. It may be a handle still. */
static void after_fork(void)
{
    owner = getpid();
    for (int fd = 0; handles_exist() && fd <= handle_highest(); fd++)
        if (atomic_load(&table[fd]) == &closing) {
            handle_closed(fd);
            struct handle *h = handle_adopt(fd);
            if (h)
                handle_put(h);
        }
}

void handles_setup(void)
{
    owner = getpid();
    changes_setup();
    pthread_atfork(NULL, NULL, after_fork); /* its part for the child comes after that of changes_setup() */
}

bool handle_memory_is_borrowed(void)
{
    return owner != getpid();
}

int handle_highest(void)
{
    return atomic_load_explicit(&highest, memory_order_relaxed);
}

static void note_highest(int fd)
{
    int before = handle_highest();
    while (before < fd && !atomic_compare_exchange_weak(&highest, &before, fd))
        continue;
}

/* ---- hidden descriptors ---- */

/* Move `fd` to a high number, out of the way of programs that use low numbers or select(). */
static int move_up(int fd)
{
    struct rlimit limit;
    int from = HIDDEN_FROM;
    if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur <= HIDDEN_FROM)
        from = (int)(limit.rlim_cur / 2);
    int high = original()->fcntl(fd, F_DUPFD_CLOEXEC, from);
    if (high < 0)
        high = fd;
    else
        close_own(fd);
    return high;
}

/* Between begin_change() and end_change(). */
static void hide(int fd)
{
    if (fd < TABLE)
        atomic_store(&table[fd], &hidden);
    note_highest(fd);
}

static void close_hidden(int fd)
{
    if (fd >= 0 && fd < TABLE)
        atomic_store(&table[fd], NULL);
    close_own(fd);
}

bool handle_is_hidden(int fd)
{
    return fd >= 0 && fd < TABLE && atomic_load_explicit(&table[fd], memory_order_relaxed) == &hidden;
}

/* ---- references ---- */

static bool is_handle(const struct handle *h)
{
    return h && h != &hidden && h != &closing;
}

/* A free structure must not come back to life: only who finds users above 0 may add to it. */
static bool take(struct handle *h)
{
    uint32_t users = atomic_load(&h->users);
    while (users)
        if (atomic_compare_exchange_weak(&h->users, &users, users + 1))
            return true;
    return false;
}

struct handle *handle_get(int fd)
{
    if (fd < 0 || fd >= TABLE || !handles_exist())
        return NULL;
    for (;;) {
        struct handle *h = atomic_load(&table[fd]);
        if (!is_handle(h))
            return NULL;
        /* Between the two loads the descriptor may have been closed, and the structure used again. */
        if (take(h)) {
            if (atomic_load(&table[fd]) == h)
                return h;
            handle_put(h);
        }
    }
}

static void unbind(struct handle *h)
{
    csb_end(h);
    view_release(h->view);
    h->view = NULL;
    munmap((void *)h->client.asks, CONTROL_PAGE);
    munmap((void *)h->client.answers, CONTROL_PAGE);
    close_hidden(h->region);
    close_hidden(h->client.kick);
    close_hidden(h->wake_rx);
    close_hidden(h->wake_tx);
}

void handle_put(struct handle *h)
{
    uint32_t users = atomic_load(&h->users);
    /* The last reference stays (users == 1) until everything is closed: a structure with users == 0 can be taken. */
    for (;;) {
        if (users > 1) {
            if (atomic_compare_exchange_weak(&h->users, &users, users - 1))
                return;
        } else if (atomic_compare_exchange_weak(&h->users, &users, UINT32_MAX / 2))
            break; /* large: an attempt to take it now is undone by its own put, and never ends here again */
    }
    if (atomic_load(&h->state) == BOUND)
        unbind(h);
    close_hidden(h->socket);
    atomic_store(&h->gone, false);
    atomic_store(&h->external, false);
    atomic_store(&h->state, UNBOUND);
    while (true) { /* wait for the attempts of handle_get() that will see that the table has changed */
        users = UINT32_MAX / 2;
        if (atomic_compare_exchange_weak(&h->users, &users, 0))
            return;
    }
}

/* Another thread that adopts the descriptor may have been faster: its handle goes. is_new: its connection has just been
 * moved up. */
static void set_handle(int fd, struct handle *h, bool is_new)
{
    sigset_t signals;
    begin_change(&signals);
    if (is_new)
        hide(h->socket);
    note_highest(fd);
    atomic_fetch_add(&handle_descriptors, 1);
    struct handle *before = atomic_exchange(&table[fd], h);
    end_change(&signals);
    if (before)
        atomic_fetch_sub(&handle_descriptors, 1);
    if (is_handle(before))
        handle_put(before);
}

bool handle_add(int fd)
{
    if (fd >= TABLE) {
        errno = EMFILE;
        return false;
    }
    int socket = original()->fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (socket < 0)
        return false;
    handle_forget(fd); /* closed by a system call that went past this library */
    handle_closed(fd);
    for (struct handle *h = handles; h < handles + HANDLES; h++) {
        uint32_t free = 0;
        if (!atomic_compare_exchange_strong(&h->users, &free, 1))
            continue;
        h->socket = move_up(socket);
        set_handle(fd, h, true);
        return true;
    }
    close_own(socket);
    errno = ENFILE;
    return false;
}

struct handle *handle_adopt(int fd)
{
    struct handle *h = handle_get(fd);
    if (h || fd < 0 || fd >= TABLE || atomic_load(&table[fd]) || handle_memory_is_borrowed() || !wire_is_daemon(fd))
        return h;
    return handle_add(fd) ? handle_get(fd) : NULL;
}

void handle_forget(int fd)
{
    if (fd < 0 || fd >= TABLE || !handles_exist() || handle_memory_is_borrowed())
        return;
    struct handle *h = atomic_load(&table[fd]);
    if (!is_handle(h) || !atomic_compare_exchange_strong(&table[fd], &h, &closing))
        return;
    handle_put(h);
}

void handle_closed(int fd)
{
    struct handle *h = &closing;
    if (fd >= 0 && fd < TABLE && handles_exist() && atomic_compare_exchange_strong(&table[fd], &h, NULL))
        atomic_fetch_sub(&handle_descriptors, 1);
}

void handle_copied(int fd, int copy)
{
    struct handle *h = handle_get(fd);
    if (!h)
        return;
    if (copy < 0 || copy >= TABLE || copy == fd || handle_memory_is_borrowed()) {
        handle_put(h);
        return;
    }
    set_handle(copy, h, false); /* with the reference from handle_get() */
}

/* ---- binding ---- */

/* Both pages of control.h. 0 or an errno. */
static int map_control(struct client *c, int asks, int answers)
{
    c->asks = original()->mmap(NULL, CONTROL_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, asks, 0);
    if (c->asks == MAP_FAILED)
        return errno;
    c->answers = original()->mmap(NULL, CONTROL_PAGE, PROT_READ, MAP_SHARED, answers, 0);
    if (c->answers != MAP_FAILED)
        return 0;
    int error = errno;
    munmap((void *)c->asks, CONTROL_PAGE);
    return error;
}

/* What is in `made` becomes the handle's. False: another thread has bound it meanwhile. */
static bool become_bound(struct handle *h, const struct handle *made)
{
    sigset_t signals;
    begin_change(&signals);
    bool first = atomic_load(&h->state) == UNBOUND;
    if (first) {
        h->client = made->client;
        h->region = made->region;
        h->wake_rx = made->wake_rx;
        h->wake_tx = made->wake_tx;
        h->bound = made->bound;
        h->view = made->view;
        hide(h->client.kick);
        hide(h->region);
        hide(h->wake_rx);
        hide(h->wake_tx);
        atomic_store(&h->state, BOUND); /* what is above is visible before */
    }
    end_change(&signals);
    return first;
}

int handle_bind(struct handle *h, const int fds[], const struct nmreq_register *bound, uint64_t spin_ns)
{
    enum { REGION, ASKS, ANSWERS, KICK, WAKE_RX, WAKE_TX, COUNT };
    struct handle made = {.bound = *bound, .client = {.spin_ns = spin_ns, .socket = h->socket}};
    int error = map_control(&made.client, fds[ASKS], fds[ANSWERS]);
    if (error) {
        for (int i = 0; i < COUNT; i++)
            close_own(fds[i]);
        return error;
    }
    close_own(fds[ASKS]);
    close_own(fds[ANSWERS]);
    made.client.kick = move_up(fds[KICK]);
    made.region = move_up(fds[REGION]);
    made.wake_rx = move_up(fds[WAKE_RX]);
    made.wake_tx = move_up(fds[WAKE_TX]);
    if (TAKES_INDIRECT(bound))
        view_make(&made.view, made.region, bound); /* without it the daemon refuses such slots */
    if (become_bound(h, &made))
        epoll_bound(h);
    else
        unbind(&made);
    return 0;
}

bool handle_is_known_bound(struct handle *h)
{
    return atomic_load_explicit(&h->state, memory_order_acquire) == BOUND; /* acquire: the fields come after it */
}

bool handle_is_bound(struct handle *h)
{
    if (handle_is_known_bound(h))
        return true;
    struct nmreq_register bound = {0};
    struct reply reply;
    if (wire_request(h->socket, MESSAGE_ATTACH, 0, &bound, 0, sizeof bound, &reply))
        return false;
    if (!reply.error && reply.count == REPLY_DESCRIPTORS && reply.size == sizeof bound)
        return !handle_bind(h, reply.fds, &bound, reply.value);
    while (reply.count)
        close_own(reply.fds[--reply.count]);
    return false;
}
