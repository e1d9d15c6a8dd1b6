/* Interrupts (82599 7.3): a cause is set, a mask lets it pass, moderation delays it, a message is sent.
 *
 * Vector 0 may also be INTx, a line. The line is asserted while a cause is set, so each signal masks it, and the far
 * end unmasks it after it has served the device (VFIO's AUTOMASKED).
 *
 * The state: EICS_EX and EIMS_EX hold causes and masks of vectors 0..63 (Python's hooks show the low 16 as bits 15:0
 * of EICR and EIMS); bits 31:16 of EICR and EIMS hold all other causes and their masks.
 */
#include <poll.h>
#include <unistd.h>

#include "dma.h"
#include "engine.h"

enum { ITR_UNIT_NS = 2048 };

uint64_t load_pair(const struct nic *nic, uint32_t offset)
{
    return reg_load(nic, offset) | (uint64_t)reg_load(nic, offset + 4) << 32;
}

static void store_pair(struct nic *nic, uint32_t offset, uint64_t value)
{
    reg_store(nic, offset, (uint32_t)value);
    reg_store(nic, offset + 4, (uint32_t)(value >> 32));
}

/* `cause`: the bit of a vector, as tx_queue.cause and rx_queue.cause. */
void raise_queue_cause(struct nic *nic, uint64_t cause)
{
    uint64_t causes = load_pair(nic, R_EICS_EX);
    if (cause & ~causes)
        store_pair(nic, R_EICS_EX, causes | cause);
}

void raise_other_cause(struct nic *nic, uint32_t cause)
{
    reg_store(nic, R_EICR, reg_load(nic, R_EICR) | cause);
}

/* Poll first: a full eventfd (2^64 - 2 unread) is readable already, and a write to it may wait. */
void signal_eventfd(int fd)
{
    uint64_t one = 1;
    struct pollfd ready = {fd, POLLOUT, 0};
    if (poll(&ready, 1, 0) != 1 || !(ready.revents & POLLOUT) || foreign_signal(fd))
        return;
    ssize_t ignored = write(fd, &one, sizeof one);
    (void)ignored;
}

/* Auto-clear (EIAC) and auto-mask (EIAM_EX with GPIE.EIAME) when the message of a vector is sent. */
static void after_message(struct nic *nic, uint32_t vector, uint64_t *causes, uint64_t *masks)
{
    uint64_t bit = 1ull << vector;
    /* ASSUMPTION (datasheet silent): vectors 16..63, which have no bit in EIAC, auto-clear, as nothing else clears
     * them. */
    if (vector >= 16 || reg_load(nic, R_EIAC) & 1u << vector)
        *causes &= ~bit;
    if (reg_load(nic, R_GPIE) & F_GPIE_EIAME_MASK)
        *masks &= ~(load_pair(nic, R_EIAM_EX) & bit);
}

/* The interval between messages of a vector: EITR.ITR_INTERVAL, in units of 2.048 us at 10 Gbit/s (8.2.3.5.12). */
uint64_t moderation_ns(const struct nic *nic, uint32_t vector)
{
    uint32_t offset = vector < 24 ? R_EITR + 4 * vector : R_EITR_24 + 4 * (vector - 24);
    uint32_t eitr = reg_load(nic, offset);
    return (uint64_t)((eitr & F_EITR_ITR_INTERVAL_MASK) >> F_EITR_ITR_INTERVAL_SHIFT) * ITR_UNIT_NS;
}

/* Nanoseconds until a vector may send again. */
EXPORT uint64_t nic_interval_left(const struct nic *nic, uint32_t vector)
{
    uint64_t now = nic_now(nic), next = nic->next_message_ns[vector];
    return next > now ? next - now : 0;
}

EXPORT void nic_set_interval_left(struct nic *nic, uint32_t vector, uint64_t ns)
{
    nic->next_message_ns[vector] = nic_now(nic) + ns;
}

