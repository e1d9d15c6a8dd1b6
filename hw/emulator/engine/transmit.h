/* A frame on its way out: transmit.c -> offload.c or legacy.c -> mac.c. */
#ifndef IXRINGS_TRANSMIT_H
#define IXRINGS_TRANSMIT_H

#include "nic.h"

/* Q1 of a frame's first data descriptor: the offloads that it asks for (7.2.3.2.4). */
#define TX_TSTAMP (1ull << 19)
#define TX_VLE (1ull << 30)
#define TX_TSE (1ull << 31)
#define TX_IXSM (1ull << 40)
#define TX_TXSM (1ull << 41)
#define TX_OFFLOADS (TX_VLE | TX_TSE | TX_IXSM | TX_TXSM | TX_TSTAMP)

/* transmit.c */
uint32_t transmit_step(struct nic *nic, uint64_t now_ns);
void transmit_write_back(struct nic *nic, uint32_t number);

/* tx_queue.c */
uint32_t nic_tx_head(struct nic *nic, uint32_t number);

/* offload.c, legacy.c */
uint32_t offload_headers(const struct tx_queue *queue, uint64_t q1);
bool offload_send(struct nic *nic, uint32_t number, uint64_t q1, const uint8_t *bytes, uint32_t length, bool ifcs);
uint32_t insert_tag(const struct nic *nic, uint8_t *frame, uint32_t length, uint32_t tag);
void legacy_send(struct nic *nic, uint32_t number, uint64_t q1, const uint8_t *bytes, uint32_t length);

/* switching.c; only in VT mode */
uint32_t pool_tag(const struct nic *nic, uint32_t number, uint32_t tag);
bool pool_lets_out(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length, uint32_t tag, uint64_t *q1);
bool pool_lets_pass(const struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length);
bool pool_learns_way(struct nic *nic, uint32_t number, const uint8_t *frame, uint32_t length);
bool switch_frame(struct nic *nic, uint32_t number, const uint8_t *frame, uint32_t length);

/* Whether the pool's last frame was like this one, so that this one goes the same way. */
static INLINED bool pool_knows_way(const struct way *way, const uint8_t *frame, uint32_t length)
{
    return length >= FRAME_MIN && word8(frame) == way->start && word8(frame + 6) == way->end;
}

/* mac.c */
void mac_transmit_usual(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length);
void mac_transmit(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length, bool ifcs);
void mac_transmit_by_way(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length, uint32_t to);

/* rate.c */
void rate_step(struct nic *nic, uint64_t now_ns);
void rate_begin(struct nic *nic, uint32_t number, uint64_t now_ns);
bool rate_lets_go(struct nic *nic, uint32_t number, uint64_t now_ns);
bool rate_end(struct nic *nic, uint32_t number, uint64_t now_ns, bool more);

/* pause.c, timestamp.c */
bool pause_holds(struct nic *nic, uint64_t now_ns);
void timestamp_sent(struct nic *nic);
void timestamp_leaves(struct nic *nic);

#endif
