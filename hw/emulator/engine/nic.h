/* The state of a software 82599: one struct per NIC, shared by the files of this folder (README.md lists them).
 *
 * Registers are in `regs`, laid out as BAR0. Registers whose access has an effect belong to Python
 * (hw/emulator/nic.py and blocks/), which freezes the engine first; what packets change or obey belongs to C. One
 * lock orders the two. Only the tail registers are written without it: a driver's C loop stores them directly, as it
 * would into a real BAR, and so does Python (doorbells.c).
 */
#ifndef IXRINGS_NIC_H
#define IXRINGS_NIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "findings.h"
#include "frame.h"
#include "registers.h"

/* A function that Python calls (library.py); no other symbol leaves the library. */
#define EXPORT __attribute__((visibility("default")))
#define INLINED inline __attribute__((always_inline))
/* A rare path kept out of its caller, so that the common path needs no registers and no stack for it. */
#define OUTLINED __attribute__((noinline))

enum {
    QUEUES = 128,
    COUNTER_SETS = 16,
    POOLS = 64,
    VF_VECTORS = 3, /* of a virtual function: two for queues and mailbox, the third for the mailbox only */
    VECTORS = 64,
    CHIP_HOLDS = 40,            /* descriptors of a queue in the chip; DPDK uses all. A longer frame never ends */
    LARGE_MAX = 0x40000 + 1024, /* longest send to segment: PAYLEN has 18 bits, headers are extra (7.2.3.2.4) */
    WIRE_OVERHEAD = 20,         /* preamble, start delimiter, inter-frame gap */
    PS_PER_BYTE = 800,          /* at 10 Gbit/s */
    CATCH_UP_NS = 1000000,      /* a paced engine that lost its core makes up for at most this much */
    STEP_FRAMES = 64,           /* frames that a queue or a wire may move before the others get their turn */
    CACHE_LINE = 64,
    LINE = 4,                   /* descriptors in a cache line */
    AHEAD = 12,                 /* a line of descriptors and its buffers are prefetched this many descriptors ahead */
    WRITE_BACKS = 64,           /* received descriptors whose write-back may wait for the end of a step */
};

/* ---- findings and DMA (findings.c, dma.c, remote.c) ---- */

struct finding {
    uint32_t kind, queue; /* kind: enum finding_kind */
    uint64_t values[2];   /* of the rule: an address and a length, an expected and a found number */
};

/* What a window lets the device do; numbers as in vfio-user's DMA_MAP. */
enum { DMA_READ = 1, DMA_WRITE = 2, DMA_BOTH = 3 };

enum recent { DESCRIPTORS, BUFFERS };

struct dma_window {
    uint64_t iova, size;
    uint8_t *host; /* NULL: reached by messages (remote.c) */
    uint32_t access;
    uint8_t *mapping; /* what munmap takes: `mapped` bytes from here */
    uint64_t mapped;
};

/* The window of the last access of a kind, if it is memory of this host: a guess, checked at each use. */
struct reach {
    uint64_t iova, size;
    uint8_t *host;
};

struct descriptor {
    _Atomic uint64_t q0, q1;
};

/* What a PCI function reaches: the PF or a VF. Each has an IOMMU domain of its own. */
struct function {
    bool bus_master;
    bool master_abort; /* a read request was refused since the status register was last cleared */
    bool dma_waiting;  /* the last DMA access failed only because its data has not arrived yet */
    struct dma_window *windows;
    uint32_t window_count, window_room;
    uint64_t mapped_bytes; /* of all windows' mappings */
    struct reach recent[2][DMA_BOTH + 1]; /* by enum recent, then by access */
    struct remote *remote; /* NULL: messages reach no window */
};

/* ---- queues ---- */

/* The last context descriptor with this index. */
struct tx_context {
    uint64_t q0, q1;
};

struct tx_queue {
    bool enabled, stuck; /* stuck: after an error that only disabling the queue ends */
    uint32_t head, size;
    uint64_t base, head_writeback; /* IOVAs; head_writeback 0 when it is off */
    uint32_t wthresh;
    uint32_t unwritten, writeback_head; /* completed descriptors not written back yet, and the first of them */
    uint32_t counter_set;               /* TQSM */
    uint64_t cause;                     /* the vector's bit, 0 without one (IVAR) */
    struct tx_context contexts[2];
};

