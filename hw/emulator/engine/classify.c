/* What a received frame is (82599 7.1.2): packet type, checksums, queue by RSS or by a filter. */
#include <string.h>

#include "flow.h"

/* ---- RSS (7.1.2.8) ---- */

static uint8_t key_byte(const struct nic *nic, uint32_t i)
{
    return (uint8_t)(reg_load(nic, R_RSSRK + 4 * (i / 4)) >> 8 * (i % 4));
}

/* RSSRK was written: one table per byte position of the input. The Toeplitz hash is linear: a set bit contributes the
 * 32 bits of the key that begin at the bit's position. So the hash of a value is the hash of its lowest bit XOR the
 * hash of the value without that bit, which is smaller and already in the table. */
EXPORT void nic_rss_key_changed(struct nic *nic)
{
    uint64_t key = 0; /* five bytes, from the byte at `position` on */
    for (uint32_t i = 0; i < 4; i++)
        key = key << 8 | key_byte(nic, i);
    for (uint32_t position = 0; position < 36; position++) {
        uint32_t *table = nic->rss_table[position];
        key = key << 8 | key_byte(nic, position + 4);
        table[0] = 0;
        for (uint32_t value = 1; value < 256; value++)
            table[value] = table[value & (value - 1)] ^ (uint32_t)(key >> (1 + __builtin_ctz(value)));
    }
}

/* Four bytes at a time: addresses and ports are multiples of four. */
static inline uint32_t toeplitz4(const uint32_t table[4][256], const uint8_t *bytes)
{
    return table[0][bytes[0]] ^ table[1][bytes[1]] ^ table[2][bytes[2]] ^ table[3][bytes[3]];
}

static uint32_t toeplitz(const struct nic *nic, uint32_t position, const uint8_t *bytes, uint32_t count)
{
    uint32_t hash = 0;
    for (uint32_t i = 0; i < count; i += 4)
        hash ^= toeplitz4(&nic->rss_table[position + i], bytes + i);
    return hash;
}

/* The RSS type that MRQC enables for a flow (7.1.2.8), L4 types first; 0 when there is none. */
static uint32_t rss_type(uint32_t mrqc, const struct flow *flow)
{
    bool v4 = flow->address_bytes == 8, tcp = flow->ports && flow->protocol == IP_TCP,
         udp = flow->ports && flow->protocol == IP_UDP;
    if (v4)
        return tcp && mrqc & F_MRQC_TCPIPV4_MASK   ? 1
               : udp && mrqc & F_MRQC_UDPIPV4_MASK ? 7
               : mrqc & F_MRQC_IPV4_MASK           ? 2
                                                   : 0;
    return tcp && mrqc & F_MRQC_TCPIPV6_MASK   ? 3
           : udp && mrqc & F_MRQC_UDPIPV6_MASK ? 8
           : mrqc & F_MRQC_IPV6_MASK           ? 5
                                               : 0;
}

/* Set queue and hash. A frame without a hash goes to queue 0. */
static void choose_queue(const struct nic *nic, const uint8_t *frame, const struct flow *flow, struct class *class)
{
    uint32_t type = rss_type(nic->settings.rss, flow);
    if (!type)
        return;
    uint32_t hash = toeplitz(nic, 0, frame + flow->addresses, flow->address_bytes);
    if (type != 2 && type != 5)
        hash ^= toeplitz(nic, flow->address_bytes, frame + flow->ports, 4);
    uint32_t entry = hash & 0x7F;
    class->queue = reg_load(nic, R_RETA + 4 * (entry / 4)) >> 8 * (entry % 4) & 0xF;
    class->q0 |= type;
    if (nic->settings.hash_reported)
        class->q0 |= (uint64_t)hash << 32;
}

/* Everything that the frame alone decides. A frame that is too short is not parsed. `class` is filled in place: a
 * returned structure would be copied by loads wider than the stores just made, and such loads wait until the stores
 * are in the cache: 6 ns a frame in tests/bench/engine.py. */
void classify(const struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class)
{
    *class = (struct class){0};
    if (length < FRAME_MIN)
        return;
    class->tagged = be16(frame + ADDRESSES) == nic->settings.vlan_type;
    struct flow flow = parse_flow(frame, length, class->tagged);
    if (flow.packet_type) {
        class->q0 = flow.packet_type;
        if (nic->settings.rss)
            choose_queue(nic, frame, &flow, class);
        bool v4 = flow.address_bytes == 8;
        class->status = checksum_status(frame, length, flow.addresses - (v4 ? 12 : 8), v4, flow.ports, flow.protocol);
    }
    if (nic->settings.steering)
        steer(nic, frame, length, class);
}
