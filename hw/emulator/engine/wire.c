/* The other end of the cable: the port itself (loop), a sink, a source, another port, a capture, a TAP. Frames with a
 * wrong CRC reach only another MAC: a capture and a TAP stand for machines whose NIC drops them. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine.h"
#include "receive.h"

enum { RECORD_ROOM = 1 << 20, RECORD_HEADER = 16, SOURCE_PORT_AT = 34, SOURCE_SEQUENCE_AT = 42, SOURCE_FLOWS = 1024 };

static void keep(struct nic *nic)
{
    (void)nic;
}

/* ---- loop, sink, cable ---- */

static void loop_send(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    mac_receive(nic, frame, length);
}

static void loop_send_damaged(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    mac_receive_damaged(nic, frame, length);
}

static void sink_send(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    (void)nic, (void)frame, (void)length;
}

/* What the frame needs on a wire of 10 Gbit/s was added already. */
static void slow_sink_send(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    (void)frame;
    nic->tx_free_ps += nic->wire.frame_ps - wire_time_ps(length);
}

/* In loopback a port receives only its own frames. */
static bool peer_listens(const struct nic *nic)
{
    return wire_has_far_end(nic) && !(reg_load(nic->wire.peer, R_HLREG0) & F_HLREG0_LPBK_MASK);
}

static void cable_send(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    if (peer_listens(nic))
        mac_receive(nic->wire.peer, frame, length);
}

static void cable_send_damaged(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    if (peer_listens(nic))
        mac_receive_damaged(nic->wire.peer, frame, length);
}

static void cable_close(struct nic *nic)
{
    if (nic->wire.peer)
        nic->wire.peer->wire.peer = NULL;
    nic->wire.peer = NULL;
}

/* ---- source: one UDP frame again and again; its source port is a flow number, its payload a sequence number ---- */

static const uint8_t *source_offer(struct nic *nic, uint32_t *length)
{
    struct wire *wire = &nic->wire;
    uint16_t port = __builtin_bswap16((uint16_t)(1024 + wire->sequence % SOURCE_FLOWS));
    uint64_t number = __builtin_bswap64(wire->sequence);
    memcpy(wire->buffer + SOURCE_PORT_AT, &port, sizeof port);
    memcpy(wire->buffer + SOURCE_SEQUENCE_AT, &number, sizeof number);
    *length = wire->pending;
    return wire->buffer;
}

static void sequence_taken(struct nic *nic)
{
    nic->wire.sequence++;
}

/* ---- pcap: receives the frames of a capture, records the frames that are sent ---- */

static const uint8_t *playback_offer(struct nic *nic, uint32_t *length)
{
    struct wire *wire = &nic->wire;
    if (wire->sequence >= wire->frames)
        return NULL;
    const uint8_t *frame = wire->capture + wire->offsets[wire->sequence];
    uint32_t captured = wire->lengths[wire->sequence], whole = wire->wire_lengths[wire->sequence];
    if (captured >= whole || captured >= FRAME_MAX) {
        *length = captured;
        return frame;
    }
    /* The capture has only the beginning of this frame: zeros follow. FRAME_MAX bytes are already too long for a MAC. */
    *length = whole < FRAME_MAX ? whole : FRAME_MAX;
    memcpy(wire->buffer, frame, captured);
    memset(wire->buffer + captured, 0, *length - captured);
    return wire->buffer;
}

static void record_flush(struct nic *nic)
{
    struct wire *wire = &nic->wire;
    uint32_t written = 0;
    while (written < wire->recorded && !wire->trouble) {
        ssize_t count = write(wire->fd, wire->record + written, wire->recorded - written);
        if (count >= 0)
            written += (uint32_t)count;
        else if (errno != EINTR)
            wire->trouble = errno;
    }
    wire->recorded = 0;
}

/* One record of a capture with nanosecond stamps: seconds, nanoseconds, captured length, length. */
static void record_send(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    struct wire *wire = &nic->wire;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint32_t header[4] = {(uint32_t)now.tv_sec, (uint32_t)now.tv_nsec, length, length};
    if (wire->recorded + RECORD_HEADER + length > RECORD_ROOM)
        record_flush(nic);
    memcpy(wire->record + wire->recorded, header, RECORD_HEADER);
    memcpy(wire->record + wire->recorded + RECORD_HEADER, frame, length);
    wire->recorded += RECORD_HEADER + length;
}

/* ---- tap: the kernel's stack ---- */

