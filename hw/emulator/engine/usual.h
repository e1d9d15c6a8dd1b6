/* The usual received frame: untagged, IPv4 without options, a whole UDP or TCP packet. Its headers are read once, in
 * words. classify.c decides about every other frame, and a test compares the two. */
#ifndef IXRINGS_USUAL_H
#define IXRINGS_USUAL_H

#include "flow.h"

enum {
    USUAL_IP = ETHERNET,
    USUAL_ADDRESSES = USUAL_IP + 12,
    USUAL_L4 = USUAL_IP + 20,
    UDP_HEADER_SIZE = 8,
    TCP_HEADER_SIZE = 20,
    SUM_BLOCK = 32, /* bytes that sum_of() adds at once */
};

/* Eight 16-bit words, or four sums of them. The compiler uses vector registers where the processor has them. */
typedef uint32_t four_words __attribute__((vector_size(16)));

static INLINED uint64_t add_carry(uint64_t sum, uint64_t word)
{
    sum += word;
    return sum + (sum < word);
}

/* `sum` and the 16-bit words of whole blocks. A lane takes two words of less than 2^16 from each block, and no frame has
 * more than FRAME_MAX / SUM_BLOCK blocks, so that no lane overflows. */
static INLINED uint64_t sum_blocks(uint64_t sum, const uint8_t *bytes, uint32_t blocks)
{
    four_words low = {0}, high = {0}, word;
    for (; blocks; blocks--, bytes += SUM_BLOCK)
        for (uint32_t at = 0; at < SUM_BLOCK; at += sizeof word) {
            memcpy(&word, bytes + at, sizeof word);
            low += word & 0xFFFF, high += word >> 16;
        }
    low += high;
    return add_carry(sum, (uint64_t)low[0] + low[1] + low[2] + low[3]);
}

/* `sum` and all 16-bit words of at least 8 bytes, as memory holds them; an odd last byte is a word's first (RFC 1071).
 * Carries are added at the low end. */
static INLINED uint64_t sum_of(uint64_t sum, const uint8_t *bytes, uint32_t length)
{
    if (length >= 3 * SUM_BLOCK) {
        uint32_t blocks = length / SUM_BLOCK - 1;
        sum = sum_blocks(sum, bytes, blocks);
        bytes += SUM_BLOCK * blocks, length -= SUM_BLOCK * blocks;
    }
    for (; length > 8; length -= 8, bytes += 8)
        sum = add_carry(sum, word8(bytes));
    return add_carry(sum, word8(bytes + length - 8) >> (64 - 8 * length)); /* without the bytes added before */
}

/* Whether a sum is that of a correct checksum (RFC 1071): it folds to 0xFFFF. `sum` is not 0. */
static INLINED bool correct(uint64_t sum)
{
    return sum % 0xFFFF == 0;
}

/* The RSS hash's part of the four bytes at input position `position`, a multiple of four (7.1.2.8.1). */
static INLINED uint32_t toeplitz4(const struct nic *nic, uint32_t position, const uint8_t *bytes)
{
    const uint32_t (*table)[256] = &nic->rss_table[position];
    return table[0][bytes[0]] ^ table[1][bytes[1]] ^ table[2][bytes[2]] ^ table[3][bytes[3]];
}

/* The queue of a hash, by RETA (7.1.2.8.2). */
static INLINED uint32_t rss_queue(const struct nic *nic, uint32_t hash)
{
    uint32_t entry = hash & 0x7F;
    return reg_load(nic, R_RETA + 4 * (entry / 4)) >> 8 * (entry % 4) & 0xF;
}

/* As classify(), without filters. Returns false for a frame that is not usual; `class` is not set then. */
static INLINED bool classify_usual(const struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class)
{
    const uint32_t ipv4_20_bytes = 0x450008; /* EtherType 0x0800, version 4, 5 words, as memory holds them */
    const uint64_t fragment = 0xFF3Full << 48;
    if (length < FRAME_MIN || (word4(frame + ADDRESSES) & 0xFFFFFF) != ipv4_20_bytes)
        return false;
    uint64_t start = word8(frame + USUAL_IP), middle = word8(frame + USUAL_IP + 8), ports = word8(frame + USUAL_L4);
    uint32_t destination = word4(frame + USUAL_IP + 16), total = __builtin_bswap16((uint16_t)(start >> 16));
    uint32_t protocol = middle >> 8 & 0xFF;
    bool udp = protocol == IP_UDP;
    if ((!udp && protocol != IP_TCP) || start & fragment || total > length - ETHERNET ||
        total < USUAL_L4 - USUAL_IP + (udp ? UDP_HEADER_SIZE : TCP_HEADER_SIZE))
        return false;

    uint32_t size = total - (USUAL_L4 - USUAL_IP);
    uint64_t header = add_carry(add_carry(start, middle), destination);
    uint64_t pseudo = (middle >> 32) + destination + (protocol << 8) + __builtin_bswap16((uint16_t)size);
    uint32_t status = RX_IPCS | (correct(header) ? 0 : RX_IPE);
    if (!udp || ports >> 48) /* else the sender computed no checksum */
        status |= RX_L4I | (udp ? RX_UDPCS : 0) | (correct(sum_of(pseudo, frame + USUAL_L4, size)) ? 0 : RX_TCPE);

    uint32_t type = nic->settings.rss_types[0][udp ? RSS_UDP : RSS_TCP], hash = 0, queue = 0;
    if (type) {
        hash = toeplitz4(nic, 0, frame + USUAL_ADDRESSES) ^ toeplitz4(nic, 4, frame + USUAL_ADDRESSES + 4);
        if (type != RSS_TYPE_IPV4)
            hash ^= toeplitz4(nic, 8, frame + USUAL_L4);
        queue = rss_queue(nic, hash);
        hash &= nic->settings.hash_mask;
    }
    *class = (struct class){
        .queue = queue,
        .status = status,
        .q0 = (uint64_t)hash << 32 | type | PACKET_TYPE_IPV4 | (udp ? PACKET_TYPE_UDP : PACKET_TYPE_TCP),
    };
    return true;
}

#endif
