/* Transmit (82599 7.2): fetch descriptors, gather a frame, hand it down to the MAC, write descriptors back. */
#include <string.h>

#include "dma.h"
#include "phase.h"
#include "transmit.h"

enum {
    DTYP_CONTEXT = 2,
    DTYP_DATA = 3,
    LONGEST_BUFFER = 15872, /* 15.5 KB (7.2.3.2.2) */
    CHAIN_MAX = 38,         /* descriptors of one frame (7.2.1.1), where WTHRESH is 0 */
};

/* Q1 of an advanced data descriptor (7.2.3.2.4). A legacy one has the same bits except DTYP and PAYLEN (7.2.3.2.2). */
static uint32_t dtalen(uint64_t q1)
{
    return q1 & 0xFFFF;
}
static uint32_t dtyp(uint64_t q1)
{
    return q1 >> 20 & 0xF;
}
static bool eop(uint64_t q1)
{
    return q1 >> 24 & 1;
}
static bool ifcs(uint64_t q1)
{
    return q1 >> 25 & 1;
}
static bool rs(uint64_t q1)
{
    return q1 >> 27 & 1;
}
static bool dext(uint64_t q1)
{
    return q1 >> 29 & 1;
}
static uint32_t paylen(uint64_t q1)
{
    return (uint32_t)(q1 >> 46);
}

static uint32_t next(const struct tx_queue *queue, uint32_t index)
{
    return index + 1 == queue->size ? 0 : index + 1;
}

static INLINED struct descriptor *descriptor_at(struct nic *nic, uint32_t number, uint32_t index)
{
    return dma_descriptor(nic, number, nic->tx[number].base + 16ull * index, DMA_READ);
}

/* Stop the queue until the driver disables it, and raise PCI_EX. Data that will arrive later does not stop it. */
static bool stop(struct nic *nic, uint32_t number)
{
    if (dma_comes_later(nic))
        return false;
    nic->tx[number].stuck = true;
    raise_other_cause(nic, F_CAUSES_PCI_EX_MASK);
    return false;
}

static bool fault(struct nic *nic, uint32_t number, enum finding_kind kind, uint64_t first, uint64_t second)
{
    report(nic, kind, number, first, second);
    return stop(nic, number);
}

/* Whether the chip can hold `count` descriptors of a frame. A frame that exceeds CHAIN_MAX is reported once. */
static bool chain_fits(struct nic *nic, uint32_t number, uint32_t count)
{
    if (count == CHAIN_MAX + 1)
        report(nic, FINDING_TX_CHAIN_TOO_LONG, number, nic->tx[number].head, count);
    return count <= CHIP_HOLDS || stop(nic, number);
}

/* ---- write-back (7.2.3.5) ---- */

/* Head write-back replaces descriptor write-back (7.2.3.5.2). */
static void write_back_head(struct nic *nic, uint32_t number, struct tx_queue *queue)
{
    uint8_t *word = dma_reach(nic, queue->head_writeback, 4, DMA_WRITE);
    if (word) /* release: all frames before this head were read; the driver owns their buffers again */
        atomic_store_explicit((_Atomic uint32_t *)(void *)word, queue->head, memory_order_release);
    else if (!dma_write(nic, number, queue->head_writeback, (const uint8_t *)&queue->head, 4))
        stop(nic, number);
}

/* A legacy descriptor keeps its other fields (7.2.3.2.2); an advanced one is overwritten. Where only messages reach the
 * ring, every descriptor gets DD and nothing else, with RS or without: to find RS it would have to be read again. */
