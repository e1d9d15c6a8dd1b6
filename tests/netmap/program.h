/* What the programs of this folder share. They use /dev/netmap as any netmap program does, and know nothing of ixrings.
 * netmap_abi.h is the one of lab 11. To try one by hand:
 *
 *     cc -I examples/labs/11_netmap_in_c tests/netmap/nm_rx.c tests/netmap/program.c -o nm_rx -lpthread
 *     ixrings run ./nm_rx -i netmap:ix0 -n 1000
 */
#ifndef PROGRAM_H
#define PROGRAM_H

#include "netmap_abi.h"

#include <stdbool.h>
#include <stdio.h>

enum { MOST_RINGS = 128, MOST_STREAMS = 256, SHORTEST = 60, LONGEST = 65535 };
/* The stream of acknowledgements; frames on their way at most. As many again may be read already, but not given back by
 * a sync: both together fit into a ring of 256 slots. */
enum { ACKS = MOST_STREAMS - 1, WINDOW = 64 };

/* ---- a port: one open of /dev/netmap ---- */

struct port {
    int fd;
    char *memory;
    struct netmap_if *nifp;
    struct nmreq_header header;
    struct nmreq_register reg;
    struct netmap_ring *tx[MOST_RINGS], *rx[MOST_RINGS]; /* the rings that this handle has bound */
    uint32_t tx_count, rx_count;
};

/* netmap:NAME or valeX:NAME, with [{id|}id][-k|^|^k|*][/xztrRT][@memory]. Ends the program if `text` is not a name. */
void parse_name(const char *text, struct nmreq_header *header, struct nmreq_register *reg);

/* Open, register and map, or end the program with a sentence. `extra`: buffers besides those in the rings. */
void port_open(struct port *port, const char *name, uint32_t extra);

/* Map the memory of a registered descriptor, and find the rings. */
void port_map(struct port *port);
void port_find_rings(struct port *port, char *memory);
void port_close(struct port *port);

/* Print a line of JSON about the open port, so that whoever waits for the program knows. */
void port_announce(const struct port *port);

enum waiting { WAIT_POLL, WAIT_SELECT, WAIT_EPOLL, WAIT_BUSY };

enum waiting parse_waiting(const char *text);

/* Wait for POLLIN or POLLOUT, or both, in one of four ways. Returns the events as poll() reports them; 0: none came. */
short port_wait(struct port *port, enum waiting how, short events, int milliseconds);

/* Sync until nothing is pending in any TX ring. Returns false after `seconds`. */
bool port_flush(struct port *port, double seconds);

uint32_t total_space(struct netmap_ring *const *rings, uint32_t count);

/* Release the slots before `head`. */
void ring_advance(struct netmap_ring *ring, uint32_t head);

/* ---- frames: a stream's number, a frame's number, and bytes that the receiver can compute ---- */

struct streams {
    uint64_t next[MOST_STREAMS]; /* the number that is expected next in each stream */
    uint64_t frames, bytes;
    uint64_t lost; /* numbers that were left out */
    uint64_t reordered; /* numbers that came late or twice */
    uint64_t damaged; /* frames with a wrong length or a wrong byte */
    uint64_t foreign; /* frames that are none of ours */
};

void frame_write(char *frame, uint32_t length, uint32_t stream, uint64_t number);

/* Count a received frame. `start_anywhere`: the first number of a stream may be any. */
void frame_check(struct streams *streams, const char *frame, uint32_t length, bool start_anywhere);

/* Put a frame into the slots from ring->head on; a long one takes several. Returns the slots used, 0 if too few. */
uint32_t frame_put(struct netmap_ring *ring, uint32_t head, const char *frame, uint32_t length);

/* Copy the frame that begins at slot `head` to `frame`. Returns its slots, or 0 if its end has not come yet. */
uint32_t frame_get(struct netmap_ring *ring, uint32_t head, char *frame, uint32_t *length);

void streams_print(const struct streams *streams, double seconds);

/* ---- ends ---- */

extern volatile int stopping; /* set by SIGINT and SIGTERM */

void stop_on_signals(void);
double now(void);
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
