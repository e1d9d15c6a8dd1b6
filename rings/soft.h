/* Steps that rings without a NIC share: pipes.c, switch.c, monitors.c, host.c.
 *
 * As with a NIC's ring, each index and each slot is read once, into a copy, and the copy is checked (driver/README.md,
 * contract 2). All rings are synced by the service thread, so the structures here need no lock.
 */
#ifndef SOFT_H
#define SOFT_H

#include <string.h>

#include "service.h"

enum {
    NR_FORWARD = 0x04,
    NS_FORWARD = 0x04,
    NS_NO_LEARN = 0x08,
    NS_TXMON = 0x40,
    LONGEST_CHAIN = 64, /* slots of one frame, as netmap limits them */
    MOST_SLOTS = 8192,  /* of a ring: MAX_SLOTS in layout.py */
    CACHE_LINE = 64,
};

/* ---- the program's indices ---- */

/* Where the program's slots begin. What a TX ring still has to move is before it. A NIC's ring takes all at once. */
static inline uint32_t owned_from(const struct kring *k)
{
    return k->tx && (k->kind == KRING_PIPE || k->kind == KRING_HOST || k->kind == KRING_SWITCH) ? k->synced_head
                                                                                                : k->q->hwcur;
}

/* Put the ring back to the daemon's indices. Returns what a sync returns then. */
static inline int refuse(struct kring *k)
{
    reset_ring_to(k->q, owned_from(k));
    return ATTENTION_VIOLATION;
}

/* Read head and cur once, and check them. Acquire: the program wrote the slots before head. */
static inline bool take_head(struct kring *k, uint32_t *taken)
{
    struct queue *q = k->q;
    uint32_t head = __atomic_load_n(&q->ring->head, __ATOMIC_ACQUIRE);
    uint32_t cur = __atomic_load_n(&q->ring->cur, __ATOMIC_RELAXED);
    uint32_t hwcur = q->hwcur;
    q->hwcur = owned_from(k); /* indices_valid() counts from there */
    bool valid = indices_valid(q, head, cur);
    q->hwcur = hwcur;
    *taken = head;
    return valid;
}

/* ---- slots ---- */

static inline uint8_t *buffer_of(const struct queue *q, uint32_t buf_idx)
{
    return q->buffers + (uint64_t)buf_idx * q->buf_size;
}

/* Relaxed: head or tail, stored later with release, makes the slot visible. */
static inline void write_slot(struct queue *q, uint32_t i, uint32_t buf_idx, uint32_t len, uint32_t flags)
{
    struct netmap_slot slot = {.buf_idx = buf_idx, .len = (uint16_t)len, .flags = (uint16_t)flags};
    __atomic_store_n(&q->ring->slot[i].word, slot.word, __ATOMIC_RELAXED);
}

/* The slot stays with its buffer. */
static inline void write_length(struct queue *q, uint32_t i, uint32_t len, uint32_t flags)
{
    __atomic_store_n(&q->ring->slot[i].len_flags, len | flags << 16, __ATOMIC_RELAXED);
}

/* Flags that a ring without a NIC refuses: there is no DMA, no offload and no CRC. */
enum { FOR_A_NIC = NS_INDIRECT | NS_CONTEXT | NS_OWN_CRC };

/* A frame may have no byte here: only a NIC needs one. */
static inline bool slot_sound(const struct queue *q, struct netmap_slot slot)
{
    return buffer_valid(q, slot.buf_idx) && slot.len <= q->buf_size && !(slot.flags & FOR_A_NIC);
}

/* ---- offsets (NETMAP_REQ_OPT_OFFSETS) ----
 *
 * read_slot() leaves 0 in the copy's ptr. In a ring with offsets, copies that come from read_chain() have the slot's
 * offset there, so the lanes that use no chain leave these rings to the others. */

/* False: the slot's bytes leave its buffer. */
static inline bool take_offset(const struct queue *q, uint32_t i, struct netmap_slot *slot)
{
    slot->ptr = read_offset(q, i);
    return offset_fits(q, slot->ptr, slot->len);
}

/* Where the bytes of a slot begin. */
static inline uint8_t *bytes_of(const struct queue *q, const struct netmap_slot *slot)
{
    return buffer_of(q, slot->buf_idx) + slot->ptr;
}

/* Where up to most_received bytes for slot `i` go, in its buffer `buf_idx`. NULL: its program gave a wrong offset. */
static inline uint8_t *room_for(const struct queue *q, uint32_t i, uint32_t buf_idx)
{
    uint64_t offset = q->offset_mask ? read_offset(q, i) : 0;
    return offset_fits(q, offset, q->most_received) ? buffer_of(q, buf_idx) + offset : NULL;
}

