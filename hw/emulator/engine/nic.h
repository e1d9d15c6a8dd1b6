/* The software 82599's insides: one struct a NIC, shared by the files beside this one.
 *
 *   engine.c     the clock: one thread that steps every NIC, or a step by hand
 *   settings.c   registers as frames obey them, read once and not for every frame
 *   transmit.c   descriptor fetch, write-back, head write-back        (82599 7.2)
 *   offload.c    checksums, VLAN tags and segmentation on the way out (82599 7.2.4, 7.2.5)
 *   legacy.c     descriptors as older chips have them                 (82599 7.1.5, 7.2.3.2.2)
 *   classify.c   lengths, L2 filters, packet type, queue by RSS       (82599 7.1.1, 7.1.2)
 *   steer.c      queue by EtherType, 5-tuple and SYN filters         (82599 7.1.2.3 to 7.1.2.6)
 *   director.c   flow director: its table, and queue by it            (82599 7.1.2.7)
 *   receive.c    packet buffer, buffers, descriptor write-back        (82599 7.1)
 *   pause.c      flow control                                      (82599 8.2.3.3)
 *   timestamp.c  the IEEE 1588 clock, when frames came and went     (82599 7.9)
 *   checksum.c   what the receiver finds out about checksums          (82599 7.1.11)
 *   interrupt.c  causes, masks, moderation, MSI-X by eventfd          (82599 7.3)
 *   dma.c        what the IOMMU lets through, and what it does not
 *   remote.c     memory that only its owner can read and write for us
 *   guard.c      memory whose owner took it away
 *   wire.c       what is at the other end of the cable
 *   statistics.c counters into their registers                        (82599 8.2.3.23)
 *
 * Registers live in `regs`, laid out as BAR0. What has an effect when it is accessed is Python's (registers with hooks,
 * the Python files here), with the engine frozen; what packets change or obey is C's. One lock orders the two. Only the tail
 * registers are written without it: a driver's C loop stores them directly, as it would into a real BAR.
 */
#ifndef IXRINGS_NIC_H
#define IXRINGS_NIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "registers.h"

enum {
    QUEUES = 128,
    COUNTER_SETS = 16,
    VECTORS = 64,
    FINDINGS = 224,        /* kept: of each kind the first so many, or one kind would hide all others */
    FINDINGS_A_KIND = 16,
    FRAME_MAX = 16384,     /* longest frame the MAC carries (MAXFRS tops out below) */
    LARGE_MAX = 0x40000 + 1024, /* longest send that is cut: PAYLEN has 18 bits, headers come on top (7.2.3.2.4) */
    CHAIN_MAX = 38,        /* descriptors of one frame (7.2.1.1), where WTHRESH is 0 */
    CHIP_HOLDS = 40,       /* of a queue: DPDK goes as far, and a longer frame never ends */
    FRAME_MIN = 60,        /* without CRC */
    IP_TCP = 6,
    IP_UDP = 17,
    IP_SCTP = 132,
    ADDRESSES = 12,        /* destination and source, in front of a VLAN tag or the EtherType */
    VLAN_TAG = 4,
    CRC = 4,
    PACKET_TYPE_L2 = 0x8000,
    PACKET_TYPE_L2_SHIFT = 4, /* in a write-back: which ETQF matched (7.1.6.2) */
    WIRE_OVERHEAD = 20,    /* preamble, start delimiter, inter-frame gap */
    PS_PER_BYTE = 800,     /* at 10 Gbit/s */
    CATCH_UP_NS = 1000000, /* a paced engine that lost its core makes up for at most this much */
    STEP_FRAMES = 64,      /* frames a queue or a wire may move before others get their turn */
    LINE = 4,              /* descriptors in a cache line */
    AHEAD = 12,            /* so many descriptors ahead a line of them and its buffers are prefetched */
    WRITE_BACKS = 64,      /* of received descriptors, held until the end of a step */
};

