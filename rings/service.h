/* The daemon's service thread: it syncs the rings of all handles when their programs ask for it, and moves frames
 * between rings that have no NIC behind them (pipes, switch, monitors, host).
 *
 * Python builds the structures here and changes them only while service_run() is not running: the one thread that runs
 * it also carries out the changes, so nothing here needs a lock.
 */
#ifndef SERVICE_H
#define SERVICE_H

#include "control.h"
#include "queue.h"

/* What is behind a ring. */
enum kring_kind {
    KRING_NIC, /* q is a struct tx_queue or rx_queue of the hot loop */
    KRING_NULL, /* TX: frames vanish. RX: none comes. Also a monitor's TX ring */
    KRING_PIPE, /* behind: the ring's twin, a struct kring of the other direction (pipes.c) */
    KRING_SWITCH, /* behind: a struct switch_port (switch.c) */
    KRING_HOST, /* behind: a struct host_ring (host.c) */
    KRING_MONITOR, /* RX: filled by monitor_frames() (monitors.c) */
    KRING_ENDED, /* a monitor's ring of which nothing comes any more, and its TX ring: poll() reports POLLERR */
    KRING_KINDS,
};

/* The daemon's side of a netmap ring. Several handles may have the same one.
 *
 * A ring without a NIC uses these fields of struct queue: ring, buffers, buf_size, total_buffers, num_slots, hwcur,
 * hwtail, packets, bytes, violations, last. As for a NIC's ring, the program owns [head, hwtail), and hwtail is what
 * the last sync published: a tail moves only inside a call of the program.
 *   TX: [hwcur, head as of the last sync) waits for room behind the ring; hwtail follows hwcur when a slot is done.
 *   RX: [hwtail, filled) has frames that the next sync publishes; [filled, before hwcur) is free for new frames. */
struct kring {
    struct queue *q;
    uint32_t kind;
    uint32_t tx; /* 1: TX, 0: RX */
    uint32_t filled; /* RX, not a NIC's: see above */
    uint32_t synced_head; /* TX, not a NIC's: head as of the last sync; [hwcur, synced_head) is still to be moved */
    void *behind; /* a NIC's RX ring: NULL, or the struct host that frames with NS_FORWARD go to */
    struct monitor *monitors; /* the first of a list: who watches this ring (monitors.c). NULL: nobody */
    uint16_t *zone_of; /* for each buffer of the region: whose it is (driver/daemon/pool.py). NULL: one owner */
    uint32_t zone; /* the owner of this ring's buffers */
    uint32_t stamp; /* RX: stamp ring->ts at each sync even without NR_TIMESTAMP, as netmap does by default */
    uint64_t drops; /* frames for this ring that found no room */
    uint32_t attention; /* ATTENTION_ bits that syncs have returned; Python clears them */
};

/* A sync of a KRING_ENDED returns it, beside the ATTENTION_ bits. */
enum { SYNC_ENDED = 4 };

/* A handle: the rings that one open of /dev/netmap has bound. */
struct handle {
    struct asks *asks; /* written by the program */
    struct answers *answers;
    struct kring **tx, **rx;
    uint32_t tx_count, rx_count;
    int kick; /* eventfd: the program wakes the daemon. Python watches its edges and never reads it: that could block */
    int wake_rx, wake_tx; /* eventfds: readable while the direction is ready. Nobody else has them: programs poll an
                           * epoll descriptor that watches them (service.py), so no program can make a write block */
    uint32_t poll_flags; /* HANDLE_ bits */
    uint32_t armed; /* CONTROL_RX, CONTROL_TX: a poll waits for it; signal it as soon as it is ready */
    uint32_t signalled; /* CONTROL_RX, CONTROL_TX: the eventfd is readable */
    uint32_t tx_done, rx_done, poll_done; /* copies of answers->*.done, out of the program's reach */
    uint32_t broken; /* the last request broke a rule, or a ring has ended */
    uint32_t csb; /* copy of the last request's ask->csb */
    uint64_t syncs;
};

