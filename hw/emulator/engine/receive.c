/* Receive (82599 7.1): frames from the wire, through the packet buffer, into buffers and descriptors. */
#include <string.h>

#include "dma.h"
#include "phase.h"
#include "prefetch.h"
#include "receive.h"
#include "usual.h"

enum {
    RX_AHEAD = 24, /* descriptors between the one in use and the one whose buffer is prefetched; 12 to 40 were alike */
};

/* ---- descriptors (7.1.6) ---- */

enum delivery { DELIVERED, NO_DESCRIPTORS, QUEUE_OFF, LATER };

/* Read RDT, and count the descriptors up to it. Returns it; when it is outside the ring, the count stays. */
static uint32_t read_tail(struct nic *nic, struct rx_queue *queue, uint32_t number)
{
    /* acquire: pairs with the driver's barrier before its tail store; descriptors before the tail are complete */
    uint32_t tail = atomic_load_explicit(&nic->regs[rx_offset(R_RDT, number) / 4], memory_order_acquire);
    if (tail < queue->size)
        queue->free = tail >= queue->head ? tail - queue->head : tail + queue->size - queue->head;
    return tail;
}

static bool more_descriptors(struct nic *nic, struct rx_queue *queue, uint32_t number, uint32_t length)
{
    uint32_t needed = (length + queue->buffer_size - 1) / queue->buffer_size;
    if (queue->free >= needed)
        return true;
    uint32_t tail = read_tail(nic, queue, number);
    if (tail >= queue->size) {
        report(nic, FINDING_RX_TAIL, number, tail, queue->size);
        return false;
    }
    return queue->free >= needed;
}

/* Whether the queue owns enough descriptors for a frame of `length` bytes. */
static INLINED bool descriptors_free(struct nic *nic, struct rx_queue *queue, uint32_t number, uint32_t length)
{
    return (queue->free && length <= queue->buffer_size) || more_descriptors(nic, queue, number, length);
}

/* Prefetch what is written later, for one descriptor at a time, so that no branch depends on the queue's head: a buffer
 * RX_AHEAD descriptors ahead, and the descriptors behind it. Their lines are in the cache of the driver's core. RDT is
 * read again while so many descriptors are left. `ring`: of the queue, from before the frame was copied, because guard.c
 * may take queue->ring away in that copy. The memory stays mapped. */
static INLINED void prefetch_ahead(struct nic *nic, struct rx_queue *queue, uint32_t number,
                                   const struct function *function, const struct descriptor *ring)
{
    if (queue->free <= RX_AHEAD) {
        if (queue->free == RX_AHEAD)
            read_tail(nic, queue, number);
        return;
    }
    uint32_t at = queue->head + RX_AHEAD, later = at + 2 * LINE; /* RX_AHEAD < free < size */
    at -= at >= queue->size ? queue->size : 0;
    later -= later >= queue->size ? queue->size : 0;
    prefetch_write(&ring[later]);
    uint64_t address = atomic_load_explicit(&ring[at].q0, memory_order_relaxed);
    const uint8_t *buffer = recent_reach(&function->recent[BUFFERS][DMA_WRITE], address, FRAME_MIN);
    if (buffer)
        prefetch_write(buffer);
}

/* Write all pending descriptors back together, so that each cache line moves to the driver's core once, complete. Then
 * set their causes. */
void receive_write_back(struct nic *nic)
{
    for (uint32_t i = 0; i < nic->write_back_count; i++)
        prefetch_write(nic->write_backs[i].descriptor);
    for (uint32_t i = 0; i < nic->write_back_count; i++)
        store_descriptor(nic->write_backs[i].descriptor, nic->write_backs[i].q0, nic->write_backs[i].q1);
    nic->write_back_count = 0;
    if (nic->rx_causes)
        raise_queue_cause(nic, nic->rx_causes);
    nic->rx_causes = 0;
    if (nic->vf_causes)
        raise_vf_causes(nic);
}

static INLINED void write_back_later(struct nic *nic, struct descriptor *descriptor, uint64_t q0, uint64_t q1)
{
    nic->write_backs[nic->write_back_count++] = (struct write_back){descriptor, q0, q1};
    if (nic->write_back_count == WRITE_BACKS)
        receive_write_back(nic);
}