static const uint8_t *tap_offer(struct nic *nic, uint32_t *length)
{
    struct wire *wire = &nic->wire;
    if (!wire->pending && !wire->trouble) {
        ssize_t count = read(wire->fd, wire->buffer, FRAME_MAX - CRC);
        if (count > 0)
            wire->pending = (uint32_t)count;
        else if (count < 0 && errno != EAGAIN && errno != EINTR && errno != EIO)
            wire->trouble = errno; /* EBADFD: the interface was deleted */
    }
    *length = wire->pending;
    return wire->pending ? wire->buffer : NULL;
}

static void tap_taken(struct nic *nic)
{
    nic->wire.pending = 0;
}

static void tap_send(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    struct wire *wire = &nic->wire;
    if (write(wire->fd, frame, length) == (ssize_t)length)
        return;
    /* EIO: the interface is down; the frame is lost, as on a port without receiver */
    if (errno == EBADFD || errno == ENODEV)
        wire->trouble = errno;
}

/* ---- set-up, called by Python with the engine frozen; Python keeps its fds and buffers ---- */

EXPORT void wire_loop(struct nic *nic)
{
    nic->wire = (struct wire){.send = loop_send, .send_damaged = loop_send_damaged, .fd = -1};
}

EXPORT void wire_sink(struct nic *nic)
{
    nic->wire = (struct wire){.send = sink_send, .fd = -1};
}

/* A sink that takes one frame in `frame_ns`, however long it is. */
EXPORT void wire_slow_sink(struct nic *nic, uint32_t frame_ns)
{
    nic->wire = (struct wire){
        .send = slow_sink_send, .send_damaged = slow_sink_send, .fd = -1, .frame_ps = (uint64_t)frame_ns * 1000};
    nic->paced = true;
}

EXPORT void wire_cable(struct nic *nic, struct nic *peer)
{
    nic->wire = (struct wire){
        .send = cable_send, .send_damaged = cable_send_damaged, .close = cable_close, .peer = peer, .fd = -1};
    if (peer)
        peer->wire.peer = nic;
}

EXPORT int wire_source(struct nic *nic, const uint8_t *frame, uint32_t length)
{
    uint8_t *buffer = malloc(length);
    if (!buffer)
        return -1;
    memcpy(buffer, frame, length);
    nic->wire = (struct wire){.send = sink_send,
                              .to_one = true,
                              .offer = source_offer,
                              .taken = sequence_taken,
                              .fd = -1,
                              .buffer = buffer,
                              .pending = length};
    return 0;
}

/* `frames` 0: nothing to play. fd -1: nothing to record. The arrays belong to Python and outlive the wire. */
EXPORT int wire_pcap(struct nic *nic, const uint8_t *capture, const uint64_t *offsets, const uint32_t *lengths,
                     const uint32_t *wire_lengths, uint64_t frames, int fd)
{
    uint8_t *record = fd >= 0 ? malloc(RECORD_ROOM) : NULL, *buffer = frames ? malloc(FRAME_MAX) : NULL;
    if ((fd >= 0 && !record) || (frames && !buffer)) {
        free(record);
        free(buffer);
        return -1;
    }
    nic->wire = (struct wire){.send = fd >= 0 ? record_send : sink_send,
                              .offer = playback_offer,
                              .taken = sequence_taken,
                              .idle = fd >= 0 ? record_flush : keep,
                              .close = fd >= 0 ? record_flush : keep,
                              .fd = fd,
                              .capture = capture,
                              .offsets = offsets,
                              .lengths = lengths,
                              .wire_lengths = wire_lengths,
                              .frames = frames,
                              .buffer = buffer,
                              .record = record};
    return 0;
}

EXPORT int wire_tap(struct nic *nic, int fd)
{
    uint8_t *buffer = malloc(FRAME_MAX);
    if (!buffer)
        return -1;
    nic->wire = (struct wire){.send = tap_send, .offer = tap_offer, .taken = tap_taken, .fd = fd, .buffer = buffer};
    return 0;
}

EXPORT void wire_close(struct nic *nic)
{
    nic_watch(nic, false);
    if (nic->wire.close)
        nic->wire.close(nic);
    line_close(nic->wire.line);
    free(nic->wire.buffer);
    free(nic->wire.record);
    wire_sink(nic);
}

/* Whether the other end gives a carrier. */
bool wire_has_far_end(const struct nic *nic)
{
    const struct wire *wire = &nic->wire;
    if (wire->close == cable_close) /* `send` may be that of watch.c or delay.c */
        return wire->peer && wire->peer->cable_in && !wire->peer->gone;
    return !wire->trouble;
}

EXPORT int wire_trouble(const struct nic *nic)
{
    return nic->wire.trouble;
}

EXPORT uint64_t wire_sequence(const struct nic *nic)
{
    return nic->wire.sequence;
}
