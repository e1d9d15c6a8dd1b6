/* Prefetches of lines that another core may hold: to read them, or to write them.
 *
 * A write prefetch makes the line exclusive; after a read prefetch each store would cross the cores again. For
 * x86-64 the compiler turns __builtin_prefetch(p, 1) into a read prefetch, unless -mprfchw allows it PREFETCHW.
 * PREFETCHW faults on no address. A processor without CPUID's PREFETCHW bit executes it as a no-op.
 * ASSUMPTION (datasheet not at hand): only the first 64-bit Pentium 4 (2004) may refuse it as an invalid instruction.
 */
#ifndef IXRINGS_PREFETCH_H
#define IXRINGS_PREFETCH_H

static inline void prefetch_read(const void *line)
{
    __builtin_prefetch(line);
}

static inline void prefetch_write(const void *line)
{
#if defined(__x86_64__)
    __asm__ volatile("prefetchw (%0)" : : "r"(line));
#else
    __builtin_prefetch(line, 1);
#endif
}

#endif