/* The rate of a transmit queue (rate.c). */
struct rate {
    uint32_t control; /* its RTTBCNRC */
    bool held;        /* frames waited for the rate at the end of its last turn */
    uint64_t next_ps; /* when the rate lets the next frame go */
    uint64_t seen, free_ps; /* in its turn: bytes sent when it was last charged; when the wire was free at first */
};

/* stuck: as a tx_queue; unusable: without a ring or a known kind of buffers; the last two: SRRCTL.DESCTYPE */
enum rx_state { RX_OFF, RX_STUCK, RX_UNUSABLE, RX_LEGACY, RX_ADVANCED };

/* One cache line: frames of several queues come in turn. */
struct rx_queue {
    _Alignas(CACHE_LINE) enum rx_state state;
    uint32_t head, size, buffer_size;
    uint32_t free; /* descriptors up to the RDT last read; the driver writes that line, so it is read rarely */
    bool drop_en, strip_tag; /* SRRCTL.DROP_EN, RXDCTL.VME */
    uint8_t counter_set; /* RQSMR */
    uint64_t packets, bytes; /* delivered, and not in `counters` yet */
    uint64_t base, cause; /* cause: as in tx_queue */
    struct descriptor
        *ring; /* the whole ring in memory of this host, or NULL; each ring may have a window of its own */
};
_Static_assert(sizeof(struct rx_queue) == CACHE_LINE, "settings.c and receive.c touch one line of a queue");

/* A pending write-back of a received descriptor. */
struct write_back {
    struct descriptor *descriptor;
    uint64_t q0, q1;
};

/* Events since the last nic_flush_counters(). Good packets are the sum of the size counters; total packets are the good
 * ones and the refused ones. */
struct counters {
    uint64_t gorc, bprc, mprc, prc[6], ruc, roc, rfc, rjc, crcerrs, mpc;
    uint64_t refused, refused_bytes; /* received and not good: damaged, too short, too long, or not for this port */
    uint64_t gotc, bptc, mptc, ptc[6]; /* gotc: of pause frames; those of queues are in qbtc and qptc */
    uint64_t switched_bytes; /* of frames that queues sent, but not to the wire */
    uint64_t fdirmatch, fdirmiss;
    uint64_t lxonrx, lxoffrx, lxontx, lxofftx;
    uint64_t qprc[COUNTER_SETS], qbrc[COUNTER_SETS], qprdc[COUNTER_SETS], qptc[COUNTER_SETS], qbtc[COUNTER_SETS];
};

/* The receive packet buffer (8.2.3.8.9): frames that wait for a descriptor, in order, as {header, bytes}. */
struct packet_buffer {
    uint8_t *bytes;
    uint32_t size, read, write, used;
};

/* What a frame's RSS type depends on: both ports of a TCP or UDP packet, or neither. */
enum rss_ports { RSS_NO_PORTS, RSS_TCP, RSS_UDP };

/* RSS types without ports (7.1.6.2). */
enum { RSS_TYPE_IPV4 = 2, RSS_TYPE_IPV6 = 5 };

/* What frames obey in registers (settings.c). */
struct settings {
    bool stale; /* the engine was frozen since these were read */
    bool transmit; /* DMATXCTL, SECTXCTRL: on, if there is a link */
    bool receive; /* RXCTRL, SECRXCTRL: on, if there is a link */
    bool loopback, pad, strip_crc; /* HLREG0 */
    bool unrecorded; /* wired, and nobody asked for a record of departures */
    bool wired; /* frames use the wire: no loopback, and the cable is in, whether or not the link is forced up */
    bool unaltered; /* received frames lose their CRC and nothing else, and their descriptors are written back */
    bool vlan_filter; /* VLNCTRL.VFE */
    uint32_t vlan_type, longest; /* VLNCTRL.VET; a frame's bytes, CRC included */
    uint32_t filter; /* FCTRL */
    uint8_t rss_types[2][3]; /* MRQC: of IPv4 and IPv6 flows, by enum rss_ports; 0: no hash */
    uint32_t hash_mask;      /* RXCSUM.PCSD: all bits when descriptors hold the hash, else 0 */
    uint32_t usual_lengths; /* frames of FRAME_MIN and so many longer lengths may take receive_usual(); 0: none may */
    uint64_t own; /* the address of such frames, as mac_of() */
    bool director, stamps; /* flow director has a table; received frames may get a time stamp */
    bool steering; /* any filter, flow director or time stamps: steer() looks at each frame */
    bool pools; /* VT mode: queues belong to pools, and frames to the pools that pools.c selects */
};

/* `hash`: FDIRHASH, signature or software index in the high half, bucket in the low half. `next`: index in the same
 * bucket, or in the list of unused filters; 0 ends a list. */
