/* Pools of queues (82599 7.10.3): the registers of VT mode, and which pools a frame is for.
 *
 * ASSUMPTION (datasheet not at hand): all of this follows the X550's 7.8.3.3, whose text descends from the 82599's, and
 * what Linux and DPDK program. */
#include "receive.h"

enum { VLAN_FILTERS = R_PFVLVF_COUNT };

static uint64_t pair(const struct nic *nic, uint32_t offset)
{
    return reg_load(nic, offset) | (uint64_t)reg_load(nic, offset + 4) << 32;
}

/* ---- settings ---- */

/* GCR_EXT.VT_MODE: 16 pools of 8 queues, 32 of 4, 64 of 2 (8.2.3.4.12). */
static uint32_t pool_shift(uint32_t mode)
{
    return 4 - mode;
}

/* The bits of the RSS index that choose a queue of the pool: RSS has to be on, and RQPL says how many. */
static uint8_t index_mask(const struct nic *nic, uint32_t pool, bool rss)
{
    uint32_t bits = reg_load(nic, R_PSRTYPE + 4 * pool) >> F_PSRTYPE_RQPL_SHIFT;
    if (bits > nic->pools.shift)
        bits = nic->pools.shift;
    return rss ? (uint8_t)((1u << bits) - 1) : 0;
}

/* The VFs' vectors of queues: PVTIVAR has receive and transmit allocation of two queues (8.3.5.2.7). */
static void read_vectors(struct nic *nic)
{
    struct pools *pools = &nic->pools;
    for (uint32_t queue = 0; queue < QUEUES; queue++)
        for (uint32_t transmit = 0; transmit < 2; transmit++) {
            uint32_t allocation = reg_load(nic, R_PVTIVAR + 4 * (queue / 2)) >> (16 * (queue % 2) + 8 * transmit);
            bool valid = queue >> pools->shift < pools->vf_count && allocation & 0x80;
            pools->vector[transmit][queue] = valid ? 1 + (allocation & 1) : 0;
        }
}

/* Read what frames obey in VT mode; settings_read() has found it on. */
void pools_read(struct nic *nic)
{
    struct pools *pools = &nic->pools;
    uint32_t control = reg_load(nic, R_PFVTCTL),
             rings = (reg_load(nic, R_MRQC) & F_MRQC_MRQE_MASK) >> F_MRQC_MRQE_SHIFT;
    *pools = (struct pools){
        .shift = pool_shift(reg_load(nic, R_GCR_EXT) & F_GCR_EXT_VT_MODE_MASK),
        .vf_count = nic->vf_count,
        .receive = pair(nic, R_PFVFRE),
        .transmit = pair(nic, R_PFVFTE),
        .keeps_own = pair(nic, R_PFVMTXSW),
        .classes = rings == 12 || rings == 13,
        .replication = control & F_PFVTCTL_RPL_EN_MASK,
        .loopback = reg_load(nic, R_PFDTXGSWC) & F_PFDTXGSWC_LBE_MASK,
    };
    uint32_t count = QUEUES >> pools->shift;
    if (pools->vf_count > count)
        pools->vf_count = count;
    uint64_t all = count < 64 ? (1ull << count) - 1 : ~0ull;
    pools->receive &= all, pools->transmit &= all;
    if (!(control & F_PFVTCTL_DIS_DEF_POOL_MASK))
        pools->fallback = 1ull << ((control & F_PFVTCTL_DEF_PL_MASK) >> F_PFVTCTL_DEF_PL_SHIFT) & all;
    for (uint32_t pool = 0; pool < count; pool++) {
        uint32_t filter = reg_load(nic, R_PFVML2FLT + 4 * pool), spoof = reg_load(nic, R_PFVFSPOOF + 4 * (pool / 8));
        uint64_t bit = 1ull << pool;
        pools->untagged |= filter & F_PFVML2FLT_AUPE_MASK ? bit : 0;
        pools->multicast_table |= filter & F_PFVML2FLT_ROMPE_MASK ? bit : 0;
        pools->unicast_table |= filter & F_PFVML2FLT_ROPE_MASK ? bit : 0;
        pools->broadcast |= filter & F_PFVML2FLT_BAM_MASK ? bit : 0;
        pools->all_multicast |= filter & F_PFVML2FLT_MPE_MASK ? bit : 0;
        pools->spoof_mac |= spoof >> pool % 8 & 1 ? bit : 0;
        pools->spoof_vlan |= spoof >> (8 + pool % 8) & 1 ? bit : 0;
        pools->index_mask[pool] =
            pools->classes ? (uint8_t)((1u << pools->shift) - 1) : index_mask(nic, pool, rings == 10 || rings == 11);
    }
    read_vectors(nic);
    mirrors_read(nic);
    pools->plain =
        !nic->settings.steering && !pools->classes && !pools->mirror_count && nic->settings.vlan_type != 0x0800;
    pools->last_address = UINT64_MAX; /* no frame has it */
    for (uint32_t pool = 0; pool < count; pool++) {
        const struct function *function = function_of(nic, pool << pools->shift);
        pools->usual |= function->bus_master && !function->remote ? 1ull << pool : 0;
        pools->ways[pool].end = UINT64_MAX; /* bytes 6 and 7 differ from those of `start`, so no frame has both */
    }
}

