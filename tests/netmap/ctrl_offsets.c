/* The option OFFSETS: where in their buffers the bytes of slots begin. */
#include "checks.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { MOST = 512, INITIAL = 128, LENGTH = 60, LONG = 1500, INDIRECT = 0x10, CANARY = 0xA5 };

struct offsets {
    struct nmreq_option option;
    uint64_t max_offset, initial_offset;
    uint32_t offset_bits, pad;
    uint64_t min_gap;
};

static struct offsets offsets(uint64_t most, uint64_t initial, uint32_t bits)
{
    return (struct offsets){
        .option.nro_reqtype = 5, .max_offset = most, .initial_offset = initial, .offset_bits = bits};
}

/* Open `name` with the option. 0, or the errno; then the descriptor is closed. */
static int open_with(struct port *port, const char *name, struct offsets *asked)
{
    int error = port_try(port, name, asked);
    if (!error)
        port_map(port);
    return error;
}

static void check_refused(const char *sentence, const char *name, struct offsets asked, int expected)
{
    struct port port;
    check(sentence, open_with(&port, name, &asked), expected);
    check("and the option's status says so", asked.option.nro_status, expected);
}

static char *bytes_of(struct netmap_ring *ring, struct netmap_slot *slot)
{
    return NETMAP_BUF(ring, slot->buf_idx) + (slot->ptr & ring->offset_mask);
}

static void put(struct netmap_ring *ring, uint64_t offset, uint32_t stream, uint32_t length)
{
    struct netmap_slot *slot = &ring->slot[ring->head];
    slot->ptr = (slot->ptr & ~ring->offset_mask) | offset;
    frame_write(NETMAP_BUF(ring, slot->buf_idx) + offset, length, stream, 0);
    slot->len = (uint16_t)length;
    slot->flags = 0;
    ring->head = ring->cur = nm_ring_next(ring, ring->head);
}

static struct netmap_ring *taken_from; /* where the last frame came from */

/* Receive a frame, whatever ring it comes to, into `frame`. Returns its slots; 0: none came. */
static uint32_t take(struct port *port, char *frame, uint32_t *length, uint64_t *offset)
{
    double end = now() + 20;
    do {
        ioctl(port->fd, NIOCRXSYNC, NULL);
        for (uint32_t i = 0; i < port->rx_count; i++) {
            struct netmap_ring *ring = port->rx[i];
            uint32_t slots = 0;
            *length = 0;
            for (uint32_t k = ring->head, more = NS_MOREFRAG; k != ring->tail && more; k = nm_ring_next(ring, k)) {
                struct netmap_slot *slot = &ring->slot[k];
                memcpy(frame + *length, bytes_of(ring, slot), slot->len);
                *length += slot->len;
                *offset = slot->ptr & ring->offset_mask;
                more = slot->flags & NS_MOREFRAG;
                slots++;
            }
            if (!slots)
                continue;
            for (uint32_t k = 0; k < slots; k++)
                ring->head = nm_ring_next(ring, ring->head);
            ring->cur = ring->head;
            taken_from = ring;
            return slots;
        }
    } while (now() < end);
    return 0;
}

static void check_frame(const char *sentence, const char *frame, uint32_t length, uint32_t stream)
{
    char expected[4096];
    frame_write(expected, length, stream, 0);
    check(sentence, memcmp(frame, expected, length), 0);
}

static void fill_canaries(struct port *port)
{
    for (uint32_t i = 0; i < port->rx_count; i++)
        for (uint32_t k = 0; k < port->rx[i]->num_slots; k++)
            memset(NETMAP_BUF(port->rx[i], port->rx[i]->slot[k].buf_idx), CANARY, port->rx[i]->nr_buf_size);
}

/* Bytes outside [from, to) of the RX rings' buffers that were written. */
static uint32_t canaries_lost(const struct port *port, uint32_t from, uint32_t to)
{
    uint32_t lost = 0;
    for (uint32_t i = 0; i < port->rx_count; i++)
        for (uint32_t k = 0; k < port->rx[i]->num_slots; k++) {
            const char *buffer = NETMAP_BUF(port->rx[i], port->rx[i]->slot[k].buf_idx);
            for (uint32_t at = 0; at < port->rx[i]->nr_buf_size; at++)
                lost += (at < from || at >= to) && (unsigned char)buffer[at] != CANARY;
        }
    return lost;
}

