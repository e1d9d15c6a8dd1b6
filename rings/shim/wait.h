/* Waiting for handles together with other descriptors. poll(), select() and epoll_wait() use it. */
#ifndef SHIM_WAIT_H
#define SHIM_WAIT_H

#include "handles.h"

#include <time.h>

/* When a wait ends. */
struct deadline {
    bool never;
    struct timespec at; /* CLOCK_MONOTONIC */
};

/* From a timeout in the caller's terms; NULL: never. False: it is no valid time. */
bool deadline_after(struct deadline *deadline, const struct timespec *timeout);
/* What is left: NULL without a deadline, or `left`, which is zero once the time has come. */
const struct timespec *deadline_left(const struct deadline *deadline, struct timespec *left);

/* netmap's poll of one handle, without waiting: sync, and say which of the poll() bits `events` are ready. POLLERR: it
 * is not registered, in CSB mode, broke a rule, or its daemon has gone. Directions that are not ready are armed. */
uint32_t handle_poll(struct handle *h, uint32_t events);

/* poll() and ppoll(). Returns as ppoll() does. */
int wait_poll(struct pollfd *fds, nfds_t count, const struct timespec *timeout, const sigset_t *mask);

#endif
