/* Pause frames of 802.3x (82599 8.2.3.3): the transmitter obeys them; a filling receive packet buffer sends them. */
#include <string.h>

#include "receive.h"
#include "transmit.h"

enum { QUANTUM_PS = 51200 /* 512 bit times */, OPCODE = 14, QUANTA = 16 };
static const uint8_t group[6] = {0x01, 0x80, 0xC2, 0x00, 0x00, 0x01};

/* Whether a multicast frame is a pause frame that the MAC consumes. The MAC consumes all of them unless MFLCN.PMCF is
 * set, also those that it does not obey.
 * ASSUMPTION (datasheet silent): a pause frame to the port's own address is an ordinary frame, because 802.3x senders
 * use the group address. */
bool pause_frame(struct nic *nic, const uint8_t *frame)
{
    uint32_t control = reg_load(nic, R_MFLCN), operation = reg_load(nic, R_PFCTOP);
    if (memcmp(frame, group, sizeof group) || be16(frame + ADDRESSES) != (operation & F_PFCTOP_FCT_MASK) ||
        be16(frame + OPCODE) != operation >> F_PFCTOP_FCOP_SHIFT)
        return false;
    if (control & F_MFLCN_RFCE_MASK) {
        uint32_t quanta = be16(frame + QUANTA);
        *(quanta ? &nic->counters.lxoffrx : &nic->counters.lxonrx) += 1;
        nic->paused = quanta;
        nic->paused_until_ns = nic_now(nic) + (uint64_t)quanta * QUANTUM_PS / 1000;
    }
    return !(control & F_MFLCN_PMCF_MASK);
}

/* Whether the transmitter has to wait; called once per step. A pause that begins during a step is seen in `paused`. */
bool pause_holds(struct nic *nic, uint64_t now_ns)
{
    if (nic->paused && now_ns >= nic->paused_until_ns)
        nic->paused = false;
    return nic->paused;
}

static void send(struct nic *nic, uint32_t quanta)
{
    uint32_t low = reg_load(nic, R_RAL), high = reg_load(nic, R_RAH), operation = reg_load(nic, R_PFCTOP);
    uint8_t frame[FRAME_MIN] = {0};
    memcpy(frame, group, sizeof group);
    memcpy(frame + 6, &low, 4);
    memcpy(frame + 10, &high, 2);
    const uint32_t words[] = {operation & F_PFCTOP_FCT_MASK, operation >> F_PFCTOP_FCOP_SHIFT, quanta};
    for (uint32_t i = 0; i < 3; i++)
        put16(frame + ADDRESSES + 2 * i, words[i]);
    *(quanta ? &nic->counters.lxofftx : &nic->counters.lxontx) += 1;
    nic->counters.ptc[0]++, nic->counters.mptc++,
        nic->counters.gotc += FRAME_MIN + CRC; /* drivers subtract pause frames */
    nic->pause_leaves = true;
    nic->wire.send(nic, frame, FRAME_MIN);
    nic->pause_leaves = false;
}

/* Send XOFF above FCRTH, send it again after the time in FCRTV, send XON below FCRTL. Thresholds count 32 bytes. The
 * packet buffer fills only when a queue has no descriptors and does not drop. */
void pause_other_end(struct nic *nic)
{
    uint32_t high = reg_load(nic, R_FCRTH), low = reg_load(nic, R_FCRTL), used = nic->buffer.used;
    bool on = (reg_load(nic, R_FCCFG) & F_FCCFG_TFCE_MASK) >> F_FCCFG_TFCE_SHIFT == 1 && high & F_FCRTH_FCEN_MASK &&
              nic->link_up;
    if (!on || !nic->settings.wired || nic->pause_leaves)
        return;
    uint64_t now = nic_now(nic);
    uint32_t quanta = reg_load(nic, R_FCTTV) & F_FCTTV_TTV_0_MASK, refresh = reg_load(nic, R_FCRTV) & 0xFFFF;
    if (used > (high & F_FCRTH_RTH_MASK) && !(nic->pausing && now < nic->pause_again_ns)) {
        nic->pausing = true;
        nic->pause_again_ns = now + (uint64_t)(refresh ? refresh : quanta) * QUANTUM_PS / 1000;
        send(nic, quanta);
    } else if (nic->pausing && used < (low & F_FCRTL_RTL_MASK)) {
        nic->pausing = false;
        if (low & F_FCRTL_XONE_MASK)
            send(nic, 0);
    }
}
