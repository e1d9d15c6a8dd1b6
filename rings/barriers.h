/* Ordering between this CPU and a device, or the software device on another core.
 *
 * x86-64 keeps stores in order, loads in order, and uncached stores behind earlier cached ones; only the compiler must
 * be held back. aarch64 keeps neither: stores to memory and to a device are ordered by a barrier of the outer shareable
 * domain, which is where the device looks. Elsewhere: the strongest barrier there is.
 */
#ifndef BARRIERS_H
#define BARRIERS_H

#include <stdint.h>

/* Descriptors written before, doorbell after: the NIC fetches as soon as the doorbell rings. */
static inline void before_doorbell(void)
{
#if defined(__x86_64__)
    __atomic_thread_fence(__ATOMIC_RELEASE);
#elif defined(__aarch64__)
    __asm__ volatile("dmb oshst" ::: "memory");
#else
    __sync_synchronize();
#endif
}

/* The NIC's completion read before, what it completed after: packet bytes, or a buffer it has finished sending. */
static inline void after_completion(void)
{
#if defined(__x86_64__)
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
#elif defined(__aarch64__)
    __asm__ volatile("dmb oshld" ::: "memory");
#else
    __sync_synchronize();
#endif
}

/* Exactly one 32-bit store, as a register wants it. Its order is before_doorbell()'s job. */
static inline void ring_doorbell(uint32_t *reg, uint32_t value)
{
    __atomic_store_n((volatile uint32_t *)reg, value, __ATOMIC_RELAXED);
}

/* In a spin loop: leave the core's resources to its other thread. */
static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

#endif
