/* A frame on its way in: receive.c asks classify.c what it is, accept.c whether it is for this port, and stores it. */
#ifndef IXRINGS_RECEIVE_H
#define IXRINGS_RECEIVE_H

#include "nic.h"

/* Write-back of a received descriptor (7.1.6.2): packet type in Q0, extended status and errors in Q1. */
enum {
    PACKET_TYPE_MASK = 0xFFF0,
    PACKET_TYPE_L2 = 0x8000,
    PACKET_TYPE_L2_SHIFT = 4, /* which ETQF matched */
    RX_DD = 1 << 0,
    RX_EOP = 1 << 1,
    RX_FLM = 1 << 2,
    RX_VP = 1 << 3,
    RX_UDPCS = 1 << 4,
    RX_L4I = 1 << 5,
    RX_IPCS = 1 << 6,
    RX_PIF = 1 << 7,
    RX_TS = 1 << 16,
    RX_LB = 1 << 18,
};
#define NO_ADDRESS UINT32_MAX
#define RX_RXE (1u << 29)
#define RX_TCPE (1u << 30)
#define RX_IPE (1u << 31)

/* What was found out about a received frame. */
struct class
{
    uint32_t queue;
    uint32_t status; /* extended status and errors of the write-back: PIF, LB, checksums (7.1.6.2) */
    bool tagged;
    bool rare, searched; /* rare: `searched` or `event` is set; searched: flow director was asked */
    uint16_t event;      /* offset of the PTP message that gets a time stamp, 0 in other frames */
    uint64_t q0;         /* RSS type, packet type, hash: the low half of the write-back */
};

enum { NO_QUEUE = QUEUES };

/* A frame in the packet buffer: this, then its bytes. length 0: the rest up to the end is unused. NO_QUEUE: the frame is
 * lost. */
struct stored {
    uint32_t length;
    struct class class;
};

/* Offsets of a frame's addresses and ports; ports 0 when there are none to look at. */
struct flow {
    uint32_t packet_type, addresses, address_bytes, ports, protocol;
};

/* Where the search for an address begins in address_index. */
static inline uint32_t address_slot(uint64_t address)
{
    return (uint32_t)(address * 0x9E3779B97F4A7C15ull >> 56);
}

/* The number of an address in RAL and RAH, or NO_ADDRESS. The index has twice as many places as there are addresses. */
static inline uint32_t address_find(const struct nic *nic, uint64_t address)
{
    uint32_t slot = address_slot(address);
    for (; nic->address_index[slot]; slot = (slot + 1) % 256)
        if (nic->addresses[nic->address_index[slot] - 1] == address)
            return nic->address_index[slot] - 1u;
    return NO_ADDRESS;
}

/* receive.c; mac_receive() is where a frame comes in */
void mac_receive(struct nic *nic, const uint8_t *frame, uint32_t length);
void mac_receive_damaged(struct nic *nic, const uint8_t *frame, uint32_t length);
uint32_t receive_step(struct nic *nic, uint64_t now_ns);
void receive_write_back(struct nic *nic);
bool receive_switched(struct nic *nic, const uint8_t *frame, uint32_t length, uint32_t from);
bool receive_switched_usual(struct nic *nic, const uint8_t *frame, uint32_t length, uint32_t pool);

/* rx_queue.c */
uint32_t nic_rx_head(struct nic *nic, uint32_t number);

/* packet_buffer.c */
bool buffer_push(struct packet_buffer *buffer, const uint8_t *frame, uint32_t length, const struct class *class);
struct stored buffer_front(struct packet_buffer *buffer);
void buffer_pop(struct packet_buffer *buffer, uint32_t length);
void buffer_forget(struct nic *nic, uint32_t queue);
void packet_buffer_reset(struct nic *nic);

/* pools.c */
uint64_t pools_of_received(const struct nic *nic, const uint8_t *frame, bool tagged, bool accepted, bool in_table);
uint64_t pools_of_switched(const struct nic *nic, const uint8_t *frame, bool tagged, bool in_table, uint32_t from,
                           bool *local);
bool pool_may_send(const struct nic *nic, uint32_t pool, uint64_t source, bool tagged, uint32_t vlan);

/* mirror.c */
void mirrors_read(struct nic *nic);
uint64_t mirrored(const struct nic *nic, const uint8_t *frame, bool tagged, uint64_t selected, bool from_wire,
                  bool to_wire);

/* accept.c */
uint32_t pool_of_usual(struct nic *nic, const uint8_t *frame);
bool multicast_table_match(const struct nic *nic, const uint8_t *destination);
bool mac_accepts(struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class);
bool mac_stores_damaged(struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class);

/* classify.c, steer.c, director.c, flow.c, checksum.c */
void classify(const struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class);
void steer(const struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class);
uint32_t steer_in_pool(const struct nic *nic, const uint8_t *frame, uint32_t length, const struct class *class,
                       uint32_t pool, uint32_t queue);
uint64_t pools_of_type(const struct nic *nic, const struct class *class, uint64_t selected);
void director_search(const struct nic *nic, const uint8_t *frame, const struct flow *flow, struct class *class);
void director_close(struct nic *nic);
struct flow flow_of(const uint8_t *frame, uint32_t length, bool tagged);
uint32_t checksum_status(const uint8_t *frame, uint32_t length, uint32_t ip, bool v4, uint32_t l4, uint32_t protocol);
uint32_t fragment_checksum(const struct nic *nic, const uint8_t *frame, uint32_t length, const struct class *class);

/* pause.c, timestamp.c */
bool pause_frame(struct nic *nic, const uint8_t *frame);
void pause_other_end(struct nic *nic);
void timestamp_received(struct nic *nic, const uint8_t *frame, struct class *class);
uint16_t timestamp_event(const struct nic *nic, const uint8_t *frame, uint32_t length, const struct flow *flow,
                         const struct class *class);

#endif
