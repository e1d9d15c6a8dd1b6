/* Memory order between this CPU and a device, or the software device on another core.
 *
 * x86-64 keeps stores in order, keeps loads in order, and does an uncached store after earlier cached stores, so
 * only the compiler must be stopped from reordering. aarch64 keeps none of these orders. There a barrier for the outer
 * shareable domain, which the device belongs to, orders stores to memory and to the device. Other processors get the
 * strongest barrier.
 */
#ifndef BARRIERS_H
#define BARRIERS_H

#include <stdint.h>

/* Descriptors are written before, the doorbell after: the NIC fetches descriptors as soon as the doorbell rings. */
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

/* The NIC's completion is read before, and what it completes after: packet bytes, or a buffer that was sent. */
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

/* Exactly one 32-bit store, as a register needs. Relaxed: before_doorbell() gives the order. */
static inline void ring_doorbell(uint32_t *reg, uint32_t value)
{
    __atomic_store_n((volatile uint32_t *)reg, value, __ATOMIC_RELAXED);
}

/* In a spin loop: leave the core's resources to its other hardware thread. */
static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#endif
}

#endif
