/* A wire that takes time: frames that are on the way, in the order in which they left. */
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "receive.h"

enum { SPARE = 1 << 20, ALIGNMENT = 16 };

/* Before the frame's bytes. Records lie at multiples of ALIGNMENT, so a header always fits before the end. */
struct in_flight {
    uint64_t due_ns;
    uint32_t length; /* of the frame; NOTHING: the rest of the line is unused, the next record is at its beginning */
    uint32_t damaged; /* its CRC is wrong, and follows the frame */
};

enum { NOTHING = UINT32_MAX };

static uint64_t record_bytes(uint32_t length)
{
    return (sizeof(struct in_flight) + length + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void put(struct line *line, struct in_flight header, const uint8_t *frame)
{
    uint8_t *at = line->bytes + line->in % line->room;
    memcpy(at, &header, sizeof header);
    if (header.length != NOTHING)
        memcpy(at + sizeof header, frame, header.length + (header.damaged ? CRC : 0));
}

/* The line is never full: it has room for what 10 Gbit/s carry in the delay, and for what a record adds to that. A record
 * has at most 11 bytes more than the frame with what surrounds it on the wire (48 for 37 of a frame with 13 bytes). */
static void leave(struct nic *nic, const uint8_t *frame, uint32_t length, bool damaged)
{
    struct line *line = nic->wire.line;
    uint64_t needed = record_bytes(length + CRC), rest = line->room - line->in % line->room;
    if (line->in - line->out + needed + (needed > rest ? rest : 0) > line->room)
        return;
    if (needed > rest) {
        put(line, (struct in_flight){.length = NOTHING}, NULL);
        line->in += rest;
    }
    uint64_t departed_ns = (nic->tx_free_ps - wire_time_ps(length)) / 1000;
    put(line, (struct in_flight){departed_ns + line->delay_ns, length, damaged}, frame);
    line->in += needed;
}

static void line_send(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    leave(nic, frame, length, false);
}

static void line_send_damaged(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    leave(nic, frame, length, true);
}

/* Hand over the frames whose time has come, at most as many as a queue may move in a step. Returns how many. */
uint32_t line_deliver(struct nic *nic, uint64_t now_ns)
{
    struct line *line = nic->wire.line;
    uint32_t moved = 0;
    while (line->out != line->in && moved < nic->step_frames) {
        struct in_flight header;
        const uint8_t *at = line->bytes + line->out % line->room;
        memcpy(&header, at, sizeof header);
        if (header.length == NOTHING) {
            line->out += line->room - line->out % line->room;
            continue;
        }
        if (header.due_ns > now_ns)
            break;
        struct nic *receiver = nic->wire.peer ? nic->wire.peer : nic;
        receiver->arrival_ns = time_at_peer(nic, receiver, header.due_ns);
        (header.damaged ? line->arrive_damaged : line->arrive)(nic, at + sizeof header, header.length);
        receiver->arrival_ns = 0;
        line->out += record_bytes(header.length + CRC);
        moved++;
    }
    return moved;
}

/* Each frame of this loop or cable arrives `delay_ns` after it left. -1: no memory. */
EXPORT int wire_delay(struct nic *nic, uint64_t delay_ns)
{
    struct line *line = malloc(sizeof *line);
    uint64_t room = (delay_ns + CATCH_UP_NS) * 1000 / PS_PER_BYTE * 4 / 3 + SPARE;
    room -= room % ALIGNMENT;
    uint8_t *bytes = malloc(room);
    if (!line || !bytes) {
        free(line);
        free(bytes);
        return -1;
    }
    *line = (struct line){.arrive_damaged = nic->wire.send_damaged, .bytes = bytes, .room = room, .delay_ns = delay_ns};
    line->arrive = wire_send_by(nic, line_send);
    nic->wire.line = line;
    nic->wire.send_damaged = line_send_damaged;
    nic->paced = true;
    return 0;
}

void line_close(struct line *line)
{
    if (line)
        free(line->bytes);
    free(line);
}
