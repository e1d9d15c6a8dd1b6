/* Receive queues (82599 4.6.7): on and off, and their registers that take effect while they are on. */
#include "dma.h"
#include "receive.h"

/* RDH is stored only when it is read: its cache line holds RDT too, which the driver writes often. */
EXPORT uint32_t nic_rx_head(struct nic *nic, uint32_t number)
{
    if (nic->rx[number].state != RX_OFF)
        reg_store(nic, rx_offset(R_RDH, number), nic->rx[number].head);
    return reg_load(nic, rx_offset(R_RDH, number));
}

/* SRRCTL was written, or the queue was enabled. iPXE writes SRRCTL after RXDCTL, and expects it to be obeyed. */
EXPORT void nic_rx_buffers_changed(struct nic *nic, uint32_t number)
{
    struct rx_queue *queue = &nic->rx[number];
    uint32_t control = reg_load(nic, rx_offset(R_SRRCTL, number));
    uint32_t type = (control & F_SRRCTL_DESCTYPE_MASK) >> F_SRRCTL_DESCTYPE_SHIFT;
    queue->drop_en = control & F_SRRCTL_DROP_EN_MASK || nic->drop_enable[number / 64] >> number % 64 & 1;
    queue->buffer_size = (control & F_SRRCTL_BSIZEPACKET_MASK) * 1024;
    if (queue->state == RX_OFF || queue->state == RX_STUCK)
        return;
    if (!queue->buffer_size)
        report(nic, FINDING_RX_BUFFER_SIZE, number, control, 0);
    if (type > 1)
        report(nic, FINDING_RX_DESCRIPTOR_TYPE, number, type, 1);
    queue->state = !queue->size || !queue->buffer_size || type > 1 ? RX_UNUSABLE : type ? RX_ADVANCED : RX_LEGACY;
}

/* RXDCTL was written. Enabling the queue reads its registers; disabling it stops it. */
EXPORT void nic_rx_queue_changed(struct nic *nic, uint32_t number)
{
    struct rx_queue *queue = &nic->rx[number];
    bool enable = reg_load(nic, rx_offset(R_RXDCTL, number)) & F_RXDCTL_ENABLE_MASK;
    if (enable == (queue->state != RX_OFF))
        return;
    nic_rx_head(nic, number);
    count_delivered(nic, queue);
    uint64_t bit = 1ull << number % 64;
    queue->state = enable ? RX_UNUSABLE : RX_OFF;
    nic->rx_enabled[number / 64] = enable ? nic->rx_enabled[number / 64] | bit : nic->rx_enabled[number / 64] & ~bit;
    remote_forget_queue(nic, number);
    if (!enable) {
        buffer_forget(nic, number);
        return;
    }
    queue->base = (reg_load(nic, rx_offset(R_RDBAL, number)) & ~0x7Full) |
                  (uint64_t)reg_load(nic, rx_offset(R_RDBAH, number)) << 32;
    queue->size = reg_load(nic, rx_offset(R_RDLEN, number)) / 16;
    queue->head = reg_load(nic, rx_offset(R_RDH, number));
    nic_rx_buffers_changed(nic, number);
    if (queue->head >= queue->size)
        queue->head = 0;
    /* ASSUMPTION (datasheet silent): a tail that was written before the queue was enabled is lost, and a ring that is
     * moved after it is found at the next enable. 4.6.7 forbids both; every known driver obeys. */
    reg_store(nic, rx_offset(R_RDT, number), queue->head);
    queue->free = 0;
}

/* RDH was written: the queue continues there. */
EXPORT void nic_rx_head_changed(struct nic *nic, uint32_t number)
{
    uint32_t head = reg_load(nic, rx_offset(R_RDH, number));
    if (head < nic->rx[number].size)
        nic->rx[number].head = head, nic->rx[number].free = 0;
    remote_forget_queue(nic, number);
}