/* ---- filters ---- */

/* PFUTA: 12 bits of the address, chosen as for MTA (8.2.3.27.17). */
static bool unicast_table_match(const struct nic *nic, const uint8_t *destination)
{
    uint32_t last = destination[4] | (uint32_t)destination[5] << 8;
    uint32_t hash = last >> (4 - (reg_load(nic, R_MCSTCTRL) & F_MCSTCTRL_MO_MASK)) & 0xFFF;
    return reg_load(nic, R_PFUTA + 4 * (hash / 32)) >> hash % 32 & 1;
}

/* The pools whose PFVLVFB have this VLAN. */
static uint64_t pools_of_vlan(const struct nic *nic, uint32_t vlan)
{
    uint64_t pools = 0;
    for (uint32_t i = 0; i < VLAN_FILTERS; i++) {
        uint32_t filter = reg_load(nic, R_PFVLVF + 4 * i);
        if (filter & F_PFVLVF_VI_EN_MASK && (filter & F_PFVLVF_VLAN_ID_MASK) == vlan)
            pools |= pair(nic, R_PFVLVFB + 8 * i);
    }
    return pools;
}

/* The pools of an address in RAL and RAH, by MPSAR. `found`: whether it is there. */
static uint64_t pools_of_address(const struct nic *nic, uint64_t address, bool *found)
{
    uint32_t number = address_find(nic, address);
    if (number == NO_ADDRESS)
        return 0;
    *found = true;
    return nic->address_pools[number];
}

static uint64_t pools_of_frame(const struct nic *nic, const uint8_t *frame, bool in_table, bool *exact)
{
    const struct pools *pools = &nic->pools;
    uint64_t destination = mac_of(frame), selected = pools_of_address(nic, destination, exact);
    if (destination == BROADCAST)
        return selected | pools->broadcast;
    if (*exact)
        return selected;
    if (!(frame[0] & 1))
        return unicast_table_match(nic, frame) ? pools->unicast_table : 0;
    return (in_table ? pools->multicast_table : 0) | pools->all_multicast;
}

static uint64_t keep_vlan(const struct nic *nic, const uint8_t *frame, bool tagged, uint64_t selected)
{
    if (!nic->settings.vlan_filter)
        return selected;
    return selected & (tagged ? pools_of_vlan(nic, be16(frame + ADDRESSES + 2) & 0xFFF) : nic->pools.untagged);
}

/* ---- which pools ---- */

/* The pools that receive a frame from the wire. `accepted`: it passed the port's own filters; `in_table`: MTA has its
 * hash. The address comes first, the VLAN second (Specification Update, clarification 12). */
uint64_t pools_of_received(const struct nic *nic, const uint8_t *frame, bool tagged, bool accepted, bool in_table)
{
    const struct pools *pools = &nic->pools;
    bool exact = false;
    uint64_t selected = pools_of_frame(nic, frame, in_table, &exact);
    if (!pools->replication && frame[0] & 1 && !exact)
        selected = 0; /* the default pool has it */
    selected = keep_vlan(nic, frame, tagged, selected);
    if (!pools->replication)
        selected &= -selected;
    if (!selected && accepted)
        selected = pools->fallback;
    return selected & pools->receive;
}

