/* Offloads of a legacy transmit descriptor, the layout of older chips (82599 7.2.3.2.2). */
#include <string.h>

#include "transmit.h"

enum { LEGACY_IFCS = 1 << 25, LEGACY_IC = 1 << 26, LEGACY_VLE = 1 << 30 };

/* `q1`: of the frame's first descriptor. The checksum covers all bytes from CSS to the end, including what software
 * left at CSO. Offsets are those of the fetched frame, before a tag is inserted.
 * ASSUMPTION (datasheet silent): CSO and CSS are compared with the frame's length, and a checksum that does not fit
 * into the frame with both bytes is left out; the datasheet says only that they lie inside the frame. In VT mode,
 * where drivers use no legacy descriptors, the checksum is left out of the addresses that anti-spoofing has checked. */
void legacy_send(struct nic *nic, uint32_t number, uint64_t q1, const uint8_t *bytes, uint32_t length)
{
    uint32_t offset = q1 >> 16 & 0xFF, start = q1 >> 40 & 0xFF, head = nic->tx[number].head;
    bool insert = q1 & LEGACY_IC, tag = q1 & LEGACY_VLE && length >= ADDRESSES;
    if (!(insert || tag)) {
        mac_transmit(nic, number, bytes, length, q1 & LEGACY_IFCS);
        return;
    }
    if (!(q1 & LEGACY_IFCS))
        report(nic, FINDING_TX_OFFLOAD_IFCS, number, head, 0);
    if (insert && (offset <= start || offset + 2 > length))
        report(nic, FINDING_TX_LEGACY_CHECKSUM, number, start, offset);
    if (bytes != nic->frame)
        memcpy(nic->frame, bytes, length);
    if (insert && start <= length && offset + 2 <= length && (!nic->settings.pools || offset >= ETHERNET))
        put16(nic->frame + offset, ~ones_sum(nic->frame + start, length - start, 0) & 0xFFFF);
    if (tag)
        length = insert_tag(nic, nic->frame, length, (uint32_t)(q1 >> 48));
    mac_transmit(nic, number, nic->frame, length, q1 & LEGACY_IFCS);
}
