/* Filters that choose a frame's queue before RSS does (82599 7.1.2.3 to 7.1.2.6), in the datasheet's precedence. */
#include <string.h>

#include "receive.h"

enum {
    TCP_FLAGS = 13,
    SYN = 0x02,
    ANY_POOL = POOLS,
};

/* The first ETQF with the frame's type. Returns whether its ETQS has a queue.
 * ASSUMPTION (datasheet silent): the type after a VLAN tag is compared, because ETQF.UP would have no use otherwise. */
static bool ether_type_filter(const struct nic *nic, const uint8_t *frame, struct class *class)
{
    uint32_t type = be16(frame + ADDRESSES + (class->tagged ? VLAN_TAG : 0)), priority = frame[ADDRESSES + 2] >> 5;
    for (uint32_t left = nic->ether_type_filters; left; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(left), filter = reg_load(nic, R_ETQF + 4 * i),
                 select = reg_load(nic, R_ETQS + 4 * i);
        if ((filter & F_ETQF_ETYPE_MASK) != type)
            continue;
        if (filter & F_ETQF_UP_EN_MASK && (!class->tagged || (filter & F_ETQF_UP_MASK) >> F_ETQF_UP_SHIFT != priority))
            continue;
        class->q0 = (class->q0 & ~(uint64_t)PACKET_TYPE_MASK) | PACKET_TYPE_L2 | i << PACKET_TYPE_L2_SHIFT;
        if (select & F_ETQS_QUEUE_EN_MASK)
            class->queue = (select & F_ETQS_RX_QUEUE_MASK) >> F_ETQS_RX_QUEUE_SHIFT;
        return select & F_ETQS_QUEUE_EN_MASK;
    }
    return false;
}

static bool syn_filter(const struct nic *nic, const uint8_t *frame, uint32_t length, const struct flow *flow,
                       struct class *class)
{
    uint32_t filter = reg_load(nic, R_SYNQF);
    if (!(filter & F_SYNQF_QUEUE_ENABLE_MASK) || flow->protocol != IP_TCP || !flow->ports ||
        length <= flow->ports + TCP_FLAGS || !(frame[flow->ports + TCP_FLAGS] & SYN))
        return false;
    class->queue = (filter & F_SYNQF_RX_QUEUE_MASK) >> F_SYNQF_RX_QUEUE_SHIFT;
    return true;
}

/* FTQF.POOL is compared in VT mode, without POOL_MASK. */
static bool for_pool(uint32_t filter, uint32_t pool)
{
    return pool == ANY_POOL || filter & F_FTQF_POOL_MASK_MASK ||
           (filter & F_FTQF_POOL_MASK) >> F_FTQF_POOL_SHIFT == pool;
}

/* SAQF, DAQF and SDPQF hold addresses and ports in wire order. A frame without ports, also a fragment, matches no
 * filter that compares a port. */
static bool matches(const struct nic *nic, uint32_t i, const uint8_t *frame, const struct flow *flow)
{
    static const uint8_t protocols[] = {IP_TCP, IP_UDP, IP_SCTP};
    uint32_t filter = reg_load(nic, R_FTQF + 4 * i), source, destination, ports = 0, protocol = 0;
    while (protocol < sizeof protocols && protocols[protocol] != flow->protocol)
        protocol++; /* 3: any other */
    memcpy(&source, frame + flow->addresses, 4);
    memcpy(&destination, frame + flow->addresses + 4, 4);
    uint32_t compared = (filter & F_FTQF_MASK_SOURCE_PORT_MASK ? 0 : 0xFFFF) |
                        (filter & F_FTQF_MASK_DESTINATION_PORT_MASK ? 0 : 0xFFFF0000);
    if (compared && (!flow->ports || protocol == sizeof protocols))
        return false;
    if (compared)
        memcpy(&ports, frame + flow->ports, 4);
    return (filter & F_FTQF_MASK_PROTOCOL_MASK || (filter & F_FTQF_PROTOCOL_MASK) == protocol) &&
           (filter & F_FTQF_MASK_SOURCE_ADDRESS_MASK || reg_load(nic, R_SAQF + 4 * i) == source) &&
           (filter & F_FTQF_MASK_DESTINATION_ADDRESS_MASK || reg_load(nic, R_DAQF + 4 * i) == destination) &&
           !((reg_load(nic, R_SDPQF + 4 * i) ^ ports) & compared);
}

