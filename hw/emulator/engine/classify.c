/* What a received frame is and where it goes (82599 7.1.1, 7.1.2): lengths, L2 filters, packet type, queue by RSS. */
#include <string.h>

#include "nic.h"

enum {
    ETHERNET = 14,
    RX_FLM = 1 << 2,
    RX_PIF = 1 << 7,
    RX_LB = 1 << 18, /* extended status, Q1[19:0] (7.1.6.2) */
    PACKET_TYPE_IPV4 = 0x10,
    PACKET_TYPE_IPV4E = 0x20,
    PACKET_TYPE_IPV6 = 0x40,
    PACKET_TYPE_TCP = 0x100,
    PACKET_TYPE_UDP = 0x200,
    PACKET_TYPE_SCTP = 0x400,
};

/* ---- L2 filters (7.1.1) ---- */

static bool exact_match(const struct nic *nic, uint64_t address)
{
    for (uint32_t i = 0; i < nic->address_count; i++)
        if (nic->addresses[i] == address)
            return true;
    return false;
}

/* MTA: 12 bits of the destination's last two bytes, which ones MCSTCTRL.MO says (8.2.3.7.3, 8.2.3.7.7). */
static bool multicast_table_match(const struct nic *nic, const uint8_t *destination)
{
    uint32_t control = reg_load(nic, R_MCSTCTRL);
    if (!(control & F_MCSTCTRL_MFE_MASK))
        return false;
    uint32_t last = destination[4] | (uint32_t)destination[5] << 8;
    uint32_t hash = last >> (4 - (control & F_MCSTCTRL_MO_MASK)) & 0xFFF;
    return reg_load(nic, R_MTA + 4 * (hash / 32)) >> hash % 32 & 1;
}

/* VFTA: a bit a VLAN, when VLNCTRL.VFE asks for it; frames without a tag are not its concern (7.1.1.2). */
static bool passes_vlan_filter(const struct nic *nic, const uint8_t *frame, bool tagged)
{
    if (!nic->settings.vlan_filter || !tagged)
        return true;
    uint32_t vlan = be16(frame + ADDRESSES + 2) & 0xFFF;
    return reg_load(nic, R_VFTA + 4 * (vlan / 32)) >> vlan % 32 & 1;
}

static bool passes_filters(const struct nic *nic, const uint8_t *frame, uint32_t *status)
{
    uint32_t control = nic->settings.filter;
    uint64_t destination = mac_of(frame);
    /* ASSUMPTION: MPE lets broadcast through too; a broadcast address is a multicast address. */
    if (destination == BROADCAST)
        return control & (F_FCTRL_BAM_MASK | F_FCTRL_MPE_MASK);
    if (exact_match(nic, destination))
        return true;
    if (!(frame[0] & 1))
        return control & F_FCTRL_UPE_MASK;
    if (control & F_FCTRL_MPE_MASK)
        return true;
    *status |= RX_PIF;
    return multicast_table_match(nic, frame);
}

/* Addresses with RAH.AV, gathered when the driver changed one. */
void nic_addresses_changed(struct nic *nic)
{
    nic->address_count = 0;
    for (uint32_t i = 0; i < QUEUES; i++) {
        uint32_t low = reg_load(nic, R_RAL + 8 * i), high = reg_load(nic, R_RAH + 8 * i);
        if (high & F_RAH_AV_MASK)
            nic->addresses[nic->address_count++] = low | (uint64_t)(high & F_RAH_RAH_MASK) << 32;
    }
}

/* ---- RSS (7.1.2.8) ---- */

static uint8_t key_byte(const struct nic *nic, uint32_t i)
{
    return (uint8_t)(reg_load(nic, R_RSSRK + 4 * (i / 4)) >> 8 * (i % 4));
}

/* The Toeplitz hash is linear: a table a byte position, made anew when the driver writes RSSRK. A set bit stands for the 32 bits of
 * the key that begin at its place; what a value hashes to is that of its lowest bit and that of the others, an earlier value. */
