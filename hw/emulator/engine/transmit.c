/* Transmit (82599 7.2): fetch descriptors, gather a frame, hand it down to the MAC, write descriptors back. */
#include <string.h>

#include "dma.h"
#include "phase.h"
#include "prefetch.h"
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

/* Report everything that is completed and not reported yet. */
OUTLINED void transmit_write_back(struct nic *nic, uint32_t number)
{
    struct tx_queue *queue = &nic->tx[number];
    if (queue->head_writeback)
        write_back_head(nic, number, queue);
    else
        write_back_descriptors(nic, number, queue);
    queue->unwritten = 0, queue->writeback_head = queue->head;
    raise_queue_cause(nic, queue->cause);
    if (nic->settings.pools && nic->pools.vector[1][number])
        raise_vf_cause(nic, number >> nic->pools.shift, nic->pools.vector[1][number]);
}

/* WTHRESH 0: write back at RS. Above 0: ignore RS and write back WTHRESH descriptors at a time (8.2.3.9.10). */
static INLINED void completed(struct nic *nic, uint32_t number, uint32_t descriptors, bool report_status)
{
    struct tx_queue *queue = &nic->tx[number];
    PHASE(TX_WIRE);
    queue->unwritten += descriptors;
    if (queue->wthresh ? queue->unwritten >= queue->wthresh : report_status)
        transmit_write_back(nic, number);
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
    uint64_t first = fetched->first;
    if (nic->settings.pools) {
        uint32_t tag = nic->tx[number].contexts[first >> 36 & 1].q0 >> 16 & 0xFFFF;
        if (!pool_lets_out(nic, number, fetched->bytes, fetched->length, tag, &first))
            return true;
    }
    if (!(first & TX_OFFLOADS))
        mac_transmit(nic, number, fetched->bytes, fetched->length, fetched->ifcs);
    else if (!offload_send(nic, number, first, fetched->bytes, fetched->length, fetched->ifcs))
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
    if (frame.length && nic->settings.pools) {
        uint32_t tag = (uint32_t)(first >> 48);
        if (!pool_lets_out(nic, number, frame.bytes, frame.length, tag, &first))
            return frame;
        first = (first & ~(0xFFFFull << 48)) | (uint64_t)pool_tag(nic, number, tag) << 48;
    }
    if (frame.length)
        legacy_send(nic, number, first, frame.bytes, frame.length);
    return frame;
}

/* ---- a step ---- */

/* Whether the queue may send a frame now. `limit_ps`: until when a paced wire must be free. */
static INLINED bool may_send(struct nic *nic, const struct tx_queue *queue, uint32_t tail, uint64_t limit_ps)
{
    return queue->head != tail && !queue->stuck && !nic->paused && nic->tx_free_ps <= limit_ps &&
           !(nic->function->remote && remote_full(nic));
}

/* The ring of a queue in memory that was reached before, and the window of the last buffer. */
struct view {
    const struct descriptor *ring; /* NULL: it needs dma_find_descriptor() */
    struct reach buffers;
    uint32_t size;
};

static INLINED struct view view_of(const struct nic *nic, const struct tx_queue *queue)
{
    const struct reach *descriptors = &nic->function->recent[DESCRIPTORS][DMA_READ];
    return (struct view){(const void *)recent_reach(descriptors, queue->base, 16ull * queue->size),
                         nic->function->recent[BUFFERS][DMA_READ], queue->size};
}

/* The descriptor `ahead` places after `head`; `ahead` is less than the ring's size. */
static INLINED const struct descriptor *ahead_of(const struct view *view, uint32_t head, uint32_t ahead)
{
    uint32_t index = head + ahead;
    return &view->ring[index < view->size ? index : index - view->size];
}

static INLINED void prefetch_buffer(const struct view *view, const struct descriptor *descriptor)
{
    uint64_t address = atomic_load_explicit(&descriptor->q0, memory_order_relaxed);
    const uint8_t *bytes = recent_reach(&view->buffers, address, 1);
    if (bytes)
        prefetch_read(bytes);
}

