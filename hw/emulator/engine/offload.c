/* Transmit offloads (82599 7.2.4, 7.2.5): checksums, VLAN tags, and segmentation of one large TCP or UDP send. A
 * context descriptor gives the offsets of the headers; a frame's first data descriptor selects the offloads. */
#include <string.h>

#include "transmit.h"

enum {
    L4_UDP = 0,
    L4_TCP = 1,
    L4_SCTP = 2,
    IP_TOTAL_LENGTH = 2,
    IP_ID = 4,
    IP_CHECKSUM = 10,
    IP6_PAYLOAD_LENGTH = 4,
    IP6_HEADER = 40,
    UDP_LENGTH = 4,
    UDP_CHECKSUM = 6,
    TCP_SEQUENCE = 4,
    TCP_FLAGS = 12,
    TCP_CHECKSUM = 16,
    SCTP_CHECKSUM = 8,
    /* The TCP flags, of 12, that a segment keeps: reset values of DTXTCPFLGL and DTXTCPFLGH (8.2.3.9.3, 8.2.3.9.4).
     * Only the last segment has FIN and PSH, only the first has CWR. */
    FLAGS_FIRST = 0xFF6,
    FLAGS_MIDDLE = 0xF76,
    FLAGS_LAST = 0xF7F,
};

/* What to do to one frame, from its context and its first data descriptor. */
struct plan {
    uint32_t ip, l4, payload; /* offsets; payload: of the data to be segmented */
    uint32_t l4_type, mss, vlan;
    bool ipv4, ip_checksum, l4_checksum, tag, segmented;
};

static uint32_t get32(const uint8_t *at)
{
    return be16(at) << 16 | be16(at + 2);
}
static void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16), put16(at + 2, value);
}

/* Q0: IPLEN, MACLEN, VLAN. Q1: IPV4, L4T, L4LEN, MSS (7.2.3.2.3). */
static struct plan plan_of(const struct tx_context *context, uint64_t q1)
{
    uint32_t ip_length = context->q0 & 0x1FF, mac_length = context->q0 >> 9 & 0x7F,
             l4_length = context->q1 >> 40 & 0xFF;
    return (struct plan){
        .ip = mac_length,
        .l4 = mac_length + ip_length,
        .payload = mac_length + ip_length + l4_length,
        .l4_type = context->q1 >> 11 & 3,
        .mss = (uint32_t)(context->q1 >> 48),
        .vlan = context->q0 >> 16 & 0xFFFF,
        .ipv4 = context->q1 >> 10 & 1,
        .ip_checksum = q1 & TX_IXSM,
        .l4_checksum = q1 & TX_TXSM,
        .tag = q1 & TX_VLE,
        .segmented = q1 & TX_TSE,
    };
}

/* Bytes of headers before the payload that PAYLEN counts, when the frame is to be segmented (7.2.3.2.4). */
uint32_t offload_headers(const struct tx_queue *queue, uint64_t q1)
{
    return plan_of(&queue->contexts[q1 >> 36 & 1], q1).payload;
}

/* ---- checksums (7.2.5) ---- */

static uint32_t crc32c(const uint8_t *bytes, uint32_t length)
{
    uint32_t crc = ~0u;
    for (uint32_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        for (uint32_t b = 0; b < 8; b++)
            crc = crc >> 1 ^ (0x82F63B78u & (0u - (crc & 1)));
    }
    return ~crc;
}

static void finish_ip(const struct plan *plan, uint8_t *frame)
{
    uint8_t *at = frame + plan->ip + IP_CHECKSUM;
    put16(at, 0);
    put16(at, ~ones_sum(frame + plan->ip, plan->l4 - plan->ip, 0) & 0xFFFF);
}

/* Software left the pseudo header's sum in the field. For a segmented send it left the length out; `extra` adds it. */
static void finish_l4(const struct plan *plan, uint8_t *frame, uint32_t length, uint32_t extra)
{
    uint8_t *l4 = frame + plan->l4;
    uint32_t size = length - plan->l4;
    if (plan->l4_type == L4_SCTP) {
        memset(l4 + SCTP_CHECKSUM, 0, 4);
        uint32_t crc = crc32c(l4, size);
        for (uint32_t i = 0; i < 4; i++) /* little-endian, unlike the other fields (RFC 9260 A) */
            l4[SCTP_CHECKSUM + i] = (uint8_t)(crc >> 8 * i);
        return;
    }
    uint32_t sum = ~ones_sum(l4, size, extra) & 0xFFFF;
    if (plan->l4_type == L4_UDP && !sum)
        sum = 0xFFFF; /* 0 means that there is no checksum (RFC 768) */
    put16(l4 + (plan->l4_type == L4_UDP ? UDP_CHECKSUM : TCP_CHECKSUM), sum);
}

/* ---- segmentation (7.2.4) ---- */