static void write_back_descriptors(struct nic *nic, uint32_t number, struct tx_queue *queue)
{
    const uint64_t dd = 1ull << 32;
    for (uint32_t index = queue->writeback_head; index != queue->head; index = next(queue, index)) {
        uint64_t iova = queue->base + 16ull * index;
        struct descriptor *descriptor = (struct descriptor *)(void *)dma_reach(nic, iova, sizeof *descriptor, DMA_BOTH);
        if (!descriptor && !dma_write(nic, number, iova + 8, (const uint8_t *)&dd, sizeof dd)) {
            stop(nic, number);
            return;
        }
        uint64_t q1 = descriptor ? atomic_load_explicit(&descriptor->q1, memory_order_relaxed) : 0;
        if (descriptor && (queue->wthresh || rs(q1)))
            /* release: as for the head */
            atomic_store_explicit(&descriptor->q1, dext(q1) ? dd : q1 | dd, memory_order_release);
    }
}

static OUTLINED void write_back(struct nic *nic, uint32_t number)
{
    struct tx_queue *queue = &nic->tx[number];
    if (queue->head_writeback)
        write_back_head(nic, number, queue);
    else
        write_back_descriptors(nic, number, queue);
    queue->unwritten = 0, queue->writeback_head = queue->head;
    raise_queue_cause(nic, queue->cause);
}

/* WTHRESH 0: write back at RS. Above 0: ignore RS and write back WTHRESH descriptors at a time (8.2.3.9.10). */
static INLINED void completed(struct nic *nic, uint32_t number, uint32_t descriptors, bool report_status)
{
    struct tx_queue *queue = &nic->tx[number];
    PHASE(TX_WIRE);
    queue->unwritten += descriptors;
    if (queue->wthresh ? queue->unwritten >= queue->wthresh : report_status)
        write_back(nic, number);
    PHASE(TX_WRITE_BACK);
}

/* ---- one frame ---- */

/* A frame whose descriptors were checked. `bytes` is set by gather(). */
struct fetched {
    const uint8_t *bytes;
    uint32_t length, descriptors;
    uint64_t address, first; /* buffer and Q1 of the first descriptor */
    bool context, legacy, report_status, ifcs; /* legacy: no other member is set */
};

/* Whether the frame at head is complete before `tail`. Its descriptors are counted; head does not move. */
static bool frame_ready(struct nic *nic, uint32_t number, uint32_t tail, struct fetched *fetched)
{
    struct tx_queue *queue = &nic->tx[number];
    uint32_t index = queue->head, count = 0, total = 0, promised = 0;
    for (; index != tail; index = next(queue, index)) {
        struct descriptor *descriptor = descriptor_at(nic, number, index);
        if (!descriptor)
            return stop(nic, number);
        uint64_t q1 = atomic_load_explicit(&descriptor->q1, memory_order_relaxed);
        if (!dext(q1) || (dtyp(q1) != DTYP_DATA && dtyp(q1) != DTYP_CONTEXT))
            return (fetched->legacy = !dext(q1) && !count) || fault(nic, number, FINDING_TX_DESCRIPTOR_TYPE, index, q1);
        if (dtyp(q1) == DTYP_CONTEXT && !count) { /* it sets up offloads and carries no data (7.2.3.2.3) */
            *fetched = (struct fetched){.context = true, .descriptors = 1, .report_status = rs(q1)};
            queue->contexts[q1 >> 36 & 1] =
                (struct tx_context){atomic_load_explicit(&descriptor->q0, memory_order_relaxed), q1};
            return true;
        }
        if (dtalen(q1) > FRAME_MAX)
            return fault(nic, number, FINDING_TX_LENGTH, index, dtalen(q1));
        if (dtalen(q1) > LONGEST_BUFFER) /* Linux does this, and silicon sends it */
            report(nic, FINDING_TX_LONG_BUFFER, number, LONGEST_BUFFER, 0);
        if (!chain_fits(nic, number, ++count))
            return false;
        if (count == 1)
            promised = paylen(q1), fetched->first = q1,
            fetched->address = atomic_load_explicit(&descriptor->q0, memory_order_relaxed);
        total += dtalen(q1);
        fetched->report_status |= rs(q1);
        if (!eop(q1))
            continue;
        if (!total || total > (fetched->first & TX_TSE ? LARGE_MAX : FRAME_MAX - CRC))
            return fault(nic, number, FINDING_TX_LENGTH, queue->head, total);
        if (promised + (fetched->first & TX_TSE ? offload_headers(queue, fetched->first) : 0) != total)
            report(nic, FINDING_TX_PAYLEN, number, promised, total);
        fetched->length = total, fetched->descriptors = count, fetched->ifcs = ifcs(q1);
        return true;
    }
    return false;
}

