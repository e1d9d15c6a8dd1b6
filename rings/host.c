/* Host rings: frames to and from Linux's network stack, through the descriptor of a TAP interface.
 *
 *     host TX ring    the program's frames are written to the TAP: Linux receives them
 *     host RX ring    what Linux sends is read from the TAP into the ring's free buffers
 *     host_work()     a task: frames of the NIC's rings that no program has go to the TAP and come from it, in place
 *     NS_FORWARD      a program hands a received frame on to the other side: from the NIC to the host, or back
 *
 * The TAP has no virtio header and no offloads, so Linux fills in each checksum before it sends, and checks each one
 * that it receives. The descriptor is non-blocking. A frame that the TAP does not take is dropped and counted.
 *
 * While no ring has room, what Linux sends stays in the kernel's queue of the TAP. When that is full, Linux drops frames
 * and counts them as TX drops of the interface. So a host that sends more than a program reads costs the daemon nothing.
 *
 * One look moves at most BATCH frames each way, because a write or a read of a TAP takes about a microsecond.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

#include "soft.h"

enum {
    BATCH = 128, /* frames a look */
    SHORTEST = 14, /* bytes of an Ethernet header: Linux refuses less */
    PARTS = 16, /* slots of a frame that is read from the TAP */
    QUEUED = 8192, /* frames to drop at once; Linux queues 1000 for a TAP, if nobody has changed that */
    RELOOK_NS = 20000, /* the task looks at an empty TAP this often while the daemon is awake */
    FULL_NS = 100 * 1000 * 1000,
};

/* ---- to the host ---- */

static void write_chain(struct host *host, const struct queue *q, const struct chain *chain)
{
    struct iovec parts[LONGEST_CHAIN];
    for (uint32_t k = 0; k < chain->slots; k++)
        parts[k] = (struct iovec){bytes_of(q, &chain->slot[k]), chain->slot[k].len};
    ssize_t written = chain->bytes < SHORTEST ? -1
                      : chain->slots == 1     ? write(host->fd, parts[0].iov_base, parts[0].iov_len)
                                              : writev(host->fd, parts, (int)chain->slots);
    if (written < 0) {
        host->refused++;
    } else {
        host->to_host++;
        host->to_host_bytes += chain->bytes;
    }
}

/* Write up to BATCH frames of slots [from, to), and pass over slots that are not sound: the ring's own sync may report
 * them. Returns the first slot not looked at. */
static uint32_t write_frames_of(struct host *host, const struct queue *q, uint32_t from, uint32_t to)
{
    struct chain chain;
    for (uint32_t frames = 0; frames < BATCH && from != to; frames++) {
        read_chain(q, from, to, LONGEST_CHAIN, &chain);
        if (chain.slots)
            write_chain(host, q, &chain);
        else
            host->refused++;
        from = skip(from, chain.read, q->num_slots);
    }
    return from;
}

/* Frames up to synced_head, as far as one look goes: host_work() goes on. */
static bool send_waiting(struct kring *tx)
{
    struct queue *q = tx->q;
    struct host *host = tx->behind;
    struct chain chain;
    for (uint32_t frames = 0; frames < BATCH && q->hwcur != tx->synced_head; frames++) {
        read_chain(q, q->hwcur, tx->synced_head, LONGEST_CHAIN, &chain);
        if (!chain.slots) {
            if (!chain.broken)
                violated(q, RULE_CHAIN_NOT_ENDED, before(tx->synced_head, q->num_slots), chain.read, 0, 0);
            else
                chain_violated(q, q->hwcur, &chain, LONGEST_CHAIN);
            tx->synced_head = q->hwcur; /* from the broken frame on, all is the program's again */
            return false;
        }
        write_chain(host, q, &chain);
        q->hwcur = skip(q->hwcur, chain.slots, q->num_slots);
        q->packets++;
        q->bytes += chain.bytes;
    }
    return true;
}

/* The slots before hwcur are free at once. */
static int send(struct kring *tx)
{
    struct queue *q = tx->q;
    uint32_t head;
    if (!take_head(tx, &head))
        return refuse(tx);
    tx->synced_head = head;
    if (!send_waiting(tx))
        return refuse(tx);
    q->hwtail = before(q->hwcur, q->num_slots);
    publish_tail(q);
    return 0;
}

/* ---- from the host ---- */

/* Slots for the longest frame and one byte more: read() cuts a frame that has no room, and does not tell. */
static uint32_t slots_wanted(const struct host *host, const struct queue *q)
{
    return least(host->longest / q->most_received + 1, least(PARTS, q->num_slots - 1));
}

/* Find buffers for one frame, in the slots from `i` on. Returns their number; 0 without room, or if a slot names no
 * buffer. */
