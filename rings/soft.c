/* What the rings without a NIC share and no frame waits for: broken rules. */
#include "soft.h"

bool chain_violated(struct queue *q, uint32_t from, const struct chain *chain, uint32_t longest)
{
    struct netmap_slot slot = chain->slot[chain->read - 1];
    uint32_t i = skip(from, chain->read - 1, q->num_slots);
    if (!buffer_valid(q, slot.buf_idx))
        return buffer_violated(q, i, slot.buf_idx);
    if (slot.len > q->buf_size)
        return violated(q, RULE_LEN_OVER_BUFFER, i, slot.len, 0, q->buf_size);
    if (q->offset_mask && !offset_fits(q, slot.ptr, slot.len))
        return offset_violated(q, i, slot.ptr, slot.len);
    if (slot.flags & NS_INDIRECT)
        return violated(q, RULE_INDIRECT, i, slot.flags, 0, 0);
    if (slot.flags & NS_CONTEXT)
        return violated(q, RULE_CONTEXT_ALONE, i, slot.flags, 0, 0);
    if (slot.flags & NS_OWN_CRC)
        return violated(q, RULE_OWN_CRC_HERE, i, slot.flags, 0, 0);
    return violated(q, RULE_CHAIN_TOO_LONG, i, chain->read, 1, longest);
}

const uint32_t soft_layout[] = {
    sizeof(struct monitor),
    sizeof(struct host),
    sizeof(struct switch_port),
    sizeof(struct task),
    offsetof(struct monitor, frames),
    offsetof(struct host, fd),
    offsetof(struct host, drops),
    offsetof(struct switch_port, index),
    offsetof(struct switch_port, refused),
    SWITCH_PORTS,
};
const uint32_t soft_layout_count = sizeof(soft_layout) / sizeof(soft_layout[0]);
