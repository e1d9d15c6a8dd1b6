/* Virtual functions as PCI functions (82599 8.3.5): whose memory is accessed, causes, masks, and messages. */
#include "dma.h"
#include "engine.h"

enum { EITR_OF_VF_0 = 127 };

/* 0 is the PF, n + 1 is VF n. Calls about memory, eventfds and bus master then act on this function. Python returns to
 * the PF before it resumes the engine. */
EXPORT void nic_use_function(struct nic *nic, uint32_t function)
{
    nic->function = function && function <= POOLS ? &nic->vf[function - 1].function : &nic->pf;
}

/* The SR-IOV capability enables VFs 0 to `count` - 1. */
EXPORT void nic_set_vf_count(struct nic *nic, uint32_t count)
{
    nic->vf_count = count < POOLS ? count : POOLS;
}

/* ---- interrupts (8.3.5.2) ---- */

/* The EITR of a VF's vector; vector 2 has none (X550 7.3.4.3). */
static uint32_t eitr_of(uint32_t vf, uint32_t vector)
{
    return EITR_OF_VF_0 - 2 * vf + vector;
}

void raise_vf_cause(struct nic *nic, uint32_t vf, uint32_t causes)
{
    uint32_t offset = R_PVTEICR + 4 * vf;
    reg_store(nic, offset, reg_load(nic, offset) | causes);
}

/* The causes of frames whose descriptors have been written back now. */
void raise_vf_causes(struct nic *nic)
{
    for (uint64_t left = nic->vf_causes; left; left &= left - 1) {
        uint32_t vf = (uint32_t)__builtin_ctzll(left);
        raise_vf_cause(nic, vf, nic->vf[vf].pending);
        nic->vf[vf].pending = 0;
    }
    nic->vf_causes = 0;
}

/* A VF's vector is signalled when it has a cause that is not masked; the same order as in interrupt.c.
 * ASSUMPTION (datasheet not at hand): VTEIAM masks after each message, whether or not the PF set GPIE.EIAME, because a
 * VF cannot see GPIE. */
static void send_of(struct nic *nic, uint32_t number, uint64_t now_ns)
{
    struct virtual_function *vf = &nic->vf[number];
    uint32_t causes = reg_load(nic, R_PVTEICR + 4 * number), masks = reg_load(nic, R_PVTEIMS + 4 * number);
    uint32_t asserted = causes & masks;
    vf->sent &= asserted;
    if (!(asserted & ~vf->sent))
        return;
    for (uint32_t due = asserted & ~vf->sent; due; due &= due - 1) {
        uint32_t vector = (uint32_t)__builtin_ctz(due), bit = 1u << vector;
        if (vector >= VF_VECTORS || now_ns < vf->next_message_ns[vector])
            continue;
        if (vf->eventfds[vector] >= 0)
            signal_eventfd(vf->eventfds[vector]);
        if (vector + 1 < VF_VECTORS)
            vf->next_message_ns[vector] = now_ns + moderation_ns(nic, eitr_of(number, vector));
        causes &= ~(reg_load(nic, R_PVTEIAC + 4 * number) & bit);
        masks &= ~(reg_load(nic, R_PVTEIAM + 4 * number) & bit);
        vf->sent |= bit;
    }
    reg_store(nic, R_PVTEICR + 4 * number, causes);
    reg_store(nic, R_PVTEIMS + 4 * number, masks);
    vf->sent &= causes & masks;
}

void send_vf_messages(struct nic *nic, uint64_t now_ns)
{
    for (uint32_t vf = 0; vf < nic->vf_count; vf++) {
        struct function *function = &nic->vf[vf].function;
        nic->function = function;
        if (!function->remote || !remote_writing(nic)) /* else a message would overtake the data that it announces */
            send_of(nic, vf, now_ns);
    }
    nic->function = &nic->pf;
}

EXPORT void nic_send_vf_messages(struct nic *nic)
{
    struct function *function = nic->function;
    send_vf_messages(nic, nic_now(nic));
    nic->function = function;
}

/* Nanoseconds until a vector of a VF may send again, and the same as a number to be set. */
EXPORT uint64_t nic_vf_interval_left(const struct nic *nic, uint32_t vf, uint32_t vector)
{
    uint64_t now = nic_now(nic), next = nic->vf[vf].next_message_ns[vector];
    return next > now ? next - now : 0;
}

EXPORT void nic_set_vf_interval_left(struct nic *nic, uint32_t vf, uint32_t vector, uint64_t ns)
{
    nic->vf[vf].next_message_ns[vector] = nic_now(nic) + ns;
}

/* The VF was reset: nothing was sent or is pending, and writes that its owner has not taken are dropped. */
EXPORT void nic_reset_vf(struct nic *nic, uint32_t vf)
{
    struct virtual_function *function = &nic->vf[vf];
    nic->function = &function->function;
    if (nic->function->remote)
        remote_unmap(nic, 0, UINT64_MAX);
    nic->function = &nic->pf;
    function->sent = function->pending = 0;
    nic->vf_causes &= ~(1ull << vf);
    for (uint32_t vector = 0; vector < VF_VECTORS; vector++)
        function->next_message_ns[vector] = 0;
}
