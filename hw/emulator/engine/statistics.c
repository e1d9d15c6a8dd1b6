/* Statistics registers (82599 8.2.3.23): 32 bits, or 36 bits in a low and a high one; they stay at their maximum. */
#include <string.h>

#include "nic.h"

static void add(struct nic *nic, uint32_t offset, uint64_t count)
{
    uint64_t sum = reg_load(nic, offset) + count;
    reg_store(nic, offset, sum > UINT32_MAX ? UINT32_MAX : (uint32_t)sum);
}

static void add_pair(struct nic *nic, uint32_t low, uint32_t high, uint64_t count)
{
    const uint64_t most = (1ull << 36) - 1;
    uint64_t sum = (reg_load(nic, low) | (uint64_t)reg_load(nic, high) << 32) + count;
    if (sum > most)
        sum = most;
    reg_store(nic, low, (uint32_t)sum);
    reg_store(nic, high, (uint32_t)(sum >> 32));
}

static uint64_t sum(const uint64_t bins[6])
{
    return bins[0] + bins[1] + bins[2] + bins[3] + bins[4] + bins[5];
}

/* Bytes with CRC of the frames that queues sent to the wire: the queues' counters have them without CRC. */
static uint64_t sent_bytes(const struct counters *counters)
{
    uint64_t total = 0;
    for (uint32_t set = 0; set < COUNTER_SETS; set++)
        total += counters->qbtc[set] + CRC * counters->qptc[set];
    return total - counters->switched_bytes;
}

/* Python reads a statistics register: add to the registers what packets have added to `counters`. */
EXPORT void nic_flush_counters(struct nic *nic)
{
    struct counters *counters = &nic->counters;
    count_all_delivered(nic);
    uint64_t good_received = sum(counters->prc), sent = sum(counters->ptc);
    add(nic, R_TPR, good_received + counters->refused), add(nic, R_TPT, sent);
    add(nic, R_GPRC, good_received), add(nic, R_GPTC, sent);
    add(nic, R_BPRC, counters->bprc), add(nic, R_BPTC, counters->bptc);
    add(nic, R_MPRC, counters->mprc), add(nic, R_MPTC, counters->mptc);
    add(nic, R_RUC, counters->ruc), add(nic, R_ROC, counters->roc), add(nic, R_MPC, counters->mpc);
    add(nic, R_RFC, counters->rfc), add(nic, R_RJC, counters->rjc), add(nic, R_CRCERRS, counters->crcerrs);
    add(nic, R_LXONRXCNT, counters->lxonrx), add(nic, R_LXOFFRXCNT, counters->lxoffrx);
    add(nic, R_LXONTXC, counters->lxontx), add(nic, R_LXOFFTXC, counters->lxofftx);
    add(nic, R_FDIRMATCH, counters->fdirmatch), add(nic, R_FDIRMISS, counters->fdirmiss);
    add_pair(nic, R_TORL, R_TORH, counters->gorc + counters->refused_bytes);
    add_pair(nic, R_GORCL, R_GORCH, counters->gorc);
    add_pair(nic, R_GOTCL, R_GOTCH, counters->gotc + sent_bytes(counters));
    for (uint32_t bin = 0; bin < 6; bin++) {
        add(nic, R_PRC64 + 4 * bin, counters->prc[bin]);
        add(nic, R_PTC64 + 4 * bin, counters->ptc[bin]);
    }
    for (uint32_t set = 0; set < COUNTER_SETS; set++) {
        add(nic, R_QPRC + 0x40 * set, counters->qprc[set]);
        add(nic, R_QPRDC + 0x40 * set, counters->qprdc[set]);
        add(nic, R_QPTC + 0x40 * set, counters->qptc[set]);
        add_pair(nic, R_QBRC_L + 0x40 * set, R_QBRC_H + 0x40 * set, counters->qbrc[set]);
        add_pair(nic, R_QBTC_L + 8 * set, R_QBTC_H + 8 * set, counters->qbtc[set]);
    }
    memset(counters, 0, sizeof *counters);
}
