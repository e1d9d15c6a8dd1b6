/* A handle's control pages: how a program asks the daemon for a sync, as it would ask the kernel by a system call.
 *
 * Two pages, each a memfd of its own. The program writes `asks` and the daemon reads it; the daemon writes `answers`,
 * and the program can only map it for reading (F_SEAL_FUTURE_WRITE). The daemon trusts nothing in `asks`: whatever is
 * there, it costs the daemon one sync a look.
 *
 * A request is a ticket: the program adds 1 to `ticket` and waits until `done` has reached its value. The daemon reads
 * `ticket`, does the work once, and stores the value that it has read to `done`. So any number of threads and
 * processes may share a handle without a lock, and one that is stopped or killed keeps nobody waiting.
 */
#ifndef CONTROL_H
#define CONTROL_H

#include <assert.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CONTROL_VERSION = 2,
    CONTROL_PAGE = 4096, /* bytes of each memfd */
    CONTROL_LINE = 64,
    /* A side that waits spins first, and then gives the processor away between two looks, for so long since its wait
     * began; then it sleeps. With fewer processors than threads the one that it waits for needs that processor. */
    CONTROL_YIELD_NS = 50 * 1000,
    CONTROL_SPINS_LEFT_OUT = 15, /* waits without a spin after one that was in vain */
    CONTROL_TAILS = 960, /* rings of a handle in CSB mode */
    /* bits of `events` and `ready` */
    CONTROL_RX = 1, /* POLLIN */
    CONTROL_TX = 2, /* POLLOUT */
    CONTROL_ERROR = 4, /* only in `ready`: a ring broke a rule and was reset; POLLERR */
    CONTROL_LOOKED_SHIFT = 16, /* in `ready`, above the ready bits: the events that this answer is about */
};

struct ask {
    alignas(CONTROL_LINE) uint32_t ticket; /* the program adds 1 for each request */
    uint32_t sleepers; /* threads that wait for `done` in the kernel: the daemon wakes them only if there are any */
    uint32_t
        events; /* of a poll: CONTROL_RX, CONTROL_TX, ORed in before the ticket; the daemon takes and clears them */
    uint32_t csb; /* 1: the handle is in CSB mode, see `tails` */
};

/* Each on a cache line of its own, so a thread that sends and a thread that receives do not share one. */
struct asks {
    struct ask tx; /* NIOCTXSYNC: sync all TX rings of the handle */
    struct ask rx; /* NIOCRXSYNC */
    struct ask poll; /* poll(): sync what poll() syncs in netmap, and report or arm (service.h) */
};

struct answer {
    alignas(CONTROL_LINE) union {
        uint64_t both; /* the two words, stored and loaded at once, so they belong together */
        struct {
            uint32_t done; /* the ticket that the daemon has read before it did the work; a futex */
            uint32_t ready; /* of a poll: what is ready, and the events that were looked at */
        };
    };
    uint64_t violations; /* rules broken in rings of this direction since the handle was made */
    /* The last of them: of rules.py, with the ring's number. Read only when `violations` has changed. */
    uint32_t rule, ringid, slot, unused;
    uint64_t value, low, high;
};

struct answers {
    struct answer tx, rx, poll;
    alignas(CONTROL_LINE) uint32_t sleeping; /* 1: the daemon sleeps, and a request needs a write to its eventfd */
    uint32_t closed; /* not 0: no request is answered any more. ENXIO: the daemon has ended; EIO: the port is gone */
    uint32_t version; /* CONTROL_VERSION */
    /* Of each ring, TX rings first, as of the last request. Only in CSB mode, where the program may use ring->cur and
     * ring->tail as it likes: then only ring->head counts. Written before `done`. */
    alignas(CONTROL_LINE) uint32_t tails[CONTROL_TAILS];
};

/* Two threads may poll at once, and one's request may take the other's `events`. An answer to a poll therefore counts
 * only if `done` is the caller's own ticket and the looked-at events include its own. Otherwise it asks again. */

static_assert(sizeof(struct asks) == 3 * CONTROL_LINE, "struct asks");
static_assert(offsetof(struct answers, sleeping) == 3 * CONTROL_LINE, "struct answers");
static_assert(sizeof(struct answers) <= CONTROL_PAGE, "struct answers");

#endif
