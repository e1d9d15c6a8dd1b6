/* Verdicts about received checksums (82599 7.1.11), as bits of the descriptor's status and errors. */
#include "receive.h"

enum {
    UDP_CHECKSUM = 6,
    TCP_SHORTEST = 20,
    UDP_SHORTEST = 8,
    FRAGMENT = 0x3FFF,
};

static uint32_t ip_status(const uint8_t *ip, uint32_t header)
{
    /* 20, the usual length, as a constant: the compiler needs no loop */
    uint32_t sum = header == 20 ? ones_sum(ip, 20, 0) : ones_sum(ip, header, 0);
    return sum == 0xFFFF ? RX_IPCS : RX_IPCS | RX_IPE;
}

/* `size`: bytes from the L4 header to the end of the IP packet; the frame holds all of them. */
static uint32_t l4_status(const uint8_t *addresses, uint32_t address_bytes, uint32_t protocol, const uint8_t *l4,
                          uint32_t size)
{
    bool udp = protocol == IP_UDP;
    if (size < (udp ? UDP_SHORTEST : TCP_SHORTEST))
        return 0;
    if (udp && !be16(l4 + UDP_CHECKSUM)) /* the sender computed none */
        return 0;
    uint32_t pseudo_header = ones_sum(addresses, address_bytes, fold(protocol + size));
    uint32_t sum = ones_sum(l4, size, pseudo_header);
    return RX_L4I | (udp ? RX_UDPCS : 0) | (sum == 0xFFFF ? 0 : RX_TCPE);
}

/* `ip`, `l4`: offsets; l4 is 0 without a TCP or UDP header (a fragment, another protocol). */
uint32_t checksum_status(const uint8_t *frame, uint32_t length, uint32_t ip, bool v4, uint32_t l4, uint32_t protocol)
{
    uint32_t status = 0, end;
    if (v4) {
        uint32_t header = 4u * (frame[ip] & 0xF);
        if (header < 20 || ip + header > length)
            return 0;
        status = ip_status(frame + ip, header);
        end = ip + be16(frame + ip + 2);
    } else {
        end = ip + 40 + be16(frame + ip + 4);
    }
    if (!l4 || (protocol != IP_TCP && protocol != IP_UDP) || end > length || end < l4)
        return status;
    return status | l4_status(frame + ip + (v4 ? 12 : 8), v4 ? 8 : 32, protocol, frame + l4, end - l4);
}

/* The checksum of a UDP fragment over IPv4, when RXCSUM.IPPCSE enables it and PCSD does not select the hash (7.1.13);
 * else 0.
 * ASSUMPTION (datasheet not at hand): the sum of the IP packet's payload without padding, not complemented; the
 * sources say only that it is the packet's checksum. */
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
