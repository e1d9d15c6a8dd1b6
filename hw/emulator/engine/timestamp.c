/* IEEE 1588 (82599 7.9): a clock, and time stamps of received messages and of sent frames with TSTAMP.
 *
 * A stamp is kept until its high half is read; frames before that get none (7.9.3.2).
 */
#include <string.h>

#include "receive.h"
#include "transmit.h"

enum {
    UDP_DESTINATION = 2,
    UDP_HEADER = 8,
    /* Offsets in a message's header, the same in both protocol versions; shorter messages than SHORTEST are ignored. */
    MESSAGE_TYPE = 0,
    VERSION = 1,
    SOURCE_ID = 22,
    SEQUENCE_ID = 30,
    CONTROL = 32,
    SHORTEST = 36,
    PDELAY_REQ = 2,
    PDELAY_RESP = 3,
    NO_EVENT = 8,
    L2_V2 = 0,
    L4_V1 = 1,
    L2_L4_V2 = 2,
    EVENTS_V2 = 5, /* TSYNCRXCTL.TYPE */
};

/* ---- the clock (7.9.3.1) ---- */

/* SYSTIM, brought up to date: INCVALUE is added every INCPERIOD cycles, of 6.4 ns at 10 Gbit/s or without a link.
 * ASSUMPTION (datasheet silent): with a period of 0, its value after a reset, the clock does not advance, because the
 * datasheet gives 0 no meaning. */
EXPORT uint64_t nic_time(struct nic *nic)
{
    uint32_t increment = reg_load(nic, R_TIMINCA), period = increment >> F_TIMINCA_INCPERIOD_SHIFT;
    uint64_t cycle = nic_now(nic) * 10 / 64, steps = period ? (cycle - nic->clock.cycle) / period : 0;
    nic->clock.time += steps * (increment & F_TIMINCA_INCVALUE_MASK);
    nic->clock.cycle = period ? nic->clock.cycle + steps * period : cycle;
    return nic->clock.time;
}

/* When the frame at hand leaves or arrives. A paced wire has a time of its own: the engine's delays do not show in it. */
static uint64_t departure_ns(const struct nic *nic)
{
    return nic->paced ? nic->tx_free_ps / 1000 : nic_now(nic);
}

/* SYSTIM as it was at `ns`, which is not long ago. */
static uint64_t time_at(struct nic *nic, uint64_t ns)
{
    uint32_t increment = reg_load(nic, R_TIMINCA), period = increment >> F_TIMINCA_INCPERIOD_SHIFT;
    uint64_t time = nic_time(nic);
    int64_t cycles = (int64_t)(nic->clock.cycle - ns * 10 / 64);
    return period ? time - (uint64_t)(cycles / (int64_t)period) * (increment & F_TIMINCA_INCVALUE_MASK) : time;
}

EXPORT void nic_set_time(struct nic *nic, uint64_t time)
{
    nic_time(nic);
    nic->clock.time = time;
}

static void store_pair(struct nic *nic, uint32_t low, uint32_t high, uint64_t value)
{
    reg_store(nic, low, (uint32_t)value);
    reg_store(nic, high, (uint32_t)(value >> 32));
}

/* ---- stamps (7.9.3.2) ---- */

/* Whoever receives a frame of this NIC receives it at `ns`; 0: when the engine gets there. */
static void set_arrival(struct nic *nic, uint64_t ns)
{
    nic->arrival_ns = ns;
    if (nic->wire.peer)
        nic->wire.peer->arrival_ns = ns ? time_at_peer(nic, nic->wire.peer, ns) : 0;
}

/* A frame whose descriptor has MAC.TSTAMP is being sent. On a wire without delay it arrives at the same time. */
void timestamp_sent(struct nic *nic)
{
    uint32_t control = reg_load(nic, R_TSYNCTXCTL);
    if (!(control & F_TSYNCTXCTL_EN_MASK) || control & F_TSYNCTXCTL_TXTT_MASK)
        return;
    uint64_t now_ns = departure_ns(nic);
    store_pair(nic, R_TXSTMPL, R_TXSTMPH, time_at(nic, now_ns));
    set_arrival(nic, now_ns);
    reg_store(nic, R_TSYNCTXCTL, control | F_TSYNCTXCTL_TXTT_MASK);
}