/* Set `bytes`: in place when one buffer in one window holds the frame, else copied together. */
static INLINED bool gather(struct nic *nic, uint32_t number, struct fetched *fetched)
{
    if (fetched->descriptors == 1 && (fetched->bytes = dma_reach(nic, fetched->address, fetched->length, DMA_READ)))
        return true;
    struct tx_queue *queue = &nic->tx[number];
    uint8_t *to = fetched->first & TX_TSE ? nic->large : nic->frame;
    uint32_t index = queue->head, at = 0;
    for (uint32_t i = 0; i < fetched->descriptors; i++, index = next(queue, index)) {
        struct descriptor *descriptor = descriptor_at(nic, number, index);
        if (!descriptor)
            return stop(nic, number);
        uint64_t address = atomic_load_explicit(&descriptor->q0, memory_order_relaxed);
        uint32_t length = dtalen(atomic_load_explicit(&descriptor->q1, memory_order_relaxed));
        /* The driver may rewrite a descriptor that the NIC owns; the checked length limits the copy. */
        if (length > fetched->length - at)
            return fault(nic, number, FINDING_TX_LENGTH, index, length);
        if (!dma_read(nic, number, address, to + at, length))
            return stop(nic, number);
        at += length;
    }
    fetched->bytes = to;
    return true;
}

static bool transmit(struct nic *nic, uint32_t number, const struct fetched *fetched)
{
    PHASE(TX_GATHER);
    if (!(fetched->first & TX_OFFLOADS))
        mac_transmit(nic, number, fetched->bytes, fetched->length, fetched->ifcs);
    else if (!offload_send(nic, number, fetched->first, fetched->bytes, fetched->length, fetched->ifcs))
        return fault(nic, number, FINDING_TX_CONTEXT, nic->tx[number].head, fetched->length);
    return true;
}

/* ---- legacy descriptors (7.2.3.2.2): the first one of a frame holds its offloads ---- */

/* As frame_ready(). A descriptor without bytes is allowed between frames.
 * ASSUMPTION (datasheet silent): frames of both kinds may follow each other in a ring; the datasheet restricts only the
 * descriptors of one frame. */
static bool legacy_ready(struct nic *nic, uint32_t number, uint32_t tail, struct fetched *fetched)
{
    struct tx_queue *queue = &nic->tx[number];
    uint32_t count = 1, total = 0;
    if (reg_load(nic, R_MTQC) & (F_MTQC_RT_ENA_MASK | F_MTQC_VT_ENA_MASK))
        report(nic, FINDING_TX_LEGACY_MODE, number, reg_load(nic, R_MTQC), 0);
    for (uint32_t index = queue->head; index != tail; index = next(queue, index), count++) {
        struct descriptor *descriptor = descriptor_at(nic, number, index);
        if (!descriptor)
            return stop(nic, number);
        uint64_t q1 = atomic_load_explicit(&descriptor->q1, memory_order_relaxed);
        if (dext(q1))
            return fault(nic, number, FINDING_TX_DESCRIPTOR_TYPE, index, q1);
        if (dtalen(q1) > LONGEST_BUFFER)
            report(nic, FINDING_TX_LONG_BUFFER, number, LONGEST_BUFFER, 0);
        if (!chain_fits(nic, number, count))
            return false;
        if (rs(q1) && !eop(q1))
            report(nic, FINDING_TX_LEGACY_RS, number, index, 0);
        if (count == 1)
            fetched->first = q1, fetched->address = atomic_load_explicit(&descriptor->q0, memory_order_relaxed);
        total += dtalen(q1);
        if (!eop(q1))
            continue;
        if ((!total && count > 1) || total > FRAME_MAX - CRC - VLAN_TAG)
            return fault(nic, number, FINDING_TX_LENGTH, queue->head, total);
        fetched->length = total, fetched->descriptors = count, fetched->report_status = rs(q1);
        return true;
    }
    return false;
}

