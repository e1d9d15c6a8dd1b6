/* Transmit queues (82599 4.6.8): on and off, and their registers that take effect while they are on. */
#include <string.h>

#include "dma.h"
#include "transmit.h"

/* TDH is stored only when it is read: its cache line holds TDT too, which the driver writes often. */
EXPORT uint32_t nic_tx_head(struct nic *nic, uint32_t number)
{
    if (nic->tx[number].enabled)
        reg_store(nic, tx_offset(R_TDH, number), nic->tx[number].head);
    return reg_load(nic, tx_offset(R_TDH, number));
}

/* 0 when it is off. Others measured: silicon writes nothing to an address without 16-byte alignment (8.2.3.9.11). */
static uint64_t head_writeback(const struct nic *nic, uint32_t number)
{
    uint32_t writeback = reg_load(nic, tx_offset(R_TDWBAL, number));
    if (nic->no_head_writeback || !(writeback & F_TDWBAL_HEAD_WB_EN_MASK) || writeback & 0xE)
        return 0;
    return (writeback & ~0xFull) | (uint64_t)reg_load(nic, tx_offset(R_TDWBAH, number)) << 32;
}

/* TDWBAL or TDWBAH was written; the next write-back uses it. */
EXPORT void nic_tx_head_writeback_changed(struct nic *nic, uint32_t number)
{
    nic->tx[number].head_writeback = head_writeback(nic, number);
}

/* Head write-back was switched by a defect. When it works again, write back what is pending. */
static void update_head_writeback(struct nic *nic)
{
    for (uint32_t number = 0; number < QUEUES; number++) {
        nic_tx_head_writeback_changed(nic, number);
        nic->function = function_of(nic, number);
        if (nic->tx[number].enabled && nic->tx[number].head_writeback)
            transmit_write_back(nic, number);
    }
    nic->function = &nic->pf;
}

/* TXDCTL was written. Enabling the queue reads its registers; disabling it stops it. */
EXPORT void nic_tx_queue_changed(struct nic *nic, uint32_t number)
{
    struct tx_queue *queue = &nic->tx[number];
    uint32_t control = reg_load(nic, tx_offset(R_TXDCTL, number));
    bool enable = control & F_TXDCTL_ENABLE_MASK;
    queue->wthresh = (control & F_TXDCTL_WTHRESH_MASK) >> F_TXDCTL_WTHRESH_SHIFT;
    if (enable == queue->enabled)
        return;
    nic_tx_head(nic, number);
    uint64_t bit = 1ull << number % 64;
    queue->enabled = enable, queue->stuck = false, queue->unwritten = 0;
    memset(queue->contexts, 0, sizeof queue->contexts);
    remote_forget_queue(nic, number);
    nic->tx_enabled[number / 64] = enable ? nic->tx_enabled[number / 64] | bit : nic->tx_enabled[number / 64] & ~bit;
    if (!enable)
        return;
    queue->base = (reg_load(nic, tx_offset(R_TDBAL, number)) & ~0x7Full) |
                  (uint64_t)reg_load(nic, tx_offset(R_TDBAH, number)) << 32;
    queue->size = reg_load(nic, tx_offset(R_TDLEN, number)) / 16;
    queue->head = reg_load(nic, tx_offset(R_TDH, number));
    if (queue->head >= queue->size)
        queue->head = 0;
    queue->writeback_head = queue->head;
    nic_tx_head_writeback_changed(nic, number);
    /* ASSUMPTION (datasheet silent): as for a receive queue, an early tail is lost (4.6.8). */
    reg_store(nic, tx_offset(R_TDT, number), queue->head);
}

/* TDH was written: the queue continues there. */
EXPORT void nic_tx_head_changed(struct nic *nic, uint32_t number)
{
    uint32_t head = reg_load(nic, tx_offset(R_TDH, number));
    if (head < nic->tx[number].size)
        nic->tx[number].head = nic->tx[number].writeback_head = head;
    remote_forget_queue(nic, number);
}

EXPORT void nic_break_write_back(struct nic *nic, bool head, bool receive)
{
    nic->no_head_writeback = head, nic->no_rx_writeback = receive;
    update_head_writeback(nic);
}
