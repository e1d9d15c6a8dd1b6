/* The switch: frames that one port sends are copied to the port that their destination was last seen at, or to all.
 *
 * A port is a program's rings, in a region of its own, or a member: the rings of a NIC or of a TAP, whose frames
 * switch_work() moves. Frames are taken in batches:
 *
 *     take_batch      reads and checks the slots, and requests the lines with the addresses
 *     find_ports      learns the sources, and sorts the frames by destination: one list for each port
 *     deliver         for each port: its frames in the order in which they were sent
 *
 * A sender never waits: its slots come back at once, and a frame that finds no room at its destination is dropped and
 * counted there. Only frames that go through a cable wait for room, as frames to a NIC do. Two ports may have buffers
 * of different sizes; a frame then gets as many slots as it needs.
 */
#define _GNU_SOURCE

#include <stdlib.h>
#include <time.h>

#include "addresses.h"
#include "sink.h"

enum {
    BATCH = 64, /* frames: their lines stay in the first cache until they are copied */
    NOBODY = 255, /* see EVERYBODY: the destination of a frame that goes nowhere */
    CABLE = 1, /* age_ns of a switch that learns no address: every frame goes to everybody */
    AHEAD = 16, /* frames */
    ADDRESSES = 14, /* bytes: both addresses and the type */
    REFRESH_NS = 1000 * 1000 * 1000, /* a known source is noted anew this often */
};

struct frame {
    uint16_t part; /* its first slot in parts[] */
    uint8_t slots;
    uint8_t port; /* where it goes */
    uint16_t next; /* the next frame of the same list */
    uint32_t bytes;
};

struct list {
    uint16_t first, last; /* BATCH: empty */
};

struct fabric {
    struct switch_port *ports[SWITCH_PORTS];
    uint32_t count; /* 1 + the last port in use */
    struct addresses addresses;
    bool busy; /* a batch is being delivered */
    /* One batch. */
    uint32_t frames;
    struct frame frame[BATCH];
    struct netmap_slot parts[BATCH + LONGEST_CHAIN]; /* the only copies of the slots that count */
    struct list lists[SWITCH_PORTS + 1]; /* for each port, and for everybody */
};

const uint32_t switch_size = sizeof(struct fabric);

static inline void learn(struct fabric *f, struct switch_port *from, uint64_t source, uint64_t now_ns)
{
    if (f->addresses.age_ns == CABLE || to_many(source) ||
        (source == from->source && now_ns - from->noted_ns < REFRESH_NS))
        return;
    from->source = source;
    from->noted_ns = now_ns;
    note_address(&f->addresses, source, from->index, now_ns);
}

/* ---- a batch ---- */

/* Read frames from slot `from` on. Returns the first slot that was not read; `chain` is broken or unfinished if the
 * batch ends before a frame that is not sound. */
static uint32_t take_batch(struct fabric *f, const struct queue *q, uint32_t from, uint32_t to, struct chain *chain)
{
    uint32_t parts = 0, offsets = q->offset_mask ? NS_MOREFRAG : 0; /* then all frames are read as chains */
    chain->slots = 1;
    for (f->frames = 0; f->frames < BATCH && from != to && parts < BATCH; f->frames++) {
        struct frame *frame = &f->frame[f->frames];
        struct netmap_slot slot = read_slot(q->ring, from);
        *frame = (struct frame){.part = (uint16_t)parts, .slots = 1, .bytes = slot.len};
        f->parts[parts] = slot;
        if (((slot.flags & NS_MOREFRAG) | offsets) || !slot_sound(q, slot)) {
            read_chain(q, from, to, LONGEST_CHAIN, chain);
            if (!chain->slots)
                return from;
            memcpy(&f->parts[parts], chain->slot, chain->slots * sizeof(slot));
            frame->slots = (uint8_t)chain->slots;
            frame->bytes = chain->bytes;
        }
        __builtin_prefetch(buffer_of(q, f->parts[parts].buf_idx));
        parts += frame->slots;
        from = skip(from, frame->slots, q->num_slots);
    }
    return from;
}

static inline void append(struct fabric *f, uint32_t port, uint32_t frame)
{
    struct list *list = &f->lists[port];
    f->frame[frame].next = BATCH;
    if (list->first == BATCH)
        list->first = (uint16_t)frame;
    else
        f->frame[list->last].next = (uint16_t)frame;
    list->last = (uint16_t)frame;
}