struct director_filter {
    uint32_t hash, command, source, destination, ports, vlan_flex;
    uint16_t next;
};

struct director {
    struct director_filter *filters; /* NULL: FDIRCTRL gives it no memory */
    uint16_t *buckets, unused;
    uint32_t capacity, count, bucket_mask;
};

/* ---- virtual functions (virtual.c, pools.c) ---- */

/* What a pool's queues carried; wraps as its registers do (8.3.5.6). */
struct pool_counters {
    uint64_t gprc, gorc, mprc, gptc, gotc;
};

/* A virtual function. Its causes and masks are in the registers that the PF sees: PVTEICR, PVTEIMS and so on. */
struct virtual_function {
    struct function function;
    int eventfds[VF_VECTORS];
    uint32_t sent;    /* vectors whose message was sent for the causes that are set now */
    uint32_t pending; /* causes of received frames whose write-back may wait */
    uint64_t next_message_ns[VF_VECTORS];
};

/* A mirror rule (mirror.c): what it copies, and the pool that gets it, as a bit. */
struct mirror {
    uint64_t pools, vlans, to; /* vlans: entries of PFVLVF */
    bool uplink, downlink;
};

enum { NO_POOL = 0xFF };

/* Where a pool's last frame went. The next one with the same addresses and EtherType goes there too, without a look at
 * the filters. */
struct way {
    uint64_t start, end; /* the frame's bytes 0 to 7 and 6 to 13 */
    uint32_t to; /* the pool that alone received it; NO_POOL: only the wire did */
};

/* What frames obey in VT mode, read with the other settings; not read when VT mode is off. */
struct pools {
    uint32_t shift;               /* log2 of the queues of a pool */
    uint32_t vf_count;            /* pools 0 to vf_count - 1 belong to VFs, the others to the PF */
    uint64_t receive, transmit;   /* PFVFRE, PFVFTE: bit n for pool n, as in all words here */
    uint64_t fallback;            /* the default pool, 0 when there is none */
    uint64_t broadcast, untagged, multicast_table, all_multicast, unicast_table; /* PFVML2FLT, by its bits */
    uint64_t spoof_mac, spoof_vlan; /* PFVFSPOOF */
    uint64_t keeps_own;           /* PFVMTXSW: pools that receive what they send */
    bool replication, loopback;   /* PFVTCTL.RPL_EN, PFDTXGSWC.LBE */
    bool classes;                 /* MRQC 12 or 13: a frame's priority chooses the queue of the pool */
    uint32_t mirror_count;
    struct mirror mirrors[R_PFMRCTL_COUNT];
    bool plain; /* addresses alone decide about an untagged frame: no filter looks at more of it */
    uint64_t usual; /* pools that usual frames may enter: the memory of their function needs no messages */
    uint32_t usual_lengths; /* as in struct settings, for VT mode */
    uint64_t last_address; /* of the last usual frame from the wire, as mac_of() */
    uint32_t last_pool; /* that alone received it; NO_POOL: none or several did */
    struct way ways[POOLS];
    uint8_t vector[2][QUEUES];    /* of receive, transmit queues of VFs: the cause's bit, 0 without one (PVTIVAR) */
    uint8_t index_mask[POOLS];    /* which bits of the RSS index (PSRTYPE.RQPL) or the class choose the queue */
};

/* SYSTIM at a cycle of its oscillator; `cycle` counts from the epoch of nic_now(). */
struct clock {
    uint64_t time, cycle;
};

struct nic;

/* Frames on a wire that takes time (delay.c). `in`, `out`: bytes that were put and taken since the beginning. */
struct line {
    void (*arrive)(struct nic *nic, const uint8_t *frame, uint32_t length);
    void (*arrive_damaged)(struct nic *nic, const uint8_t *frame, uint32_t length);
    uint8_t *bytes;
    uint64_t room, in, out, delay_ns;
};