static INLINED void write_back(struct nic *nic, struct descriptor *descriptor, uint64_t iova, uint64_t q0, uint64_t q1)
{
    if (nic->function->remote) {
        dma_write_descriptor(nic, descriptor, iova, q0, q1);
        return;
    }
    write_back_later(nic, descriptor, q0, q1);
}

/* Q1 of an advanced write-back (7.1.6.2) in the legacy layout, which has no packet type, no hash and fewer bits. */
static inline uint64_t legacy_status(uint64_t q1, uint32_t checksum)
{
    const uint64_t status_bits = 0xFB; /* DD, EOP, VP, UDPCS, L4CS, IPCS, PIF; not FLM */
    uint64_t length = q1 >> 32 & 0xFFFF, tag = q1 >> 48;
    uint64_t errors = (q1 >> 29 & 1) | (q1 >> 30 & 1) << 6 | (q1 >> 31 & 1) << 7; /* RXE, TCPE, IPE */
    return length | (uint64_t)checksum << 16 | (q1 & status_bits) << 32 | errors << 40 | tag << 48;
}

/* Fill one buffer by DMA, and write its descriptor back with `status` and the length (7.1.6.2). `q0`: the low half of
 * an advanced write-back, or the fragment checksum of a legacy one. */
static INLINED bool write_buffer(struct nic *nic, struct rx_queue *queue, uint32_t number, const uint8_t *bytes,
                                 uint32_t length, uint64_t q0, uint64_t status, bool legacy)
{
    uint64_t iova = queue->base + 16ull * queue->head;
    struct descriptor *ring = queue->ring;
    struct descriptor *descriptor = ring ? &ring[queue->head] : dma_descriptor(nic, number, iova, DMA_BOTH);
    if (!descriptor)
        return false;
    PHASE(RX_DESCRIPTOR);
    uint64_t address = atomic_load_explicit(&descriptor->q0, memory_order_relaxed) & ~1ull; /* bit 0: no-snoop */
    if (!dma_write(nic, number, address, bytes, length))
        return false;
    PHASE(RX_COPY);
    status |= RX_DD | (uint64_t)length << 32;
    if (legacy)
        status = legacy_status(status, (uint32_t)q0), q0 = address;
    if (ring)
        prefetch_ahead(nic, queue, number, nic->function, ring);
    write_back(nic, descriptor, iova, q0, status);
    queue->head = queue->head + 1 == queue->size ? 0 : queue->head + 1;
    queue->free--;
    PHASE(RX_WRITE_BACK);
    return true;
}

static INLINED bool write_buffers(struct nic *nic, struct rx_queue *queue, uint32_t number, const uint8_t *bytes,
                                  uint32_t length, uint64_t q0, uint64_t status, bool legacy)
{
    for (; length > queue->buffer_size; bytes += queue->buffer_size, length -= queue->buffer_size)
        if (!write_buffer(nic, queue, number, bytes, queue->buffer_size, q0, status, legacy))
            return false;
    return write_buffer(nic, queue, number, bytes, length, q0, status | RX_EOP, legacy);
}

/* Whether all descriptors of a frame have arrived by messages, so that the frame is never left half-written. */
static bool descriptors_here(struct nic *nic, const struct rx_queue *queue, uint32_t number, uint32_t length)
{
    bool here = !remote_full(nic);
    for (uint32_t i = 0; i * queue->buffer_size < length; i++) {
        uint64_t iova = queue->base + 16ull * ((queue->head + i) % queue->size);
        here &= dma_descriptor(nic, number, iova, DMA_BOTH) || !dma_comes_later(nic);
    }
    return here;
}

/* Copy the frame into the queue's buffers. `q0`: as in write_buffer(). `tag`: the descriptor's VP and VLAN fields. */
static INLINED enum delivery place(struct nic *nic, const uint8_t *frame, uint32_t length, const struct class *class,
                                   uint64_t q0, uint64_t tag, bool legacy)
{
    uint32_t number = class->queue;
    struct rx_queue *queue = &nic->rx[number];
    if (!descriptors_free(nic, queue, number, length) || !nic->function->bus_master)
        return NO_DESCRIPTORS;
    if (nic->function->remote) {
        remote_work(nic, 0);
        if (!descriptors_here(nic, queue, number, length))
            return LATER;
    }
    if (!write_buffers(nic, queue, number, frame, length, q0, class->status | tag, legacy)) {
        queue->state = RX_STUCK;
        raise_other_cause(nic, F_CAUSES_PCI_EX_MASK);
        return QUEUE_OFF;
    }
    queue->packets++, queue->bytes += length;
    nic->rx_causes |= queue->cause;
    if (nic->function->remote)
        remote_used(nic);
    PHASE(RX_CAUSES);
    return DELIVERED;
}