/* Descriptors from head to tail. */
static INLINED uint32_t waiting(const struct tx_queue *queue, uint32_t tail)
{
    return tail >= queue->head ? tail - queue->head : tail + queue->size - queue->head;
}

/* Once in a step: the first waiting descriptors and their buffers. Nothing after the tail is prefetched, because the
 * driver writes there. */
static void prefetch_first(const struct nic *nic, const struct tx_queue *queue, uint32_t tail)
{
    const struct view view = view_of(nic, queue);
    uint32_t left = waiting(queue, tail);
    if (!view.ring)
        return;
    for (uint32_t i = 0; i < 2 * AHEAD && i < left; i += LINE)
        prefetch_read(ahead_of(&view, queue->head, i));
    for (uint32_t i = 0; i < AHEAD && i < left; i++)
        prefetch_buffer(&view, ahead_of(&view, queue->head, i));
}

/* Before each frame: a buffer and, once a line, a line of descriptors. `left`: descriptors from head to tail. */
static INLINED void prefetch_ahead(const struct view *view, uint32_t head, uint32_t left)
{
    if (left > AHEAD)
        prefetch_buffer(view, ahead_of(view, head, AHEAD));
    if (left > 2 * AHEAD && head % LINE == 0)
        prefetch_read(ahead_of(view, head, 2 * AHEAD));
}

/* DTYP, EOP, IFCS, DEXT and the offloads, and their values in the descriptor of a usual frame: a frame in one buffer,
 * without offloads, to which the NIC appends the CRC. */
#define USUAL_MASK (0xFull << 20 | 1ull << 24 | 1ull << 25 | 1ull << 29 | TX_OFFLOADS)
#define USUAL (DTYP_DATA << 20 | 1ull << 24 | 1ull << 25 | 1ull << 29)

/* Send usual frames from head on, at most `most`. The first frame that needs another look ends the run: it is another
 * kind of frame, it breaks a rule, or it lies in other memory than the last one. Returns the number of frames. */
static INLINED uint32_t send_run(struct nic *nic, uint32_t number, uint32_t tail, uint32_t most, uint64_t limit_ps,
                                 bool pools)
{
    struct tx_queue *queue = &nic->tx[number];
    const struct view view = view_of(nic, queue);
    uint32_t moved = 0, left = waiting(queue, tail);
    const struct way *way = &nic->pools.ways[pools ? number >> nic->pools.shift : 0];
    uint64_t by_way = 0, bytes_by_way = 0;
    if (!view.ring || nic->function->remote)
        return 0;
    for (; moved < most && may_send(nic, queue, tail, limit_ps); moved++, left--) {
        const struct descriptor *descriptor = &view.ring[queue->head];
        prefetch_ahead(&view, queue->head, left);
        uint64_t q1 = atomic_load_explicit(&descriptor->q1, memory_order_relaxed);
        uint32_t length = dtalen(q1);
        if ((q1 & USUAL_MASK) != USUAL || paylen(q1) != length || !length || length > LONGEST_BUFFER)
            break;
        uint64_t address = atomic_load_explicit(&descriptor->q0, memory_order_relaxed);
        PHASE(TX_DESCRIPTORS);
        const uint8_t *bytes = recent_reach(&view.buffers, address, length);
        if (!bytes)
            break;
        PHASE(TX_GATHER);
        if (pools && (pool_knows_way(way, bytes, length) || pool_learns_way(nic, number, bytes, length)))
            by_way++, bytes_by_way += length, mac_transmit_by_way(nic, number, bytes, length, way->to);
        else if (pools && !pool_lets_pass(nic, number, bytes, length))
            break;
        else
            mac_transmit_usual(nic, number, bytes, length);
        queue->head = next(queue, queue->head);
        completed(nic, number, 1, rs(q1));
    }
    if (pools) {
        struct pool_counters *counters = &nic->pool_counters[number >> nic->pools.shift];
        counters->gptc += by_way, counters->gotc += bytes_by_way + CRC * by_way;
    }
    return moved;
}

