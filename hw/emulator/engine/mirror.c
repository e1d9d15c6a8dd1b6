/* Mirror rules of VT mode (82599 8.2.3.27): copies of frames for one more pool. PFMRCTL says what rule i copies and to
 * which pool; PFMRVM[i] and [i + 4] name pools, PFMRVLAN[i] and [i + 4] entries of PFVLVF, as DPDK writes them.
 *
 * ASSUMPTION (datasheet not at hand), from the X550's 7.8.3: rules add to what the filters selected, and a pool gets one
 * copy. An uplink rule sees every good frame from the wire, also one that no pool wants. A rule sees frames of pools only
 * where the switch does, so with PFDTXGSWC.LBE, and then also gives the sender's own frames back. */
#include "receive.h"

static uint64_t pair_apart(const struct nic *nic, uint32_t offset, uint32_t rule)
{
    return reg_load(nic, offset + 4 * rule) | (uint64_t)reg_load(nic, offset + 4 * (rule + R_PFMRCTL_COUNT)) << 32;
}

/* Read the rules that are on; called with the other settings of VT mode. */
void mirrors_read(struct nic *nic)
{
    struct pools *pools = &nic->pools;
    for (uint32_t rule = 0; rule < R_PFMRCTL_COUNT; rule++) {
        uint32_t control = reg_load(nic, R_PFMRCTL + 4 * rule);
        struct mirror mirror = {
            .pools = control & F_PFMRCTL_VPME_MASK ? pair_apart(nic, R_PFMRVM, rule) : 0,
            .vlans = control & F_PFMRCTL_VLME_MASK ? pair_apart(nic, R_PFMRVLAN, rule) : 0,
            .uplink = control & F_PFMRCTL_UPME_MASK,
            .downlink = control & F_PFMRCTL_DPME_MASK,
            .to = 1ull << ((control & F_PFMRCTL_MP_MASK) >> F_PFMRCTL_MP_SHIFT) & pools->receive,
        };
        if (mirror.to && (mirror.pools || mirror.vlans || mirror.uplink || mirror.downlink))
            pools->mirrors[pools->mirror_count++] = mirror;
    }
}

static uint64_t vlans_of(const struct nic *nic, const uint8_t *frame, bool tagged)
{
    uint64_t entries = 0;
    uint32_t vlan = tagged ? be16(frame + ADDRESSES + 2) & 0xFFF : 0;
    for (uint32_t i = 0; tagged && i < R_PFVLVF_COUNT; i++) {
        uint32_t filter = reg_load(nic, R_PFVLVF + 4 * i);
        if (filter & F_PFVLVF_VI_EN_MASK && (filter & F_PFVLVF_VLAN_ID_MASK) == vlan)
            entries |= 1ull << i;
    }
    return entries;
}

/* `selected` and the pools of the rules that match. `from_wire`, `to_wire`: where the frame comes from and goes to. */
uint64_t mirrored(const struct nic *nic, const uint8_t *frame, bool tagged, uint64_t selected, bool from_wire,
                  bool to_wire)
{
    uint64_t vlans = vlans_of(nic, frame, tagged), found = selected;
    for (uint32_t i = 0; i < nic->pools.mirror_count; i++) {
        const struct mirror *mirror = &nic->pools.mirrors[i];
        if (mirror->pools & selected || mirror->vlans & vlans || (mirror->uplink && from_wire) ||
            (mirror->downlink && to_wire))
            found |= mirror->to;
    }
    return found;
}