/* The pools that receive a frame of pool `from` (7.10.3.4). `local`: an exact unicast address of another pool, so that
 * the wire does not get the frame. */
uint64_t pools_of_switched(const struct nic *nic, const uint8_t *frame, bool tagged, bool in_table, uint32_t from,
                           bool *local)
{
    const struct pools *pools = &nic->pools;
    uint64_t own = 1ull << from & ~pools->keeps_own;
    bool exact = false;
    uint64_t selected = keep_vlan(nic, frame, tagged, pools_of_frame(nic, frame, in_table, &exact)) & ~own;
    *local = exact && !(frame[0] & 1) && selected;
    if (!pools->replication)
        selected = frame[0] & 1 && !exact ? 0 : selected & -selected;
    if (!selected && frame[0] & 1)
        selected = pools->fallback & ~own;
    return selected & pools->receive;
}

/* ---- anti-spoofing (7.10.3.9) ---- */

/* Whether the pool may send with this source address and, if `tagged`, in this VLAN. Frames without tag pass. */
bool pool_may_send(const struct nic *nic, uint32_t pool, uint64_t source, bool tagged, uint32_t vlan)
{
    uint64_t bit = 1ull << pool;
    bool found;
    if (!(nic->pools.spoof_mac & bit))
        return true; /* the VLAN check needs the address check */
    if (!(pools_of_address(nic, source, &found) & bit))
        return false;
    return !(nic->pools.spoof_vlan & bit) || !tagged || pools_of_vlan(nic, vlan) & bit;
}

/* ---- counters (8.3.5.6): they wrap, and no read clears them ---- */

static void add_wrapping(struct nic *nic, uint32_t low, uint32_t high, uint64_t count)
{
    uint64_t total = (reg_load(nic, low) | (uint64_t)reg_load(nic, high) << 32) + count;
    reg_store(nic, low, (uint32_t)total);
    reg_store(nic, high, (uint32_t)(total >> 32) & 0xF);
}

/* Python reads a counter of a pool: add to the registers what frames have added since. */
EXPORT void nic_flush_pool_counters(struct nic *nic, uint32_t pool)
{
    struct pool_counters *counters = &nic->pool_counters[pool];
    uint32_t received = R_PVFGPRC + R_PVFGPRC_STRIDE * pool, multicast = R_PVFMPRC + R_PVFMPRC_STRIDE * pool,
             sent = R_PVFGPTC + R_PVFGPTC_STRIDE * pool;
    reg_store(nic, received, reg_load(nic, received) + (uint32_t)counters->gprc);
    reg_store(nic, multicast, reg_load(nic, multicast) + (uint32_t)counters->mprc);
    reg_store(nic, sent, reg_load(nic, sent) + (uint32_t)counters->gptc);
    add_wrapping(nic, R_PVFGORC_LSB + R_PVFGORC_LSB_STRIDE * pool, R_PVFGORC_MSB + R_PVFGORC_MSB_STRIDE * pool,
                 counters->gorc);
    add_wrapping(nic, R_PVFGOTC_LSB + R_PVFGOTC_LSB_STRIDE * pool, R_PVFGOTC_MSB + R_PVFGOTC_MSB_STRIDE * pool,
                 counters->gotc);
    *counters = (struct pool_counters){0};
}

/* PFQDE: frames of this queue are dropped when it has no descriptor, whatever SRRCTL.DROP_EN says (8.2.3.27.9). */
EXPORT void nic_set_drop_enable(struct nic *nic, uint32_t queue, bool on)
{
    uint64_t bit = 1ull << queue % 64;
    nic->drop_enable[queue / 64] = on ? nic->drop_enable[queue / 64] | bit : nic->drop_enable[queue / 64] & ~bit;
}

EXPORT bool nic_drop_enable(const struct nic *nic, uint32_t queue)
{
    return nic->drop_enable[queue / 64] >> queue % 64 & 1;
}
