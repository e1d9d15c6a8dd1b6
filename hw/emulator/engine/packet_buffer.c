/* The receive packet buffer (82599 8.2.3.8.9): a ring of bytes that holds frames until their queue has descriptors. */
#include <string.h>

#include "receive.h"

void packet_buffer_reset(struct nic *nic)
{
    struct packet_buffer *buffer = &nic->buffer;
    buffer->size = ((reg_load(nic, R_RXPBSIZE) & F_RXPBSIZE_SIZE_MASK) >> F_RXPBSIZE_SIZE_SHIFT) * 1024;
    buffer->read = buffer->write = buffer->used = 0;
}

static uint32_t stored_size(uint32_t length)
{
    return ((uint32_t)sizeof(struct stored) + length + 15u) & ~15u;
}

bool buffer_push(struct packet_buffer *buffer, const uint8_t *frame, uint32_t length, const struct class *class)
{
    uint32_t size = stored_size(length), to_end = buffer->size - buffer->write;
    uint32_t skipped = size > to_end ? to_end : 0;
    if (buffer->used + size + skipped > buffer->size)
        return false;
    if (skipped) {
        if (skipped >= sizeof(struct stored))
            memcpy(buffer->bytes + buffer->write, &(struct stored){0}, sizeof(struct stored));
        buffer->write = 0;
        buffer->used += skipped;
    }
    struct stored stored = {length, *class};
    memcpy(buffer->bytes + buffer->write, &stored, sizeof stored);
    memcpy(buffer->bytes + buffer->write + sizeof stored, frame, length);
    buffer->write = buffer->write + size == buffer->size ? 0 : buffer->write + size;
    buffer->used += size;
    return true;
}

/* The queue was disabled: its stored frames are lost, and are not for whoever enables it next. */
void buffer_forget(struct nic *nic, uint32_t queue)
{
    struct packet_buffer *buffer = &nic->buffer;
    uint32_t at = buffer->read;
    for (uint32_t left = buffer->used; left;) {
        struct stored stored = {0};
        uint32_t to_end = buffer->size - at;
        if (to_end >= sizeof stored)
            memcpy(&stored, buffer->bytes + at, sizeof stored);
        if (!stored.length) {
            left -= to_end, at = 0;
            continue;
        }
        if (stored.class.queue == queue) {
            stored.class.queue = NO_QUEUE;
            memcpy(buffer->bytes + at, &stored, sizeof stored);
            nic->counters.qprdc[counter_set(nic, R_RQSMR, queue)]++;
        }
        uint32_t size = stored_size(stored.length);
        left -= size, at = at + size == buffer->size ? 0 : at + size;
    }
}

/* The header of the oldest stored frame; skips the unused end. Call it only when `used` is not 0. */
struct stored buffer_front(struct packet_buffer *buffer)
{
    struct stored stored = {0};
    uint32_t to_end = buffer->size - buffer->read;
    if (to_end >= sizeof stored)
        memcpy(&stored, buffer->bytes + buffer->read, sizeof stored);
    if (!stored.length) {
        buffer->used -= to_end, buffer->read = 0;
        memcpy(&stored, buffer->bytes, sizeof stored);
    }
    return stored;
}

void buffer_pop(struct packet_buffer *buffer, uint32_t length)
{
    uint32_t size = stored_size(length);
    buffer->read = buffer->read + size == buffer->size ? 0 : buffer->read + size;
    buffer->used -= size;
}
