/* The per-packet work between netmap rings and 82599 queues: structures, and what may go wrong.
 *
 * Rings and buffers lie in memory that another process may scribble over at any moment. Queues and descriptors are the
 * driver's own: nothing that comes from a ring is used before it was read once, into a copy, and checked.
 */
#ifndef HOTLOOP_H
#define HOTLOOP_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "slots and descriptors are little-endian");
static_assert(sizeof(void *) == 8, "the mirror of these structures in hotloop.py has 64-bit pointers");

enum {
    NS_BUF_CHANGED = 0x01,
    NS_REPORT = 0x02,
    NS_INDIRECT = 0x10,
    NS_MOREFRAG = 0x20,
    NS_CONTEXT = 0x80, /* ours: netmap has no such flag */
    NR_TIMESTAMP = 0x02,

    RESERVED_BUFFERS = 2,
    MAX_CHAIN = 38,         /* descriptors of one frame: 40 less WTHRESH, which is 0, and 2 (7.2.1.1) */
    RS_STEP = 32,           /* slots after which a head write-back is asked for at the latest */
    CHECK_EVERY = 4096,     /* syncs */
    MIN_FRAME = 17,         /* the NIC wants no smaller PAYLEN; from there it pads by itself */
    MAX_FRAME =
        16380, /* ASSUMPTION: 16 KB with the CRC is the most that any NIC carries; the port's own MTU is the driver's affair */
};

/* One 64-bit word holds all that a sync needs, so that one load gives a consistent copy. */
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

/* An advanced descriptor, either direction: buffer address, then command or status (82599 7.1.6, 7.2.3.2.4). */
struct descriptor {
    uint64_t address;
    uint64_t control;
};

/* Numbers shared with rules.py. */
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
};

struct violation {
    uint32_t rule;
    uint32_t slot;
    uint64_t value;
    uint64_t low;
    uint64_t high;
};

/* What both directions have. One thread at a time is in a queue's sync: callers from Python hold the GIL. */
struct queue {
    /* Set when the queue is made. */
    struct netmap_ring *ring;
    uint8_t *buffers; /* buffer 0 in this process */
    uint64_t buffers_iova; /* and as the NIC sees it */
    struct descriptor *descriptors; /* num_slots of them */
    uint32_t *doorbell; /* TDT or RDT */
    uint32_t buf_size;
    uint32_t total_buffers;
    uint32_t num_slots;
    uint32_t group; /* slots that vectors.h takes at once: 0 for none, or 4 or 8, up to what widest() says */
    const uint64_t *pages; /* without an IOMMU: bus address of each page of the buffers' memory; NULL otherwise */
    /* Written by each sync. */
    uint32_t hwcur; /* first slot not yet handed to the NIC */
    uint32_t hwtail; /* first slot that is not the application's */
    uint64_t packets;
    uint64_t bytes;
    uint64_t syncs_left; /* until one returns ATTENTION_DRIVER, whatever was moved */
    uint64_t statistics_due; /* number of packets from which on a sync that moves several returns ATTENTION_DRIVER */
    uint64_t violations;
    uint32_t
        direct_buffers; /* how many a slot may name; 0 if addresses are looked up in `pages`: one comparison for a sync of one slot */
    uint32_t frame_lengths; /* and how many lengths a frame in one buffer may have, from MIN_FRAME on */
    uint64_t page_size; /* of `pages`: a power of two that no buffer straddles */
    struct violation last;
};

struct tx_queue {
    struct queue q;
    const uint32_t *head_writeback; /* index of the descriptor the NIC sends next (7.2.3.5.2) */
    uint32_t nic_head; /* what was read there last */
};

struct rx_queue {
    struct queue q;
    uint64_t errors; /* descriptors with RXE, more bytes than a buffer, or a frame without end */
    uint32_t next; /* descriptor the NIC completes next */
    uint32_t chain; /* descriptors before `next` of a frame whose end is yet to come */
};

struct forward {
    struct rx_queue *rx;
    struct tx_queue *tx;
    uint64_t frames; /* moved, in all */
    uint64_t slots;
};

/* What a sync returns: 0, or a sum of these; forward() has above them how many frames moved. */
enum {
    ATTENTION_VIOLATION = 1, /* a queue's `last` says which rule */
    ATTENTION_DRIVER = 2, /* a queue's packets reached its statistics_due, or CHECK_EVERY syncs went by */
    MOVED_SHIFT = 2,
};

uint32_t widest(void); /* the largest `group` that this processor can do */
int txsync(struct tx_queue **queues, int n);
int rxsync(struct rx_queue **queues, int n);
int rx_fill(struct rx_queue **queues, int n);
int forward(struct forward **pairs, int n, uint32_t limit);
int busy_wait(struct rx_queue **rx, int rx_count, struct tx_queue **tx, int tx_count, uint64_t timeout_ns);

#endif
