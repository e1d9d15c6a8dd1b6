/* Whether a received frame is for this port (82599 7.1.1): lengths, L2 and VLAN filters, counters (8.2.3.23). */
#include <string.h>

#include "receive.h"

/* ---- L2 filters (7.1.1) ---- */

/* MTA: MCSTCTRL.MO selects 12 bits of the destination's last two bytes (8.2.3.7.3, 8.2.3.7.7). */
bool multicast_table_match(const struct nic *nic, const uint8_t *destination)
{
    uint32_t control = reg_load(nic, R_MCSTCTRL);
    if (!(control & F_MCSTCTRL_MFE_MASK))
        return false;
    uint32_t last = destination[4] | (uint32_t)destination[5] << 8;
    uint32_t hash = last >> (4 - (control & F_MCSTCTRL_MO_MASK)) & 0xFFF;
    return reg_load(nic, R_MTA + 4 * (hash / 32)) >> hash % 32 & 1;
}

/* VFTA: one bit per VLAN, when VLNCTRL.VFE enables it; frames without a tag pass (7.1.1.2). */
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
    /* ASSUMPTION (datasheet silent): MPE accepts broadcast too, because a broadcast address is a multicast address. */
    if (destination == BROADCAST)
        return control & (F_FCTRL_BAM_MASK | F_FCTRL_MPE_MASK);
    if (address_find(nic, destination) != NO_ADDRESS)
        return true;
    if (!(frame[0] & 1))
        return control & F_FCTRL_UPE_MASK;
    if (control & F_FCTRL_MPE_MASK)
        return true;
    *status |= RX_PIF;
    return multicast_table_match(nic, frame);
}

static void add_address(struct nic *nic, uint64_t address, uint64_t pools)
{
    uint32_t number = address_find(nic, address), slot = address_slot(address);
    if (number != NO_ADDRESS) {
        nic->address_pools[number] |= pools;
        return;
    }
    while (nic->address_index[slot])
        slot = (slot + 1) % 256;
    nic->addresses[nic->address_count] = address, nic->address_pools[nic->address_count] = pools;
    nic->address_index[slot] = (uint8_t)++nic->address_count;
}

/* RAL, RAH or MPSAR was written: collect the addresses with RAH.AV. */
EXPORT void nic_addresses_changed(struct nic *nic)
{
    nic->address_count = 0;
    memset(nic->address_index, 0, sizeof nic->address_index);
    for (uint32_t i = 0; i < QUEUES; i++) {
        uint32_t low = reg_load(nic, R_RAL + 8 * i), high = reg_load(nic, R_RAH + 8 * i);
        if (high & F_RAH_AV_MASK)
            add_address(nic, low | (uint64_t)(high & F_RAH_RAH_MASK) << 32, load_pair(nic, R_MPSAR + 8 * i));
    }
}

/* VT mode: the frame is for this port if it is for any pool; VFTA comes first. */
static OUTLINED bool passes_pools(struct nic *nic, const uint8_t *frame, struct class *class)
{
    bool accepted = passes_filters(nic, frame, &class->status), vlan = passes_vlan_filter(nic, frame, class->tagged);
    bool in_table = frame[0] & 1 && multicast_table_match(nic, frame);
    nic->selected = vlan ? pools_of_received(nic, frame, class->tagged, accepted, in_table) : 0;
    if (nic->settings.steering)
        nic->selected = pools_of_type(nic, class, nic->selected);
    if (nic->pools.mirror_count)
        nic->selected = mirrored(nic, frame, class->tagged, nic->selected, true, false);
    return nic->selected;
}

/* VT mode: the pool that alone receives an untagged frame to this unicast address, if it may be a usual frame. NO_POOL
 * otherwise. */
OUTLINED uint32_t pool_of_usual(struct nic *nic, const uint8_t *frame)
{
    uint32_t status = 0;
    if (frame[0] & 1)
        return NO_POOL;
    uint64_t pools = pools_of_received(nic, frame, false, passes_filters(nic, frame, &status), false);
    bool one = pools && !(pools & (pools - 1)) && pools & nic->pools.usual;
    nic->pools.last_address = mac_of(frame);
    nic->pools.last_pool = one ? (uint32_t)__builtin_ctzll(pools) : NO_POOL;
    return nic->pools.last_pool;
}

/* ---- lengths and counters (8.2.3.23) ---- */

/* A VLAN tag does not make a frame too long (8.2.3.22.13). */
static bool too_long(const struct nic *nic, uint32_t length, const struct class *class)
{
    return length > FRAME_MAX - CRC || length + CRC > nic->settings.longest + (class->tagged ? VLAN_TAG : 0);
}

static bool for_port(struct nic *nic, const uint8_t *frame, struct class *class)
{
    if (nic->settings.pools)
        return passes_pools(nic, frame, class);
    return passes_filters(nic, frame, &class->status) && passes_vlan_filter(nic, frame, class->tagged);
}

static bool good(struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class)
{
    if (length < FRAME_MIN) {
        nic->counters.ruc++;
        return false;
    }
    if (too_long(nic, length, class)) {
        nic->counters.roc++;
        return false;
    }
    return for_port(nic, frame, class);
}

static void count_good(struct nic *nic, uint32_t bytes, struct class *class)
{
    struct counters *counters = &nic->counters;
    counters->gorc += bytes, counters->prc[size_bin(bytes)]++;
    if (nic->settings.loopback)
        class->status |= RX_LB;
}

/* The rest of mac_accepts() for a frame that is refused, multicast or marked by steer().
 * ASSUMPTION (datasheet not at hand): GPRC does not count pause frames, because the MAC consumes them. */
static OUTLINED bool accepts_rare(struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class,
                                  bool accepted)
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

/* Whether the frame is for this port. Adds what the filters found to its class and counts the frame in both cases. */
bool mac_accepts(struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class)
{
    bool accepted = good(nic, frame, length, class);
    if (!accepted || frame[0] & 1 || class->rare)
        return accepts_rare(nic, frame, length, class, accepted);
    count_good(nic, length + CRC, class);
    return true;
}

/* Count a frame with a wrong CRC: a fragment or jabber if its length is wrong, too (8.2.3.23.51, 8.2.3.23.53). Whether it
 * is stored.
 * ASSUMPTION (datasheet not at hand): FCTRL.SBP stores frames of 64 bytes or more that pass the filters; no counter of
 * good frames counts them, and shorter or longer ones are not stored. */
bool mac_stores_damaged(struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class)
{
    struct counters *counters = &nic->counters;
    bool fragment = length < FRAME_MIN, jabber = !fragment && too_long(nic, length, class);
    *(fragment ? &counters->rfc : jabber ? &counters->rjc : &counters->crcerrs) += 1;
    counters->refused++, counters->refused_bytes += length + CRC;
    return !fragment && !jabber && nic->settings.filter & F_FCTRL_SBP_MASK && for_port(nic, frame, class);
}