/* Place a frame that keeps its CRC (HLREG0.RXCRCSTRP 0; a wrong one is in the frame already), loses its tag
 * (RXDCTL.VME) or goes to a legacy ring. */
static OUTLINED enum delivery place_altered(struct nic *nic, const uint8_t *frame, uint32_t length,
                                            const struct class *class)
{
    uint8_t altered[FRAME_MAX + CRC];
    uint64_t tag = 0;
    bool legacy = nic->rx[class->queue].state == RX_LEGACY;
    uint32_t checksum = legacy ? fragment_checksum(nic, frame, length, class) : 0;
    if (!nic->settings.strip_crc && !(class->status & RX_RXE)) {
        uint32_t crc = frame_check_sequence(frame, length);
        memcpy(altered, frame, length);
        memcpy(altered + length, &crc, CRC);
        frame = altered, length += CRC;
    }
    if (class->tagged && nic->rx[class->queue].strip_tag) {
        tag = RX_VP | (uint64_t)be16(frame + ADDRESSES + 2) << 48;
        memmove(altered, frame, ADDRESSES);
        memmove(altered + ADDRESSES, frame + ADDRESSES + VLAN_TAG, length - ADDRESSES - VLAN_TAG);
        frame = altered, length -= VLAN_TAG;
    }
    return legacy ? place(nic, frame, length, class, checksum, tag, true)
                  : place(nic, frame, length, class, class->q0, tag, false);
}

static enum delivery deliver_here(struct nic *nic, const uint8_t *frame, uint32_t length, const struct class *class)
{
    const struct rx_queue *queue = &nic->rx[class->queue];
    if (queue->state == RX_ADVANCED && nic->settings.unaltered && !(class->tagged && queue->strip_tag))
        return place(nic, frame, length, class, class->q0, 0, false);
    return queue->state < RX_LEGACY || nic->no_rx_writeback ? QUEUE_OFF : place_altered(nic, frame, length, class);
}

/* causes: of the pool's VF; 0 of none. */
static INLINED void pend_cause(struct nic *nic, uint32_t pool, uint32_t causes)
{
    if (causes)
        nic->vf[pool].pending |= causes, nic->vf_causes |= 1ull << pool;
}

/* Deliver to a queue of a pool: into the memory of its function, with the causes of its function. A pool may have been
 * closed (PFVFRE) while the frame waited for a descriptor. */
static OUTLINED enum delivery deliver_in_pool(struct nic *nic, const uint8_t *frame, uint32_t length,
                                              const struct class *class)
{
    uint32_t pool = class->queue >> nic->pools.shift, causes = nic->pools.vector[0][class->queue];
    if (!(nic->pools.receive >> pool & 1))
        return QUEUE_OFF;
    struct function *before = nic->function;
    nic->function = function_of(nic, class->queue);
    enum delivery delivery = deliver_here(nic, frame, length, class);
    nic->function = before;
    if (delivery != DELIVERED)
        return delivery;
    struct pool_counters *counters = &nic->pool_counters[pool];
    counters->gprc++, counters->gorc += length + CRC, counters->mprc += frame[0] & 1 && mac_of(frame) != BROADCAST;
    pend_cause(nic, pool, causes);
    return DELIVERED;
}

static enum delivery deliver(struct nic *nic, const uint8_t *frame, uint32_t length, const struct class *class)
{
    return nic->settings.pools ? deliver_in_pool(nic, frame, length, class) : deliver_here(nic, frame, length, class);
}

/* Count an undelivered frame as lost, unless it waits for a descriptor or for DMA. Returns whether it is lost. */
static bool dropped(struct nic *nic, const struct class *class, enum delivery delivery)
{
    if (delivery == LATER || (delivery == NO_DESCRIPTORS && !nic->rx[class->queue].drop_en))
        return false;
    nic->counters.qprdc[counter_set(nic, R_RQSMR, class->queue)]++; /* a queue that is off loses frames too */
    return true;
}