/* What went wrong, for Python to put in words (the rules in hw/emulator/rules have the same numbers). */
enum finding_kind {
    FINDING_DMA_READ = 1,
    FINDING_DMA_WRITE,
    FINDING_TX_DESCRIPTOR_TYPE,
    FINDING_TX_CHAIN_TOO_LONG,
    FINDING_TX_LENGTH,
    FINDING_TX_PAYLEN,
    FINDING_TX_IFCS,
    FINDING_TX_TAIL,
    FINDING_RX_TAIL,
    FINDING_RX_DESCRIPTOR_TYPE,
    FINDING_RX_BUFFER_SIZE,
    FINDING_TX_CONTEXT,
    FINDING_TX_LONG_BUFFER,
    FINDING_TX_SHORT,
    FINDING_TX_LEGACY_MODE,
    FINDING_TX_LEGACY_RS,
    FINDING_TX_LEGACY_CHECKSUM,
    FINDING_TX_OFFLOAD_IFCS,
};

struct finding {
    uint32_t kind, queue;
    uint64_t values[2]; /* of the rule: an address and a length, an expected and a found number */
};

/* What a window lets the device do; numbers as in vfio-user's DMA_MAP. */
enum { DMA_READ = 1, DMA_WRITE = 2, DMA_BOTH = 3 };

enum recent { DESCRIPTORS, BUFFERS };

struct dma_window {
    uint64_t iova, size;
    uint8_t *host; /* NULL: reached by messages (remote.c) */
    uint32_t access;
    uint32_t granule;         /* the page size of its file; `mapped` bytes from `mapping` on are what munmap wants */
    uint8_t *mapping;
    uint64_t mapped;
};

/* Where the last access of a kind went, when that is memory of this host: a guess, checked at each use. */
struct reach {
    uint64_t iova, size;
    uint8_t *host;
};

struct descriptor {
    _Atomic uint64_t q0, q1;
};

/* Q1 of a frame's first data descriptor: which offloads it asks for (7.2.3.2.4). */
#define TX_VLE (1ull << 30)
#define TX_TSE (1ull << 31)
#define TX_IXSM (1ull << 40)
#define TX_TXSM (1ull << 41)
#define TX_TSTAMP (1ull << 19)
#define TX_OFFLOADS (TX_VLE | TX_TSE | TX_IXSM | TX_TXSM | TX_TSTAMP)

/* The last context descriptor with this index. */
struct tx_context {
    uint64_t q0, q1;
};

struct tx_queue {
    bool enabled, stuck; /* stuck: it hit an error that only disabling the queue mends */
    uint32_t head, size;
    uint64_t base, head_writeback; /* IOVAs; head_writeback 0 when it is off */
    uint32_t wthresh, unwritten, writeback_head; /* completed, and not told to the driver yet */
    uint32_t counter_set;      /* TQSM */
    uint64_t cause;            /* the vector's bit, 0 without one (IVAR) */
    struct tx_context contexts[2];
};

enum rx_state { RX_OFF, RX_STUCK, RX_LEGACY, RX_ADVANCED }; /* stuck: as a tx_queue; then by SRRCTL.DESCTYPE */

struct rx_queue {
    enum rx_state state;
    uint32_t head, size, buffer_size;
    uint32_t
        free; /* descriptors up to RDT as last looked at: looked at again when they are too few, as the driver writes that line */
    bool drop_en, strip_tag; /* SRRCTL.DROP_EN, RXDCTL.VME */
    uint32_t counter_set; /* RQSMR */
    uint64_t base, cause; /* cause as in tx_queue */
};

/* A received descriptor that is to be written back. */
struct write_back {
    struct descriptor *descriptor;
    uint64_t q0, q1;
};

/* What was counted since somebody looked. Good packets are the sum of the size counters, total ones those and what was refused. */
struct counters {
    uint64_t gorc, bprc, mprc, prc[6], ruc, roc, mpc;
    uint64_t refused, refused_bytes; /* received, and not good: too short, too long, or not for this port */
    uint64_t gotc, bptc, mptc, ptc[6];
    uint64_t fdirmatch, fdirmiss;
    uint64_t lxonrx, lxoffrx, lxontx, lxofftx;
    uint64_t qprc[COUNTER_SETS], qbrc[COUNTER_SETS], qprdc[COUNTER_SETS], qptc[COUNTER_SETS], qbtc[COUNTER_SETS];
};