void nic_rss_key_changed(struct nic *nic)
{
    uint64_t key = 0; /* from the byte at `position` on, five of them */
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

/* Four bytes at a time: addresses and ports are multiples of that. */
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

static inline __attribute__((always_inline)) struct flow parse(const uint8_t *frame, uint32_t length, bool tagged)
{
    struct flow flow = {0};
    uint32_t at = ETHERNET, type = be16(frame + 12);
    if (tagged && length >= ETHERNET + VLAN_TAG)
        at += VLAN_TAG, type = be16(frame + 16);
    if (type == 0x0800 && length >= at + 20 && frame[at] >> 4 == 4) {
        uint32_t header = 4u * (frame[at] & 0xF);
        bool fragment = be16(frame + at + 6) & 0x3FFF;
        flow = (struct flow){header > 20 ? PACKET_TYPE_IPV4E : PACKET_TYPE_IPV4, at + 12, 8, 0, frame[at + 9]};
        if (!fragment && header >= 20 && length >= at + header + 4)
            flow.ports = at + header;
    } else if (type == 0x86DD && length >= at + 40 && frame[at] >> 4 == 6) {
        flow = (struct flow){PACKET_TYPE_IPV6, at + 8, 32, 0, frame[at + 6]};
        if (length >= at + 44)
            flow.ports = at + 40;
    } else {
        return flow;
    }
    if (flow.protocol == IP_TCP)
        flow.packet_type |= PACKET_TYPE_TCP;
    else if (flow.protocol == IP_UDP)
        flow.packet_type |= PACKET_TYPE_UDP;
    else if (flow.protocol == IP_SCTP)
        flow.packet_type |= PACKET_TYPE_SCTP;
    return flow;
}

/* For filters, which parse once more: handing them what classify() found would cost every frame, with filters or not. */
struct flow flow_of(const uint8_t *frame, uint32_t length, bool tagged)
{
    return parse(frame, length, tagged);
}

/* The hash type MRQC allows for a flow (7.1.2.8): the L4 kinds first; 0 when none. */
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

/* Queue and hash. Without a hash the frame goes to queue 0. */
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

/* All that the frame alone decides; one that is too short is looked at no further. Made in its place: a returned structure would be
 * copied by loads wider than the stores just made, which have to wait until those are in the cache: 6 ns a frame of tests/bench/engine.py. */
void classify(const struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class)
{
    *class = (struct class){0};
    if (length < FRAME_MIN)
        return;
    class->tagged = be16(frame + ADDRESSES) == nic->settings.vlan_type;
    struct flow flow = parse(frame, length, class->tagged);
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

/* ---- MAC: lengths and counters (8.2.3.23) ---- */

static bool good(struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class)
{
    if (length < FRAME_MIN) {
        nic->counters.ruc++;
        return false;
    }
    /* A VLAN tag does not make a frame too long (8.2.3.22.13). */
    if (length > FRAME_MAX - CRC || length + CRC > nic->settings.longest + (class->tagged ? VLAN_TAG : 0)) {
        nic->counters.roc++;
        return false;
    }
    return passes_filters(nic, frame, &class->status) && passes_vlan_filter(nic, frame, class->tagged);
}

static void count_good(struct nic *nic, uint32_t bytes, struct class *class)
{
    struct counters *counters = &nic->counters;
    counters->gorc += bytes, counters->prc[size_bin(bytes)]++;
    if (nic->settings.loopback)
        class->status |= RX_LB;
}

/* Refused, or multicast, or with something noted by steer(), or all of it; apart, for the others' sake. ASSUMPTION: pause frames are no good frames to GPRC. */
static __attribute__((noinline)) bool accepts_rare(struct nic *nic, const uint8_t *frame, uint32_t length,
                                                   struct class *class, bool accepted)
{
    struct counters *counters = &nic->counters;
    if (length >= FRAME_MIN && frame[0] & 1 && pause_frame(nic, frame))
        accepted = false;
    if (!accepted) {
        counters->refused++, counters->refused_bytes += length + CRC;
        return false;
    }
    if (frame[0] & 1)
        *(mac_of(frame) == BROADCAST ? &counters->bprc : &counters->mprc) += 1;
    if (class->searched)
        *(class->status & RX_FLM ? &counters->fdirmatch : &counters->fdirmiss) += 1;
    if (class->event)
        timestamp_received(nic, frame, class);
    count_good(nic, length + CRC, class);
    return true;
}

/* Whether the frame is for this port; adds what the filters found to its class. Counts it either way. */
bool mac_accepts(struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class)
{
    bool accepted = good(nic, frame, length, class);
    if (!accepted || frame[0] & 1 || class->rare)
        return accepts_rare(nic, frame, length, class, accepted);
    count_good(nic, length + CRC, class);
    return true;
}
