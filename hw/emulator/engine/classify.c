/* What a received frame is (82599 7.1.2): packet type, checksums, queue by RSS or by a filter. */
#include "usual.h"

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

static uint32_t toeplitz(const struct nic *nic, uint32_t position, const uint8_t *bytes, uint32_t count)
{
    uint32_t hash = 0;
    for (uint32_t i = 0; i < count; i += 4)
        hash ^= toeplitz4(nic, position + i, bytes + i);
    return hash;
}

static uint32_t rss_type(const struct nic *nic, const struct flow *flow)
{
    enum rss_ports ports = !flow->ports               ? RSS_NO_PORTS
                           : flow->protocol == IP_TCP ? RSS_TCP
                           : flow->protocol == IP_UDP ? RSS_UDP
                                                      : RSS_NO_PORTS;
    return nic->settings.rss_types[flow->address_bytes != 8][ports];
}

/* Set queue and hash. A frame without a hash goes to queue 0. */
static void choose_queue(const struct nic *nic, const uint8_t *frame, const struct flow *flow, struct class *class)
{
    uint32_t type = rss_type(nic, flow);
    if (!type)
        return;
    uint32_t hash = toeplitz(nic, 0, frame + flow->addresses, flow->address_bytes);
    if (type != RSS_TYPE_IPV4 && type != RSS_TYPE_IPV6)
        hash ^= toeplitz(nic, flow->address_bytes, frame + flow->ports, 4);
    class->queue = rss_queue(nic, hash);
    class->q0 |= type | (uint64_t)(hash & nic->settings.hash_mask) << 32;
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
        choose_queue(nic, frame, &flow, class);
        bool v4 = flow.address_bytes == 8;
        class->status = checksum_status(frame, length, flow.addresses - (v4 ? 12 : 8), v4, flow.ports, flow.protocol);
    }
    if (nic->settings.steering)
        steer(nic, frame, length, class);
}