static void adapt_headers(const struct plan *plan, uint8_t *frame, uint32_t length, uint32_t segment, bool last)
{
    uint8_t *ip = frame + plan->ip, *l4 = frame + plan->l4;
    if (plan->ipv4) {
        put16(ip + IP_TOTAL_LENGTH, length - plan->ip);
        put16(ip + IP_ID, be16(ip + IP_ID) + segment);
    } else {
        put16(ip + IP6_PAYLOAD_LENGTH, length - plan->ip - IP6_HEADER);
    }
    if (plan->l4_type == L4_UDP) {
        put16(l4 + UDP_LENGTH, length - plan->l4);
        return;
    }
    uint32_t kept = last ? FLAGS_LAST : segment ? FLAGS_MIDDLE : FLAGS_FIRST;
    if (last && !segment)
        kept = 0xFFF; /* the only one */
    put32(l4 + TCP_SEQUENCE, get32(l4 + TCP_SEQUENCE) + segment * plan->mss);
    put16(l4 + TCP_FLAGS, be16(l4 + TCP_FLAGS) & (0xF000u | kept));
}

/* Insert `tag` with the EtherType of DMATXCTL.VT. Returns the new length. */
uint32_t insert_tag(const struct nic *nic, uint8_t *frame, uint32_t length, uint32_t tag)
{
    memmove(frame + ADDRESSES + VLAN_TAG, frame + ADDRESSES, length - ADDRESSES);
    put16(frame + ADDRESSES, reg_load(nic, R_DMATXCTL) >> F_DMATXCTL_VT_SHIFT);
    put16(frame + ADDRESSES + 2, tag);
    return length + VLAN_TAG;
}

/* Apply checksums and the tag to nic->frame. Returns its new length. */
static uint32_t finish(struct nic *nic, const struct plan *plan, uint32_t length, uint32_t extra)
{
    if (plan->ip_checksum && plan->ipv4)
        finish_ip(plan, nic->frame);
    if (plan->l4_checksum)
        finish_l4(plan, nic->frame, length, extra);
    return plan->tag ? insert_tag(nic, nic->frame, length, plan->vlan) : length;
}

/* Whether the frame holds all headers that offloads change, and the frame buffer holds a segment. MACLEN is at least 14
 * (7.2.3.2.3): else a checksum could change a source address that anti-spoofing has checked. */
static bool plan_valid(const struct plan *plan, uint32_t length)
{
    if ((plan->ip_checksum || plan->l4_checksum || plan->segmented) && plan->ip < ETHERNET)
        return false;
    uint32_t l4_field = plan->l4_type == L4_TCP    ? TCP_CHECKSUM + 2
                        : plan->l4_type == L4_SCTP ? SCTP_CHECKSUM + 4
                                                   : UDP_CHECKSUM + 2;
    if (plan->tag && length < ADDRESSES + 2)
        return false;
    if ((plan->ip_checksum || plan->segmented) && plan->l4 < plan->ip + 20)
        return false;
    if ((plan->ip_checksum || plan->l4_checksum) && plan->l4 > length)
        return false;
    if (plan->l4_checksum && (plan->l4_type > L4_SCTP || plan->l4 + l4_field > length))
        return false;
    if (!plan->segmented)
        return length + VLAN_TAG <= FRAME_MAX - CRC;
    return plan->mss && plan->l4_type <= L4_TCP && plan->payload < length && plan->payload >= plan->l4 + l4_field &&
           (plan->ipv4 || plan->l4 >= plan->ip + IP6_HEADER) && plan->payload + plan->mss + VLAN_TAG <= FRAME_MAX - CRC;
}

static void send_planned(struct nic *nic, uint32_t number, const struct plan *plan, const uint8_t *bytes,
                         uint32_t length, bool ifcs)
{
    if (!plan->segmented) {
        if (bytes != nic->frame)
            memcpy(nic->frame, bytes, length);
        mac_transmit(nic, number, nic->frame, finish(nic, plan, length, 0), ifcs);
        return;
    }
    for (uint32_t at = plan->payload, segment = 0; at < length; segment++) {
        uint32_t piece = length - at < plan->mss ? length - at : plan->mss;
        memcpy(nic->frame, bytes, plan->payload);
        memcpy(nic->frame + plan->payload, bytes + at, piece);
        adapt_headers(plan, nic->frame, plan->payload + piece, segment, at + piece == length);
        uint32_t l4_bytes = plan->payload - plan->l4 + piece;
        mac_transmit(nic, number, nic->frame, finish(nic, plan, plan->payload + piece, fold(l4_bytes)), ifcs);
        at += piece;
    }
}

/* Send the frame with the offloads of its first descriptor. False: the context does not fit the frame. */
bool offload_send(struct nic *nic, uint32_t number, uint64_t q1, const uint8_t *bytes, uint32_t length, bool ifcs)
{
    if (!ifcs && q1 & (TX_OFFLOADS & ~TX_TSTAMP))
        report(nic, FINDING_TX_OFFLOAD_IFCS, number, nic->tx[number].head, 0);
    struct plan plan = plan_of(&nic->tx[number].contexts[q1 >> 36 & 1], q1);
    if (nic->settings.pools)
        plan.vlan = pool_tag(nic, number, plan.vlan);
    if (!plan_valid(&plan, length))
        return false;
    if (q1 & TX_TSTAMP) /* of a segmented send, the first frame; stamped before the peer can have it */
        timestamp_sent(nic);
    send_planned(nic, number, &plan, bytes, length, ifcs);
    if (q1 & TX_TSTAMP)
        timestamp_leaves(nic);
    return true;
}