/* The vectors with a cause that is not masked. Without MSI-X bit 0 stands for all other causes too. */
static uint64_t asserted_vectors(const struct nic *nic, uint64_t causes, uint64_t masks)
{
    uint32_t others = reg_load(nic, R_EICR) & reg_load(nic, R_EIMS) & 0xFFFF0000u;
    uint32_t misc = reg_load(nic, R_IVAR_MISC) >> 8;
    /* INTx and MSI have one vector for all causes and do not use IVAR_MISC (7.3.1.1). */
    if (!(reg_load(nic, R_GPIE) & F_GPIE_MSIX_MODE_MASK))
        return causes & masks || others;
    return (causes & masks) | (others && misc & 0x80 ? 1ull << (misc & 0x3F) : 0);
}

/* Send the messages that are due: at the end of a step and after every register write that may unmask a cause. */
void send_messages(struct nic *nic, uint64_t now_ns)
{
    if (nic->function->remote && remote_writing(nic))
        return; /* a message must not overtake the data that it announces */
    uint64_t causes = load_pair(nic, R_EICS_EX), masks = load_pair(nic, R_EIMS_EX);
    bool msix = reg_load(nic, R_GPIE) & F_GPIE_MSIX_MODE_MASK;
    uint64_t asserted = asserted_vectors(nic, causes, masks);

    nic->sent &= asserted; /* a cause that was cleared may send again when it is set again */
    uint64_t due = asserted & ~nic->sent;
    if (!due || (nic->line && (nic->line_masked || nic->line_disabled)))
        return;
    for (uint32_t vector = 0; vector < VECTORS; vector++) {
        uint64_t bit = 1ull << vector;
        if (!(due & bit) || now_ns < nic->next_message_ns[vector])
            continue;
        if (nic->eventfds[vector] >= 0)
            signal_eventfd(nic->eventfds[vector]);
        nic->line_masked = nic->line;
        nic->next_message_ns[vector] = now_ns + moderation_ns(nic, vector);
        nic->sent |= bit;
        if (msix && causes & bit)
            after_message(nic, vector, &causes, &masks);
    }
    store_pair(nic, R_EICS_EX, causes);
    store_pair(nic, R_EIMS_EX, masks);
    if (msix)
        nic->sent &= asserted_vectors(nic, causes, masks);
}

/* Vector 0 becomes INTx, unmasked, or (false) a message. */
EXPORT void nic_set_line(struct nic *nic, bool line)
{
    nic->line = line, nic->line_masked = false;
}

/* The status register's Interrupt Status: independent of Interrupt Disable in the command register (PCI 3.0 6.2.3). */
EXPORT bool nic_line_asserted(const struct nic *nic)
{
    return !(reg_load(nic, R_GPIE) & F_GPIE_MSIX_MODE_MASK) &&
           asserted_vectors(nic, load_pair(nic, R_EICS_EX), load_pair(nic, R_EIMS_EX));
}

EXPORT void nic_disable_line(struct nic *nic, bool disabled)
{
    bool was = nic->line_disabled;
    nic->line_disabled = disabled;
    if (was && !disabled && nic->line) {
        nic->sent = 0;
        send_messages(nic, nic_now(nic));
    }
}

/* A line that is still asserted when it is unmasked signals again. */
EXPORT void nic_mask_line(struct nic *nic, bool masked)
{
    nic->line_masked = nic->line && masked;
    if (!nic->line_masked) {
        nic->sent = 0;
        send_messages(nic, nic_now(nic));
    }
}

EXPORT void nic_set_eventfd(struct nic *nic, uint32_t vector, int fd)
{
    if (nic->function == &nic->pf)
        nic->eventfds[vector] = fd;
    else if (vector < VF_VECTORS)
        ((struct virtual_function *)(void *)nic->function)->eventfds[vector] = fd; /* its first member is `function` */
}

EXPORT void nic_send_messages(struct nic *nic)
{
    send_messages(nic, nic_now(nic));
}
