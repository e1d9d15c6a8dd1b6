/* The lock of all NICs of this process, in the order of arrival (a ticket lock).
 *
 * Each thread takes a number and waits until it is served. Whoever asks again at once stands behind all who wait, so
 * the engine and a program that writes registers without end take turns. A mutex would let its last holder in again
 * before a waiting thread has woken up.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "freeze.h"

enum { LOOKS = 200 }; /* before a thread sleeps: most holders need less time than a thread needs to wake up */

static struct {
    atomic_uint next, served;
} lock;

static _Thread_local bool holds;

bool freeze_held(void)
{
    return holds;
}

static inline void pause_processor(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* A sleeper is woken by its number's bit, so that few of many threads wake up in vain. */
static uint32_t bit_of(unsigned ticket)
{
    return 1u << ticket % 32;
}

static void wait_for(unsigned ticket)
{
    for (uint32_t looks = 0;; looks++) {
        /* acquire: pairs with the release in freeze_leave(); what the former holder wrote is seen */
        unsigned served = atomic_load_explicit(&lock.served, memory_order_acquire);
        if (served == ticket)
            return;
        if (looks < LOOKS)
            pause_processor();
        else
            syscall(SYS_futex, &lock.served, FUTEX_WAIT_BITSET_PRIVATE, served, NULL, NULL, bit_of(ticket));
    }
}

/* False, and nothing has changed, when this thread holds the lock already. */
bool freeze_enter(void)
{
    if (holds)
        return false;
    /* seq_cst: the number is taken before `served` is read; see freeze_leave() */
    wait_for(atomic_fetch_add_explicit(&lock.next, 1, memory_order_seq_cst));
    holds = true;
    return true;
}

void freeze_leave(void)
{
    holds = false;
    /* seq_cst, which includes release: `served` is stored before `next` is read. So either this thread sees the number
     * of a thread that is about to sleep and wakes it, or that thread sees the new `served`. */
    unsigned served = atomic_fetch_add_explicit(&lock.served, 1, memory_order_seq_cst) + 1;
    if (atomic_load_explicit(&lock.next, memory_order_seq_cst) != served)
        syscall(SYS_futex, &lock.served, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL, bit_of(served));
}

/* In a forked child: whoever held the lock, or waited for it, stayed in the parent. */
void freeze_reset(void)
{
    holds = false;
    /* relaxed: the child has one thread */
    atomic_store_explicit(&lock.next, 0, memory_order_relaxed);
    atomic_store_explicit(&lock.served, 0, memory_order_relaxed);
}
