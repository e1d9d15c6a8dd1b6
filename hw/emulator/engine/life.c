/* A NIC's life: create, reset, surprise removal, destroy. engine.c starts and stops it. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dma.h"
#include "engine.h"
#include "receive.h"

enum { REGISTER_BYTES = 0x20000 };

EXPORT void engine_free_registers(void *registers)
{
    munmap(registers, REGISTER_BYTES);
}

/* nic_destroy() leaves the registers mapped: drivers of VFs may still store tails there, which nobody reads. */
EXPORT void nic_keep_registers(struct nic *nic)
{
    nic->registers_kept = true;
}

EXPORT void nic_destroy(struct nic *nic)
{
    if (!nic)
        return;
    for (uint32_t function = 0; function <= POOLS; function++) {
        nic->function = function ? &nic->vf[function - 1].function : &nic->pf;
        dma_close(nic);
    }
    director_close(nic);
    if (nic->regs && !nic->registers_kept)
        engine_free_registers((void *)(uintptr_t)nic->regs);
    if (nic->doorbell_fd >= 0)
        close(nic->doorbell_fd);
    free(nic->buffer.bytes);
    free(nic->large);
    free(nic);
}

EXPORT struct nic *nic_create(void)
{
    struct nic *nic = aligned_alloc(CACHE_LINE, sizeof *nic);
    if (!nic)
        return NULL;
    memset(nic, 0, sizeof *nic);
    nic->doorbell_fd = -1;
    nic->function = &nic->pf;
    void *registers = mmap(NULL, REGISTER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    nic->regs = registers == MAP_FAILED ? NULL : registers;
    nic->buffer.bytes = malloc(512 * 1024 + FRAME_MAX);
    nic->large = malloc(LARGE_MAX);
    if (!nic->regs || !nic->buffer.bytes || !nic->large) {
        nic_destroy(nic);
        return NULL;
    }
    for (uint32_t vector = 0; vector < VECTORS; vector++)
        nic->eventfds[vector] = -1;
    for (uint32_t vf = 0; vf < POOLS; vf++)
        for (uint32_t vector = 0; vector < VF_VECTORS; vector++)
            nic->vf[vf].eventfds[vector] = -1;
    nic->step_frames = STEP_FRAMES;
    nic->cable_in = true;
    nic->settings.stale = true;
    return nic;
}

EXPORT uint32_t *nic_registers(struct nic *nic)
{
    return (uint32_t *)(uintptr_t)nic->regs;
}

/* CTRL.RST, for all state but the registers, which Python resets. */
EXPORT void nic_reset(struct nic *nic)
{
    for (uint32_t number = 0; number < QUEUES; number++) {
        nic->tx[number] = (struct tx_queue){0};
        nic->rx[number] = (struct rx_queue){0};
    }
    nic->tx_enabled[0] = nic->tx_enabled[1] = nic->rx_enabled[0] = nic->rx_enabled[1] = 0;
    nic->sent = 0;
    for (uint32_t vector = 0; vector < VECTORS; vector++)
        nic->next_message_ns[vector] = 0;
    nic->counters = (struct counters){0};
    nic->drop_enable[0] = nic->drop_enable[1] = nic->vf_causes = 0;
    for (uint32_t vf = 0; vf < POOLS; vf++) {
        nic->pool_counters[vf] = (struct pool_counters){0};
        nic->vf[vf].sent = nic->vf[vf].pending = 0;
    }
    packet_buffer_reset(nic);
    nic->paused = nic->pausing = false;
    director_close(nic);
    nic->clock = (struct clock){0};
    for (uint32_t function = 0; function <= nic->vf_count; function++) {
        nic->function = function ? &nic->vf[function - 1].function : &nic->pf;
        if (nic->function->remote)
            remote_forget(nic);
    }
    nic->function = &nic->pf;
}

EXPORT void nic_set_gone(struct nic *nic)
{
    nic->gone = true;
}