/* ---- a NIC whose frames come back ---- */

static void check_first_slots(const struct port *port)
{
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < port->tx_count + port->rx_count; i++) {
        const struct netmap_ring *ring = i < port->tx_count ? port->tx[i] : port->rx[i - port->tx_count];
        wrong += ring->offset_mask != 0xFFFF;
        for (uint32_t k = 0; k < ring->num_slots; k++)
            wrong += ring->slot[k].ptr != INITIAL;
    }
    check("all rings have the mask, and all slots the initial offset", wrong, 0);
}

static void check_nic_frames(struct port *port)
{
    char frame[8192];
    uint32_t length = 0;
    uint64_t offset = 0;
    fill_canaries(port);
    put(port->tx[0], 300, 1, LENGTH);
    ioctl(port->fd, NIOCTXSYNC, NULL);
    check("a frame that is sent from an offset comes back in one slot", take(port, frame, &length, &offset), 1);
    check("at the offset of the receiving slot", (long long)offset, INITIAL);
    check("with its length", length, LENGTH);
    check_frame("and its bytes", frame, LENGTH, 1);
    check("nothing was written before the offset, or behind the frame", canaries_lost(port, INITIAL, INITIAL + LENGTH),
          0);
    put(port->tx[0], MOST, 2, LONG);
    ioctl(port->fd, NIOCTXSYNC, NULL);
    check("a buffer takes 1024 bytes of a longer frame: it comes in two slots", take(port, frame, &length, &offset), 2);
    check("with all its bytes", length, LONG);
    check_frame("in their order", frame, LONG, 2);
}

/* A slot that its sync refuses: head goes back to it. */
static void check_broken(struct port *port, const char *sentence, uint64_t offset, uint32_t length)
{
    struct netmap_ring *ring = port->tx[0];
    uint32_t head = ring->head;
    put(ring, 0, 3, LENGTH);
    ring->slot[head].ptr = offset;
    ring->slot[head].len = (uint16_t)length;
    ioctl(port->fd, NIOCTXSYNC, NULL);
    check(sentence, ring->head, head);
    ring->slot[head].ptr = 0;
}

static void check_released(struct port *port)
{
    char frame[8192];
    uint32_t length, head;
    uint64_t offset;
    put(port->tx[0], 0, 4, LENGTH);
    ioctl(port->fd, NIOCTXSYNC, NULL);
    check("after broken slots a right one is sent", take(port, frame, &length, &offset), 1);
    head = taken_from->head ? taken_from->head - 1 : taken_from->num_slots - 1;
    taken_from->slot[head].ptr = MOST + 1;
    ioctl(port->fd, NIOCRXSYNC, NULL);
    check("a released slot with a larger offset than the largest is refused", taken_from->head, head);
}

static void check_second(void)
{
    struct port other;
    struct offsets more = offsets(MOST + 1, 0, 16), same = offsets(MOST - 1, 0, 8);
    check("who asks for more of the same rings gets EBUSY", open_with(&other, nic, &more), EBUSY);
    same.max_offset = 200;
    check("who asks for less is let in", open_with(&other, nic, &same), 0);
    check("and learns the largest offset", (long long)same.max_offset, MOST);
    port_close(&other);
    port_open(&other, nic, 0);
    check("who does not ask is let in", (long long)other.tx[0]->offset_mask, 0xFFFF);
    port_close(&other);
}

