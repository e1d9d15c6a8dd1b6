/* Receive (82599 7.1): MAC checks, L2 filters, queue by RSS, packet buffer, descriptors written back. */
#include <stdlib.h>
#include <string.h>

#include "nic.h"

enum {
    ETHERNET = 14, ADDRESSES = 12, VLAN_TAG = 4,
    RX_DD = 1, RX_EOP = 2, RX_VP = 1 << 3, RX_PIF = 1 << 7, RX_LB = 1 << 18, /* extended status, Q1[19:0] (7.1.6.2) */
    PACKET_TYPE_IPV4 = 0x10, PACKET_TYPE_IPV4E = 0x20, PACKET_TYPE_IPV6 = 0x40,
    PACKET_TYPE_TCP = 0x100, PACKET_TYPE_UDP = 0x200, PACKET_TYPE_SCTP = 0x400,
    IP_TCP = 6, IP_UDP = 17, IP_SCTP = 132,
    PARSED = 64, /* bytes of a frame that decide its class: Ethernet, one VLAN tag, IPv6, ports */
};

/* What the filters decided about a frame. */
struct class {
    uint32_t queue;
    uint32_t status; /* PIF, LB, what was found out about checksums */
    bool tagged;
    uint64_t q0;     /* RSS type, packet type, hash: the low half of the write-back */
};

/* A frame in the packet buffer: this, then its bytes. length 0: the rest up to the end is unused. */
struct stored {
    uint32_t length;
    struct class class;
};

static uint32_t be16(const uint8_t *bytes) { return (uint32_t)bytes[0] << 8 | bytes[1]; }

/* ---- L2 filters (7.1.1) ---- */

static bool exact_match(const struct nic *nic, uint64_t address) {
    for (uint32_t i = 0; i < nic->address_count; i++)
        if (nic->addresses[i] == address)
            return true;
    return false;
}

/* MTA: 12 bits of the destination's last two bytes, which ones MCSTCTRL.MO says (8.2.3.7.3, 8.2.3.7.7). */
static bool multicast_table_match(const struct nic *nic, const uint8_t *destination) {
    uint32_t control = reg_load(nic, R_MCSTCTRL);
    if (!(control & F_MCSTCTRL_MFE_MASK))
        return false;
    uint32_t last = destination[4] | (uint32_t)destination[5] << 8;
    uint32_t hash = last >> (4 - (control & F_MCSTCTRL_MO_MASK)) & 0xFFF;
    return reg_load(nic, R_MTA + 4 * (hash / 32)) >> hash % 32 & 1;
}

static bool is_tagged(const struct nic *nic, const uint8_t *frame) {
    return be16(frame + ADDRESSES) == (reg_load(nic, R_VLNCTRL) & F_VLNCTRL_VET_MASK);
}

/* VFTA: a bit a VLAN, when VLNCTRL.VFE asks for it; frames without a tag are not its concern (7.1.1.2). */
static bool passes_vlan_filter(const struct nic *nic, const uint8_t *frame) {
    if (!(reg_load(nic, R_VLNCTRL) & F_VLNCTRL_VFE_MASK) || !is_tagged(nic, frame))
        return true;
    uint32_t vlan = be16(frame + ADDRESSES + 2) & 0xFFF;
    return reg_load(nic, R_VFTA + 4 * (vlan / 32)) >> vlan % 32 & 1;
}

static bool passes_filters(const struct nic *nic, const uint8_t *frame, uint32_t *status) {
    uint32_t control = reg_load(nic, R_FCTRL);
    uint64_t destination = mac_of(frame);
    /* ASSUMPTION: MPE lets broadcast through too; a broadcast address is a multicast address. */
    if (destination == BROADCAST)
        return control & (F_FCTRL_BAM_MASK | F_FCTRL_MPE_MASK);
    if (exact_match(nic, destination))
        return true;
    if (!(frame[0] & 1))
        return control & F_FCTRL_UPE_MASK;
    if (control & F_FCTRL_MPE_MASK)
        return true;
    *status |= RX_PIF;
    return multicast_table_match(nic, frame);
}

