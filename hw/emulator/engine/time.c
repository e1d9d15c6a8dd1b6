/* The time: the machine's monotonic clock, or the clock of a NIC that is stepped by hand. */
#define _GNU_SOURCE
#include <time.h>

#include "nic.h"

uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

EXPORT uint64_t nic_now(const struct nic *nic)
{
    return nic->manual ? nic->manual_ns : monotonic_ns() - nic->behind_ns;
}

EXPORT void nic_set_manual(struct nic *nic, bool manual)
{
    nic->manual = manual;
}

/* The NIC's clock stands still, and nothing moves but in nic_step(). */
EXPORT void nic_pause(struct nic *nic)
{
    nic->manual_ns = nic_now(nic);
    nic->manual = true;
}

/* The clock goes on from where it stands. */
EXPORT void nic_go_on(struct nic *nic)
{
    nic->behind_ns = monotonic_ns() - nic->manual_ns;
    nic->manual = false;
}
