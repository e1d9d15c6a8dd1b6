/* The switch's table of addresses: the port at which each source address was last seen. */
#ifndef ADDRESSES_H
#define ADDRESSES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    EVERYBODY = 254, /* the destination of a broadcast; the numbers below are ports */
    SETS = 1024, /* a power of two */
    WAYS = 4, /* addresses of a set: one cache line */
};

#define ADDRESS_BITS UINT64_C(0xFFFFFFFFFFFF)

struct entry {
    uint64_t address; /* in the low 48 bits, and 1 + the port above; 0: free */
    uint64_t seen_ns;
};

struct addresses {
    uint64_t age_ns; /* an address not seen for so long is forgotten; 0: never */
    struct entry table[SETS][WAYS];
};

static inline uint64_t address_at(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof(word));
    return word & ADDRESS_BITS;
}

/* Multicast and broadcast addresses have bit 0 of their first byte set. */
static inline bool to_many(uint64_t address)
{
    return address & 1;
}

static inline uint32_t set_of(uint64_t address)
{
    return (uint32_t)((address * UINT64_C(0x9E3779B97F4A7C15)) >> 54);
}

/* The address's entry, or the one to put it in: a free one, or the oldest. */
static inline struct entry *entry_for(struct addresses *a, uint64_t address)
{
    struct entry *set = a->table[set_of(address)], *oldest = set;
    for (uint32_t way = 0; way < WAYS; way++) {
        if ((set[way].address & ADDRESS_BITS) == address && set[way].address)
            return &set[way];
        if (set[way].seen_ns < oldest->seen_ns)
            oldest = &set[way];
    }
    return oldest;
}

static inline void note_address(struct addresses *a, uint64_t source, uint32_t port, uint64_t now_ns)
{
    *entry_for(a, source) = (struct entry){source | (uint64_t)(port + 1) << 48, now_ns};
}

/* Where frames to an address go: to a port, or to EVERYBODY. */
static inline uint32_t port_of(const struct addresses *a, uint64_t address, uint64_t now_ns)
{
    const struct entry *set = a->table[set_of(address)];
    if (to_many(address))
        return EVERYBODY;
    for (uint32_t way = 0; way < WAYS; way++)
        if ((set[way].address & ADDRESS_BITS) == address && set[way].address &&
            (!a->age_ns || now_ns - set[way].seen_ns < a->age_ns))
            return (uint32_t)(set[way].address >> 48) - 1;
    return EVERYBODY;
}

static inline void forget_port(struct addresses *a, uint32_t port)
{
    for (uint32_t i = 0; i < SETS * WAYS; i++) {
        struct entry *entry = &a->table[i / WAYS][i % WAYS];
        if (entry->address >> 48 == port + 1)
            *entry = (struct entry){0};
    }
}

#endif