/* Addresses with RAH.AV, gathered when the driver changed one. */
void nic_addresses_changed(struct nic *nic) {
    nic->address_count = 0;
    for (uint32_t i = 0; i < QUEUES; i++) {
        uint32_t low = reg_load(nic, R_RAL + 8 * i), high = reg_load(nic, R_RAH + 8 * i);
        if (high & F_RAH_AV_MASK)
            nic->addresses[nic->address_count++] = low | (uint64_t)(high & F_RAH_RAH_MASK) << 32;
    }
}

/* ---- RSS (7.1.2.8) ---- */

/* 32 bits of the key from bit `position` on. */
static uint32_t key_window(const uint8_t *key, uint32_t position) {
    uint64_t window = 0;
    for (uint32_t i = 0; i < 8; i++)
        window = window << 8 | (position / 8 + i < 40 ? key[position / 8 + i] : 0);
    return (uint32_t)(window >> (32 - position % 8));
}

/* The Toeplitz hash is linear: a table a byte position, made anew when the driver writes RSSRK. */
void nic_rss_key_changed(struct nic *nic) {
    uint8_t key[40];
    for (uint32_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)(reg_load(nic, R_RSSRK + 4 * (i / 4)) >> 8 * (i % 4));
    for (uint32_t position = 0; position < 36; position++)
        for (uint32_t value = 0; value < 256; value++) {
            uint32_t hash = 0;
            for (uint32_t b = 0; b < 8; b++)
                if (value & 0x80u >> b)
                    hash ^= key_window(key, 8 * position + b);
            nic->rss_table[position][value] = hash;
        }
}

static uint32_t toeplitz(const struct nic *nic, uint32_t position, const uint8_t *bytes, uint32_t count) {
    uint32_t hash = 0;
    for (uint32_t i = 0; i < count; i++)
        hash ^= nic->rss_table[position + i][bytes[i]];
    return hash;
}

/* Where the addresses and ports of a frame are; ports 0 when there are none to hash. */
struct flow {
    uint32_t packet_type, addresses, address_bytes, ports, protocol;
};

static struct flow parse(const struct nic *nic, const uint8_t *frame, uint32_t length) {
    struct flow flow = {0};
    uint32_t at = ETHERNET, type = be16(frame + 12);
    if (is_tagged(nic, frame) && length >= ETHERNET + VLAN_TAG)
        at += VLAN_TAG, type = be16(frame + 16);
    if (type == 0x0800 && length >= at + 20 && frame[at] >> 4 == 4) {
        uint32_t header = 4u * (frame[at] & 0xF);
        bool fragment = be16(frame + at + 6) & 0x3FFF;
        flow = (struct flow){header > 20 ? PACKET_TYPE_IPV4E : PACKET_TYPE_IPV4, at + 12, 8, 0, frame[at + 9]};
        if (!fragment && header >= 20 && length >= at + header + 4)
            flow.ports = at + header;
    } else if (type == 0x86DD && length >= at + 40 && frame[at] >> 4 == 6) {
        flow = (struct flow){PACKET_TYPE_IPV6, at + 8, 32, 0, frame[at + 6]};
        if (length >= at + 44)
            flow.ports = at + 40;
    } else {
        return flow;
    }
    if (flow.protocol == IP_TCP)
        flow.packet_type |= PACKET_TYPE_TCP;
    else if (flow.protocol == IP_UDP)
        flow.packet_type |= PACKET_TYPE_UDP;
    else if (flow.protocol == IP_SCTP)
        flow.packet_type |= PACKET_TYPE_SCTP;
    return flow;
}

/* The hash type MRQC allows for a flow (7.1.2.8): the L4 kinds first; 0 when none. */
static uint32_t rss_type(uint32_t mrqc, const struct flow *flow) {
    bool v4 = flow->address_bytes == 8, tcp = flow->ports && flow->protocol == IP_TCP, udp = flow->ports && flow->protocol == IP_UDP;
    if (v4)
        return tcp && mrqc & F_MRQC_TCPIPV4_MASK ? 1 : udp && mrqc & F_MRQC_UDPIPV4_MASK ? 7 : mrqc & F_MRQC_IPV4_MASK ? 2 : 0;
    return tcp && mrqc & F_MRQC_TCPIPV6_MASK ? 3 : udp && mrqc & F_MRQC_UDPIPV6_MASK ? 8 : mrqc & F_MRQC_IPV6_MASK ? 5 : 0;
}

