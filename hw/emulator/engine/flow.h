/* The parser that finds a frame's addresses and ports; inlined, because every received frame needs it. */
#ifndef IXRINGS_FLOW_H
#define IXRINGS_FLOW_H

#include "receive.h"

enum {
    PACKET_TYPE_IPV4 = 0x10,
    PACKET_TYPE_IPV4E = 0x20,
    PACKET_TYPE_IPV6 = 0x40,
    PACKET_TYPE_TCP = 0x100,
    PACKET_TYPE_UDP = 0x200,
    PACKET_TYPE_SCTP = 0x400,
};

static INLINED struct flow parse_flow(const uint8_t *frame, uint32_t length, bool tagged)
{
    struct flow flow = {0};
    uint32_t at = ETHERNET, type = be16(frame + 12);
    if (tagged && length >= ETHERNET + VLAN_TAG)
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

#endif