/* The receive packet buffer (8.2.3.8.9): frames that no descriptor waits for yet, in order, as {header, bytes}. */
struct packet_buffer {
    uint8_t *bytes;
    uint32_t size, read, write, used;
};

/* What was found out about a received frame. */
struct class
{
    uint32_t queue;
    uint32_t status; /* extended status and errors of the write-back: PIF, LB, checksums (7.1.6.2) */
    bool tagged;
    bool rare, searched; /* rare: it has one of what follows, or more; searched: flow director was asked */
    uint16_t event; /* where the message of a PTP frame stands that is to be time-stamped, 0 in others */
    uint64_t q0; /* RSS type, packet type, hash: the low half of the write-back */
};

/* A frame in the packet buffer: this, then its bytes. length 0: the rest up to the end is unused. */
struct stored {
    uint32_t length;
    struct class class;
};

/* What registers ask of every frame (settings.c). */
struct settings {
    bool stale; /* somebody had the engine frozen since these were read */
    bool receive; /* RXCTRL, SECRXCTRL: on, when there is a link */
    bool loopback, pad, strip_crc; /* HLREG0 */
    bool
        wired; /* frames come from the wire and go there: no loopback, and the cable is in, be the link forced up or not */
    bool as_usual; /* received frames lose their CRC, and their descriptors are written back */
    bool vlan_filter;
    uint32_t vlan_type, longest; /* VLNCTRL.VET; a frame's bytes, CRC included */
    uint32_t filter; /* FCTRL */
    uint32_t rss; /* MRQC when it asks for RSS, else 0 */
    bool hash_reported; /* RXCSUM.PCSD */
    bool steering, director,
        stamps; /* whether anything is to be asked before RSS: any filter, flow director, for time stamps */
};

/* Where the addresses and ports of a frame are; ports 0 when there are none to look at. */
struct flow {
    uint32_t packet_type, addresses, address_bytes, ports, protocol;
};

/* `hash`: FDIRHASH, signature or software index above, bucket below; `next` in its bucket, or among those not in use. 0 ends a list. */
struct director_filter {
    uint32_t hash, command, source, destination, ports, vlan_flex;
    uint16_t next;
};

struct director {
    struct director_filter *filters; /* NULL: FDIRCTRL gives it no memory */
    uint16_t *buckets, unused;
    uint32_t capacity, count, bucket_mask;
};

/* SYSTIM as of a cycle of its oscillator; `cycle` counts those since the epoch of nic_now(). */
struct clock {
    uint64_t time, cycle;
};

struct nic;

/* The other end of the cable. Frames are without CRC. */
struct wire {
    void (*send)(struct nic *nic, const uint8_t *frame, uint32_t length);
    /* The next frame for the NIC, or NULL; offered again until `taken`. */
    const uint8_t *(*offer)(struct nic *nic, uint32_t *length);
    void (*taken)(struct nic *nic);
    void (*idle)(struct nic *nic); /* nothing moved: a chance to flush */
    void (*close)(struct nic *nic);
    struct nic *peer; /* cable */
    int fd; /* tap, recording */
    int trouble; /* an errno: why the wire is dead, 0 while it is not */
    uint64_t sequence; /* source, playback */
    const uint8_t *capture; /* playback */
    const uint64_t *offsets;
    const uint32_t *lengths;
    uint64_t frames;
    uint32_t pending; /* tap: length of the frame in `buffer` that the NIC has not taken yet; source: of all */
    uint8_t *buffer;
    uint32_t recorded; /* bytes in `record` that are not in the file yet */
    uint8_t *record;
};

struct nic {
    _Atomic uint32_t *regs;
    bool manual, paced, bus_master, gone;
    bool no_head_writeback, no_rx_writeback; /* defects on request (hw/emulator/faults.py) */
    uint32_t step_frames; /* how many frames a queue or a wire may move before others get their turn */
    uint64_t manual_ns; /* the time, when it is stepped by hand */

