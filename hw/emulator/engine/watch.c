/* The last frames at the wire, for a program that shows them. The wire's functions are replaced meanwhile, so a NIC at
 * which nobody looks runs none of this. A frame that comes back over a loop is kept once, when it leaves. */
#include <stdlib.h>
#include <string.h>

#include "engine.h"

enum { SEEN = 1024, SEEN_BYTES = 128 };

struct seen {
    uint64_t time_ns; /* of the NIC's clock */
    uint32_t length; /* without CRC; the first SEEN_BYTES are kept */
    uint32_t leaves;
    uint8_t bytes[SEEN_BYTES];
};

struct watch {
    void (*send)(struct nic *nic, const uint8_t *frame, uint32_t length);
    void (*taken)(struct nic *nic);
    uint64_t count; /* frames since the start; the last SEEN are kept */
    struct seen last[SEEN];
};

static void see(struct nic *nic, const uint8_t *frame, uint32_t length, bool leaves)
{
    struct watch *watch = nic->watch;
    struct seen *seen = &watch->last[watch->count++ % SEEN];
    uint32_t kept = length < SEEN_BYTES ? length : SEEN_BYTES;
    *seen = (struct seen){.time_ns = nic_now(nic), .length = length, .leaves = leaves};
    memcpy(seen->bytes, frame, kept);
}

static void seen_send(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    see(nic, frame, length, true);
    nic->watch->send(nic, frame, length);
}

/* `offer` gives the same frame until it is taken. */
static void seen_taken(struct nic *nic)
{
    uint32_t length;
    const uint8_t *frame = nic->wire.offer(nic, &length);
    if (frame)
        see(nic, frame, length, false);
    nic->watch->taken(nic);
}

/* Keep the frames from now on, or no more. False without memory. The engine is frozen. */
EXPORT bool nic_watch(struct nic *nic, bool on)
{
    struct watch *watch = nic->watch;
    if (on == (watch != NULL))
        return true;
    if (!on) {
        nic->wire.send = watch->send;
        nic->wire.taken = watch->taken;
        nic->watch = NULL;
        free(watch);
        return true;
    }
    watch = calloc(1, sizeof *watch);
    if (!watch)
        return false;
    watch->send = nic->wire.send;
    watch->taken = nic->wire.taken;
    nic->wire.send = seen_send;
    if (watch->taken)
        nic->wire.taken = seen_taken;
    nic->watch = watch;
    return true;
}

/* `send` takes the place of what sends the wire's frames, also below a watch. Returns what did so before. */
sends *wire_send_by(struct nic *nic, sends *send)
{
    sends **place = nic->watch ? &nic->watch->send : &nic->wire.send, *before = *place;
    *place = send;
    return before;
}

/* How many frames were seen since nic_watch(), and copies of the last SEEN of them: frame i is at `to[i % SEEN]`. */
EXPORT uint64_t nic_seen(const struct nic *nic, uint8_t *to)
{
    if (!nic->watch)
        return 0;
    memcpy(to, nic->watch->last, sizeof nic->watch->last);
    return nic->watch->count;
}