/* A frame for its own port, or too short for addresses, goes nowhere. */
static void find_ports(struct fabric *f, struct switch_port *from, const struct queue *q, uint64_t now_ns)
{
    for (uint32_t i = 0; i < f->frames; i++) {
        struct frame *frame = &f->frame[i];
        struct netmap_slot slot = f->parts[frame->part];
        const uint8_t *bytes = bytes_of(q, &slot) + from->header;
        frame->port = NOBODY;
        if (slot.len < from->header + ADDRESSES) {
            from->refused++;
            continue;
        }
        uint64_t destination = address_at(bytes), source = address_at(bytes + 6);
        if (!(slot.flags & NS_NO_LEARN))
            learn(f, from, source, now_ns);
        uint32_t port = port_of(&f->addresses, destination, now_ns);
        frame->port = (uint8_t)port;
        if (port != from->index)
            append(f, port, i);
    }
}

/* ---- delivery ---- */

/* How netmap's switch marks slots: the number of the frame's slots above, and NS_MOREFRAG in all but the last. */
static inline uint32_t flags_for(const struct sink *sink, uint32_t slots, bool more)
{
    return (more ? NS_MOREFRAG : 0) | (sink->ring->tx ? 0 : slots << 8);
}

/* Copy a frame in one slot, the most frequent. False: the buffer is not valid, which is the fault of its program. */
static inline bool put_plain(struct sink *sink, const struct queue *q, struct netmap_slot slot)
{
    struct queue *to = sink->ring->q;
    uint32_t buf_idx = read_slot(to->ring, sink->put).buf_idx;
    if (!writable(sink->ring, buf_idx))
        return false;
    copy_bytes(buffer_of(to, buf_idx), buffer_of(q, slot.buf_idx), slot.len);
    write_length(to, sink->put, slot.len, flags_for(sink, 1, false));
    sink->put = after(sink->put, to->num_slots);
    sink->room--;
    return true;
}

/* Where the bytes of a frame in several slots go. */
struct writing {
    uint8_t *bytes; /* of the slot's buffer; NULL before the slot is begun */
    uint32_t slot, used; /* bytes in it */
    uint32_t slots; /* the frame needs */
    bool as_sent; /* each slot of the frame becomes one slot */
};

static bool begin_slot(const struct kring *ring, struct writing *w)
{
    const struct queue *to = ring->q;
    uint32_t buf_idx = read_slot(to->ring, w->slot).buf_idx;
    w->bytes = writable(ring, buf_idx) ? room_for(to, w->slot, buf_idx) : NULL;
    w->used = 0;
    return w->bytes;
}

static bool put_bytes(struct sink *sink, struct writing *w, const uint8_t *bytes, uint32_t length, uint32_t *left)
{
    struct queue *to = sink->ring->q;
    while (length) {
        if (!w->bytes && !begin_slot(sink->ring, w))
            return false;
        uint32_t here = least(length, to->most_received - w->used);
        if (bytes) {
            memcpy(w->bytes + w->used, bytes, here);
            bytes += here;
        } else {
            memset(w->bytes + w->used, 0, here);
        }
        w->used += here;
        length -= here;
        *left -= here;
        if (w->used == to->most_received || !*left || (w->as_sent && !length)) {
            write_length(to, w->slot, w->used, flags_for(sink, w->slots, *left));
            w->slot = after(w->slot, to->num_slots);
            w->bytes = NULL;
        }
    }
    return true;
}

/* Whether each slot of the frame fits in one slot there. An empty slot is left out. */
static bool fits_as_sent(const struct frame *frame, const struct netmap_slot *parts, uint32_t size)
{
    for (uint32_t k = 0; k < frame->slots; k++)
        if (parts[k].len == 0 || parts[k].len > size)
            return false;
    return true;
}

/* Copy a frame of any number of slots into as many slots as it needs there. If the ports differ in the virtio header
 * before each frame, it is left out, or filled in as zeros. False: dropped. */
static bool put_parts(struct sink *sink, const struct switch_port *from, const struct switch_port *dest,
                      const struct queue *q, const struct frame *frame, const struct netmap_slot *parts)
{
    uint32_t size = sink->ring->q->most_received, bytes = frame->bytes, out = 0, added = 0;
    if (from->header != dest->header) {
        out = from->header;
        added = dest->header;
        bytes = bytes - out + added;
    }
    struct writing w = {.slot = sink->put, .slots = (bytes + size - 1) / size};
    w.as_sent = from->header == dest->header && fits_as_sent(frame, parts, size);
    if (w.as_sent)
        w.slots = frame->slots;
    uint32_t left = bytes;
    bool nic = sink->ring->kind == KRING_NIC;
    if (w.slots > sink->room || w.slots > (nic ? MAX_CHAIN : LONGEST_CHAIN) || (nic && bytes > MAX_FRAME) ||
        !put_bytes(sink, &w, NULL, added, &left))
        return false;
    for (uint32_t k = 0; k < frame->slots; k++, out = 0)
        if (!put_bytes(sink, &w, bytes_of(q, &parts[k]) + out, parts[k].len - out, &left))
            return false;
    sink->put = w.slot;
    sink->room -= w.slots;
    return true;
}