    /* link (82599 3.7): up when the far end is there, `link_delay_ns` after training began */
    bool cable_in, link_up;
    uint64_t link_delay_ns, link_training_since_ns;

    struct dma_window *windows;
    uint32_t window_count, window_room;
    struct reach recent[2][DMA_BOTH + 1]; /* of descriptors, of buffers; by access */
    struct remote *remote; /* NULL: no window is reached by messages */
    bool dma_waiting; /* the last DMA access failed only because its data is not here yet */
    int doorbell_fd; /* the pages with tail registers, when they are shared; else -1 */
    struct finding findings[FINDINGS];
    uint64_t finding_count;

    struct tx_queue tx[QUEUES];
    struct rx_queue rx[QUEUES];
    uint64_t tx_enabled[2], rx_enabled[2]; /* bit q % 64 of word q / 64 */
    struct settings settings;
    uint64_t tx_free_ps, rx_free_ps; /* paced: when the wire can carry the next frame */
    bool tx_busy, rx_busy; /* frames were waiting when the last step ended: time since then counts for them */
    bool paused, pausing; /* by the other end; the other end */
    bool pause_leaves; /* a pause frame is on its way out: what it sets off on a loop or at a peer sends no other */
    uint64_t paused_until_ns, pause_again_ns;
    struct packet_buffer buffer;
    struct write_back write_backs[WRITE_BACKS];
    uint32_t write_back_count;
    struct counters counters;
    uint64_t addresses[QUEUES]; /* of RAL/RAH with AV */
    uint32_t address_count;
    uint32_t ether_type_filters; /* bit i: ETQF[i] is on */
    uint32_t five_tuple_count;
    uint8_t five_tuples[128]; /* those that are on, first that which wins */
    struct director director;
    struct clock clock;
    uint32_t rss_table[36][256]; /* Toeplitz hash of byte value v at input position i (7.1.2.8.1) */
    uint8_t frame[FRAME_MAX]; /* gathered or padded frame on its way out */
    uint8_t *large; /* LARGE_MAX bytes: what is to be cut into frames */

    int eventfds[VECTORS];
    bool line, line_masked; /* vector 0 is INTx: after each signal it is masked until someone looks again */
    bool line_disabled; /* the command register's Interrupt Disable */
    bool master_abort; /* a read request was refused, since the status register was last cleared */
    uint64_t sent; /* vectors whose message went out for the causes that are set now */
    uint64_t next_message_ns[VECTORS];

    struct wire wire;
    struct nic *next;
};

static inline uint32_t reg_load(const struct nic *nic, uint32_t offset)
{
    return atomic_load_explicit(&nic->regs[offset / 4], memory_order_relaxed);
}

static inline void reg_store(struct nic *nic, uint32_t offset, uint32_t value)
{
    atomic_store_explicit(&nic->regs[offset / 4], value, memory_order_relaxed);
}

/* Receive queue registers: 64 at their first address, 64 more at 0xC000 above. */
static inline uint32_t rx_offset(uint32_t first, uint32_t queue)
{
    return queue < 64 ? first + 0x40 * queue : first + 0xC000 + 0x40 * (queue - 64);
}

static inline uint32_t tx_offset(uint32_t first, uint32_t queue)
{
    return first + 0x40 * queue;
}

/* Which of the size counters, PRC64 .. PRC1522, counts a frame of so many bytes, CRC included (8.2.3.23.18). */
static inline uint32_t size_bin(uint32_t bytes)
{
    return bytes <= 64 ? 0 : bytes <= 127 ? 1 : bytes <= 255 ? 2 : bytes <= 511 ? 3 : bytes <= 1023 ? 4 : 5;
}

static inline uint32_t be16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 8 | bytes[1];
}
static inline void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8), at[1] = (uint8_t)value;
}

/* A MAC address in the byte order of RAL and RAH. */
static inline uint64_t mac_of(const uint8_t *bytes)
{
    uint32_t low;
    memcpy(&low, bytes, sizeof low);
    return low | (uint64_t)bytes[4] << 32 | (uint64_t)bytes[5] << 40;
}

#define BROADCAST 0xFFFFFFFFFFFFull

