/* The memory of a DMA window is a file of another program, which may truncate it. An access to the lost part then
 * raises SIGBUS in this process. On real hardware the access would fail on the bus and the machine would go on. Here
 * the page is replaced by an anonymous one, the access is reported as a DMA fault, and the NIC goes on. */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "engine.h"

static struct sigaction previous;

/* Replace the page of a window that holds `address`. mmap is safe in a signal handler: a plain system call on Linux. */
static bool replace_page(struct nic *nic, const uint8_t *address)
{
    for (uint32_t i = 0; i < nic->window_count; i++) {
        const struct dma_window *window = &nic->windows[i];
        if (!window->mapping || address < window->mapping || address >= window->mapping + window->mapped)
            continue;
        uint64_t at = (uint64_t)(address - window->mapping) / window->granule * window->granule;
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
        if (mmap(window->mapping + at, window->granule, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
            return false;
        report(nic, FINDING_DMA_READ, 0, window->iova + (uint64_t)(address - window->host), 1);
        return true;
    }
    return false;
}

/* Runs in the thread that accessed the memory. The engine's thread holds the lock, so the windows do not change. */
static void on_sigbus(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (engine_holds_freeze())
        for (struct nic *nic = engine_first_nic(); nic; nic = nic->next)
            if (replace_page(nic, info->si_addr))
                return;
    sigaction(number, &previous, NULL); /* not ours: the instruction runs again, under the previous handler */
}

/* Install or remove the handler: on while memory of other programs is mapped. One caller per process at a time. */
EXPORT void engine_guard(bool on)
{
    struct sigaction guard;
    memset(&guard, 0, sizeof guard);
    guard.sa_sigaction = on_sigbus;
    guard.sa_flags = SA_SIGINFO;
    sigemptyset(&guard.sa_mask);
    if (on)
        sigaction(SIGBUS, &guard, &previous);
    else
        sigaction(SIGBUS, &previous, NULL);
}
