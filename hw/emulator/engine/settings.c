/* What frames obey in registers. Python freezes the engine to change a register, and engine_resume() then marks the
 * settings as stale. So they are read once after each freeze, not for every frame, and not after a tail is written. */
#include "dma.h"

/* The counter set of a queue. `map`: RQSMR (8.2.3.23.71) or TQSM (8.2.3.23.73), four queues per register. */
uint32_t counter_set(const struct nic *nic, uint32_t map, uint32_t queue)
{
    return reg_load(nic, map + 4 * (queue / 4)) >> 8 * (queue % 4) & 0xF;
}

/* 0 for a queue of a VF. IVAR: receive and transmit allocation of an even queue, then of an odd one; bit 7 marks a
 * valid one (8.2.3.5.16). */
static uint64_t queue_cause(struct nic *nic, uint32_t queue, uint32_t transmit)
{
    if (function_of(nic, queue) != &nic->pf)
        return 0;
    uint32_t allocation = reg_load(nic, R_IVAR + 4 * (queue / 2)) >> (16 * (queue % 2) + 8 * transmit);
    return allocation & 0x80 ? 1ull << (allocation & 0x3F) : 0;
}

/* Each frame adds to its queue only; here the sums reach the queue's counter set, before the set changes and before
 * Python reads it. */
void count_delivered(struct nic *nic, struct rx_queue *queue)
{
    nic->counters.qprc[queue->counter_set] += queue->packets, nic->counters.qbrc[queue->counter_set] += queue->bytes;
    queue->packets = queue->bytes = 0;
}

void count_all_delivered(struct nic *nic)
{
    for (uint32_t word = 0; word < 2; word++)
        for (uint64_t left = nic->rx_enabled[word]; left; left &= left - 1)
            count_delivered(nic, &nic->rx[64 * word + (uint32_t)__builtin_ctzll(left)]);
}

static void read_queues(struct nic *nic)
{
    count_all_delivered(nic);
    for (uint32_t word = 0; word < 2; word++) {
        for (uint64_t left = nic->rx_enabled[word]; left; left &= left - 1) {
            uint32_t number = 64 * word + (uint32_t)__builtin_ctzll(left);
            struct rx_queue *queue = &nic->rx[number];
            queue->counter_set = (uint8_t)counter_set(nic, R_RQSMR, number);
            queue->cause = queue_cause(nic, number, 0);
            nic->function = function_of(nic, number);
            queue->strip_tag = reg_load(nic, rx_offset(R_RXDCTL, number)) & F_RXDCTL_VME_MASK;
            queue->ring = queue->size ? (void *)dma_reach(nic, queue->base, 16ull * queue->size, DMA_BOTH) : NULL;
        }
        for (uint64_t left = nic->tx_enabled[word]; left; left &= left - 1) {
            uint32_t number = 64 * word + (uint32_t)__builtin_ctzll(left);
            struct tx_queue *queue = &nic->tx[number];
            queue->counter_set = counter_set(nic, R_TQSM, number);
            queue->cause = queue_cause(nic, number, 1);
        }
    }
    nic->function = &nic->pf;
}

/* The RSS types that MRQC enables (7.1.2.8), L4 types first. */
static void read_rss(struct settings *settings, uint32_t mrqc)
{
    static const struct {
        uint32_t addresses, tcp, udp;
        uint8_t types[3];
    } versions[] = {
        {F_MRQC_IPV4_MASK, F_MRQC_TCPIPV4_MASK, F_MRQC_UDPIPV4_MASK, {RSS_TYPE_IPV4, 1, 7}},
        {F_MRQC_IPV6_MASK, F_MRQC_TCPIPV6_MASK, F_MRQC_UDPIPV6_MASK, {RSS_TYPE_IPV6, 3, 8}},
    };
    uint32_t mode = mrqc & F_MRQC_MRQE_MASK;
    if (mode != 1 && !(settings->pools && (mode == 10 || mode == 11)))
        return;
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t addresses = mrqc & versions[i].addresses ? versions[i].types[RSS_NO_PORTS] : 0;
        settings->rss_types[i][RSS_NO_PORTS] = addresses;
        settings->rss_types[i][RSS_TCP] = mrqc & versions[i].tcp ? versions[i].types[RSS_TCP] : addresses;
        settings->rss_types[i][RSS_UDP] = mrqc & versions[i].udp ? versions[i].types[RSS_UDP] : addresses;
    }
}

