/* Which descriptors of this process are netmap handles, and what this library keeps for each handle.
 *
 * A handle is a connection to the daemon. Its descriptors (dup, fork) share one struct handle. The library has some
 * descriptors of its own for each handle; they are hidden: they have high numbers, and the program cannot close them.
 *
 * No lock: close() and poll() may be called by signal handlers. A struct handle is never freed, only used again, and
 * nobody keeps a reference while it sleeps, so a cancelled thread leaves none.
 */
#ifndef SHIM_HANDLES_H
#define SHIM_HANDLES_H

#include "calls.h"
#include "abi.h"
#include "../client.h"

#include <errno.h>

struct csb;
struct view;

enum { DESCRIPTORS = 1 << 20 }; /* a descriptor with a higher number cannot be a handle */

struct handle {
    _Atomic uint32_t users; /* descriptors, and calls in progress. 0: this structure is free */
    _Atomic uint32_t state; /* UNBOUND, BOUND */
    int socket; /* hidden, a duplicate of the program's descriptors */
    /* The rest is valid while BOUND. */
    int region, wake_rx, wake_tx; /* hidden, as client.kick */
    struct client client;
    struct nmreq_register bound; /* what REGISTER answered */
    struct view *view; /* for NS_INDIRECT, or NULL */
    _Atomic(struct csb *) csb; /* CSB mode (csb.c), or NULL */
    _Atomic bool gone; /* the connection has ended: nothing is answered any more */
    _Atomic uint32_t kloop; /* KLOOP_ bits of csb.c */
    _Atomic bool external; /* the region is mapped over the program's own memory (external.c) */
};

extern _Atomic int32_t handle_descriptors; /* descriptors that are handles, in the whole process */

/* Whether this process has any handle. A program without one pays only for this. */
static inline bool handles_exist(void)
{
    return atomic_load_explicit(&handle_descriptors, memory_order_relaxed) > 0;
}

void handles_setup(void);

/* The handle of a descriptor with a reference, or NULL. */
struct handle *handle_get(int fd);
void handle_put(struct handle *h);

/* True, with errno: `fd` is a handle, which does not have this call. */
static inline bool handle_refuses(int fd, int error)
{
    struct handle *h = handles_exist() ? handle_get(fd) : NULL;
    if (!h)
        return false;
    handle_put(h);
    errno = error;
    return true;
}

/* Make `fd`, a connection to the daemon, a handle. False: no room, and errno says so. */
bool handle_add(int fd);
/* The same for a descriptor that this library has not opened. NULL if it is no connection to the daemon. */
struct handle *handle_adopt(int fd);
/* `copy` is a new duplicate of `fd`. */
void handle_copied(int fd, int copy);
/* `fd` is going to be closed, and until handle_closed() nobody adopts it. */
void handle_forget(int fd);
void handle_closed(int fd);
bool handle_is_hidden(int fd);
int handle_highest(void); /* no handle and no hidden descriptor has a higher number */
/* Whether this is a vfork() child or similar, which has its own descriptors, and the memory of another process. */
bool handle_memory_is_borrowed(void);

/* Whether the handle is registered. Asks the daemon if this process does not know: another process that shares the
 * descriptor may have registered it. */
bool handle_is_bound(struct handle *h);
/* The same without asking. */
bool handle_is_known_bound(struct handle *h);
/* After REGISTER: take the daemon's descriptors (region, asks, answers, kick, wake_rx, wake_tx). 0 or an errno. */
int handle_bind(struct handle *h, const int fds[], const struct nmreq_register *bound, uint64_t spin_ns);

#endif
