/* An advanced descriptor, for either direction, and the bits of its second quadword. */
#ifndef DESCRIPTOR_H
#define DESCRIPTOR_H

#include <stdint.h>

/* A buffer's address, then command or status (82599 7.1.6, 7.2.3.2.4). */
struct descriptor {
    uint64_t address;
    uint64_t control;
};

/* Data descriptor for sending (7.2.3.2.4). */
#define TX_IFCS (UINT64_C(1) << 25)                                 /* the NIC appends the CRC */
#define TX_DATA (UINT64_C(3) << 20 | UINT64_C(1) << 29 | TX_IFCS) /* DTYP data, DEXT, IFCS */
#define TX_EOP (UINT64_C(1) << 24)
#define TX_RS (UINT64_C(1) << 27)
#define TX_PAYLEN_SHIFT 46
#define TX_TSTAMP (UINT64_C(1) << 19) /* MAC field: note the time of transmission (7.9) */
#define TX_VLE_SHIFT 30               /* VLE, TSE */
#define TX_IXSM_SHIFT 40              /* IXSM, TXSM */

/* Context descriptor (7.2.3.2.3). DTYP is at the same place as in data descriptors. */
#define TX_DTYP (UINT64_C(15) << 20)
#define TX_CONTEXT_DTYP (UINT64_C(2) << 20)
#define TX_CONTEXT (TX_CONTEXT_DTYP | UINT64_C(1) << 29) /* and DEXT */
#define TX_IPV4_SHIFT 10                                 /* IPV4, L4T */

/* Written back by the receiver (7.1.6.2). */
#define RX_DD (UINT64_C(1) << 0)
#define RX_EOP (UINT64_C(1) << 1)
#define RX_RXE (UINT64_C(1) << 29)
#define RX_LENGTH_SHIFT 32

#endif
