/* The MAC on the way out: padding, transmit counters (82599 8.2.3.23), then the wire or, in loopback, the receiver. */
#include <string.h>

#include "phase.h"
#include "receive.h"
#include "transmit.h"

enum { FRAME_SHORTEST = 17 };

EXPORT void nic_set_paced(struct nic *nic, bool paced)
{
    nic->paced = paced;
}

/* HLREG0.TXPADEN: append zeros up to 60 bytes. */
static OUTLINED const uint8_t *padded(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length)
{
    if (length < FRAME_SHORTEST)
        report(nic, FINDING_TX_SHORT, number, nic->tx[number].head, length);
    if (bytes != nic->frame)
        memcpy(nic->frame, bytes, length);
    memset(nic->frame + length, 0, FRAME_MIN - length);
    return nic->frame;
}

static OUTLINED void count_multicast(struct counters *counters, const uint8_t *frame)
{
    *(mac_of(frame) == BROADCAST ? &counters->bptc : &counters->mptc) += 1;
}

static INLINED void count_sent(struct nic *nic, uint32_t number, const uint8_t *frame, uint32_t length)
{
    struct counters *counters = &nic->counters;
    uint32_t set = nic->tx[number].counter_set;
    counters->ptc[size_bin(length + CRC)]++;
    if (length >= ADDRESSES / 2 && frame[0] & 1)
        count_multicast(counters, frame);
    counters->qptc[set]++, counters->qbtc[set] += length;
}

/* In MAC loopback (HLREG0.LPBK) the receiver gets the frame. Without a cable, with the link forced up, it is lost. */
static INLINED void put_on_wire(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length)
{
    count_sent(nic, number, bytes, length);
    PHASE(TX_COUNTERS);
    nic->tx_free_ps += wire_time_ps(length);
    if (nic->settings.unrecorded)
        nic->wire.send(nic, bytes, length);
    else if (nic->settings.loopback)
        mac_receive(nic, bytes, length);
    else if (nic->settings.wired)
        record_departure(nic, number, length, false), nic->wire.send(nic, bytes, length);
}

/* The same for a frame with a wrong CRC, which the four bytes after `length` are. */
static void put_damaged_on_wire(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length)
{
    count_sent(nic, number, bytes, length);
    nic->tx_free_ps += wire_time_ps(length);
    if (nic->settings.loopback)
        mac_receive_damaged(nic, bytes, length);
    if (!nic->settings.wired)
        return;
    if (!nic->settings.unrecorded)
        record_departure(nic, number, length, true);
    if (nic->wire.send_damaged)
        nic->wire.send_damaged(nic, bytes, length);
}

/* A frame that only other pools get is sent by its queue, and not by the MAC. */
static INLINED void count_switched(struct nic *nic, uint32_t number, uint32_t length)
{
    struct counters *counters = &nic->counters;
    uint32_t set = nic->tx[number].counter_set;
    counters->qptc[set]++, counters->qbtc[set] += length;
    counters->switched_bytes += length + CRC;
}

/* VT mode. */
static OUTLINED void transmit_from_pool(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length)
{
    nic->pool_counters[number >> nic->pools.shift].gptc++;
    nic->pool_counters[number >> nic->pools.shift].gotc += length + CRC;
    if (switch_frame(nic, number, bytes, length))
        put_on_wire(nic, number, bytes, length);
    else
        count_switched(nic, number, length);
}

/* VT mode: a frame of at least FRAME_MIN bytes, of which pool_knows_way(). `to`: of that way. The caller counts it for
 * its pool. */
void mac_transmit_by_way(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length, uint32_t to)
{
    PHASE(TX_DECISION);
    if (to == NO_POOL) {
        put_on_wire(nic, number, bytes, length);
        return;
    }
    if (!receive_switched_usual(nic, bytes, length, to))
        receive_switched(nic, bytes, length, number >> nic->pools.shift);
    count_switched(nic, number, length);
}

static INLINED void transmit_complete(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length)
{
    PHASE(TX_DECISION);
    if (nic->settings.pools)
        transmit_from_pool(nic, number, bytes, length);
    else
        put_on_wire(nic, number, bytes, length);
}

/* A frame with IFCS. */
void mac_transmit_usual(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length)
{
    if (length < FRAME_MIN && nic->settings.pad)
        bytes = padded(nic, number, bytes, length), length = FRAME_MIN;
    transmit_complete(nic, number, bytes, length);
}

/* Without IFCS the last four bytes are the CRC, right or wrong. Padding needs IFCS, because the CRC covers it
 * (7.2.3.2.2).
 * ASSUMPTION (datasheet not at hand): such a frame is not padded: libmoon sends frames of 14 bytes so, with TXPADEN set.
 * The counters of good frames count it, because MoonGen subtracts its fillers from them. In VT mode a frame with a wrong
 * CRC goes to the wire only. A frame that has no byte before the CRC is not sent. */
static OUTLINED void transmit_with_own_crc(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length)
{
    if (length < FRAME_MIN + CRC && nic->settings.pad)
        report(nic, FINDING_TX_IFCS, number, nic->tx[number].head, length);
    if (length < FRAME_SHORTEST)
        report(nic, FINDING_TX_SHORT, number, nic->tx[number].head, length);
    if (length <= CRC)
        return;
    length -= CRC;
    if (word4(bytes + length) == frame_check_sequence(bytes, length)) {
        transmit_complete(nic, number, bytes, length);
        return;
    }
    if (nic->settings.pools) {
        nic->pool_counters[number >> nic->pools.shift].gptc++;
        nic->pool_counters[number >> nic->pools.shift].gotc += length + CRC;
    }
    put_damaged_on_wire(nic, number, bytes, length);
}

void mac_transmit(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length, bool ifcs)
{
    if (ifcs)
        mac_transmit_usual(nic, number, bytes, length);
    else
        transmit_with_own_crc(nic, number, bytes, length);
}