/* Queue, packet type and hash. Without a hash the frame goes to queue 0. */
static void choose_queue(const struct nic *nic, const uint8_t *frame, const struct flow *flow, struct class *class) {
    uint32_t mrqc = reg_load(nic, R_MRQC);
    class->q0 = flow->packet_type;
    if ((mrqc & F_MRQC_MRQE_MASK) != 1 || !flow->packet_type)
        return;
    uint32_t type = rss_type(mrqc, flow);
    if (!type)
        return;
    uint32_t hash = toeplitz(nic, 0, frame + flow->addresses, flow->address_bytes);
    if (type != 2 && type != 5)
        hash ^= toeplitz(nic, flow->address_bytes, frame + flow->ports, 4);
    uint32_t entry = hash & 0x7F;
    class->queue = reg_load(nic, R_RETA + 4 * (entry / 4)) >> 8 * (entry % 4) & 0xF;
    class->q0 |= type;
    if (reg_load(nic, R_RXCSUM) & F_RXCSUM_PCSD_MASK)
        class->q0 |= (uint64_t)hash << 32;
}

/* ---- MAC: lengths and counters (8.2.3.23) ---- */

static uint32_t longest_frame(const struct nic *nic) {
    if (reg_load(nic, R_HLREG0) & F_HLREG0_JUMBOEN_MASK)
        return reg_load(nic, R_MAXFRS) >> F_MAXFRS_MFS_SHIFT;
    return 1518;
}

/* True when the frame is for this port; `class` then says where it goes. Counts it either way. */
static bool mac_accepts(struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class) {
    struct counters *counters = &nic->counters;
    uint32_t bytes = length + CRC;
    counters->tpr++, counters->tor += bytes;
    if (length < FRAME_MIN) {
        counters->ruc++;
        return false;
    }
    /* A VLAN tag does not make a frame too long (8.2.3.22.13). */
    class->tagged = is_tagged(nic, frame);
    if (bytes > longest_frame(nic) + (class->tagged ? VLAN_TAG : 0)) {
        counters->roc++;
        return false;
    }
    if (!passes_filters(nic, frame, &class->status) || !passes_vlan_filter(nic, frame))
        return false;
    counters->gprc++, counters->gorc += bytes, counters->prc[size_bin(bytes)]++;
    if (frame[0] & 1)
        *(mac_of(frame) == BROADCAST ? &counters->bprc : &counters->mprc) += 1;
    if (reg_load(nic, R_HLREG0) & F_HLREG0_LPBK_MASK)
        class->status |= RX_LB;
    struct flow flow = parse(nic, frame, length);
    choose_queue(nic, frame, &flow, class);
    if (flow.packet_type) {
        bool v4 = flow.address_bytes == 8;
        class->status |= checksum_status(frame, length, flow.addresses - (v4 ? 12 : 8), v4, flow.ports, flow.protocol);
    }
    return true;
}

/* ---- descriptors (7.1.6) ---- */

static uint32_t frame_check_sequence(const uint8_t *frame, uint32_t length) {
    uint32_t crc = ~0u;
    for (uint32_t i = 0; i < length; i++) {
        crc ^= frame[i];
        for (uint32_t b = 0; b < 8; b++)
            crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
    }
    return ~crc;
}

enum delivery { DELIVERED, NO_DESCRIPTORS, QUEUE_OFF, LATER };

static uint32_t descriptors_free(const struct nic *nic, struct rx_queue *queue, uint32_t number) {
    /* acquire: pairs with the driver's barrier before its tail store; descriptors before the tail are complete */
    uint32_t tail = atomic_load_explicit(&nic->regs[rx_offset(R_RDT, number) / 4], memory_order_acquire);
    if (tail >= queue->size)
        return 0;
    return tail >= queue->head ? tail - queue->head : tail + queue->size - queue->head;
}

