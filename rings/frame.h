/* What a frame's slots must be for the NIC to send it. */
#ifndef FRAME_H
#define FRAME_H

#include "context.h"
#include "queue.h"

static bool tx_slot_holds(struct queue *q, uint32_t i, struct netmap_slot slot)
{
    if (!buffer_holds(q, slot.buf_idx))
        return bad_buffer(q, i, slot.buf_idx);
    if (slot.len == 0)
        return violated(q, RULE_LEN_ZERO, i, 0, 1, q->buf_size);
    if (slot.len > q->buf_size)
        return violated(q, RULE_LEN_OVER_BUFFER, i, slot.len, 1, q->buf_size);
    if (slot.flags & NS_INDIRECT)
        return violated(q, RULE_INDIRECT, i, slot.flags, 0, 0);
    if (slot.flags & NS_CONTEXT)
        return violated(q, RULE_CONTEXT_ALONE, i, slot.flags, 0, 0);
    return true;
}

/* The frame as far as slot `i`, its `slots`-th. */
static bool frame_holds(struct queue *q, const struct context *context, uint32_t i, uint32_t bytes, uint32_t slots,
                        bool ends)
{
    uint32_t needed = context->headers + (ends && context->uncounted ? 1 : 0); /* something is left to be cut */
    if (slots > MAX_CHAIN)
        return violated(q, RULE_CHAIN_TOO_LONG, i, slots, 1, MAX_CHAIN);
    if (slots > 1 && bytes > context->longest)
        return violated(q, RULE_FRAME_TOO_LONG, i, bytes, MIN_FRAME, context->longest);
    if (slots > 1 && ends && bytes < MIN_FRAME)
        return violated(q, RULE_FRAME_TOO_SHORT, i, bytes, MIN_FRAME, context->longest);
    if (bytes < needed)
        return violated(q, RULE_CONTEXT_HEADERS, i, bytes, needed, context->longest);
    return true;
}

/* Zeroes up to the smallest frame the NIC takes, in the frame's own buffer: every buffer is longer than that. */
static uint32_t pad_frame(struct queue *q, struct netmap_slot slot)
{
    uint8_t *buffer = q->buffers + (uint64_t)slot.buf_idx * q->buf_size;
    for (uint32_t i = slot.len; i < MIN_FRAME; i++)
        buffer[i] = 0;
    return MIN_FRAME;
}

#endif
