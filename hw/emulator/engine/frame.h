/* What every frame has: its layout, its lengths, its bytes as numbers. */
#ifndef IXRINGS_FRAME_H
#define IXRINGS_FRAME_H

#include <stdint.h>
#include <string.h>

enum {
    FRAME_MAX = 16384, /* longest frame that the MAC carries, CRC included, also if MAXFRS is larger */
    FRAME_MIN = 60,    /* without CRC */
    ADDRESSES = 12,    /* destination and source, before a VLAN tag or the EtherType */
    ETHERNET = 14,     /* both addresses and the EtherType */
    VLAN_TAG = 4,
    CRC = 4,
    IP_TCP = 6,
    IP_UDP = 17,
    IP_SCTP = 132,
};

#define BROADCAST 0xFFFFFFFFFFFFull

static inline uint32_t be16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 8 | bytes[1];
}

static inline void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value;
}

/* Bytes as memory holds them. */
static inline uint32_t word4(const uint8_t *bytes)
{
    uint32_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

static inline uint64_t word8(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return word;
}

/* A MAC address in the byte order of RAL and RAH. */
static inline uint64_t mac_of(const uint8_t *bytes)
{
    uint32_t low;
    memcpy(&low, bytes, sizeof low);
    return low | (uint64_t)bytes[4] << 32 | (uint64_t)bytes[5] << 40;
}

/* The size counter, PRC64 .. PRC1522 or PTC64 .. PTC1522, of a frame's length with CRC (8.2.3.23.18). */
static inline uint32_t size_bin(uint32_t bytes)
{
    if (bytes <= 64)
        return 0;
    uint32_t bits = 32 - (uint32_t)__builtin_clz(bytes); /* 7 for 65 to 127, 8 for 128 to 255, and so on */
    return bits > 11 ? 5 : bits - 6;
}

/* A sum folded to 16 bits, carries added at the low end (RFC 1071). */
static inline uint32_t fold(uint64_t sum)
{
    sum = (sum & 0xFFFFFFFF) + (sum >> 32);
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint32_t)((sum & 0xFFFF) + (sum >> 16));
}

/* The Internet checksum's sum, not complemented, of `bytes` and of the 16 bits in `start`. */
static inline uint32_t ones_sum(const uint8_t *bytes, uint32_t length, uint32_t start)
{
    uint64_t total = __builtin_bswap16((uint16_t)start); /* all in the byte order of memory; swapped at the end */
    while (length >= 4) {
        uint32_t word;
        memcpy(&word, bytes, 4);
        total += word, bytes += 4, length -= 4;
    }
    if (length >= 2) {
        uint16_t word;
        memcpy(&word, bytes, 2);
        total += word, bytes += 2, length -= 2;
    }
    if (length)
        total += *bytes;
    return __builtin_bswap16((uint16_t)fold(total));
}

#endif