static inline void put_frame(struct fabric *f, struct sink *sink, const struct switch_port *from,
                             struct switch_port *dest, const struct queue *q, const struct frame *frame)
{
    const struct netmap_slot *parts = &f->parts[frame->part];
    bool plain = frame->slots == 1 && frame->bytes <= sink->plain && from->header == dest->header;
    bool done = plain ? sink->room && put_plain(sink, q, *parts) : put_parts(sink, from, dest, q, frame, parts);
    if (done) {
        sink->packets++;
        sink->bytes += frame->bytes;
    } else {
        sink->ring->drops++;
    }
}

/* The lines that the copy of a later frame will write. The index may be anything: a hint for no memory does nothing. */
static inline void request_room(const struct sink *sink)
{
    const struct queue *q = sink->ring->q;
    uint32_t i = skip(sink->put, least(AHEAD, q->num_slots - 1), q->num_slots);
    __builtin_prefetch(buffer_of(q, read_slot(q->ring, i).buf_idx), 1);
}

/* All frames of the batch for one port, in the order in which they were sent: its own list and everybody's. Frames for
 * everybody go to its first ring, others to the ring with the sender's number. */
static void deliver(struct fabric *f, const struct switch_port *from, uint32_t number, const struct queue *q,
                    struct switch_port *dest, uint32_t *attention)
{
    uint32_t own = f->lists[dest->index].first, all = f->lists[EVERYBODY].first;
    struct sink first = open_sink(dest->into[0], q, attention), other = {0};
    uint32_t ring = number % dest->into_count;
    if (ring)
        other = open_sink(dest->into[ring], q, attention);
    while (own != BATCH || all != BATCH) {
        bool mine = own < all;
        struct frame *frame = &f->frame[mine ? own : all];
        struct sink *sink = mine && ring ? &other : &first;
        request_room(sink);
        put_frame(f, sink, from, dest, q, frame);
        if (mine)
            own = frame->next;
        else
            all = frame->next;
    }
    close_sink(&first, attention);
    if (ring)
        close_sink(&other, attention);
}

static void empty_lists(struct fabric *f)
{
    for (uint32_t i = 0; i < f->count; i++)
        f->lists[i].first = BATCH;
    f->lists[EVERYBODY].first = BATCH;
}

/* Ports that have frames of this batch. A port without open rings gets none. */
static void deliver_batch(struct fabric *f, const struct switch_port *from, uint32_t number, const struct queue *q,
                          uint32_t *attention)
{
    bool all = f->lists[EVERYBODY].first != BATCH;
    for (uint32_t i = 0; i < f->count; i++) {
        struct switch_port *dest = f->ports[i];
        if (dest && dest != from && dest->into_count && (all || f->lists[i].first != BATCH))
            deliver(f, from, number, q, dest, attention);
    }
}

static uint64_t coarse_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Send the frames in slots [from, to) of ring `number` of a port, at most `batches`. Returns the first slot not sent.
 * `chain`: broken or unfinished if the frame there is not sound. */
static uint32_t send_frames(struct switch_port *port, struct kring *k, uint32_t from, uint32_t to, uint32_t batches,
                            struct chain *chain, uint32_t *attention)
{
    struct fabric *f = port->fabric;
    uint32_t number = k->q->ring->ringid;
    uint64_t now_ns = from == to ? 0 : coarse_ns();
    chain->slots = 1;
    if (f->busy) { /* switches that ports join in a circle: the frame comes back while it is delivered. It ends here */
        port->refused++;
        return to;
    }
    f->busy = true;
    for (; from != to && chain->slots && batches; batches--) {
        from = take_batch(f, k->q, from, to, chain);
        empty_lists(f);
        find_ports(f, port, k->q, now_ns);
        deliver_batch(f, port, number, k->q, attention);
        for (uint32_t i = 0; i < f->frames; i++)
            port->sent_bytes += f->frame[i].bytes;
        port->sent += f->frames;
        k->q->packets += k->tx ? f->frames : 0; /* an RX ring counts what it receives by itself */
    }
    f->busy = false;
    return from;
}

/* ---- syncs ---- */

/* The end of the slots that may be sent now. A frame needs no more slots at the other end of a cable; one that is longer
 * than an empty ring there is dropped. */
static uint32_t sendable(const struct switch_port *port, const struct kring *tx, uint32_t *attention)
{
    const struct fabric *f = port->fabric;
    const struct queue *q = tx->q;
    for (uint32_t i = 0; i < f->count && f->addresses.age_ns == CABLE; i++) {
        const struct switch_port *dest = f->ports[i];
        if (!dest || dest == port || !dest->into_count)
            continue;
        struct sink sink = open_sink(dest->into[0], q, attention);
        if (sink.room < distance(q->hwcur, tx->synced_head, q->num_slots) && sink.room < sink.ring->q->num_slots - 1)
            return skip(q->hwcur, sink.room, q->num_slots);
    }
    return tx->synced_head;
}