static uint32_t find_parts(const struct host *host, const struct kring *ring, uint32_t i, uint32_t room,
                           struct iovec *parts)
{
    const struct queue *q = ring->q;
    uint32_t wanted = slots_wanted(host, q);
    if (room < wanted)
        return 0;
    for (uint32_t k = 0; k < wanted; k++, i = after(i, q->num_slots)) {
        uint32_t buf_idx = read_slot(q->ring, i).buf_idx;
        uint8_t *bytes = writable(ring, buf_idx) ? room_for(q, i, buf_idx) : NULL;
        if (!bytes)
            return 0;
        parts[k] = (struct iovec){bytes, q->most_received};
    }
    return wanted;
}

/* Write what was read into the slots from `i` on. Returns how many slots it has. */
static uint32_t write_lengths(struct queue *q, uint32_t i, uint32_t left)
{
    uint32_t slots = 0;
    do {
        uint32_t here = least(left, q->most_received);
        left -= here;
        write_length(q, i, here, left ? NS_MOREFRAG : 0);
        i = after(i, q->num_slots);
        slots++;
    } while (left);
    return slots;
}

/* Read up to `most` frames into the `room` slots from `i` on. Returns the first slot not filled. A frame longer than the
 * NIC's longest is dropped: somebody has given the interface a larger MTU. */
static uint32_t read_frames_into(struct host *host, struct kring *ring, uint32_t i, uint32_t room, uint32_t most)
{
    struct queue *q = ring->q;
    struct iovec parts[PARTS];
    for (uint32_t count, slots; most && (count = find_parts(host, ring, i, room, parts)); most--) {
        ssize_t got =
            count == 1 ? read(host->fd, parts[0].iov_base, parts[0].iov_len) : readv(host->fd, parts, (int)count);
        host->empty = got <= 0;
        if (host->empty)
            break;
        if (got > host->longest) {
            host->drops++;
            continue;
        }
        host->from_host++;
        host->from_host_bytes += (uint64_t)got;
        q->packets++;
        q->bytes += (uint64_t)got;
        slots = write_lengths(q, i, (uint32_t)got);
        room -= slots;
        i = skip(i, slots, q->num_slots);
    }
    return i;
}

static void drop_frames(struct host *host, uint32_t most)
{
    uint8_t nowhere[SHORTEST]; /* the TAP drops the rest of the frame */
    for (host->empty = 0; most && !host->empty; most--) {
        host->empty = read(host->fd, nowhere, sizeof(nowhere)) <= 0;
        host->drops += !host->empty;
    }
}

/* Drop what Linux sent while nobody took it: it is old. */
void host_discard(struct host *host)
{
    drop_frames(host, QUEUED);
}

static uint64_t taken_from(const struct host *host)
{
    return host->from_host + host->drops;
}

static bool read_into_ring(struct host *host, struct kring *rx)
{
    uint64_t taken = taken_from(host);
    fill_up_to(rx, read_frames_into(host, rx, rx->filled, room_in(rx), BATCH));
    return taken_from(host) != taken;
}

/* ---- NS_FORWARD: released frames go on to the other side ---- */

static bool forwards(const struct kring *k)
{
    return __atomic_load_n(&k->q->ring->flags, __ATOMIC_RELAXED) & NR_FORWARD;
}

/* The slots that the sync is about to take back, if it accepts the program's head. */
static uint32_t released_to(const struct queue *q)
{
    uint32_t head = __atomic_load_n(&q->ring->head, __ATOMIC_ACQUIRE); /* acquire: the slots were written before */
    uint32_t n = q->num_slots;
    return head < n && distance(q->hwcur, head, n) <= distance(q->hwcur, q->hwtail, n) ? head : q->hwcur;
}

void host_forward_up(struct kring *rx)
{
    struct queue *q = rx->q;
    struct chain chain;
    if (!forwards(rx))
        return;
    for (uint32_t i = q->hwcur, to = released_to(q); i != to; i = skip(i, chain.read, q->num_slots)) {
        read_chain(q, i, to, LONGEST_CHAIN, &chain);
        if (chain.slots && (chain.slot[0].flags & NS_FORWARD)) {
            write_chain(rx->behind, q, &chain);
            write_length(q, i, chain.slot[0].len, chain.slot[0].flags & ~NS_FORWARD);
        }
    }
}

/* Put a frame of the host's RX ring into a NIC's TX ring, after what its program has there. The buffers change places;
 * host rings and the NIC's are in one region. False: there is no room. */
static bool put_frame(struct queue *from, uint32_t i, const struct chain *chain, struct queue *to)
{
    uint32_t n = to->num_slots, spares[LONGEST_CHAIN];
    uint32_t head = __atomic_load_n(&to->ring->head, __ATOMIC_RELAXED), put = head;
    if (head >= n || to->buffers != from->buffers || (from->offset_mask && !to->offset_mask) ||
        distance(to->hwcur, head, n) + chain->slots > distance(to->hwcur, to->hwtail, n))
        return false;
    for (uint32_t k = 0; k < chain->slots; k++, put = after(put, n)) {
        spares[k] = read_slot(to->ring, put).buf_idx;
        if (!buffer_valid(to, spares[k]))
            return false;
    }
    put = head;
    for (uint32_t k = 0; k < chain->slots; k++, put = after(put, n), i = after(i, from->num_slots)) {
        write_slot(to, put, chain->slot[k].buf_idx, chain->slot[k].len,
                   (chain->slot[k].flags & NS_MOREFRAG) | NS_BUF_CHANGED);
        pass_offset(to, put, chain->slot[k].ptr);
        write_slot(from, i, spares[k], chain->slot[k].len, NS_BUF_CHANGED);
    }
    move_head(to->ring, put);
    return true;
}