/* Deliver stored frames in order. A frame without descriptor, and without DROP_EN, blocks all later ones (7.1.4). */
static uint32_t buffer_drain(struct nic *nic)
{
    uint32_t moved = 0;
    while (nic->buffer.used) {
        struct stored stored = buffer_front(&nic->buffer);
        const uint8_t *frame = nic->buffer.bytes + nic->buffer.read + sizeof stored;
        if (stored.class.queue != NO_QUEUE) {
            enum delivery delivery = deliver(nic, frame, stored.length, &stored.class);
            if (delivery != DELIVERED && !dropped(nic, &stored.class, delivery))
                break;
        }
        buffer_pop(&nic->buffer, stored.length);
        moved++;
    }
    return moved;
}

/* ---- frames in ---- */

static bool receiving(const struct nic *nic)
{
    return nic->settings.receive && (nic->link_up || nic->settings.loopback);
}

static INLINED void store(struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class)
{
    if (!nic->buffer.used) {
        enum delivery delivery = deliver(nic, frame, length, class);
        if (delivery == DELIVERED || dropped(nic, class, delivery))
            return;
    }
    if (!buffer_push(&nic->buffer, frame, length, class))
        nic->counters.mpc++;
    pause_other_end(nic);
}

/* The queue of a pool for a frame's user priority: each traffic class has one queue in each pool (MRQC 12 and 13). */
static uint32_t traffic_class(const struct nic *nic, const uint8_t *frame, const struct class *class)
{
    uint32_t priority = class->tagged ? frame[ADDRESSES + 2] >> 5 : 0;
    return reg_load(nic, R_RTRUP2TC) >> 3 * priority & 7;
}

/* A copy for each of these pools. The RSS index or the traffic class chooses the queue of the pool (7.10.3.2), unless a
 * filter does. */
static OUTLINED void receive_in_pools(struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class,
                                      uint64_t pools)
{
    const uint32_t rss_index = class->queue;
    uint32_t index = nic->pools.classes ? traffic_class(nic, frame, class) : rss_index;
    for (; pools; pools &= pools - 1) {
        uint32_t pool = (uint32_t)__builtin_ctzll(pools);
        uint32_t queue = pool << nic->pools.shift | (index & nic->pools.index_mask[pool]);
        if (nic->settings.steering)
            class->queue = rss_index, queue = steer_in_pool(nic, frame, length, class, pool, queue);
        class->queue = queue;
        store(nic, frame, length, class);
    }
    class->queue = rss_index;
}

/* A frame of pool `from` to other pools. Returns whether the wire does not get it.
 * ASSUMPTION (datasheet not at hand): the port's receive counters do not count it, because it does not come from the
 * MAC. */
bool receive_switched(struct nic *nic, const uint8_t *frame, uint32_t length, uint32_t from)
{
    struct class class;
    bool local;
    if (nic->settings.steering || nic->settings.vlan_type == 0x0800 || !classify_usual(nic, frame, length, &class))
        classify(nic, frame, length, &class);
    bool in_table = frame[0] & 1 && multicast_table_match(nic, frame);
    uint64_t pools = pools_of_switched(nic, frame, class.tagged, in_table, from, &local);
    if (nic->settings.steering)
        pools = pools_of_type(nic, &class, pools) & ~(1ull << from & ~nic->pools.keeps_own);
    if (nic->pools.mirror_count)
        pools = mirrored(nic, frame, class.tagged, pools, false, !local);
    class.status |= RX_LB;
    receive_in_pools(nic, frame, length, &class, pools);
    return local;
}

static __attribute__((flatten)) void receive(struct nic *nic, const uint8_t *frame, uint32_t length,
                                             struct class *class)
{
    if (!mac_accepts(nic, frame, length, class))
        return;
    PHASE(RX_ACCEPT);
    if (nic->settings.pools)
        receive_in_pools(nic, frame, length, class, nic->selected);
    else
        store(nic, frame, length, class);
}

/* Most frames have up to 64 bytes: these need no loop and no call. `length` is at least FRAME_MIN. Four copies of 16
 * bytes are four loads and stores. Of a copy of 48 bytes gcc 12 makes REP MOVS, which took 6 ns longer for a frame in
 * tests/bench/engine.py. */
