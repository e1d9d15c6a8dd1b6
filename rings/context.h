/* The context of a frame: its word in the slot, and what it means for the frame's descriptors (82599 7.2.3.2.3).
 *
 * Slot k is descriptor k, so a context has a slot of its own, with NS_CONTEXT, before the frame's first slot. The
 * slot's buffer is not read: the context is one 64-bit word in the slot's ptr, and context.py builds it. The
 * application writes the word; a context descriptor has no address, and only the fields below reach it.
 */
#ifndef CONTEXT_H
#define CONTEXT_H

#include "queue.h"

/* Fields at the same place in the word and in a quadword of the context descriptor. */
#define CONTEXT_LOW UINT64_C(0xFFFFFFFF)  /* IPLEN, MACLEN, VLAN: first quadword */
#define CONTEXT_HIGH (~UINT64_C(0) << 40) /* L4LEN, MSS: second quadword */
/* The other fields, which the descriptors have at other places. */
#define CONTEXT_IPV4_L4T (UINT64_C(7) << 32) /* second quadword [12:10] */
#define CONTEXT_IPV4 (UINT64_C(1) << 32)
#define CONTEXT_VLE (UINT64_C(1) << 35) /* DCMD of the frame's first data descriptor */
#define CONTEXT_TSE (UINT64_C(1) << 36)
#define CONTEXT_IXSM (UINT64_C(1) << 37) /* POPTS of the same descriptor */
#define CONTEXT_TXSM (UINT64_C(1) << 38)
#define CONTEXT_TSTAMP (UINT64_C(1) << 39) /* MAC of the same descriptor */
#define CONTEXT_IN_HEADERS (CONTEXT_TSE | CONTEXT_IXSM | CONTEXT_TXSM)
#define CONTEXT_REQUESTS (CONTEXT_VLE | CONTEXT_IN_HEADERS | CONTEXT_TSTAMP)

enum {
    MIN_MAC_HEADER = 14,
    MIN_IPV4_HEADER = 20,
    IPV6_HEADER = 40,
    UDP = 0, /* L4T */
    TCP = 1,
    SCTP = 2,
    TAG_AND_CRC = 8,
    MAX_PAYLEN = (1 << 18) - 1,
};

/* The meaning of a context for the frame's data descriptors. Without a context: only `longest`, which is MAX_FRAME. */
struct context {
    uint64_t commands;  /* for the first data descriptor */
    uint32_t headers;   /* bytes that must be in the first slot */
    uint32_t uncounted; /* bytes that PAYLEN leaves out: the headers, if the NIC segments the frame (7.2.3.2.4) */
    uint32_t longest;   /* bytes of all slots */
};

static inline uint32_t least_l4_header(uint32_t l4)
{
    return l4 == TCP ? 20 : l4 == SCTP ? 12 : 8;
}

/* Whether the word requests something that the NIC can do, for headers that can exist. */
static inline bool word_valid(uint64_t word)
{
    uint32_t ip = word & 0x1FF, mac = word >> 9 & 0x7F, l4 = word >> 33 & 3, l4_length = word >> 40 & 0xFF,
             mss = (uint32_t)(word >> 48);
    bool ipv4 = word & CONTEXT_IPV4;
    if (!(word & CONTEXT_REQUESTS) || mac < MIN_MAC_HEADER || l4 > SCTP)
        return false;
    if ((word & CONTEXT_IN_HEADERS) && ip < (ipv4 ? MIN_IPV4_HEADER : IPV6_HEADER))
        return false;
    if ((word & CONTEXT_IXSM) && !ipv4)
        return false;
    if (!(word & CONTEXT_TSE))
        return true;
    /* ASSUMPTION (datasheet not at hand): segmentation needs the L4 checksum and, with IPv4, the IP checksum, because
     * every known driver requests them. */
    if (!(word & CONTEXT_TXSM) || (ipv4 && !(word & CONTEXT_IXSM)))
        return false;
    return l4 <= TCP && l4_length >= least_l4_header(l4) && mss &&
           mac + ip + l4_length + mss <= MAX_FRAME - TAG_AND_CRC;
}

/* The meaning of a valid word. */
static inline struct context context_of(uint64_t word)
{
    uint32_t ip = word & 0x1FF, mac = word >> 9 & 0x7F, l4 = word >> 33 & 3, l4_length = word >> 40 & 0xFF;
    bool segmented = word & CONTEXT_TSE;
    uint32_t headers = mac + ip + (segmented ? l4_length : word & CONTEXT_TXSM ? least_l4_header(l4) : 0);
    return (struct context){
        .commands = (word >> 35 & 3) << TX_VLE_SHIFT | (word >> 37 & 3) << TX_IXSM_SHIFT |
                    (word & CONTEXT_TSTAMP ? TX_TSTAMP : 0),
        .headers = headers,
        .uncounted = segmented ? headers : 0,
        .longest = segmented ? headers + MAX_PAYLEN : MAX_FRAME - TAG_AND_CRC,
    };
}

/* Turn slot `i`, which has NS_CONTEXT, into a context descriptor. False, after noting the violation, for a bad word.
 * IDX stays 0: every frame that needs a context brings its own, so the NIC never has to keep a second one. */
static inline bool write_context(struct queue *q, uint32_t i, struct context *context)
{
    uint64_t word = __atomic_load_n(&q->ring->slot[i].ptr, __ATOMIC_RELAXED); /* loaded once, like the slot's word */
    if (!word_valid(word))
        return violated(q, RULE_CONTEXT, i, word, 0, 0);
    *context = context_of(word);
    q->descriptors[i].address = word & CONTEXT_LOW;
    q->descriptors[i].control = TX_CONTEXT | (word & CONTEXT_HIGH) | (word & CONTEXT_IPV4_L4T) >> 32 << TX_IPV4_SHIFT;
    return true;
}

#endif