/* One buffer's worth: DMA the bytes, then write the descriptor back, length and DD last (7.1.6.2). */
static bool write_buffer(struct nic *nic, struct rx_queue *queue, uint32_t number, const uint8_t *bytes, uint32_t length,
                         const struct class *class, uint64_t tag, bool last) {
    uint64_t iova = queue->base + 16ull * queue->head;
    struct descriptor *descriptor = dma_descriptor(nic, number, iova, DMA_BOTH);
    if (!descriptor)
        return false;
    uint64_t address = atomic_load_explicit(&descriptor->q0, memory_order_relaxed) & ~1ull; /* bit 0: no-snoop */
    if (!dma_write(nic, number, address, bytes, length))
        return false;
    uint64_t q1 = RX_DD | (last ? RX_EOP : 0) | class->status | tag | (uint64_t)length << 32;
    dma_write_descriptor(nic, descriptor, iova, class->q0, q1);
    queue->head = queue->head + 1 == queue->size ? 0 : queue->head + 1;
    reg_store(nic, rx_offset(R_RDH, number), queue->head);
    return true;
}

/* Where messages reach the ring: whether the next descriptors are here, so that a frame once begun is not held up. */
static bool descriptors_here(struct nic *nic, const struct rx_queue *queue, uint32_t number, uint32_t needed) {
    bool here = !remote_full(nic);
    for (uint32_t i = 0; i < needed; i++) {
        uint64_t iova = queue->base + 16ull * ((queue->head + i) % queue->size);
        here &= dma_descriptor(nic, number, iova, DMA_BOTH) || !dma_comes_later(nic);
    }
    return here;
}

static enum delivery deliver(struct nic *nic, const uint8_t *frame, uint32_t length, const struct class *class) {
    uint32_t number = class->queue;
    struct rx_queue *queue = &nic->rx[number];
    if (!queue->enabled || queue->stuck)
        return QUEUE_OFF;
    uint8_t checked[FRAME_MAX + CRC];
    if (!(reg_load(nic, R_HLREG0) & F_HLREG0_RXCRCSTRP_MASK)) {
        uint32_t crc = frame_check_sequence(frame, length);
        memcpy(checked, frame, length);
        memcpy(checked + length, &crc, CRC);
        frame = checked, length += CRC;
    }
    uint64_t tag = 0; /* the descriptor's VP and VLAN fields */
    if (class->tagged && reg_load(nic, rx_offset(R_RXDCTL, number)) & F_RXDCTL_VME_MASK) {
        tag = RX_VP | (uint64_t)be16(frame + ADDRESSES + 2) << 48;
        memmove(checked, frame, ADDRESSES);
        memmove(checked + ADDRESSES, frame + ADDRESSES + VLAN_TAG, length - ADDRESSES - VLAN_TAG);
        frame = checked, length -= VLAN_TAG;
    }
    uint32_t needed = (length + queue->buffer_size - 1) / queue->buffer_size;
    if (descriptors_free(nic, queue, number) < needed || !nic->bus_master)
        return NO_DESCRIPTORS;
    if (nic->remote && !descriptors_here(nic, queue, number, needed))
        return LATER;
    for (uint32_t at = 0; at < length; at += queue->buffer_size) {
        uint32_t piece = length - at < queue->buffer_size ? length - at : queue->buffer_size;
        if (!write_buffer(nic, queue, number, frame + at, piece, class, tag, at + piece == length)) {
            queue->stuck = true;
            raise_other_cause(nic, F_CAUSES_PCI_EX_MASK);
            return QUEUE_OFF;
        }
    }
    uint32_t set = counter_set(nic, R_RQSMR, number);
    nic->counters.qprc[set]++, nic->counters.qbrc[set] += length;
    if (nic->remote)
        remote_used(nic);
    raise_queue_cause(nic, reg_load(nic, R_IVAR + 4 * (number / 2)) >> 16 * (number % 2) & 0xFF);
    return DELIVERED;
}

/* A frame that found no descriptor: dropped and counted by queue when it may be, else kept by the caller. */
static bool dropped(struct nic *nic, const struct class *class, enum delivery delivery) {
    if (delivery == LATER || (delivery == NO_DESCRIPTORS && !nic->rx[class->queue].drop_en))
        return false;
    nic->counters.qprdc[counter_set(nic, R_RQSMR, class->queue)]++;
    return true;
}

