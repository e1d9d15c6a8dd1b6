/* The library's interface: netmap's structures, the driver's queues, and the functions that Python calls.
 *
 * Another process may write to rings and buffers at any moment. Queues and descriptors belong to the driver alone.
 * Every value from a ring is read once, into a copy, and checked before it is used (driver/README.md, contract 2).
 */
#ifndef HOTLOOP_H
#define HOTLOOP_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "descriptor.h"

/* EXPORT: called by Python. HIDDEN: called from another file of this library, directly and not through the PLT.
 * COLD: HIDDEN and rarely called, so the compiler keeps the calls out of the common path. */
#define EXPORT __attribute__((visibility("default")))
#define HIDDEN __attribute__((visibility("hidden")))
#define COLD __attribute__((visibility("hidden"), cold))

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "slots and descriptors are little-endian");
static_assert(sizeof(void *) == 8, "the mirror of these structures in queue.py has 64-bit pointers");

enum {
    NS_BUF_CHANGED = 0x01,
    NS_REPORT = 0x02,
    NS_INDIRECT = 0x10,
    NS_MOREFRAG = 0x20,
    NS_CONTEXT = 0x80,   /* ours: netmap has no such flag */
    NS_OWN_CRC = 0x8000, /* ours: netmap counts fragments of received frames here, and no frame has 128 */
    NR_TIMESTAMP = 0x02,

    RESERVED_BUFFERS = 2,
    MAX_CHAIN = 38,     /* most descriptors of one frame: 40 - WTHRESH - 2; WTHRESH is 0 (7.2.1.1) */
    RS_STEP = 32,       /* after this many slots without RS, the next end of a frame gets RS */
    CHECK_EVERY = 4096, /* syncs */
    MIN_FRAME = 17,     /* the smallest PAYLEN that the NIC accepts; it pads frames of this length or more itself */
    /* ASSUMPTION (datasheet not at hand): a frame has at most 16 KB with its CRC, because no known NIC carries
     * more. The driver checks the port's own MTU. */
    MAX_FRAME = 16380,
    SHORTEST_OWN_CRC = 64, /* a frame that brings its CRC: padding would need IFCS (7.2.3.2.2) */
};

/* A sync needs only `word`: one 64-bit load gives a consistent copy. */
struct netmap_slot {
    union {
        uint64_t word;
        struct {
            uint32_t buf_idx;
            uint16_t len;
            uint16_t flags;
        };
        struct {
            uint32_t same_buf_idx;
            uint32_t len_flags;
        };
    };
    uint64_t ptr;
};
static_assert(sizeof(struct netmap_slot) == 16, "netmap_slot");

struct netmap_ring {
    int64_t buf_ofs;
    uint32_t num_slots;
    uint32_t nr_buf_size;
    uint16_t ringid;
    uint16_t dir;
    uint32_t head;
    uint32_t cur;
    uint32_t tail;
    uint32_t flags;
    uint32_t unused;
    int64_t ts_sec;
    int64_t ts_usec;
    uint64_t offset_mask;
    uint64_t buf_align;
    uint8_t to_cache_line[56];
    uint8_t sem[128];
    struct netmap_slot slot[];
};
static_assert(offsetof(struct netmap_ring, ts_sec) == 40, "netmap_ring.ts");
static_assert(offsetof(struct netmap_ring, slot) == 256, "netmap_ring.slot");

/* The numbers of rules.py. */
enum rule {
    RULE_NONE,
    RULE_HEAD_RANGE,
    RULE_CUR_RANGE,
    RULE_HEAD_BACKWARDS,
    RULE_HEAD_PAST_TAIL,
    RULE_CUR_BEHIND_HEAD,
    RULE_CUR_PAST_TAIL,
    RULE_BUF_IDX,
    RULE_LEN_ZERO,
    RULE_LEN_OVER_BUFFER,
    RULE_CHAIN_TOO_LONG,
    RULE_CHAIN_NOT_ENDED,
    RULE_INDIRECT,
    RULE_FRAME_TOO_SHORT,
    RULE_FRAME_TOO_LONG,
    RULE_HEAD_WRITE_BACK,
    RULE_CONTEXT,
    RULE_CONTEXT_ALONE,
    RULE_CONTEXT_HEADERS,
    RULE_OFFSET = 22, /* 19 to 21 are Python's */
    RULE_OWN_CRC,
    RULE_OWN_CRC_HERE,
};

struct violation {
    uint32_t rule;
    uint32_t slot;
    uint64_t value;
    uint64_t low;
    uint64_t high;
};

/* The part that both directions have. One thread at a time syncs a queue: callers from Python hold the GIL, or call
 * the functions of exclusive.c. */
