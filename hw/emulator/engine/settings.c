/* What frames obey in registers. Python freezes the engine to change a register, and engine_resume() then marks the
 * settings as stale. So they are read once after each freeze, not for every frame, and not after a tail is written. */
#include "nic.h"

/* The counter set of a queue. `map`: RQSMR (8.2.3.23.71) or TQSM (8.2.3.23.73), four queues per register. */
uint32_t counter_set(const struct nic *nic, uint32_t map, uint32_t queue)
{
    return reg_load(nic, map + 4 * (queue / 4)) >> 8 * (queue % 4) & 0xF;
}

/* IVAR: receive and transmit allocation of an even queue, then of an odd one; bit 7 marks a valid one (8.2.3.5.16). */
static uint64_t queue_cause(const struct nic *nic, uint32_t queue, uint32_t transmit)
{
    uint32_t allocation = reg_load(nic, R_IVAR + 4 * (queue / 2)) >> (16 * (queue % 2) + 8 * transmit);
    return allocation & 0x80 ? 1ull << (allocation & 0x3F) : 0;
}

static void read_queues(struct nic *nic)
{
    for (uint32_t word = 0; word < 2; word++) {
        for (uint64_t left = nic->rx_enabled[word]; left; left &= left - 1) {
            uint32_t number = 64 * word + (uint32_t)__builtin_ctzll(left);
            struct rx_queue *queue = &nic->rx[number];
            queue->counter_set = counter_set(nic, R_RQSMR, number);
            queue->cause = queue_cause(nic, number, 0);
            queue->strip_tag = reg_load(nic, rx_offset(R_RXDCTL, number)) & F_RXDCTL_VME_MASK;
        }
        for (uint64_t left = nic->tx_enabled[word]; left; left &= left - 1) {
            uint32_t number = 64 * word + (uint32_t)__builtin_ctzll(left);
            struct tx_queue *queue = &nic->tx[number];
            queue->counter_set = counter_set(nic, R_TQSM, number);
            queue->cause = queue_cause(nic, number, 1);
        }
    }
}

void settings_read(struct nic *nic)
{
    uint32_t mac = reg_load(nic, R_HLREG0), vlan = reg_load(nic, R_VLNCTRL), mrqc = reg_load(nic, R_MRQC);
    bool stamps = reg_load(nic, R_TSYNCRXCTL) & F_TSYNCRXCTL_EN_MASK;
    nic->settings = (struct settings){
        .transmit =
            reg_load(nic, R_DMATXCTL) & F_DMATXCTL_TE_MASK && !(reg_load(nic, R_SECTXCTRL) & F_SECTXCTRL_TX_DIS_MASK),
        .receive =
            reg_load(nic, R_RXCTRL) & F_RXCTRL_RXEN_MASK && !(reg_load(nic, R_SECRXCTRL) & F_SECRXCTRL_RX_DIS_MASK),
        .loopback = mac & F_HLREG0_LPBK_MASK,
        .wired = nic->cable_in && !(mac & F_HLREG0_LPBK_MASK),
        .pad = mac & F_HLREG0_TXPADEN_MASK,
        .strip_crc = mac & F_HLREG0_RXCRCSTRP_MASK,
        .usual = mac & F_HLREG0_RXCRCSTRP_MASK && !nic->no_rx_writeback,
        .vlan_filter = vlan & F_VLNCTRL_VFE_MASK,
        .vlan_type = vlan & F_VLNCTRL_VET_MASK,
        .longest = mac & F_HLREG0_JUMBOEN_MASK ? reg_load(nic, R_MAXFRS) >> F_MAXFRS_MFS_SHIFT : 1518,
        .filter = reg_load(nic, R_FCTRL),
        .rss = (mrqc & F_MRQC_MRQE_MASK) == 1 ? mrqc : 0,
        .hash_reported = reg_load(nic, R_RXCSUM) & F_RXCSUM_PCSD_MASK,
        .director = nic->director.filters,
        .stamps = stamps,
        .steering = nic->director.filters || nic->ether_type_filters || nic->five_tuple_count ||
                    reg_load(nic, R_SYNQF) & F_SYNQF_QUEUE_ENABLE_MASK || stamps,
    };
    read_queues(nic);
}