/* The other end of the cable. Frames are without CRC. */
struct wire {
    void (*send)(struct nic *nic, const uint8_t *frame, uint32_t length);
    /* NULL: whoever is there sees no frame with a wrong CRC. The CRC is the four bytes after `length`. */
    void (*send_damaged)(struct nic *nic, const uint8_t *frame, uint32_t length);
    const uint8_t *(*offer)(struct nic *nic, uint32_t *length); /* the next frame or NULL; the same until `taken` */
    void (*taken)(struct nic *nic);
    void (*idle)(struct nic *nic); /* nothing moved: a chance to flush */
    void (*close)(struct nic *nic);
    bool to_one; /* source: all frames are for one address */
    struct nic *peer; /* cable */
    struct line *line; /* loop, cable: NULL if frames arrive when they leave */
    int fd; /* tap, recording */
    int trouble; /* the errno that ended the wire, else 0 */
    uint64_t frame_ps; /* slow sink: the time between two frames */
    uint64_t sequence; /* source, playback */
    const uint8_t *capture; /* playback */
    const uint64_t *offsets;
    const uint32_t *lengths, *wire_lengths; /* captured bytes; bytes that the frame had on its wire */
    uint64_t frames;
    uint32_t
        pending; /* tap: length of the frame in `buffer` that the NIC has not taken; source: length of every frame */
    uint8_t *buffer;
    uint32_t recorded; /* bytes in `record` that are not in the file yet */
    uint8_t *record;
};

/* A frame that left: where on the wire its preamble began, in byte times; its bytes with CRC (departures.c). */
struct departure {
    uint64_t position;
    uint32_t bytes;
    uint16_t queue, damaged;
};

struct departures {
    struct departure *records; /* NULL: no record */
    uint64_t room, count;
    uint64_t bytes; /* on an unpaced wire: where the next frame begins */
};

struct nic {
    _Atomic uint32_t *regs;
    bool manual, paced, gone;
    bool no_head_writeback, no_rx_writeback; /* injected defects (hw/emulator/faults.py) */
    uint32_t step_frames; /* STEP_FRAMES, or what nic_step() was called with */
    uint64_t manual_ns; /* the time, when it is stepped by hand */
    uint64_t behind_ns; /* how long the NIC's clock stood still: nic_pause() */
    struct watch *watch; /* the last frames at the wire, while a program looks at them (watch.c) */

    /* link (82599 3.7): up when the far end is there, `link_delay_ns` after training began */
    bool cable_in, link_up;
    uint64_t link_delay_ns, link_training_since_ns;

    struct function pf, *function; /* `function`: whose memory is accessed; &pf except while a VF's queue moves */
    int doorbell_fd; /* the pages with tail registers, when they are shared; else -1 */
    struct finding findings[FINDINGS_KEPT];
    uint64_t finding_count;

    struct tx_queue tx[QUEUES];
    struct rx_queue rx[QUEUES];
    uint64_t tx_enabled[2], rx_enabled[2]; /* bit q % 64 of word q / 64 */
    struct settings settings;
    uint64_t tx_free_ps, rx_free_ps; /* paced: when the wire can carry the next frame */
    struct rate rates[QUEUES];
    uint64_t rate_limited[2]; /* bit q % 64 of word q / 64: RTTBCNRC.RS_ENA */
    uint64_t rate_spare_ps; /* wire time before tx_free_ps that only queues with a rate may use in this step */
    bool tx_busy, rx_busy; /* frames were waiting at the end of the last step: they may use the time since then */
    bool paused, pausing; /* paused by the other end; pausing the other end */
    bool pause_leaves; /* a pause frame is being sent: what it causes on a loop or at a peer sends no second one */
    uint64_t paused_until_ns, pause_again_ns;
    struct packet_buffer buffer;
    struct write_back write_backs[WRITE_BACKS];
    uint32_t write_back_count;
    uint64_t rx_causes; /* of frames whose write-back may wait */
    struct counters counters;
    uint64_t addresses[QUEUES]; /* of RAL/RAH with AV, each once */
    uint64_t address_pools[QUEUES]; /* MPSAR of each */
    uint32_t address_count;
    uint8_t address_index[256]; /* of address_find(): 1 + the number of an address */
    uint32_t ether_type_filters; /* bit i: ETQF[i] is on */
    uint32_t five_tuple_count;
    uint8_t five_tuples[128]; /* indices of the enabled ones, highest precedence first */
    struct director director;
    struct clock clock;
    uint64_t arrival_ns; /* when the frame that is being received arrived, if that is not now; else 0 */
    uint32_t rss_table[36][256]; /* Toeplitz hash of byte value v at input position i (7.1.2.8.1) */
    uint8_t frame[FRAME_MAX]; /* an outgoing frame that was gathered or changed */
    uint8_t *large; /* LARGE_MAX bytes: a send to be segmented */

    int eventfds[VECTORS];
    bool line, line_masked; /* vector 0 is INTx: each signal masks it until the far end unmasks it */
    bool line_disabled; /* the command register's Interrupt Disable */
    uint64_t sent; /* vectors whose message was sent for the causes that are set now */
    uint64_t next_message_ns[VECTORS];

