/* Frames that the NIC is to finish: their headers are described by a context descriptor (82599 7.2.3.2.3).
 *
 * Slot k is descriptor k, so a context takes a slot of its own, with NS_CONTEXT, in front of the frame's. No byte of its buffer is read;
 * what it says is one word, its ptr, of which context.py has the fields. It is the application's word: a context has no address, and only
 * the fields below ever reach a descriptor.
 */
#ifndef CONTEXT_H
#define CONTEXT_H

#include "descriptor.h"
#include "queue.h"

/* The word: what both quadwords of the descriptor have where they have it, and between them what they have elsewhere. */
#define CONTEXT_LOW UINT64_C(0xFFFFFFFF)          /* IPLEN, MACLEN, VLAN */
#define CONTEXT_HIGH (~UINT64_C(0) << 40)         /* L4LEN, MSS */
#define CONTEXT_IPV4_L4T (UINT64_C(7) << 32)      /* Q1[12:10] */
#define CONTEXT_IPV4 (UINT64_C(1) << 32)
#define CONTEXT_VLE (UINT64_C(1) << 35)           /* DCMD of the frame's first data descriptor */
#define CONTEXT_TSE (UINT64_C(1) << 36)
#define CONTEXT_IXSM (UINT64_C(1) << 37)          /* and its POPTS */
#define CONTEXT_TXSM (UINT64_C(1) << 38)
#define CONTEXT_TSTAMP (UINT64_C(1) << 39)        /* its MAC */
#define CONTEXT_IN_HEADERS (CONTEXT_TSE | CONTEXT_IXSM | CONTEXT_TXSM)
#define CONTEXT_WISHES (CONTEXT_VLE | CONTEXT_IN_HEADERS | CONTEXT_TSTAMP)

enum {
    MIN_MAC_HEADER = 14,
    MIN_IPV4_HEADER = 20,
    IPV6_HEADER = 40,
    UDP = 0,
    TCP = 1,
    SCTP = 2, /* L4T */
    TAG_AND_CRC = 8,
    MAX_PAYLEN = (1 << 18) - 1,
};

/* What a frame's context means for its data descriptors. Without one: no commands, no headers, and MAX_FRAME. */
struct context {
    uint64_t commands;   /* of the first one */
    uint32_t headers;    /* bytes that have to be in the first slot */
    uint32_t uncounted;  /* bytes that PAYLEN leaves out: the headers, when the frame is cut (7.2.3.2.4) */
    uint32_t longest;    /* bytes of all slots */
};

static inline uint32_t least_l4_header(uint32_t l4)
{
    return l4 == TCP ? 20 : l4 == SCTP ? 12 : 8;
}

/* Whether the word asks for what the NIC does, of headers that there can be. */
static bool word_holds(uint64_t word)
{
    uint32_t ip = word & 0x1FF, mac = word >> 9 & 0x7F, l4 = word >> 33 & 3, l4_length = word >> 40 & 0xFF,
             mss = (uint32_t)(word >> 48);
    bool ipv4 = word & CONTEXT_IPV4;
    if (!(word & CONTEXT_WISHES) || mac < MIN_MAC_HEADER || l4 > SCTP)
        return false;
    if ((word & CONTEXT_IN_HEADERS) && ip < (ipv4 ? MIN_IPV4_HEADER : IPV6_HEADER))
        return false;
    if ((word & CONTEXT_IXSM) && !ipv4)
        return false;
    if (!(word & CONTEXT_TSE))
        return true;
    /* ASSUMPTION: frames are cut with all their checksums or not at all; no driver is known that asks otherwise. */
    if (!(word & CONTEXT_TXSM) || (ipv4 && !(word & CONTEXT_IXSM)))
        return false;
    return l4 <= TCP && l4_length >= least_l4_header(l4) && mss &&
           mac + ip + l4_length + mss <= MAX_FRAME - TAG_AND_CRC;
}

/* A word that holds, in the frame's terms. */
static struct context context_of(uint64_t word)
{
    uint32_t ip = word & 0x1FF, mac = word >> 9 & 0x7F, l4 = word >> 33 & 3, l4_length = word >> 40 & 0xFF;
    bool cut = word & CONTEXT_TSE;
    uint32_t headers = mac + ip + (cut ? l4_length : word & CONTEXT_TXSM ? least_l4_header(l4) : 0);
    return (struct context){
        .commands = (word >> 35 & 3) << TX_VLE_SHIFT | (word >> 37 & 3) << TX_IXSM_SHIFT |
                    (word & CONTEXT_TSTAMP ? TX_TSTAMP : 0),
        .headers = headers,
        .uncounted = cut ? headers : 0,
        .longest = cut ? headers + MAX_PAYLEN : MAX_FRAME - TAG_AND_CRC,
    };
}

/* Slot `i` of the application's, which has NS_CONTEXT, becomes a context descriptor. False, and the violation noted, if it does not hold.
 * IDX stays 0: each frame that needs a context brings its own, so there is no second one to keep. */
static bool write_context(struct queue *q, uint32_t i, struct context *context)
{
    uint64_t word = __atomic_load_n(&q->ring->slot[i].ptr, __ATOMIC_RELAXED); /* once, as with the slot's other word */
    if (!word_holds(word))
        return violated(q, RULE_CONTEXT, i, word, 0, 0);
    *context = context_of(word);
    q->descriptors[i].address = word & CONTEXT_LOW;
    q->descriptors[i].control = TX_CONTEXT | (word & CONTEXT_HIGH) | (word & CONTEXT_IPV4_L4T) >> 32 << TX_IPV4_SHIFT;
    return true;
}

#endif
