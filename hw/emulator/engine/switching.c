/* Frames of pools on their way out (82599 7.10.3.4, 7.10.3.9): anti-spoofing, the pool's VLAN tag, the switch. */
#include <string.h>

#include "receive.h"
#include "transmit.h"

enum { TAG_OF_DESCRIPTOR, TAG_OF_POOL, TAG_NEVER }; /* PFVMVIR.VLANA */

static uint32_t tag_rule(const struct nic *nic, uint32_t number)
{
    return reg_load(nic, R_PFVMVIR + 4 * (number >> nic->pools.shift));
}

/* The tag that a frame of this queue gets; `tag` is that of its descriptor. */
uint32_t pool_tag(const struct nic *nic, uint32_t number, uint32_t tag)
{
    uint32_t insert = tag_rule(nic, number);
    return insert >> F_PFVMVIR_VLANA_SHIFT == TAG_OF_POOL ? insert & F_PFVMVIR_PORT_VLAN_ID_MASK : tag;
}

static void count_spoofed(struct nic *nic, uint32_t pool)
{
    if (pair_bit(nic, R_VMECM, pool))
        reg_store(nic, R_SSVPC, reg_load(nic, R_SSVPC) + 1);
}

/* The source address and the outermost tag, which is the descriptor's if it has one. */
static bool is_genuine(const struct nic *nic, uint32_t pool, const uint8_t *bytes, uint32_t length, bool inside,
                       bool inserted, uint32_t tag)
{
    uint32_t vlan = inserted || !inside ? tag : be16(bytes + ADDRESSES + 2);
    uint64_t source = length < ADDRESSES ? 0 : mac_of(bytes + 6); /* 0 is in no filter */
    return pool_may_send(nic, pool, source, inside || inserted, vlan & 0xFFF);
}

/* Whether the frame may leave its pool. `tag`: the tag of its descriptor, which `q1` asks to be inserted; the pool may
 * have another rule for it, and `q1` is changed then.
 * ASSUMPTION (datasheet not at hand): a frame that carries a tag in its data is dropped where the pool's tag is always
 * inserted, because a VF under a port VLAN must not choose another one. A frame that ends before its source address
 * does is dropped where that is checked, because padding would complete it. */
bool pool_lets_out(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length, uint32_t tag, uint64_t *q1)
{
    uint32_t pool = number >> nic->pools.shift, rule = tag_rule(nic, number) >> F_PFVMVIR_VLANA_SHIFT;
    bool inside = length >= ETHERNET + 2 && be16(bytes + ADDRESSES) == nic->settings.vlan_type;
    bool inserted = rule == TAG_OF_DESCRIPTOR && *q1 & TX_VLE;
    if ((inside && rule == TAG_OF_POOL) || !is_genuine(nic, pool, bytes, length, inside, inserted, tag)) {
        count_spoofed(nic, pool);
        return false;
    }
    if (rule == TAG_OF_POOL)
        *q1 |= TX_VLE;
    else if (rule == TAG_NEVER)
        *q1 &= ~TX_VLE;
    return true;
}

/* Whether pool_lets_out() would let the frame out unchanged; it is asked otherwise. */
bool pool_lets_pass(const struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length)
{
    return length >= ETHERNET + 2 && be16(bytes + ADDRESSES) != nic->settings.vlan_type && !tag_rule(nic, number) &&
           pool_may_send(nic, number >> nic->pools.shift, mac_of(bytes + 6), false, 0);
}

/* Find the way of a frame that pool_lets_pass(), for the frames like it. Returns whether it has one that depends on
 * nothing but its addresses and EtherType. */
OUTLINED bool pool_learns_way(struct nic *nic, uint32_t number, const uint8_t *frame, uint32_t length)
{
    struct pools *pools = &nic->pools;
    uint32_t from = number >> pools->shift, to = NO_POOL;
    if (!pools->plain || length < FRAME_MIN || !pool_lets_pass(nic, number, frame, length))
        return false;
    if (pools->loopback && nic->settings.receive) {
        if (frame[0] & 1)
            return false;
        bool local;
        uint64_t selected = pools_of_switched(nic, frame, false, false, from, &local);
        if (selected & (selected - 1) || local != (selected != 0))
            return false;
        to = selected ? (uint32_t)__builtin_ctzll(selected) : NO_POOL;
    }
    pools->ways[from] = (struct way){word8(frame), word8(frame + 6), to};
    return true;
}

/* Send a complete frame of a pool: to other pools, to the wire, or to both. Loopback ends with the receiver or the link
 * (X550 7.8.3.4); transmit.c sends nothing without a link. Returns whether it is for the wire. */
bool switch_frame(struct nic *nic, uint32_t number, const uint8_t *frame, uint32_t length)
{
    uint32_t pool = number >> nic->pools.shift;
    if (!nic->pools.loopback || !nic->settings.receive || length < FRAME_MIN)
        return true;
    return !receive_switched(nic, frame, length, pool);
}