struct queue {
    /* Set when the queue is made. */
    struct netmap_ring *ring;
    uint8_t *buffers; /* buffer 0 in this process */
    uint64_t buffers_iova; /* buffer 0 as the NIC sees it */
    struct descriptor *descriptors; /* num_slots of them */
    uint32_t *doorbell; /* TDT or RDT */
    uint32_t buf_size;
    uint32_t total_buffers;
    uint32_t num_slots;
    uint32_t group; /* slots that vectors.h takes at once: 0 (no vectors), 4 or 8; widest() is the largest */
    const uint64_t *pages; /* without an IOMMU: the bus address of each page of the region; otherwise NULL */
    /* Written by each sync. */
    uint32_t hwcur; /* first slot not yet handed to the NIC */
    uint32_t hwtail; /* first slot that the application does not own */
    uint64_t packets;
    uint64_t bytes;
    uint64_t syncs_left; /* until a sync returns ATTENTION_DRIVER even if nothing was moved. When another process syncs
                          * the queue, its owner stores 1 to ask for one, repeatedly, because a sync may undo it */
    uint64_t statistics_due; /* from this many packets on, each sync but those of one slot returns ATTENTION_DRIVER */
    uint64_t violations;
    /* Set when the queue is made: what the one-slot lanes compare with. */
    uint32_t direct_buffers; /* total_buffers - RESERVED_BUFFERS; 0 if there is a second pass */
    uint32_t frame_lengths; /* number of lengths, from MIN_FRAME on, that fit in one buffer */
    uint64_t page_size; /* of `pages`: a power of two; no buffer crosses a page boundary */
    struct violation last;
    /* exclusive.c */
    uint32_t taken; /* 1 while a thread syncs the queue without the GIL, and for good once it is closed */
    uint32_t watchers; /* threads in busy_wait(), and a bit once the queue is closed */
    uint64_t head_only; /* 1 during a sync that does not check cur: the program is in CSB mode (serve.c) */
    /* Set when the queue is made, or when a program opens the ring with offsets. */
    uint32_t second_pass; /* 1: descriptors get their final addresses before the doorbell (finish_addresses) */
    uint32_t most_received; /* bytes of a frame that one buffer of an RX ring can take */
    uint64_t offset_mask; /* bits of a slot's ptr: where in its buffer the bytes begin. 0: at the buffer's start */
    uint64_t offset_max; /* the largest offset */
};

struct tx_queue {
    struct queue q;
    const uint32_t *head_writeback; /* index of the descriptor that the NIC sends next (7.2.3.5.2) */
    uint32_t nic_head; /* the value last read there */
};

struct rx_queue {
    struct queue q;
    uint64_t errors; /* descriptors with RXE, with more bytes than a buffer, or of a frame without end */
    uint32_t next; /* descriptor that the NIC completes next */
    uint32_t chain; /* descriptors before `next` that belong to an unfinished frame */
};

struct forward {
    struct rx_queue *rx;
    struct tx_queue *tx;
    uint64_t frames; /* moved since the pair was made */
    uint64_t slots;
};

/* A ring and its buffers, as copy.c uses them. */
struct frames {
    const struct netmap_ring *ring;
    uint8_t *buffers; /* buffer 0 in this process */
    uint32_t total_buffers;
    uint32_t buf_size;
    uint32_t num_slots;
    uint32_t refused; /* the index that the last call did not accept */
};

/* The result of copying: 0, one of these after nothing was done, or 1 + the slot whose index is not a buffer. */
enum { NOT_IN_A_BUFFER = -1, NOT_OWNED = -2 };

/* The result of a sync: 0, ATTENTION_TAKEN alone, or the others ORed. forward() returns the number of frames moved
 * above them. */
enum {
    ATTENTION_VIOLATION = 1, /* a queue's `last` names the rule */
    ATTENTION_DRIVER = 2, /* a queue's packets reached its statistics_due, or it made CHECK_EVERY syncs */
    MOVED_SHIFT = 2,
    ATTENTION_TAKEN = -1, /* another thread uses a queue, or it is closed; that queue was not synced */
};

EXPORT uint32_t widest(void); /* the largest `group` that this processor can do */
EXPORT int txsync(struct tx_queue **queues, int n);
EXPORT int rxsync(struct rx_queue **queues, int n);
EXPORT int rx_fill(struct rx_queue **queues, int n);
EXPORT int forward(struct forward **pairs, int n, uint32_t limit);
EXPORT int busy_wait(struct rx_queue **rx, int rx_count, struct tx_queue **tx, int tx_count, uint64_t timeout_ns);
EXPORT int read_frames(struct frames *f, uint32_t from, uint32_t count, uint32_t offset, uint32_t length,
                       uint8_t *rows);
EXPORT int write_frames(struct frames *f, uint32_t from, uint32_t count, uint32_t offset, uint32_t length,
                        const uint8_t *rows, uint32_t stride);
EXPORT int add_to_frames(struct frames *f, uint32_t from, uint32_t count, uint32_t offset, uint32_t length,
                         uint32_t amount);

/* exclusive.c: for Python without the GIL, and for close() with or without it. */
EXPORT int txsync_alone(struct tx_queue **queues, int n);
EXPORT int rxsync_alone(struct rx_queue **queues, int n);
EXPORT int forward_alone(struct forward **pairs, int n, uint32_t limit);
EXPORT void close_queue(struct queue *q);

/* Sizes and offsets of these structures, which queue.py compares with its mirror of them. */
EXPORT extern const uint32_t hotloop_layout[];
EXPORT extern const uint32_t hotloop_layout_count;

#endif