static INLINED void copy_frame(uint8_t *to, const uint8_t *from, uint32_t length)
{
    if (length <= CACHE_LINE) {
        for (uint32_t at = 0; at < 48; at += 16)
            memcpy(to + at, from + at, 16);
        memcpy(to + length - 16, from + length - 16, 16);
    } else {
        memcpy(to, from, length);
    }
}

/* Place a usual frame into one buffer of its queue, in the memory of `function`. Returns false where the long way has to
 * look; nothing has changed then. */
static INLINED bool place_usual(struct nic *nic, const struct function *function, const uint8_t *frame, uint32_t length,
                                const struct class *class)
{
    struct rx_queue *queue = &nic->rx[class->queue];
    struct descriptor *ring = queue->ring;
    if (queue->state != RX_ADVANCED || !queue->free || length > queue->buffer_size || !ring)
        return false;
    struct descriptor *descriptor = &ring[queue->head];
    uint64_t address = atomic_load_explicit(&descriptor->q0, memory_order_relaxed) & ~1ull; /* bit 0: no-snoop */
    uint8_t *buffer = recent_reach(&function->recent[BUFFERS][DMA_WRITE], address, length);
    if (!buffer)
        return false;
    PHASE(RX_ACCEPT);
    copy_frame(buffer, frame, length);
    PHASE(RX_COPY);
    prefetch_ahead(nic, queue, class->queue, function, ring);
    PHASE(RX_DESCRIPTOR);
    queue->head = queue->head + 1 == queue->size ? 0 : queue->head + 1;
    queue->free--;
    queue->packets++, queue->bytes += length;
    nic->rx_causes |= queue->cause;
    PHASE(RX_CAUSES);
    write_back_later(nic, descriptor, class->q0, class->status | RX_DD | RX_EOP | (uint64_t)length << 32);
    PHASE(RX_WRITE_BACK);
    return true;
}

static INLINED void count_from_wire(struct nic *nic, uint32_t length)
{
    nic->counters.gorc += length + CRC, nic->counters.prc[size_bin(length + CRC)]++;
}

/* Receive a usual frame to this port: the work of classify() and receive() without their cases. Returns false for any
 * other frame; nothing has changed then. */
static INLINED bool receive_usual(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    struct class class;
    if (length - FRAME_MIN >= nic->settings.usual_lengths || nic->buffer.used ||
        (word8(frame) & BROADCAST) != nic->settings.own || !classify_usual(nic, frame, length, &class))
        return false;
    PHASE(RX_CLASSIFY);
    if (!place_usual(nic, nic->function, frame, length, &class))
        return false;
    count_from_wire(nic, length);
    return true;
}

/* The same for a pool that alone receives the frame, from the wire or (RX_LB) from another pool. */
static INLINED bool receive_usual_in_pool(struct nic *nic, const uint8_t *frame, uint32_t length, uint32_t pool,
                                          uint32_t status)
{
    struct class class;
    if (!classify_usual(nic, frame, length, &class))
        return false;
    PHASE(RX_CLASSIFY);
    class.queue = pool << nic->pools.shift | (class.queue & nic->pools.index_mask[pool]);
    class.status |= status;
    uint32_t causes = nic->pools.vector[0][class.queue];
    if (!place_usual(nic, function_of(nic, class.queue), frame, length, &class))
        return false;
    nic->pool_counters[pool].gprc++, nic->pool_counters[pool].gorc += length + CRC;
    pend_cause(nic, pool, causes);
    return true;
}

/* VT mode: as receive_usual(). */
static OUTLINED bool receive_usual_in_pools(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    if (length - FRAME_MIN >= nic->pools.usual_lengths || nic->buffer.used)
        return false;
    uint32_t pool =
        (word8(frame) & BROADCAST) == nic->pools.last_address ? nic->pools.last_pool : pool_of_usual(nic, frame);
    if (pool == NO_POOL || !receive_usual_in_pool(nic, frame, length, pool, 0))
        return false;
    count_from_wire(nic, length);
    return true;
}

/* A frame of another pool, which `pool` alone receives. Returns false when receive_switched() has to look; nothing has
 * changed then. */
bool receive_switched_usual(struct nic *nic, const uint8_t *frame, uint32_t length, uint32_t pool)
{
    return length - FRAME_MIN < nic->pools.usual_lengths && !nic->buffer.used && nic->pools.usual >> pool & 1 &&
           receive_usual_in_pool(nic, frame, length, pool, RX_LB);
}

