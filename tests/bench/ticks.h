/* Time, and the processor's counter, which costs less to read. */
#ifndef TICKS_H
#define TICKS_H

#include <stdint.h>
#include <time.h>

#define CALIBRATION_NS UINT64_C(50000000)

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

static uint64_t counter(void)
{
#if defined(__x86_64__)
    __builtin_ia32_lfence(); /* everything before has ended, nothing after has begun */
    uint64_t ticks = __builtin_ia32_rdtsc();
    __builtin_ia32_lfence();
    return ticks;
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("isb\n\tmrs %0, cntvct_el0\n\tisb" : "=r"(ticks)::"memory");
    return ticks;
#else
    return now_ns();
#endif
}

static double counter_hz(void)
{
    uint64_t start_ns = now_ns(), start = counter();
    while (now_ns() - start_ns < CALIBRATION_NS)
        ;
    uint64_t ticks = counter() - start;
    return (double)ticks * 1e9 / (double)(now_ns() - start_ns);
}

#endif