/* Send [hwcur, synced_head), as far as there is room. False: a frame there is not sound, see `chain`. */
static bool send_synced(struct switch_port *port, struct kring *tx, struct chain *chain, uint32_t *attention)
{
    struct queue *q = tx->q;
    uint32_t to = sendable(port, tx, attention);
    q->hwcur = send_frames(port, tx, q->hwcur, to, UINT32_MAX, chain, attention);
    port->waiting = to != tx->synced_head ? tx : NULL;
    return q->hwcur == to || (!chain->broken && port->waiting);
}

static int send(struct kring *tx)
{
    struct queue *q = tx->q;
    struct switch_port *port = tx->behind;
    struct chain chain;
    uint32_t head, attention = 0;
    if (!take_head(tx, &head))
        return refuse(tx);
    tx->synced_head = head;
    if (!port)
        q->hwcur = head;
    else if (!send_synced(port, tx, &chain, &attention)) {
        if (chain.broken)
            chain_violated(q, q->hwcur, &chain, LONGEST_CHAIN);
        else
            violated(q, RULE_CHAIN_NOT_ENDED, before(head, q->num_slots), chain.read, 0, 0);
        tx->synced_head = q->hwcur;
        port->waiting = NULL;
        return refuse(tx) | (int)attention;
    }
    q->hwtail = before(q->hwcur, q->num_slots);
    publish_tail(q);
    return (int)attention;
}

/* A frame that is not sound is left to the program's next sync. */
static bool send_waiting(struct switch_port *port, uint32_t *attention)
{
    struct kring *tx = port->waiting;
    struct chain chain;
    uint32_t first = tx->q->hwcur;
    if (!send_synced(port, tx, &chain, attention))
        port->waiting = NULL;
    return tx->q->hwcur != first;
}

static int receive(struct kring *rx)
{
    uint32_t head;
    if (!take_head(rx, &head) || !take_released(rx, head))
        return refuse(rx);
    return publish_filled(rx);
}

int switch_sync(struct kring *k)
{
    return k->tx ? send(k) : receive(k);
}

bool switch_ready(const struct kring *k)
{
    const struct queue *q = k->q;
    return k->tx ? q->hwtail != before(q->hwcur, q->num_slots) : k->filled != q->hwtail;
}

/* ---- members: the daemon is the program of their rings ---- */

/* A slot that is not sound was overwritten by a program that has the same region: its frame is lost. */
static bool take_from(struct switch_port *port, struct kring *rx, uint32_t *attention)
{
    struct queue *q = rx->q;
    struct chain chain;
    if (q->hwcur == q->hwtail) {
        if (!kring_ready(rx))
            return false;
        sync_for(rx, attention);
    }
    uint32_t to = send_frames(port, rx, q->hwcur, q->hwtail, 1, &chain, attention);
    if (to != q->hwtail && !chain.slots)
        to = skip(to, chain.read, q->num_slots);
    if (to == q->hwcur)
        return false;
    move_head(q->ring, to);
    sync_for(rx, attention);
    return true;
}

bool switch_work(struct task *task, uint64_t now_ns)
{
    const struct fabric *f = task->of;
    bool moved = false;
    (void)now_ns;
    for (uint32_t i = 0; i < f->count; i++) {
        if (f->ports[i] && f->ports[i]->waiting)
            moved |= send_waiting(f->ports[i], &task->attention);
        for (uint32_t k = 0; f->ports[i] && k < f->ports[i]->from_count; k++)
            moved |= take_from(f->ports[i], f->ports[i]->from[k], &task->attention);
    }
    return moved;
}

/* ---- ports come and go ---- */

void switch_init(struct fabric *f, uint64_t age_ns)
{
    memset(f, 0, sizeof(*f));
    f->addresses.age_ns = age_ns;
}

/* Returns the port's number, or -1: there are SWITCH_PORTS already. */
int switch_add(struct fabric *f, struct switch_port *port)
{
    for (uint32_t i = 0; i < SWITCH_PORTS; i++)
        if (!f->ports[i]) {
            f->ports[i] = port;
            port->fabric = f;
            port->index = i;
            f->count = i >= f->count ? i + 1 : f->count;
            return (int)i;
        }
    return -1;
}

/* Addresses seen at the port are forgotten, so their frames go to everybody again. */
void switch_remove(struct fabric *f, struct switch_port *port)
{
    f->ports[port->index] = NULL;
    while (f->count && !f->ports[f->count - 1])
        f->count--;
    forget_port(&f->addresses, port->index);
}
