/* Legacy descriptors, as older chips have them: what a transmit one asks for (82599 7.2.3.2.2), what a receive one says (7.1.5). */
#include <string.h>

#include "nic.h"

enum { LEGACY_IFCS = 1 << 25, LEGACY_IC = 1 << 26, LEGACY_VLE = 1 << 30, FRAGMENT = 0x3FFF };

/* Q1 of a frame's first descriptor. The checksum is of all from CSS on, whatever software left at CSO included; offsets are those of the
 * frame as it was fetched, without the tag that is put in.
 * ASSUMPTION: CSO and CSS are held against the frame's length, and the checksum is left out too when one byte of it would be behind the end. */
void legacy_send(struct nic *nic, uint32_t number, uint64_t q1, const uint8_t *bytes, uint32_t length)
{
    uint32_t offset = q1 >> 16 & 0xFF, start = q1 >> 40 & 0xFF, head = nic->tx[number].head;
    bool insert = q1 & LEGACY_IC, tag = q1 & LEGACY_VLE && length >= ADDRESSES;
    if (!(insert || tag)) {
        transmit_frame(nic, number, bytes, length, q1 & LEGACY_IFCS);
        return;
    }
    if (!(q1 & LEGACY_IFCS))
        report(nic, FINDING_TX_OFFLOAD_IFCS, number, head, 0);
    if (insert && (offset <= start || offset + 2 > length))
        report(nic, FINDING_TX_LEGACY_CHECKSUM, number, start, offset);
    if (bytes != nic->frame)
        memcpy(nic->frame, bytes, length);
    if (insert && start <= length && offset + 2 <= length)
        put16(nic->frame + offset, ~ones_sum(nic->frame + start, length - start, 0) & 0xFFFF);
    if (tag)
        length = insert_tag(nic, nic->frame, length, (uint32_t)(q1 >> 48));
    transmit_frame(nic, number, nic->frame, length, q1 & LEGACY_IFCS);
}

/* Of a UDP fragment over IPv4, when RXCSUM.IPPCSE asks for it and PCSD does not ask for the hash instead (7.1.13); else 0.
 * ASSUMPTION: the sum of the IP packet's payload, not complemented, the end of a short frame's padding left out. */
uint32_t fragment_checksum(const struct nic *nic, const uint8_t *frame, uint32_t length, const struct class *class)
{
    if ((reg_load(nic, R_RXCSUM) & (F_RXCSUM_IPPCSE_MASK | F_RXCSUM_PCSD_MASK)) != F_RXCSUM_IPPCSE_MASK)
        return 0;
    const struct flow flow = flow_of(frame, length, class->tagged);
    if (flow.address_bytes != 8 || flow.protocol != IP_UDP)
        return 0;
    const uint8_t *ip = frame + flow.addresses - 12;
    uint32_t header = 4u * (ip[0] & 0xF), total = be16(ip + 2);
    if (!(be16(ip + 6) & FRAGMENT) || header < 20 || total < header || total > length - (uint32_t)(ip - frame))
        return 0;
    return ones_sum(ip + header, total - header, 0);
}