/* That frame was sent. */
void timestamp_leaves(struct nic *nic)
{
    set_arrival(nic, 0);
}

/* The offset of a message: after an EtherType with ETQF.TIMESTAMP, or in a datagram to port RXMTRL.UDPT; else 0. */
static uint32_t message(const struct nic *nic, const uint8_t *frame, uint32_t length, const struct flow *flow,
                        const struct class *class, bool *l2)
{
    uint32_t at = 0;
    *l2 = class->q0 & PACKET_TYPE_L2 &&
          reg_load(nic, R_ETQF + 4 * (class->q0 >> PACKET_TYPE_L2_SHIFT & 7)) & F_ETQF_TIMESTAMP_MASK;
    if (*l2)
        at = ETHERNET + (class->tagged ? VLAN_TAG : 0);
    else if (flow->protocol == IP_UDP && flow->ports &&
             be16(frame + flow->ports + UDP_DESTINATION) == reg_load(nic, R_RXMTRL) >> F_RXMTRL_UDPT_SHIFT)
        at = flow->ports + UDP_HEADER;
    return at && length >= at + SHORTEST ? at : 0;
}

/* Whether TSYNCRXCTL.TYPE selects the message at `at`.
 * ASSUMPTION (datasheet not at hand): types 0 and 2 select Pdelay messages besides that of RXMTRL.MSGT, as in Intel's
 * other chips with the same table. Type 4, all frames, selects none, because Linux reports that the 82599 cannot do
 * it. */
static bool selected(const struct nic *nic, const uint8_t *at, bool l2)
{
    uint32_t wanted = reg_load(nic, R_RXMTRL), version = at[VERSION] & 0xF, type = at[MESSAGE_TYPE] & 0xF;
    bool chosen = type == PDELAY_REQ || type == PDELAY_RESP ||
                  type == ((wanted & F_RXMTRL_MSGT_MASK) >> F_RXMTRL_MSGT_SHIFT & 0xF);
    switch ((reg_load(nic, R_TSYNCRXCTL) & F_TSYNCRXCTL_TYPE_MASK) >> F_TSYNCRXCTL_TYPE_SHIFT) {
    case L2_V2:
        return version == 2 && l2 && chosen;
    case L4_V1:
        return version == 1 && !l2 && at[CONTROL] == (wanted & F_RXMTRL_CTRLT_MASK);
    case L2_L4_V2:
        return version == 2 && chosen;
    case EVENTS_V2:
        return version == 2 && !(type & NO_EVENT);
    default:
        return false;
    }
}

/* The offset of the message for which a received frame gets a stamp, else 0. */
uint16_t timestamp_event(const struct nic *nic, const uint8_t *frame, uint32_t length, const struct flow *flow,
                         const struct class *class)
{
    bool l2;
    uint32_t at = message(nic, frame, length, flow, class, &l2);
    return at && selected(nic, frame + at, l2) ? (uint16_t)at : 0;
}

/* Stamp a frame that was accepted. Others found that RXSATRH holds its bytes in wire order.
 * ASSUMPTION (datasheet not at hand): the source of a version 2 message is at the offset of version 1's, the last six
 * bytes of clockIdentity; the sources give one offset only. */
void timestamp_received(struct nic *nic, const uint8_t *frame, struct class *class)
{
    uint32_t control = reg_load(nic, R_TSYNCRXCTL), low;
    uint16_t high, sequence;
    if (control & F_TSYNCRXCTL_RXTT_MASK)
        return;
    memcpy(&low, frame + class->event + SOURCE_ID, 4);
    memcpy(&high, frame + class->event + SOURCE_ID + 4, 2);
    memcpy(&sequence, frame + class->event + SEQUENCE_ID, 2);
    store_pair(nic, R_RXSTMPL, R_RXSTMPH, time_at(nic, nic->arrival_ns ? nic->arrival_ns : nic_now(nic)));
    reg_store(nic, R_RXSATRL, low);
    reg_store(nic, R_RXSATRH, (uint32_t)sequence << F_RXSATRH_SEQUENCE_ID_SHIFT | high);
    reg_store(nic, R_TSYNCRXCTL, control | F_TSYNCRXCTL_RXTT_MASK);
    class->status |= RX_TS;
}