/* A frame comes in, from the wire or from MAC loopback, perhaps before this NIC has been stepped after a freeze. */
void mac_receive(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    if (nic->settings.stale)
        settings_read(nic);
    if (!receiving(nic))
        return;
    PHASE(TX_WIRE);
    if (receive_usual(nic, frame, length) || (nic->settings.pools && receive_usual_in_pools(nic, frame, length)))
        return;
    struct class class;
    classify(nic, frame, length, &class);
    PHASE(RX_CLASSIFY);
    receive(nic, frame, length, &class);
}

/* A frame comes in whose CRC, the four bytes after `length`, is wrong. FCTRL.SBP stores it, its descriptor with RXE. */
OUTLINED void mac_receive_damaged(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    struct class class;
    if (nic->settings.stale)
        settings_read(nic);
    if (!receiving(nic))
        return;
    classify(nic, frame, length, &class);
    if (!mac_stores_damaged(nic, frame, length, &class))
        return;
    class.status |= RX_RXE;
    length += nic->settings.strip_crc ? 0 : CRC;
    if (nic->settings.pools)
        receive_in_pools(nic, frame, length, &class, nic->selected);
    else
        store(nic, frame, length, &class);
}

/* Without pace, a wire with its own frames (source, playback, tap) waits for a descriptor instead of losing frames. */
static bool has_descriptor(struct nic *nic, const uint8_t *frame, const struct class *class, uint32_t length)
{
    uint32_t number = class->queue;
    struct function *function = nic->function;
    if (nic->settings.pools) {
        /* a frame to another function must not wait behind this one */
        uint32_t pool = nic->wire.to_one && nic->pools.plain ? pool_of_usual(nic, frame) : NO_POOL;
        if (pool == NO_POOL)
            return true;
        number = pool << nic->pools.shift | (number & nic->pools.index_mask[pool]);
        function = function_of(nic, number);
    }
    struct rx_queue *queue = &nic->rx[number];
    if (queue->state < RX_LEGACY || nic->no_rx_writeback)
        return true; /* lost in any case, and counted */
    if (function->bus_master && descriptors_free(nic, queue, number, length + CRC))
        return true;
    /* no number of descriptors is enough: lost in any case */
    return length >= FRAME_MAX || length + CRC > (queue->size - 1) * (uint64_t)queue->buffer_size;
}

/* A sender's MAC pads short frames (802.3 4.2.8); those of a capture or a TAP are not padded. */
static const uint8_t *padded(const uint8_t *frame, uint32_t *length, uint8_t *space)
{
    if (*length >= FRAME_MIN)
        return frame;
    memset(space, 0, FRAME_MIN);
    memcpy(space, frame, *length);
    *length = FRAME_MIN;
    return space;
}

uint32_t receive_step(struct nic *nic, uint64_t now_ns)
{
    struct wire *wire = &nic->wire;
    uint32_t moved = buffer_drain(nic);
    if (nic->pausing)
        pause_other_end(nic);
    nic->rx_free_ps = wire_free(nic->rx_free_ps, now_ns, nic->rx_busy);
    nic->rx_busy = false;
    if (!receiving(nic) || !wire->offer || !nic->settings.wired)
        return moved;
    PHASE(ROUND);
    for (uint32_t i = 0; i < nic->step_frames; i++) {
        uint8_t space[FRAME_MIN];
        uint32_t length;
        const uint8_t *frame = wire->offer(nic, &length);
        nic->rx_busy = frame;
        if (!frame || (nic->paced && nic->rx_free_ps > now_ns * 1000))
            break;
        frame = padded(frame, &length, space);
        PHASE(RX_OFFER);
        if (!receive_usual(nic, frame, length) &&
            !(nic->settings.pools && receive_usual_in_pools(nic, frame, length))) {
            struct class class;
            classify(nic, frame, length, &class);
            PHASE(RX_CLASSIFY);
            if (!nic->paced && (nic->buffer.used || !has_descriptor(nic, frame, &class, length)))
                break;
            receive(nic, frame, length, &class);
        }
        wire->taken(nic);
        nic->rx_free_ps += wire_time_ps(length);
        moved++;
    }
    return moved;
}