/* 5-tuple filters match IPv4 only (7.1.2.5). */
static bool five_tuple_filter(const struct nic *nic, const uint8_t *frame, const struct flow *flow, struct class *class,
                              uint32_t pool)
{
    if (flow->address_bytes != 8)
        return false;
    for (uint32_t n = 0; n < nic->five_tuple_count; n++) {
        uint32_t i = nic->five_tuples[n];
        if (for_pool(reg_load(nic, R_FTQF + 4 * i), pool) && matches(nic, i, frame, flow)) {
            class->queue = (reg_load(nic, R_L34TIMIR + 4 * i) & F_L34TIMIR_RX_QUEUE_MASK) >> F_L34TIMIR_RX_QUEUE_SHIFT;
            return true;
        }
    }
    return false;
}

/* Set the queue of the first filter that matches; without one the queue of RSS stays. Returns whether one matches.
 * ASSUMPTION (datasheet silent): the descriptor keeps the RSS hash, and flow director does not search for a frame that
 * another filter matched, because the datasheet gives only the order of precedence. */
static bool choose(const struct nic *nic, const uint8_t *frame, uint32_t length, const struct flow *flow,
                   struct class *class, uint32_t pool)
{
    bool syn_first = reg_load(nic, R_SYNQF) & F_SYNQF_SYNQFP_MASK;
    if (ether_type_filter(nic, frame, class) || (syn_first && syn_filter(nic, frame, length, flow, class)) ||
        five_tuple_filter(nic, frame, flow, class, pool) || (!syn_first && syn_filter(nic, frame, length, flow, class)))
        return true;
    if (nic->settings.director && flow->packet_type)
        director_search(nic, frame, flow, class);
    return class->status & RX_FLM;
}

/* Choose the queue, and mark the frame if accept.c has more to do for it. */
void steer(const struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class)
{
    const struct flow flow = flow_of(frame, length, class->tagged);
    uint32_t index = class->queue;
    choose(nic, frame, length, &flow, class, ANY_POOL);
    if (nic->settings.pools)
        class->queue = index; /* steer_in_pool() is asked later */
    if (nic->settings.stamps)
        class->event = timestamp_event(nic, frame, length, &flow, class);
    class->rare = class->searched || class->event;
}

/* VT mode: the queue of a pool's copy of the frame. Without a filter it is `queue`.
 * ASSUMPTION (datasheet not at hand): filters have the NIC's numbers of queues, and a filter has no effect on the copies
 * for pools that its queue does not belong to. */
uint32_t steer_in_pool(const struct nic *nic, const uint8_t *frame, uint32_t length, const struct class *class,
                       uint32_t pool, uint32_t queue)
{
    const struct flow flow = flow_of(frame, length, class->tagged);
    struct class found = *class;
    return choose(nic, frame, length, &flow, &found, pool) && found.queue >> nic->pools.shift == pool ? found.queue
                                                                                                      : queue;
}

/* ETQF.POOL_EN: the only pool of the frames of an EtherType, or `selected`. `class` knows which filter matched.
 * ASSUMPTION (datasheet not at hand): the pool also gets frames that no pool receives by their address or VLAN, as LLDP
 * needs it. */
uint64_t pools_of_type(const struct nic *nic, const struct class *class, uint64_t selected)
{
    uint32_t filter = reg_load(nic, R_ETQF + 4 * (class->q0 >> PACKET_TYPE_L2_SHIFT & (R_ETQF_COUNT - 1)));
    if (!(class->q0 & PACKET_TYPE_L2) || !(filter & F_ETQF_POOL_EN_MASK))
        return selected;
    return 1ull << ((filter & F_ETQF_POOL_MASK) >> F_ETQF_POOL_SHIFT) & nic->pools.receive;
}

/* FTQF or ETQF was written: list the enabled filters; 5-tuples by priority, then by index (7.1.2.5). */
EXPORT void nic_filters_changed(struct nic *nic)
{
    nic->ether_type_filters = nic->five_tuple_count = 0;
    for (uint32_t i = 0; i < R_ETQF_COUNT; i++)
        if (reg_load(nic, R_ETQF + 4 * i) & F_ETQF_FILTER_EN_MASK)
            nic->ether_type_filters |= 1u << i;
    /* the loop ends when `priority` wraps below 0 */
    for (uint32_t priority = F_FTQF_PRIORITY_MASK >> F_FTQF_PRIORITY_SHIFT; priority <= 7; priority--)
        for (uint32_t i = 0; i < R_FTQF_COUNT; i++) {
            uint32_t filter = reg_load(nic, R_FTQF + 4 * i);
            if (filter & F_FTQF_QUEUE_ENABLE_MASK &&
                (filter & F_FTQF_PRIORITY_MASK) >> F_FTQF_PRIORITY_SHIFT == priority)
                nic->five_tuples[nic->five_tuple_count++] = (uint8_t)i;
        }
}
