/* Monitors: RX rings that show what another ring sends or receives.
 *
 *     frames of            copying monitor            zero-copy monitor
 *     NIC, sent            before the sync            when the NIC has sent them: buffers change places
 *     NIC, received        after the sync             when the program releases them: buffers change places
 *     pipe, sent           when they move             when the receiver releases them: copied
 *     switch, host, null,  before the sync            before the sync: copied
 *       sent
 *     all others,          when they arrive, whether  when the program releases them: buffers change places
 *       received           the program reads or not
 *
 * A monitor never slows its ring down: a frame that finds no room in the monitor's ring is dropped and counted there.
 * Any number of monitors may watch a ring. Of several zero-copy monitors the last one takes the buffers, after the
 * others have copied.
 *
 * The slots are shared, so a slot may be anything by now: each look reads it once, checks it, and passes over a frame
 * that is not sound. The ring's own sync reports it.
 */
#include "soft.h"

enum {
    AHEAD = 16, /* frames whose lines are requested before they are copied */
    FLAGS_SHOWN = 0xFFFF & ~(NS_BUF_CHANGED | NS_REPORT | NS_TXMON),
};

/* ---- copies ---- */

/* Request the first lines of the frame in a slot. The index may be anything: a request for no buffer does nothing. */
static inline void request_frame(const struct queue *q, uint32_t i)
{
    struct netmap_slot slot = read_slot(q->ring, i);
    if (slot_sound(q, slot))
        prefetch(buffer_of(q, slot.buf_idx), slot.len);
}

/* Copy one slot's bytes into slot `i` of the monitor's ring. A frame longer than its buffer is cut, as in netmap.
 * False: the slot's buffer is not valid, which is the fault of the monitor's program. */
static inline bool copy_slot(const struct queue *q, struct netmap_slot slot, const struct kring *ring, uint32_t i,
                             uint32_t flags)
{
    struct queue *to = ring->q;
    uint32_t buf_idx = read_slot(to->ring, i).buf_idx, length = least(slot.len, to->buf_size);
    if (!writable(ring, buf_idx))
        return false;
    copy_bytes(buffer_of(to, buf_idx), bytes_of(q, &slot), length);
    write_length(to, i, length, flags | (slot.flags & FLAGS_SHOWN));
    pass_offset(to, i, 0);
    return true;
}

static inline void count_frame(struct monitor *m, const struct chain *chain)
{
    m->ring->q->packets++;
    m->ring->q->bytes += chain->bytes;
    m->frames++;
}

/* Copy the frame that starts in slot `from`; there is room. Returns the first slot after it. */
static uint32_t copy_frame(struct monitor *m, const struct queue *q, uint32_t from, uint32_t to, uint32_t txmon)
{
    struct kring *ring = m->ring;
    struct chain chain;
    uint32_t i = ring->filled, k = 0;
    read_chain(q, from, to, LONGEST_CHAIN, &chain);
    for (; k < chain.slots && copy_slot(q, chain.slot[k], ring, i, txmon); k++)
        i = after(i, ring->q->num_slots);
    if (chain.slots && k == chain.slots) {
        ring->filled = i;
        count_frame(m, &chain);
    } else {
        ring->drops += !chain.broken;
    }
    return skip(from, chain.read, q->num_slots);
}

/* A monitor without room loses the oldest frames, as in netmap. Returns the first slot of the rest. */
static uint32_t drop_oldest(struct monitor *m, const struct queue *q, uint32_t from, uint32_t to)
{
    uint32_t room = room_in(m->ring), flags;
    while (distance(from, to, q->num_slots) > room) {
        do {
            flags = read_slot(q->ring, from).flags;
            from = after(from, q->num_slots);
        } while ((flags & NS_MOREFRAG) && from != to);
        m->ring->drops++;
    }
    return from;
}

static void copy_frames(struct monitor *m, const struct queue *q, uint32_t from, uint32_t to, uint32_t txmon)
{
    from = drop_oldest(m, q, from, to);
    uint32_t ahead = from, n = q->num_slots;
    for (uint32_t k = 0; k < AHEAD && ahead != to; k++, ahead = after(ahead, n))
        request_frame(q, ahead);
    while (from != to) {
        uint32_t next = copy_frame(m, q, from, to, txmon);
        for (; from != next; from = after(from, n))
            if (ahead != to) {
                request_frame(q, ahead);
                ahead = after(ahead, n);
            }
    }
}

void monitor_copy(struct monitor *monitors, const struct queue *q, uint32_t from, uint32_t to, uint32_t txmon,
                  enum monitor_kinds kinds)
{
    for (struct monitor *m = monitors; m && from != to; m = m->next)
        if (kinds & (m->zero_copy ? ZERO_COPY : COPYING))
            copy_frames(m, q, from, to, txmon);
}

/* ---- zero-copy ---- */

