/* A program's side of a handle's control pages (control.h): what stands for the system calls of netmap.
 *
 * Nothing but control.h and barriers.h is needed, so other libraries compile client.c, too.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include "control.h"

#ifndef CLIENT_API
#define CLIENT_API __attribute__((visibility("default")))
#endif

/* Any number of threads and processes may use one. */
struct client {
    struct asks *asks;
    const struct answers *answers; /* mapped for reading */
    int kick; /* eventfd that wakes the daemon */
    uint64_t spin_ns; /* look for the answer this long without giving the processor away; 0: sleep at once */
    int socket; /* of the handle: hung up when the daemon has ended; -1 if there is none */
    uint32_t patience; /* CLIENT_ */
};

/* How long a call waits for the daemon. The daemon answers a ticket also if nobody waits for it. */
enum {
    CLIENT_WAITS, /* until the answer comes, as a system call does */
    CLIENT_SPINS, /* for spin_ns, then it returns EAGAIN: for Python, which keeps the GIL meanwhile */
    CLIENT_RETURNS, /* it returns EINTR after a signal, and at least ten times a second: Python handles signals */
};

/* NIOCTXSYNC and NIOCRXSYNC: 0; ENXIO if the daemon has ended, EIO if the port is gone; or as `patience` says. */
CLIENT_API int client_sync_tx(struct client *c);
CLIENT_API int client_sync_rx(struct client *c);

/* poll() without its wait. events: CONTROL_RX and CONTROL_TX. Returns which of them are ready, and CONTROL_ERROR if a
 * ring broke a rule; or -ENXIO, -EIO, -EAGAIN, -EINTR. A direction that is not ready is armed: its wake descriptor becomes
 * readable as soon as it is ready. */
CLIENT_API int client_poll(struct client *c, uint32_t events);

#endif