/* Send the frame at head. The result has 0 descriptors when the frame is not complete or cannot be sent. */
static OUTLINED struct fetched legacy_frame(struct nic *nic, uint32_t number, uint32_t tail)
{
    struct fetched frame = {0};
    if (!legacy_ready(nic, number, tail, &frame))
        return (struct fetched){0};
    uint64_t first = frame.first;
    frame.first = 0; /* these bits have another meaning in an advanced descriptor */
    if (frame.length && !gather(nic, number, &frame))
        return (struct fetched){0};
    if (frame.length)
        legacy_send(nic, number, first, frame.bytes, frame.length);
    return frame;
}

/* ---- a step ---- */

/* Whether the queue may send a frame now. `limit_ps`: until when a paced wire must be free. */
static INLINED bool may_send(struct nic *nic, const struct tx_queue *queue, uint32_t tail, uint64_t limit_ps)
{
    return queue->head != tail && !queue->stuck && !nic->paused && nic->tx_free_ps <= limit_ps &&
           !(nic->remote && remote_full(nic));
}

/* Prefetch what is needed AHEAD descriptors later, once a line. */
static INLINED void prefetch_ahead(const struct nic *nic, const struct tx_queue *queue)
{
    if (queue->head % LINE)
        return;
    uint32_t index = queue->head + AHEAD;
    dma_prefetch(nic, queue->base, index < queue->size ? index : index % queue->size, DMA_READ);
}

/* DTYP, EOP, DEXT and the offloads, and their values in the descriptor of a usual frame: a frame in one buffer, without
 * offloads. */
#define USUAL_MASK (0xFull << 20 | 1ull << 24 | 1ull << 29 | TX_OFFLOADS)
#define USUAL (DTYP_DATA << 20 | 1ull << 24 | 1ull << 29)

/* Send usual frames from head on, at most `most`. The first frame that needs another look ends the run: it is another
 * kind of frame, it breaks a rule, or it lies in other memory than the last one. Returns the number of frames. */
static uint32_t send_usual(struct nic *nic, uint32_t number, uint32_t tail, uint32_t most, uint64_t limit_ps)
{
    struct tx_queue *queue = &nic->tx[number];
    const struct reach buffers = nic->recent[BUFFERS][DMA_READ];
    const struct descriptor *ring =
        (const void *)recent_reach(&nic->recent[DESCRIPTORS][DMA_READ], queue->base, 16ull * queue->size);
    uint32_t moved = 0;
    if (!ring || nic->remote)
        return 0;
    for (; moved < most && may_send(nic, queue, tail, limit_ps); moved++) {
        prefetch_ahead(nic, queue);
        uint64_t q1 = atomic_load_explicit(&ring[queue->head].q1, memory_order_relaxed);
        uint32_t length = dtalen(q1);
        if ((q1 & USUAL_MASK) != USUAL || paylen(q1) != length || !length || length > LONGEST_BUFFER)
            break;
        uint64_t address = atomic_load_explicit(&ring[queue->head].q0, memory_order_relaxed);
        PHASE(TX_DESCRIPTORS);
        const uint8_t *bytes = recent_reach(&buffers, address, length);
        if (!bytes)
            break;
        PHASE(TX_GATHER);
        mac_transmit(nic, number, bytes, length, ifcs(q1));
        queue->head = next(queue, queue->head);
        completed(nic, number, 1, rs(q1));
    }
    return moved;
}