enum {
    HANDLE_NO_TX_POLL = 1, /* NR_NO_TX_POLL: poll() does not flush TX rings unless asked for POLLOUT */
    HANDLE_DO_RX_POLL = 2, /* NR_DO_RX_POLL: poll() syncs RX rings even without POLLIN */
};

/* Work that no program asks for, such as the host's forwarding. */
struct task {
    bool (*work)(struct task *task, uint64_t now_ns); /* true if it moved something */
    void *of;
    uint32_t attention; /* ATTENTION_DRIVER of the NICs' rings that it has synced; the service takes it */
};

struct service {
    struct handle **handles;
    uint32_t handle_count;
    uint32_t task_count;
    struct task **tasks;
    uint32_t stop; /* Python stores 1: service_run() returns SERVICE_COMMAND at its next look */
    uint32_t attention; /* out: a NIC's queue asked for its driver (ATTENTION_DRIVER) */
    uint64_t spin_ns; /* look for work this long without giving the processor away (control.h); 0: sleep at once */
    uint64_t now_ns; /* CLOCK_MONOTONIC, read once a pass when something needs it */
    uint64_t passes, syncs; /* counters */
    uint32_t asleep; /* `sleeping` is 1 in all answers */
    uint32_t broken; /* a rule was broken, and Python has not been told yet */
    uint64_t told_ns; /* when it was last told */
};

/* What service_run() returns. */
enum {
    SERVICE_SLEEP = 1, /* nothing to do for a while, and `sleeping` is 1 in all answers: arm interrupts, sleep */
    SERVICE_COMMAND = 2, /* `stop` was 1; it is 0 again */
    SERVICE_ATTENTION = 3, /* a NIC's driver should look after it */
    SERVICE_VIOLATION = 4, /* a ring broke a rule: q->last and q->violations say which. Python logs it */
};

EXPORT int service_run(struct service *s);
/* Whether service_run() would find work now. For Python, after it has armed interrupts and before it sleeps. */
EXPORT int service_ready(const struct service *s);
/* Answer no request of this handle any more, and tell the threads that wait: each request ends with `error`, an errno.
 * Take the handle out of the service first. */
EXPORT void handle_close(struct handle *h, int error);

/* Sizes and offsets of these structures, which service.py compares with its mirror of them. */
EXPORT extern const uint32_t service_layout[];
EXPORT extern const uint32_t service_layout_count;

/* ---- serve.c: a handle's requests ---- */

/* Answer what the handle's program has asked for. True if there was something. */
HIDDEN bool serve(struct service *s, struct handle *h);
/* Wake the program if a direction that it waits for is ready. True if so. */
HIDDEN bool wake_armed(struct handle *h);
/* Whether serve() or wake_armed() would do something. */
HIDDEN bool handle_waits(const struct handle *h);

/* ---- krings.c: what serve.c asks of each kind of ring ---- */

/* One sync, as for a NIC: check head and cur, move what can be moved, publish the tail. Returns what txsync() returns:
 * ATTENTION_ bits. */
HIDDEN int kring_sync(struct kring *k);
/* Whether a sync would move the tail. It writes nothing. */
HIDDEN bool kring_ready(const struct kring *k);

HIDDEN int pipe_sync(struct kring *k); /* pipes.c */
HIDDEN bool pipe_ready(const struct kring *k);
HIDDEN int switch_sync(struct kring *k); /* switch.c */
HIDDEN bool switch_ready(const struct kring *k);
HIDDEN int host_sync(struct kring *k); /* host.c */
HIDDEN bool host_ready(const struct kring *k);
/* A sync of a ring with monitors, which see its frames (monitors.c). sync: the sync itself. */
HIDDEN int monitored_sync(struct kring *k, int (*sync)(struct kring *k));
/* Before the sync of a NIC's RX ring: frames that its program has marked with NS_FORWARD go to the struct host behind
 * it (host.c). */
HIDDEN void host_forward_up(struct kring *rx);

#endif