/* Give slot `i` of the watched ring a buffer of the monitor's, and take its own. */
static void swap_slot(struct kring *k, uint32_t i, struct netmap_slot full, struct kring *ring, uint32_t spare,
                      uint32_t txmon)
{
    write_slot(ring->q, ring->filled, full.buf_idx, full.len, (full.flags & FLAGS_SHOWN) | txmon | NS_BUF_CHANGED);
    pass_offset(ring->q, ring->filled, full.ptr);
    write_slot(k->q, i, spare, full.len, NS_BUF_CHANGED);
    if (zones_differ(k, ring)) {
        k->zone_of[full.buf_idx] = (uint16_t)ring->zone;
        k->zone_of[spare] = (uint16_t)k->zone;
    }
    ring->filled = after(ring->filled, ring->q->num_slots);
}

/* The monitor's free buffers for a chain, if all are valid. */
static bool read_spares(const struct chain *chain, const struct kring *ring, struct netmap_slot *spares)
{
    uint32_t i = ring->filled;
    if (chain->slots == 0 || chain->slots > room_in(ring))
        return false;
    for (uint32_t n = 0; n < chain->slots; n++, i = after(i, ring->q->num_slots)) {
        spares[n] = read_slot(ring->q->ring, i);
        if (!buffer_valid(ring->q, spares[n].buf_idx))
            return false;
    }
    return true;
}

/* If their owners differ: both must own what they give, each buffer once. */
static bool may_swap(const struct kring *k, const struct chain *chain, const struct kring *ring,
                     const struct netmap_slot *spares)
{
    if (!zones_differ(k, ring))
        return true;
    if (claim(k, chain->slot, chain->slots) < chain->slots)
        return false;
    if (claim(ring, spares, chain->slots) == chain->slots)
        return true;
    give_up(k, chain->slot, chain->slots);
    return false;
}

static uint32_t take_frame(struct monitor *m, struct kring *k, uint32_t from, uint32_t to, uint32_t txmon)
{
    struct chain chain;
    struct netmap_slot spares[LONGEST_CHAIN];
    uint32_t n = k->q->num_slots;
    read_chain(k->q, from, to, LONGEST_CHAIN, &chain);
    if (!read_spares(&chain, m->ring, spares) || !may_swap(k, &chain, m->ring, spares)) {
        m->ring->drops += !chain.broken;
        return skip(from, chain.read, n);
    }
    for (uint32_t i = 0; i < chain.slots; i++, from = after(from, n))
        swap_slot(k, from, chain.slot[i], m->ring, spares[i].buf_idx, txmon);
    count_frame(m, &chain);
    return from;
}

void monitor_take(struct kring *k, uint32_t from, uint32_t to, uint32_t txmon)
{
    struct monitor *last = NULL;
    for (struct monitor *m = k->monitors; m; m = m->next) {
        if (!m->zero_copy)
            continue;
        if (last)
            copy_frames(last, k->q, from, to, txmon);
        last = m;
    }
    if (!last)
        return;
    from = drop_oldest(last, k->q, from, to);
    while (from != to)
        from = take_frame(last, k, from, to, txmon);
}

/* ---- a sync of a watched ring ---- */

/* The first slot that the sync will not hand over, if it accepts the program's head. */
static uint32_t handed_over(const struct kring *k)
{
    const struct queue *q = k->q;
    uint32_t head = __atomic_load_n(&q->ring->head, __ATOMIC_ACQUIRE); /* acquire: the slots were written before */
    uint32_t n = q->num_slots, first = owned_from(k);
    return head < n && distance(first, head, n) <= distance(first, q->hwtail, n) ? head : first;
}

/* The NIC has sent the slots that hwtail and the slot after it have passed: one slot always stays empty. */
static int send(struct kring *k, int (*sync)(struct kring *k))
{
    struct queue *q = k->q;
    bool nic = k->kind == KRING_NIC;
    monitor_copy(k->monitors, q, owned_from(k), handed_over(k), NS_TXMON, nic ? COPYING : COPYING | ZERO_COPY);
    uint32_t unsent = after(q->hwtail, q->num_slots);
    int attention = sync(k);
    if (nic)
        monitor_take(k, unsent, after(q->hwtail, q->num_slots), NS_TXMON);
    return attention;
}

static int receive(struct kring *k, int (*sync)(struct kring *k))
{
    struct queue *q = k->q;
    uint32_t shown = q->hwtail;
    monitor_take(k, q->hwcur, handed_over(k), 0);
    int attention = sync(k);
    if (k->kind == KRING_NIC)
        monitor_copy(k->monitors, q, shown, q->hwtail, 0, COPYING);
    return attention;
}

int monitored_sync(struct kring *k, int (*sync)(struct kring *k))
{
    if (k->kind == KRING_PIPE)
        return sync(k); /* pipes.c calls monitor_copy() and monitor_take() itself */
    return k->tx ? send(k, sync) : receive(k, sync);
}