/* ---- packet buffer ---- */

void packet_buffer_reset(struct nic *nic) {
    struct packet_buffer *buffer = &nic->buffer;
    buffer->size = ((reg_load(nic, R_RXPBSIZE) & F_RXPBSIZE_SIZE_MASK) >> F_RXPBSIZE_SIZE_SHIFT) * 1024;
    buffer->read = buffer->write = buffer->used = 0;
}

static uint32_t stored_size(uint32_t length) {
    return ((uint32_t)sizeof(struct stored) + length + 15u) & ~15u;
}

static bool buffer_push(struct packet_buffer *buffer, const uint8_t *frame, uint32_t length, const struct class *class) {
    uint32_t size = stored_size(length), to_end = buffer->size - buffer->write;
    uint32_t skipped = size > to_end ? to_end : 0;
    if (buffer->used + size + skipped > buffer->size)
        return false;
    if (skipped) {
        if (skipped >= sizeof(struct stored))
            memcpy(buffer->bytes + buffer->write, &(struct stored){0}, sizeof(struct stored));
        buffer->write = 0;
        buffer->used += skipped;
    }
    struct stored stored = {length, *class};
    memcpy(buffer->bytes + buffer->write, &stored, sizeof stored);
    memcpy(buffer->bytes + buffer->write + sizeof stored, frame, length);
    buffer->write = buffer->write + size == buffer->size ? 0 : buffer->write + size;
    buffer->used += size;
    return true;
}

/* The oldest stored frame's header; steps over the unused end. Only when `used` is not 0. */
static struct stored buffer_front(struct packet_buffer *buffer) {
    struct stored stored = {0};
    uint32_t to_end = buffer->size - buffer->read;
    if (to_end >= sizeof stored)
        memcpy(&stored, buffer->bytes + buffer->read, sizeof stored);
    if (!stored.length) {
        buffer->used -= to_end, buffer->read = 0;
        memcpy(&stored, buffer->bytes, sizeof stored);
    }
    return stored;
}

static void buffer_pop(struct packet_buffer *buffer, uint32_t length) {
    uint32_t size = stored_size(length);
    buffer->read = buffer->read + size == buffer->size ? 0 : buffer->read + size;
    buffer->used -= size;
}

/* In order, and a frame whose queue has no descriptor and no DROP_EN holds up all behind it (7.1.4). */
static uint32_t buffer_drain(struct nic *nic) {
    uint32_t moved = 0;
    while (nic->buffer.used) {
        struct stored stored = buffer_front(&nic->buffer);
        const uint8_t *frame = nic->buffer.bytes + nic->buffer.read + sizeof stored;
        enum delivery delivery = deliver(nic, frame, stored.length, &stored.class);
        if (delivery != DELIVERED && !dropped(nic, &stored.class, delivery))
            break;
        buffer_pop(&nic->buffer, stored.length);
        moved++;
    }
    return moved;
}

/* ---- frames in ---- */

static bool receiving(const struct nic *nic) {
    return nic->link_up && reg_load(nic, R_RXCTRL) & F_RXCTRL_RXEN_MASK
        && !(reg_load(nic, R_SECRXCTRL) & F_SECRXCTRL_RX_DIS_MASK);
}

/* A frame arrives, whether there is room for it or not. */
void mac_receive(struct nic *nic, const uint8_t *frame, uint32_t length) {
    struct class class = {0};
    if (!receiving(nic) || !mac_accepts(nic, frame, length, &class))
        return;
    if (!nic->buffer.used) {
        enum delivery delivery = deliver(nic, frame, length, &class);
        if (delivery == DELIVERED || dropped(nic, &class, delivery))
            return;
    }
    if (!buffer_push(&nic->buffer, frame, length, &class))
        nic->counters.mpc++;
}