static uint32_t forward_down(struct host *host, struct kring *rx)
{
    uint32_t attention = 0;
    struct queue *q = rx->q;
    struct chain chain;
    uint32_t ring = 0;
    if (!host->down_count || !forwards(rx))
        return 0;
    for (uint32_t i = q->hwcur, to = released_to(q); i != to; i = skip(i, chain.read, q->num_slots)) {
        read_chain(q, i, to, MAX_CHAIN, &chain);
        if (!chain.slots || !(chain.slot[0].flags & NS_FORWARD))
            continue;
        while (ring < host->down_count && !put_frame(q, i, &chain, host->down[ring]->q))
            ring++;
        if (ring == host->down_count)
            break;
    }
    for (uint32_t k = 0; k < host->down_count; k++)
        sync_for(host->down[k], &attention);
    return attention;
}

/* ---- syncs of host rings ---- */

static int receive(struct kring *rx)
{
    struct host *host = rx->behind;
    uint32_t head;
    uint32_t attention = forward_down(host, rx);
    if (!take_head(rx, &head) || !take_released(rx, head))
        return refuse(rx);
    if (host->rx_count && rx == host->rx[0])
        read_into_ring(host, rx);
    publish_filled(rx);
    return (int)attention;
}

int host_sync(struct kring *k)
{
    return k->tx ? send(k) : receive(k);
}

bool host_ready(const struct kring *k)
{
    return k->tx ? before(k->q->hwcur, k->q->num_slots) != k->q->hwtail : k->filled != k->q->hwtail;
}

/* ---- the task: what no program asks for ---- */

/* NIC to host: the daemon is the program of this ring. */
static bool pass_up(struct host *host, struct kring *rx, uint32_t *attention)
{
    struct queue *q = rx->q;
    if (!kring_ready(rx) && q->hwcur == q->hwtail)
        return false;
    sync_for(rx, attention);
    uint32_t to = write_frames_of(host, q, q->hwcur, q->hwtail);
    if (to == q->hwcur)
        return false;
    move_head(q->ring, to);
    sync_for(rx, attention);
    return true;
}

/* The NIC does not send, for example because its link is down. What Linux sends now is dropped: it would be old when
 * the NIC sends again. */
static bool nic_stands(const struct host *host)
{
    return host->looked_ns - host->room_ns >= FULL_NS;
}

/* Host to NIC: the frames are read into the buffers of the TX ring, which is then synced. While the ring is full, Linux
 * waits as for any interface, but not longer than FULL_NS. */
static bool pass_down(struct host *host, struct kring *tx, uint32_t *attention)
{
    struct queue *q = tx->q;
    if (kring_ready(tx))
        sync_for(tx, attention);
    uint32_t room = distance(q->hwcur, q->hwtail, q->num_slots);
    if (room < slots_wanted(host, q)) {
        if (nic_stands(host))
            drop_frames(host, BATCH);
        return !host->empty;
    }
    host->room_ns = host->looked_ns;
    uint64_t taken = taken_from(host);
    uint32_t to = read_frames_into(host, tx, q->hwcur, room, BATCH);
    if (to != q->hwcur) {
        move_head(q->ring, to);
        sync_for(tx, attention);
    }
    return taken_from(host) != taken;
}

/* What Linux has sent: to a program's host ring if there is one, else to the NIC if no program has its TX rings. */
static bool take_from_host(struct host *host, uint32_t *attention)
{
    host->empty = 0;
    if (host->rx_count)
        return read_into_ring(host, host->rx[0]);
    return host->nic_tx_count && pass_down(host, host->nic_tx[0], attention);
}

/* A look at an empty TAP costs a system call, so it waits a while if the last one found nothing. */
bool host_work(struct task *task, uint64_t now_ns)
{
    struct host *host = task->of;
    bool moved = false;
    for (uint32_t i = 0; i < host->nic_rx_count; i++)
        moved |= pass_up(host, host->nic_rx[i], &task->attention);
    for (uint32_t i = 0; i < host->tx_count; i++)
        if (host->tx[i]->q->hwcur != host->tx[i]->synced_head) {
            send_waiting(host->tx[i]);
            moved = true;
        }
    if (!host->empty || now_ns - host->looked_ns >= RELOOK_NS) {
        host->looked_ns = now_ns;
        moved |= take_from_host(host, &task->attention);
    }
    return moved;
}