/* When frames may take receive_usual(): nothing but the frame and its queue decides about them, and DMA is not by
 * messages. */
static void read_usual(struct nic *nic)
{
    struct settings *settings = &nic->settings;
    uint64_t own = nic->addresses[0];
    bool usual = settings->receive && settings->unaltered && !settings->steering && !settings->loopback &&
                 settings->vlan_type != 0x0800;
    bool to_port = nic->address_count && nic->function->bus_master && !nic->function->remote && !(own & 1);
    uint32_t longest = settings->longest < FRAME_MAX ? settings->longest : FRAME_MAX;
    uint32_t lengths = usual && longest >= FRAME_MIN + CRC ? longest - CRC - FRAME_MIN + 1 : 0;
    settings->own = own;
    settings->usual_lengths = to_port && !settings->pools ? lengths : 0;
    nic->pools.usual_lengths = settings->pools && nic->pools.plain ? lengths : 0;
}

void settings_read(struct nic *nic)
{
    uint32_t mac = reg_load(nic, R_HLREG0), vlan = reg_load(nic, R_VLNCTRL);
    bool stamps = reg_load(nic, R_TSYNCRXCTL) & F_TSYNCRXCTL_EN_MASK;
    nic->settings = (struct settings){
        .transmit =
            reg_load(nic, R_DMATXCTL) & F_DMATXCTL_TE_MASK && !(reg_load(nic, R_SECTXCTRL) & F_SECTXCTRL_TX_DIS_MASK),
        .receive =
            reg_load(nic, R_RXCTRL) & F_RXCTRL_RXEN_MASK && !(reg_load(nic, R_SECRXCTRL) & F_SECRXCTRL_RX_DIS_MASK),
        .loopback = mac & F_HLREG0_LPBK_MASK,
        .unrecorded = nic->cable_in && !(mac & F_HLREG0_LPBK_MASK) && !nic->departures.records,
        .wired = nic->cable_in && !(mac & F_HLREG0_LPBK_MASK),
        .pad = mac & F_HLREG0_TXPADEN_MASK,
        .strip_crc = mac & F_HLREG0_RXCRCSTRP_MASK,
        .unaltered = mac & F_HLREG0_RXCRCSTRP_MASK && !nic->no_rx_writeback,
        .vlan_filter = vlan & F_VLNCTRL_VFE_MASK,
        .vlan_type = vlan & F_VLNCTRL_VET_MASK,
        .longest = mac & F_HLREG0_JUMBOEN_MASK ? reg_load(nic, R_MAXFRS) >> F_MAXFRS_MFS_SHIFT : 1518,
        .filter = reg_load(nic, R_FCTRL),
        .hash_mask = reg_load(nic, R_RXCSUM) & F_RXCSUM_PCSD_MASK ? UINT32_MAX : 0,
        .director = nic->director.filters,
        .stamps = stamps,
        .pools = reg_load(nic, R_PFVTCTL) & F_PFVTCTL_VT_ENA_MASK && reg_load(nic, R_GCR_EXT) & F_GCR_EXT_VT_MODE_MASK,
        .steering = nic->director.filters || nic->ether_type_filters || nic->five_tuple_count ||
                    reg_load(nic, R_SYNQF) & F_SYNQF_QUEUE_ENABLE_MASK || stamps,
    };
    if (nic->settings.pools)
        pools_read(nic);
    read_rss(&nic->settings, reg_load(nic, R_MRQC));
    read_usual(nic);
    read_queues(nic);
}