/* dma.c. What fails because the data is not here yet sets dma_waiting and is no fault: try again in a later step. */
uint8_t *dma_find(struct nic *nic, uint64_t iova, uint64_t length, uint32_t access);
bool dma_read(struct nic *nic, uint32_t queue, uint64_t iova, uint8_t *to, uint64_t length);
bool dma_write_pieces(struct nic *nic, uint32_t queue, uint64_t iova, const uint8_t *from, uint64_t length);
struct descriptor *dma_find_descriptor(struct nic *nic, uint32_t queue, uint64_t iova, uint32_t access);
void dma_write_descriptor(struct nic *nic, struct descriptor *descriptor, uint64_t iova, uint64_t q0, uint64_t q1);
void dma_prefetch(const struct nic *nic, uint64_t ring, uint32_t index, uint32_t access);
bool dma_comes_later(struct nic *nic);
void report(struct nic *nic, enum finding_kind kind, uint32_t queue, uint64_t first, uint64_t second);

/* remote.c; all but the first only when nic->remote is there */
bool remote_create(struct nic *nic);
void remote_destroy(struct nic *nic);
uint8_t *remote_reach(struct nic *nic, uint64_t iova, uint64_t length);
bool remote_holds(const struct nic *nic, const void *bytes);
bool remote_write(struct nic *nic, uint64_t iova, const uint8_t *bytes, uint64_t length);
bool remote_full(const struct nic *nic);
bool remote_writing(const struct nic *nic);
void remote_work(struct nic *nic, uint32_t owner);
void remote_used(struct nic *nic);
void remote_forget(struct nic *nic);
void remote_unmap(struct nic *nic, uint64_t iova, uint64_t last);

/* NULL when the guess was wrong, which says nothing about the access. */
static inline uint8_t *recent_reach(const struct reach *recent, uint64_t iova, uint64_t length)
{
    uint64_t at = iova - recent->iova;
    return at < recent->size && length <= recent->size - at ? recent->host + at : NULL;
}

/* The bytes [iova, iova + length) when one window holds all of it, else NULL. Never memory to write that only messages reach. */
static inline uint8_t *dma_reach(struct nic *nic, uint64_t iova, uint64_t length, uint32_t access)
{
    uint8_t *host = recent_reach(&nic->recent[BUFFERS][access], iova, length);
    return host ? host : dma_find(nic, iova, length, access);
}

/* The descriptor in its place, or a copy of one that messages reach. `access`: DMA_BOTH when it will be written back. */
static inline struct descriptor *dma_descriptor(struct nic *nic, uint32_t queue, uint64_t iova, uint32_t access)
{
    uint8_t *host = recent_reach(&nic->recent[DESCRIPTORS][access], iova, sizeof(struct descriptor));
    return host ? (struct descriptor *)(void *)host : dma_find_descriptor(nic, queue, iova, access);
}

static inline bool dma_write(struct nic *nic, uint32_t queue, uint64_t iova, const uint8_t *from, uint64_t length)
{
    uint8_t *host = recent_reach(&nic->recent[BUFFERS][DMA_WRITE], iova, length);
    if (!host)
        return dma_write_pieces(nic, queue, iova, from, length);
    memcpy(host, from, length);
    return true;
}

static inline void store_descriptor(struct descriptor *descriptor, uint64_t q0, uint64_t q1)
{
    atomic_store_explicit(&descriptor->q0, q0, memory_order_relaxed);
    /* release: the data and the low half are in memory before DD is, as PCIe's ordered writes guarantee */
    atomic_store_explicit(&descriptor->q1, q1, memory_order_release);
}

/* settings.c */
void settings_read(struct nic *nic);
uint32_t counter_set(const struct nic *nic, uint32_t map, uint32_t queue);

/* interrupt.c */
void raise_queue_cause(struct nic *nic, uint64_t cause);
void raise_other_cause(struct nic *nic, uint32_t cause);
void send_messages(struct nic *nic, uint64_t now_ns);