/* Flat out, a wire with frames of its own (source, playback, tap) waits for a descriptor instead of losing frames. */
static bool has_descriptor(struct nic *nic, const uint8_t *frame, uint32_t length) {
    struct class class = {0};
    struct flow flow = parse(nic, frame, length);
    choose_queue(nic, frame, &flow, &class);
    struct rx_queue *queue = &nic->rx[class.queue];
    if (!queue->enabled || queue->stuck || length >= FRAME_MAX)
        return true; /* lost either way, and counted */
    return nic->bus_master && descriptors_free(nic, queue, class.queue) * (uint64_t)queue->buffer_size >= length + CRC;
}

/* The sender's MAC filled short frames up (802.3 4.2.8); a capture or a TAP has them without that. */
static const uint8_t *padded(const uint8_t *frame, uint32_t *length, uint8_t *space) {
    if (*length >= FRAME_MIN)
        return frame;
    memset(space, 0, FRAME_MIN);
    memcpy(space, frame, *length);
    *length = FRAME_MIN;
    return space;
}

uint32_t receive_step(struct nic *nic, uint64_t now_ns) {
    struct wire *wire = &nic->wire;
    uint32_t moved = buffer_drain(nic);
    nic->rx_free_ps = wire_free(nic->rx_free_ps, now_ns, nic->rx_busy);
    nic->rx_busy = false;
    if (!receiving(nic) || !wire->offer)
        return moved;
    for (uint32_t i = 0; i < nic->step_frames; i++) {
        uint8_t space[PARSED];
        uint32_t length;
        const uint8_t *frame = wire->offer(nic, &length);
        nic->rx_busy = frame;
        if (!frame || (nic->paced && nic->rx_free_ps > now_ns * 1000))
            break;
        frame = padded(frame, &length, space);
        if (!nic->paced && (nic->buffer.used || !has_descriptor(nic, frame, length)))
            break;
        mac_receive(nic, frame, length);
        wire->taken(nic);
        nic->rx_free_ps += (uint64_t)(length + CRC + WIRE_OVERHEAD) * PS_PER_BYTE;
        moved++;
    }
    return moved;
}

/* Python's RXDCTL and SRRCTL hooks: take the queue's registers over, or let it go. */
void nic_rx_queue_changed(struct nic *nic, uint32_t number) {
    struct rx_queue *queue = &nic->rx[number];
    bool enable = reg_load(nic, rx_offset(R_RXDCTL, number)) & F_RXDCTL_ENABLE_MASK;
    uint32_t control = reg_load(nic, rx_offset(R_SRRCTL, number));
    queue->drop_en = control & F_SRRCTL_DROP_EN_MASK;
    if (enable == queue->enabled)
        return;
    queue->enabled = enable, queue->stuck = false;
    if (nic->remote)
        remote_forget(nic);
    if (!enable)
        return;
    queue->base = reg_load(nic, rx_offset(R_RDBAL, number)) | (uint64_t)reg_load(nic, rx_offset(R_RDBAH, number)) << 32;
    queue->size = reg_load(nic, rx_offset(R_RDLEN, number)) / 16;
    queue->head = reg_load(nic, rx_offset(R_RDH, number));
    queue->buffer_size = (control & F_SRRCTL_BSIZEPACKET_MASK) * 1024;
    queue->descriptor_type = (control & F_SRRCTL_DESCTYPE_MASK) >> F_SRRCTL_DESCTYPE_SHIFT;
    if (!queue->buffer_size)
        report(nic, FINDING_RX_BUFFER_SIZE, number, control, 0);
    if (queue->descriptor_type != 1)
        report(nic, FINDING_RX_DESCRIPTOR_TYPE, number, queue->descriptor_type, 1);
    if (!queue->buffer_size || queue->descriptor_type != 1 || !queue->size)
        queue->stuck = true;
    if (queue->head >= queue->size)
        queue->head = 0;
    /* A tail written before the queue was enabled is lost (4.6.7). */
    reg_store(nic, rx_offset(R_RDT, number), queue->head);
}

/* RDH written: where the queue goes on. */
void nic_rx_head_changed(struct nic *nic, uint32_t number) {
    uint32_t head = reg_load(nic, rx_offset(R_RDH, number));
    if (head < nic->rx[number].size)
        nic->rx[number].head = head;
    if (nic->remote)
        remote_forget(nic);
}
