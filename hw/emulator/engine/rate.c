/* Rates of transmit queues (82599 8.2.3.10.16): after a frame its queue waits until the frame's time at its rate is over.
 *
 * RTTBCNRC holds link speed / rate for the queue that RTTDQSEL chooses. The link of this NIC always has 10 Gbit/s. The
 * NIC's clock measures the time, so a rate holds on an unpaced wire, too, which has no time of its own. Bytes are those
 * of frames with CRC: silicon leaves out preamble and gap, as MoonGen measured.
 *
 * ASSUMPTION (datasheet not at hand): RTTBCNRM.MMW_SIZE is how many KB a queue sends early to make up for time in which
 * something else held it: an empty ring, other queues, a pause. Time that the engine itself lost is made up in any case,
 * up to CATCH_UP_NS. A reset keeps the rates, because Linux and DPDK clear them one by one after each reset. All frames
 * of a segmented send leave together, and the queue waits after them. */
#include "transmit.h"

enum { MMW_KB = 1024, FACTOR_BITS = 14, FACTOR_MASK = F_RTTBCNRC_RF_INT_MASK | F_RTTBCNRC_RF_DEC_MASK };

static uint64_t time_of(const struct rate *rate, uint64_t bytes)
{
    return bytes * PS_PER_BYTE * (rate->control & FACTOR_MASK) >> FACTOR_BITS;
}

/* Bytes with CRC that queues of this counter set have sent. */
static uint64_t sent_bytes(const struct nic *nic, uint32_t number)
{
    uint32_t set = nic->tx[number].counter_set;
    return nic->counters.qbtc[set] + CRC * nic->counters.qptc[set];
}

/* RTTBCNRC was written. */
EXPORT void nic_set_rate(struct nic *nic, uint32_t number, uint32_t control)
{
    uint64_t bit = 1ull << number % 64, *limited = &nic->rate_limited[number / 64];
    nic->rates[number] = (struct rate){.control = control, .next_ps = nic_now(nic) * 1000};
    *limited = control & F_RTTBCNRC_RS_ENA_MASK ? *limited | bit : *limited & ~bit;
}

EXPORT uint32_t nic_rate(const struct nic *nic, uint32_t number)
{
    return nic->rates[number].control;
}

/* A step begins. On a paced wire the queues without a rate lost the time in which nothing waited. A queue that waited
 * for its rate may use it. */
void rate_step(struct nic *nic, uint64_t now_ns)
{
    uint64_t free_ps = nic->tx_free_ps;
    nic->tx_free_ps = wire_free(free_ps, now_ns, nic->tx_busy);
    nic->rate_spare_ps = nic->tx_free_ps - wire_free(free_ps, now_ns, true);
}

/* The turn of a queue that has a rate begins. */
void rate_begin(struct nic *nic, uint32_t number, uint64_t now_ns)
{
    struct rate *rate = &nic->rates[number];
    uint64_t early_ps = time_of(rate, MMW_KB * (reg_load(nic, R_RTTBCNRM) & F_RTTBCNRM_MMW_SIZE_MASK));
    if (rate->held && early_ps < CATCH_UP_NS * 1000ull)
        early_ps = CATCH_UP_NS * 1000ull;
    uint64_t earliest_ps = now_ns * 1000 > early_ps ? now_ns * 1000 - early_ps : 0;
    if (rate->next_ps < earliest_ps)
        rate->next_ps = earliest_ps;
    rate->seen = sent_bytes(nic, number);
    rate->free_ps = nic->tx_free_ps -= nic->rate_spare_ps;
}

/* Charge what the queue has sent since the last call. Whether its rate lets another frame go now. */
bool rate_lets_go(struct nic *nic, uint32_t number, uint64_t now_ns)
{
    struct rate *rate = &nic->rates[number];
    uint64_t sent = sent_bytes(nic, number);
    rate->next_ps += time_of(rate, sent - rate->seen);
    rate->seen = sent;
    return rate->next_ps <= now_ns * 1000;
}

/* The turn ends; the frames used spare time of the wire first. `more`: the queue had a full turn. Returns whether it
 * waits for its rate or for its next turn. */
bool rate_end(struct nic *nic, uint32_t number, uint64_t now_ns, bool more)
{
    struct rate *rate = &nic->rates[number];
    rate->held = !rate_lets_go(nic, number, now_ns) || more;
    uint64_t used = nic->tx_free_ps - rate->free_ps;
    nic->rate_spare_ps -= used < nic->rate_spare_ps ? used : nic->rate_spare_ps;
    nic->tx_free_ps += nic->rate_spare_ps;
    return rate->held;
}
