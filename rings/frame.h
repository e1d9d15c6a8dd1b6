/* Frames to send: what their slots must be, and their descriptors. Used by tx.c and forward.c. */
#ifndef FRAME_H
#define FRAME_H

#include "context.h"
#include "queue.h"

/* ---- plain frames: one slot, no flag but NS_BUF_CHANGED, and no padding by us ---- */

/* Checks the length and the flags at once: any flag makes len_flags larger than every length. */
static inline bool is_plain(const struct queue *q, struct netmap_slot slot)
{
    uint32_t length = slot.len_flags & ~((uint32_t)NS_BUF_CHANGED << 16);
    return length - MIN_FRAME < q->frame_lengths;
}

/* A frame in one buffer, without RS. `length` is in it twice: as the buffer's length and as PAYLEN. */
static inline uint64_t plain_frame_control(uint32_t length)
{
    return TX_DATA + TX_EOP + length * (1 + (UINT64_C(1) << TX_PAYLEN_SHIFT));
}

/* Set RS on every RS_STEP-th of `slots` descriptors from `from` on. `unreported` is the number of slots since the
 * last RS; returns the same number after these slots. */
static inline uint32_t request_status(struct queue *q, uint32_t from, uint32_t slots, uint32_t unreported)
{
    uint32_t i = RS_STEP - 1 - unreported;
    unreported += slots;
    for (; i < slots; i += RS_STEP, unreported -= RS_STEP)
        q->descriptors[from + i].control |= TX_RS;
    return unreported;
}

/* ---- any frame: checks that note the violation ---- */

static inline bool tx_slot_valid(struct queue *q, uint32_t i, struct netmap_slot slot)
{
    if (!buffer_valid(q, slot.buf_idx))
        return buffer_violated(q, i, slot.buf_idx);
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

/* Check the frame through slot `i`: so far it has `bytes` in `slots` slots. ends: slot `i` is its last. */
static inline bool frame_valid(struct queue *q, const struct context *context, uint32_t i, uint32_t bytes,
                               uint32_t slots, bool ends)
{
    uint32_t needed =
        context->headers + (ends && context->uncounted ? 1 : 0); /* segmentation needs a byte of payload */
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

/* Check slot `i`, which has NS_OWN_CRC, the `slots`-th of its frame. The NIC leaves such a frame as it is: it does not
 * pad it, and no context changes it. One slot, so that one descriptor says so. */
static inline bool own_crc_valid(struct queue *q, const struct context *context, uint32_t i, struct netmap_slot slot,
                                 uint32_t slots)
{
    bool alone = slots == 1 && !(slot.flags & NS_MOREFRAG) && !context->commands;
    if (!alone || slot.len < SHORTEST_OWN_CRC)
        return violated(q, RULE_OWN_CRC, i, slot.len, SHORTEST_OWN_CRC, q->buf_size);
    return true;
}

#endif