    struct wire wire;
    struct departures departures;
    struct nic *next;

    bool registers_kept; /* nic_destroy() does not unmap them */
    uint32_t vf_count; /* enabled in the SR-IOV capability */
    uint64_t vf_causes; /* VFs with `pending` causes */
    uint64_t selected; /* the pools of the frame that mac_accepts() accepted last */
    uint64_t drop_enable[2]; /* PFQDE: bit q % 64 of word q / 64 */
    struct pools pools;
    struct virtual_function vf[POOLS];
    struct pool_counters pool_counters[POOLS];
};

/* ---- registers ---- */

static inline uint32_t reg_load(const struct nic *nic, uint32_t offset)
{
    return atomic_load_explicit(&nic->regs[offset / 4], memory_order_relaxed);
}

static inline void reg_store(struct nic *nic, uint32_t offset, uint32_t value)
{
    atomic_store_explicit(&nic->regs[offset / 4], value, memory_order_relaxed);
}

/* Bit `bit` of two registers with 32 bits each. */
static inline bool pair_bit(const struct nic *nic, uint32_t offset, uint32_t bit)
{
    return reg_load(nic, offset + 4 * (bit / 32)) >> bit % 32 & 1;
}

/* Receive queue registers: 64 at their first address, 64 more 0xC000 above it. */
static inline uint32_t rx_offset(uint32_t first, uint32_t queue)
{
    return queue < 64 ? first + 0x40 * queue : first + 0xC000 + 0x40 * (queue - 64);
}

static inline uint32_t tx_offset(uint32_t first, uint32_t queue)
{
    return first + 0x40 * queue;
}

/* ---- pace ---- */

/* When a paced wire can carry the next frame. Idle time is lost; the engine's delay is made up, up to CATCH_UP_NS. */
static inline uint64_t wire_free(uint64_t free_ps, uint64_t now_ns, bool busy)
{
    uint64_t earliest = busy ? (now_ns > CATCH_UP_NS ? now_ns - CATCH_UP_NS : 0) * 1000 : now_ns * 1000;
    return free_ps > earliest ? free_ps : earliest;
}

/* How long a frame of `length` bytes, without CRC, occupies the wire. */
static inline uint64_t wire_time_ps(uint32_t length)
{
    return (uint64_t)(length + CRC + WIRE_OVERHEAD) * PS_PER_BYTE;
}

/* A time of this NIC, as the clock of the other one shows it: one may have been paused (nic_pause). */
static inline uint64_t time_at_peer(const struct nic *nic, const struct nic *peer, uint64_t ns)
{
    return nic->manual || peer->manual ? ns : ns + nic->behind_ns - peer->behind_ns;
}

/* ---- what every file may call: time.c, crc.c, departures.c, findings.c, settings.c, interrupt.c ---- */

uint64_t monotonic_ns(void);
uint64_t nic_now(const struct nic *nic);

uint32_t frame_check_sequence(const uint8_t *frame, uint32_t length);
void record_departure(struct nic *nic, uint32_t number, uint32_t length, bool damaged);

void report(struct nic *nic, enum finding_kind kind, uint32_t queue, uint64_t first, uint64_t second);

void settings_read(struct nic *nic);
uint32_t counter_set(const struct nic *nic, uint32_t map, uint32_t queue);
void count_delivered(struct nic *nic, struct rx_queue *queue);
void count_all_delivered(struct nic *nic);

void raise_queue_cause(struct nic *nic, uint64_t cause);
void raise_other_cause(struct nic *nic, uint32_t cause);
void send_messages(struct nic *nic, uint64_t now_ns);
void signal_eventfd(int fd);
uint64_t load_pair(const struct nic *nic, uint32_t offset);
uint64_t moderation_ns(const struct nic *nic, uint32_t vector);

/* virtual.c, pools.c */
void raise_vf_cause(struct nic *nic, uint32_t vf, uint32_t causes);
void raise_vf_causes(struct nic *nic);
void send_vf_messages(struct nic *nic, uint64_t now_ns);
void pools_read(struct nic *nic);

/* The function whose queue this is. */
static inline struct function *function_of(struct nic *nic, uint32_t queue)
{
    uint32_t pool = queue >> nic->pools.shift;
    return nic->settings.pools && pool < nic->pools.vf_count ? &nic->vf[pool].function : &nic->pf;
}

#endif