static void check_nic(void)
{
    struct port port;
    struct offsets asked = offsets(MOST, INITIAL, 16), large = offsets(2047, 0, 0), none = offsets(0, 0, 0);
    check("a NIC is opened with offsets", open_with(&port, nic, &asked), 0);
    check("the option's status is 0", asked.option.nro_status, 0);
    check_first_slots(&port);
    check_nic_frames(&port);
    check_broken(&port, "an offset over the largest is refused", MOST + 1, LENGTH);
    check_broken(&port, "bytes behind the buffer are refused", MOST, port.tx[0]->nr_buf_size - MOST + 1);
    check_broken(&port, "so is an offset of 65535", 0xFFFF, LENGTH);
    check_released(&port);
    check_second();
    port_close(&port);
    check("the NIC cannot receive into less than 1 KB", open_with(&port, nic, &large), EINVAL);
    char sender[80];
    snprintf(sender, sizeof sender, "%s/T", nic);
    large = offsets(2048, 0, 0);
    check("but it can send from the last byte", open_with(&port, sender, &large), 0);
    check("0 bits are all bits", port.tx[0]->offset_mask == UINT64_MAX, 1);
    check_broken(&port, "an offset of 2^63 is refused", UINT64_C(1) << 63, LENGTH);
    check_broken(&port, "an offset of 2^64 - 1 is refused", UINT64_MAX, 1);
    port_close(&port);
    check("offsets up to 0 are nothing wrong", open_with(&port, nic, &none), 0);
    port_close(&port);
    port_open(&port, nic, 0);
    check("the next program finds none", (long long)port.tx[0]->offset_mask, 0);
    put(port.tx[0], 0, 5, LONG);
    ioctl(port.fd, NIOCTXSYNC, NULL);
    char frame[8192];
    uint32_t length;
    uint64_t offset;
    check("and a long frame comes in one slot again", take(&port, frame, &length, &offset), 1);
    port_close(&port);
}

/* ---- pipes and switches ---- */

static void pass(const char *to_name, struct offsets *to_asked, const char *from_name, struct offsets *from_asked,
                 uint64_t sent_at, uint64_t expected)
{
    struct port to, from;
    char frame[8192];
    uint32_t length = 0;
    uint64_t offset = 0;
    if (open_with(&to, to_name, to_asked) || open_with(&from, from_name, from_asked))
        fail("%s and %s cannot be opened with offsets", to_name, from_name);
    put(from.tx[0], sent_at, 6, LENGTH);
    ioctl(from.fd, NIOCTXSYNC, NULL);
    check("a frame comes", take(&to, frame, &length, &offset), 1);
    check("at the offset", (long long)offset, (long long)expected);
    check_frame("with its bytes", frame, LENGTH, 6);
    check_broken(&from, "a sender's wrong offset is refused", from_asked ? 4096 : 0, from_asked ? LENGTH : 4096);
    port_close(&from);
    port_close(&to);
}

static void check_soft(void)
{
    struct offsets to = offsets(MOST, INITIAL, 16), from = offsets(700, 0, 32);
    pass("off}1", &to, "off{1", &from, 77, 77);
    to = offsets(MOST, INITIAL, 16);
    pass("off}1", &to, "off{1", NULL, 0, 0);
    to = offsets(MOST, INITIAL, 16);
    pass("vale7:to", &to, "vale7:from", &from, 77, INITIAL);
    pass("vale7:to", NULL, "vale7:from", &from, 99, 0);
    to = offsets(MOST, INITIAL, 16);
    pass("vale7:to", &to, "vale7:from", NULL, 0, INITIAL);
}

/* ptr has the address of the frame, so there is no place for an offset. */
static void check_indirect(void)
{
    struct port to, from;
    struct offsets asked = offsets(MOST, INITIAL, 0);
    char frame[8192], sent[LENGTH];
    uint32_t length = 0;
    uint64_t offset;
    port_open(&to, "vale7:to", 0);
    if (open_with(&from, "vale7:from", &asked))
        fail("vale7:from cannot be opened");
    frame_write(sent, LENGTH, 10, 0);
    from.tx[0]->slot[0] = (struct netmap_slot){
        .buf_idx = from.tx[0]->slot[0].buf_idx, .len = LENGTH, .flags = INDIRECT, .ptr = (uintptr_t)sent};
    from.tx[0]->head = from.tx[0]->cur = 1;
    ioctl(from.fd, NIOCTXSYNC, NULL);
    check("a frame in the program's own memory leaves a ring with offsets", take(&to, frame, &length, &offset), 1);
    check_frame("with its bytes", frame, LENGTH, 10);
    port_close(&from);
    port_close(&to);
}