/* A buffer has come to slot `i` with its bytes at an offset. The other bits of ptr stay the program's. */
static inline void pass_offset(struct queue *q, uint32_t i, uint64_t offset)
{
    uint64_t *ptr = &q->ring->slot[i].ptr;
    if (q->offset_mask)
        __atomic_store_n(ptr, (__atomic_load_n(ptr, __ATOMIC_RELAXED) & ~q->offset_mask) | (offset & q->offset_mask),
                         __ATOMIC_RELAXED);
}

/* ---- frames: chains of slots are whole ---- */

struct chain {
    uint32_t slots; /* 0: the frame does not end before `to`, or it breaks a rule */
    uint32_t bytes;
    bool broken; /* by the slot that was read last */
    uint32_t read; /* slots that were read */
    struct netmap_slot slot[LONGEST_CHAIN + 1]; /* the only copies that count */
};

/* Read the frame that starts at `from`: at most `longest` slots. A frame that has not ended yet is no violation: the
 * program may end it at a later sync, as in netmap. */
static inline void read_chain(const struct queue *q, uint32_t from, uint32_t to, uint32_t longest, struct chain *chain)
{
    chain->slots = chain->bytes = chain->read = 0;
    chain->broken = false;
    for (uint32_t i = from; i != to; i = after(i, q->num_slots)) {
        struct netmap_slot slot = read_slot(q->ring, i);
        chain->slot[chain->read++] = slot;
        chain->bytes += slot.len;
        chain->broken = chain->read > longest || !slot_sound(q, slot);
        if (q->offset_mask)
            chain->broken |= !take_offset(q, i, &chain->slot[chain->read - 1]);
        if (chain->broken)
            return;
        if (!(slot.flags & NS_MOREFRAG)) {
            chain->slots = chain->read;
            return;
        }
    }
}

/* Note which rule the chain from slot `from` breaks. Returns false. */
COLD bool chain_violated(struct queue *q, uint32_t from, const struct chain *chain, uint32_t longest);

/* ---- an RX ring that the daemon fills ---- */

/* Slots that have no frame and may be filled. */
static inline uint32_t room_in(const struct kring *rx)
{
    return distance(rx->filled, before(rx->q->hwcur, rx->q->num_slots), rx->q->num_slots);
}

/* Take back the slots that the program released, [hwcur, head), if their buffers are valid. */
static inline bool take_released(struct kring *rx, uint32_t head)
{
    struct queue *q = rx->q;
    for (uint32_t i = q->hwcur; i != head; i = after(i, q->num_slots)) {
        uint32_t buf_idx = read_slot(q->ring, i).buf_idx;
        if (!buffer_valid(q, buf_idx))
            return buffer_violated(q, i, buf_idx);
    }
    q->hwcur = head;
    return true;
}

/* Show the program the frames up to `filled`. */
static inline int publish_filled(struct kring *rx)
{
    rx->q->hwtail = rx->filled;
    publish_tail(rx->q);
    return 0;
}

/* ---- buffers that change owners (zones, service.h) ---- */

static inline bool zones_differ(const struct kring *a, const struct kring *b)
{
    return a->zone_of && a->zone != b->zone;
}

static inline bool owns(const struct kring *k, uint32_t buf_idx)
{
    return k->zone_of[buf_idx] == k->zone;
}

enum { CLAIMED = 0xFFFF }; /* the owner of a buffer that is about to change places */

static inline void give_up(const struct kring *k, const struct netmap_slot *slots, uint32_t count)
{
    while (count)
        k->zone_of[slots[--count].buf_idx] = (uint16_t)k->zone;
}

/* Claim the buffers of all slots, or none. A buffer in two of the slots, or another program's, is refused. Returns the
 * number of slots before the refused one. */
static inline uint32_t claim(const struct kring *k, const struct netmap_slot *slots, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!owns(k, slots[i].buf_idx)) {
            give_up(k, slots, i);
            return i;
        }
        k->zone_of[slots[i].buf_idx] = CLAIMED;
    }
    return count;
}

/* Whether the daemon may write into the buffer for this ring. A program could name another's buffer in its slot, and
 * have its own frames copied over the other's. */
static inline bool writable(const struct kring *k, uint32_t buf_idx)
{
    return buffer_valid(k->q, buf_idx) && (!k->zone_of || owns(k, buf_idx));
}

/* ---- bytes ---- */

static inline void prefetch(const uint8_t *bytes, uint32_t length)
{
    for (uint32_t line = 0; line < least(length, 4 * CACHE_LINE); line += CACHE_LINE)
        __builtin_prefetch(bytes + line);
}