/* Two copies, so that VT mode costs nothing when it is off. */
static uint32_t send_usual(struct nic *nic, uint32_t number, uint32_t tail, uint32_t most, uint64_t limit_ps)
{
    return nic->settings.pools ? send_run(nic, number, tail, most, limit_ps, true)
                               : send_run(nic, number, tail, most, limit_ps, false);
}

/* Send the frame at head, or obey a context descriptor. False when it has to wait, or cannot be sent. */
static INLINED bool send_one(struct nic *nic, uint32_t number, uint32_t tail)
{
    struct tx_queue *queue = &nic->tx[number];
    struct fetched fetched = {0};
    const struct view view = view_of(nic, queue);
    if (view.ring)
        prefetch_ahead(&view, queue->head, waiting(queue, tail));
    if (nic->function->remote)
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
    if (nic->function->remote)
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
    prefetch_first(nic, queue, tail);
    do {
        moved += send_usual(nic, number, tail, nic->step_frames - moved, limit_ps);
    } while (moved < nic->step_frames && may_send(nic, queue, tail, limit_ps) && send_one(nic, number, tail) &&
             ++moved);
    nic->tx_busy |= queue->head != tail;
    return moved;
}

/* As transmit_queue() for a queue with a rate: frame by frame. */
static OUTLINED uint32_t transmit_limited(struct nic *nic, uint32_t number, uint64_t now_ns)
{
    struct tx_queue *queue = &nic->tx[number];
    /* acquire: as in transmit_queue() */
    uint32_t tail = atomic_load_explicit(&nic->regs[tx_offset(R_TDT, number) / 4], memory_order_acquire);
    uint64_t limit_ps = nic->paced ? now_ns * 1000 : UINT64_MAX;
    uint32_t moved = 0, most = nic->step_frames;
    if (tail >= queue->size)
        return transmit_queue(nic, number, now_ns); /* it reports that */
    rate_begin(nic, number, now_ns);
    while (moved < most && rate_lets_go(nic, number, now_ns) && may_send(nic, queue, tail, limit_ps) &&
           send_one(nic, number, tail))
        moved++;
    nic->tx_busy |= !rate_end(nic, number, now_ns, moved == most) && queue->head != tail;
    return moved;
}

/* Enter the memory of the queue's function. False: its pool, or its function, must not transmit. */
static bool pool_transmits(struct nic *nic, uint32_t number)
{
    nic->function = function_of(nic, number);
    return nic->function->bus_master && nic->pools.transmit >> (number >> nic->pools.shift) & 1;
}

uint32_t transmit_step(struct nic *nic, uint64_t now_ns)
{
    uint32_t moved = 0;
    /* ASSUMPTION (datasheet silent): without link frames stay in their ring, because no source says how many of them
     * the transmit packet buffer takes first. */
    if (!(nic->pf.bus_master || nic->settings.pools) || !nic->settings.transmit ||
        !(nic->link_up || nic->settings.loopback) || pause_holds(nic, now_ns)) {
        nic->tx_busy = false; /* a paced wire makes up for lost CPU time only, not for this */
        return 0;
    }
    rate_step(nic, now_ns);
    nic->tx_busy = false;
    for (uint32_t word = 0; word < 2; word++)
        for (uint64_t left = nic->tx_enabled[word]; left; left &= left - 1) {
            uint32_t number = 64 * word + (uint32_t)__builtin_ctzll(left);
            if (nic->settings.pools && !pool_transmits(nic, number))
                continue;
            bool limited = nic->rate_limited[word] >> number % 64 & 1;
            uint32_t sent = limited ? transmit_limited(nic, number, now_ns) : transmit_queue(nic, number, now_ns);
            /* ASSUMPTION (datasheet not at hand): descriptors below WTHRESH are written back when the queue is empty,
             * not at the interrupt timer, because the sources do not give the timer's rule. */
            if (!sent && nic->tx[number].wthresh && nic->tx[number].unwritten)
                transmit_write_back(nic, number);
            moved += sent;
        }
    nic->function = &nic->pf;
    return moved;
}