/* Send the frame at head, or obey a context descriptor. False when it has to wait, or cannot be sent. */
static bool send_one(struct nic *nic, uint32_t number, uint32_t tail)
{
    struct tx_queue *queue = &nic->tx[number];
    struct fetched fetched = {0};
    prefetch_ahead(nic, queue);
    if (nic->remote)
        remote_work(nic, 1 + number);
    if (!frame_ready(nic, number, tail, &fetched))
        return false;
    PHASE(TX_DESCRIPTORS);
    if (fetched.legacy) {
        fetched = legacy_frame(nic, number, tail);
        if (!fetched.descriptors)
            return false;
    } else if (!fetched.context) {
        if (!gather(nic, number, &fetched) || !transmit(nic, number, &fetched))
            return false;
    }
    for (uint32_t i = 0; i < fetched.descriptors; i++)
        queue->head = next(queue, queue->head);
    completed(nic, number, fetched.descriptors, fetched.report_status);
    if (nic->remote)
        remote_work(nic, 1 + number), remote_used(nic); /* the frame may have been received by this NIC */
    return true;
}

static uint32_t transmit_queue(struct nic *nic, uint32_t number, uint64_t now_ns)
{
    struct tx_queue *queue = &nic->tx[number];
    /* acquire: pairs with the driver's barrier before its tail store; descriptors before the tail are complete */
    PHASE(ROUND);
    uint32_t tail = atomic_load_explicit(&nic->regs[tx_offset(R_TDT, number) / 4], memory_order_acquire);
    PHASE(TX_TAIL);
    uint64_t limit_ps = nic->paced ? now_ns * 1000 : UINT64_MAX;
    uint32_t moved = 0;
    if (tail >= queue->size) {
        if (!queue->stuck)
            fault(nic, number, FINDING_TX_TAIL, tail, queue->size);
        return 0;
    }
    do {
        moved += send_usual(nic, number, tail, nic->step_frames - moved, limit_ps);
    } while (moved < nic->step_frames && may_send(nic, queue, tail, limit_ps) && send_one(nic, number, tail) &&
             ++moved);
    nic->tx_busy |= queue->head != tail;
    return moved;
}

uint32_t transmit_step(struct nic *nic, uint64_t now_ns)
{
    uint32_t moved = 0;
    /* ASSUMPTION (datasheet silent): without link frames stay in their ring, because no source says how many of them
     * the transmit packet buffer takes first. */
    if (!nic->bus_master || !nic->settings.transmit || !(nic->link_up || nic->settings.loopback) ||
        pause_holds(nic, now_ns)) {
        nic->tx_busy = false; /* a paced wire makes up for lost CPU time only, not for this */
        return 0;
    }
    nic->tx_free_ps = wire_free(nic->tx_free_ps, now_ns, nic->tx_busy);
    nic->tx_busy = false;
    for (uint32_t word = 0; word < 2; word++)
        for (uint64_t left = nic->tx_enabled[word]; left; left &= left - 1) {
            uint32_t number = 64 * word + (uint32_t)__builtin_ctzll(left);
            uint32_t sent = transmit_queue(nic, number, now_ns);
            /* ASSUMPTION (datasheet not at hand): descriptors below WTHRESH are written back when the queue is empty,
             * not at the interrupt timer, because the sources do not give the timer's rule. */
            if (!sent && nic->tx[number].wthresh && nic->tx[number].unwritten)
                write_back(nic, number);
            moved += sent;
        }
    return moved;
}

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
        if (nic->tx[number].enabled && nic->tx[number].head_writeback)
            write_back(nic, number);
    }
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
    if (nic->remote)
        remote_forget(nic);
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
    if (nic->remote)
        remote_forget(nic);
}

EXPORT void nic_break_write_back(struct nic *nic, bool head, bool receive)
{
    nic->no_head_writeback = head, nic->no_rx_writeback = receive;
    update_head_writeback(nic);
}