/* Two overlapping parts cover every length between one and two of them: no call for a small frame. */
static inline void copy_bytes(uint8_t *restrict to, const uint8_t *restrict from, uint32_t length)
{
    if (length > 128) {
        memcpy(to, from, length);
    } else if (length > 64) {
        memcpy(to, from, 64);
        memcpy(to + length - 64, from + length - 64, 64);
    } else if (length >= 32) {
        memcpy(to, from, 32);
        memcpy(to + length - 32, from + length - 32, 32);
    } else {
        for (uint32_t i = 0; i < length; i++)
            to[i] = from[i];
    }
}

/* ---- monitors.c ---- */

/* Who watches a ring, and the RX ring that the frames go to. A ring has a list of them. */
struct monitor {
    struct monitor *next;
    struct kring *ring; /* of KRING_MONITOR */
    uint32_t zero_copy; /* 1: take buffers and give others for them; both rings are in one region */
    uint32_t unused;
    uint64_t frames; /* that this monitor got from its ring */
};

enum monitor_kinds { COPYING = 1, ZERO_COPY = 2 };

/* Copy the frames in slots [from, to) of a ring to monitors of these kinds. txmon: NS_TXMON for sent frames. */
HIDDEN void monitor_copy(struct monitor *monitors, const struct queue *q, uint32_t from, uint32_t to, uint32_t txmon,
                         enum monitor_kinds kinds);
/* Frames in slots [from, to) that nobody else needs any more: the zero-copy monitors of the ring take them. */
HIDDEN void monitor_take(struct kring *k, uint32_t from, uint32_t to, uint32_t txmon);

/* An RX ring, not a NIC's, has got frames in slots [filled, to). */
static inline void fill_up_to(struct kring *rx, uint32_t to)
{
    if (rx->monitors)
        monitor_copy(rx->monitors, rx->q, rx->filled, to, 0, COPYING);
    rx->filled = to;
}

/* ---- host.c ---- */

struct host;
EXPORT bool host_work(struct task *task, uint64_t now_ns);
EXPORT void host_discard(struct host *host);

/* A TAP, and the rings whose frames go to Linux's network stack and come from it. host_work() is its task. */
struct host {
    struct kring **tx, **rx; /* host rings that a program has open; frames from Linux go to the first RX ring */
    struct kring **nic_rx, **nic_tx; /* the NIC's rings that no program has: the daemon forwards them */
    struct kring **down; /* the NIC's TX rings that frames with NS_FORWARD in a host RX ring go to */
    uint32_t tx_count, rx_count, nic_rx_count, nic_tx_count, down_count;
    int fd; /* of the TAP: non-blocking, IFF_NO_PI, without a virtio header */
    uint32_t longest; /* bytes of the longest frame that Linux may send: MTU, Ethernet header and VLAN tag */
    uint32_t empty; /* the last look at the TAP found no frame */
    uint64_t looked_ns; /* when that was */
    uint64_t room_ns; /* when the NIC's TX ring last had room */
    uint64_t to_host, to_host_bytes, from_host, from_host_bytes;
    uint64_t refused; /* frames that Linux did not take */
    uint64_t drops; /* frames from Linux that were too long, or that nobody took in time */
};

/* ---- switch.c ---- */

enum { SWITCH_PORTS = 254 };

struct fabric; /* a switch: switch_size bytes, aligned to a cache line */

/* A port of a switch: a program's rings, or those of a NIC or a TAP. */
struct switch_port {
    struct fabric *fabric;
    struct kring **into; /* rings that frames for the port are copied into: RX rings of a program, TX rings of others */
    struct kring *
        *from; /* RX rings of a NIC or a TAP, which switch_work() takes frames of. A program's TX rings have the
                          * port behind them instead */
    uint32_t into_count, from_count;
    uint32_t index;
    uint32_t header; /* bytes of the virtio header before each frame */
    uint64_t source, noted_ns; /* the address that was learned last, and when */
    uint64_t sent, sent_bytes; /* frames that the port has given to the switch */
    uint64_t refused; /* of these, frames too short for addresses */
    struct kring *waiting; /* a program's TX ring with frames that wait for room at the other end of a cable */
};

EXPORT extern const uint32_t switch_size;
EXPORT void switch_init(struct fabric *f, uint64_t age_ns);
EXPORT int switch_add(struct fabric *f, struct switch_port *port);
EXPORT void switch_remove(struct fabric *f, struct switch_port *port);
EXPORT bool switch_work(struct task *task, uint64_t now_ns);

/* ---- syncs of rings whose program is the daemon ---- */

/* attention: where Python, or the caller of a sync, finds what the ring's driver should do. */
static inline void sync_for(struct kring *k, uint32_t *attention)
{
    uint32_t found = (uint32_t)kring_sync(k);
    k->attention |= found;
    *attention |= found & ATTENTION_DRIVER;
}

/* Sizes and offsets of these structures, which soft.py compares with its mirror of them. */
EXPORT extern const uint32_t soft_layout[];
EXPORT extern const uint32_t soft_layout_count;

#endif