static void check_long(void)
{
    struct port to, from;
    struct offsets asked = offsets(MOST, INITIAL, 16);
    char frame[8192];
    uint32_t length = 0;
    uint64_t offset = 0;
    if (open_with(&to, "vale7:to", &asked))
        fail("vale7:to cannot be opened");
    port_open(&from, "vale7:from", 0);
    fill_canaries(&to);
    put(from.tx[0], 0, 7, 2000);
    ioctl(from.fd, NIOCTXSYNC, NULL);
    check("a frame that does not fit behind the offset comes in two slots", take(&to, frame, &length, &offset), 2);
    check_frame("with its bytes", frame, 2000, 7);
    check("and nothing else is written", canaries_lost(&to, INITIAL, INITIAL + 2048 - MOST), 0);
    to.rx[0]->slot[2].ptr = MOST + 1;
    put(from.tx[0], 0, 8, LENGTH);
    ioctl(from.fd, NIOCTXSYNC, NULL);
    ioctl(to.fd, NIOCRXSYNC, NULL);
    check("a receiver's wrong offset costs it the frame", to.rx[0]->tail == to.rx[0]->head, 1);
    port_close(&from);
    port_close(&to);
}

/* ---- scribbled offsets ---- */

static volatile int scribbling;

static void *scribble(void *of)
{
    struct port *port = of;
    for (uint64_t k = 1; scribbling; k = k * UINT64_C(6364136223846793005) + 1)
        for (uint32_t i = 0; i < port->rx_count + port->tx_count; i++) {
            struct netmap_ring *ring = i < port->rx_count ? port->rx[i] : port->tx[i - port->rx_count];
            ((volatile struct netmap_slot *)ring->slot)[(k >> 33) % ring->num_slots].ptr = k >> (k >> 58);
        }
    return NULL;
}

static void check_scribbled(const char *name, double seconds)
{
    struct port port;
    struct offsets asked = offsets(MOST, 0, 64);
    pthread_t thread;
    if (open_with(&port, name, &asked))
        fail("%s cannot be opened", name);
    fill_canaries(&port);
    scribbling = 1;
    pthread_create(&thread, NULL, scribble, &port);
    uint64_t syncs = 0;
    for (double end = now() + seconds; now() < end; syncs++) {
        for (uint32_t i = 0; i < port.tx_count; i++)
            if (port.tx[i]->head != port.tx[i]->tail && port.tx[i]->head < port.tx[i]->num_slots)
                put(port.tx[i], 0, 9, LENGTH);
        ioctl(port.fd, NIOCTXSYNC, NULL);
        ioctl(port.fd, NIOCRXSYNC, NULL);
        for (uint32_t i = 0; i < port.rx_count; i++)
            port.rx[i]->head = port.rx[i]->cur = port.rx[i]->tail;
    }
    scribbling = 0;
    pthread_join(thread, NULL);
    check_true("the daemon served a program that scribbles over its offsets", syncs > 0);
    check("and wrote nothing behind the largest offset and 1 KB", canaries_lost(&port, 0, MOST + 1024), 0);
    port_close(&port);
}

void check_offsets(void)
{
    check_refused("65 bits are EINVAL", nic, offsets(0, 0, 65), EINVAL);
    check_refused("an offset over a buffer is EINVAL", nic, offsets(4096, 0, 0), EINVAL);
    check_refused("an offset of 2^63 is EINVAL", nic, offsets(UINT64_C(1) << 63, 0, 0), EINVAL);
    check_refused("an offset that the bits do not hold is EINVAL", nic, offsets(128, 0, 7), EINVAL);
    check_refused("an initial offset over the largest is EINVAL", nic, offsets(64, 65, 16), EINVAL);
    check_nic();
    check_soft();
    check_indirect();
    check_long();
    check_scribbled(nic, 0.1);
    check_scribbled("vale7:alone", 0.05);
    struct port port, monitor;
    char watched[80];
    struct offsets asked = offsets(8, 0, 0);
    port_open(&port, nic, 0);
    snprintf(watched, sizeof watched, "%s/r", nic);
    check("a monitor has no offsets: EOPNOTSUPP", open_with(&monitor, watched, &asked), EOPNOTSUPP);
    port_close(&port);
}