/* timestamp.c */
uint64_t nic_time(struct nic *nic);
void timestamp_sent(struct nic *nic);
void timestamp_received(struct nic *nic, const uint8_t *frame, struct class *class);
uint16_t timestamp_event(const struct nic *nic, const uint8_t *frame, uint32_t length, const struct flow *flow,
                         const struct class *class);

/* transmit.c, offload.c, legacy.c, receive.c, pause.c, checksum.c */
bool pause_frame(struct nic *nic, const uint8_t *frame);
bool pause_holds(struct nic *nic, uint64_t now_ns);
void pause_other_end(struct nic *nic);
uint32_t transmit_step(struct nic *nic, uint64_t now_ns);
void transmit_mend(struct nic *nic);
void transmit_frame(struct nic *nic, uint32_t number, const uint8_t *bytes, uint32_t length, bool ifcs);
uint32_t offload_headers(const struct tx_queue *queue, uint64_t q1);
bool offload_send(struct nic *nic, uint32_t number, uint64_t q1, const uint8_t *bytes, uint32_t length, bool ifcs);
void legacy_send(struct nic *nic, uint32_t number, uint64_t q1, const uint8_t *bytes, uint32_t length);
uint32_t fragment_checksum(const struct nic *nic, const uint8_t *frame, uint32_t length, const struct class *class);
uint32_t insert_tag(const struct nic *nic, uint8_t *frame, uint32_t length, uint32_t tag);
uint32_t receive_step(struct nic *nic, uint64_t now_ns);
void receive_write_back(struct nic *nic);
uint32_t checksum_status(const uint8_t *frame, uint32_t length, uint32_t ip, bool v4, uint32_t l4, uint32_t protocol);
void mac_receive(struct nic *nic, const uint8_t *frame, uint32_t length);

/* classify.c, steer.c, director.c, packet_buffer.c */
void classify(const struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class);
bool mac_accepts(struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class);
struct flow flow_of(const uint8_t *frame, uint32_t length, bool tagged);
void steer(const struct nic *nic, const uint8_t *frame, uint32_t length, struct class *class);
void director_search(const struct nic *nic, const uint8_t *frame, const struct flow *flow, struct class *class);
void director_close(struct nic *nic);
bool buffer_push(struct packet_buffer *buffer, const uint8_t *frame, uint32_t length, const struct class *class);
struct stored buffer_front(struct packet_buffer *buffer);
void buffer_pop(struct packet_buffer *buffer, uint32_t length);
void packet_buffer_reset(struct nic *nic);

/* To 16 bits, carries added in at the low end (RFC 1071). */
static inline uint32_t fold(uint64_t sum)
{
    sum = (sum & 0xFFFFFFFF) + (sum >> 32);
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    return (uint32_t)((sum & 0xFFFF) + (sum >> 16));
}

/* The Internet checksum's sum, not complemented, of an area and 16 bits that are to be added to it. */
static inline uint32_t ones_sum(const uint8_t *bytes, uint32_t length, uint32_t start)
{
    uint64_t total = __builtin_bswap16((uint16_t)start); /* all in the byte order of memory; swapped at the end */
    while (length >= 4) {
        uint32_t word;
        memcpy(&word, bytes, 4);
        total += word, bytes += 4, length -= 4;
    }
    if (length >= 2) {
        uint16_t word;
        memcpy(&word, bytes, 2);
        total += word, bytes += 2, length -= 2;
    }
    if (length)
        total += *bytes;
    return __builtin_bswap16((uint16_t)fold(total));
}

/* When a paced wire can carry the next frame. Idle time is lost; the time the engine was late is made up, up to CATCH_UP_NS. */
static inline uint64_t wire_free(uint64_t free_ps, uint64_t now_ns, bool busy)
{
    uint64_t earliest = busy ? (now_ns > CATCH_UP_NS ? now_ns - CATCH_UP_NS : 0) * 1000 : now_ns * 1000;
    return free_ps > earliest ? free_ps : earliest;
}

/* engine.c, wire.c */
bool engine_holds_freeze(void);
struct nic *engine_first_nic(void);
uint64_t nic_now(const struct nic *nic);
void wire_close(struct nic *nic);
bool wire_has_far_end(const struct nic *nic);

#endif
