/* Memory behind a DMA window is a file of another program's, and that program may make the file shorter. Touching what is gone
 * then raises SIGBUS here; real DMA would have ended on the bus, and so does this: the page is replaced by one of nobody's, the
 * access is reported as a DMA fault, and the NIC goes on.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "engine.h"

static struct sigaction former;

/* The page of a window that holds `address`, replaced. Only mmap is called: it is a bare system call on Linux. */
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

/* Runs in the thread that touched the memory. If that is one of ours it holds `freeze`, so the windows stand still. */
static void on_sigbus(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (engine_holds_freeze())
        for (struct nic *nic = engine_first_nic(); nic; nic = nic->next)
            if (replace_page(nic, info->si_addr))
                return;
    sigaction(number, &former, NULL); /* not ours: the instruction runs again and meets whoever was there before */
}

/* Outlive other programs' mistakes: on while memory of others is mapped, by one caller of a process at a time. */
EXPORT void engine_guard(bool on)
{
    struct sigaction guard;
    memset(&guard, 0, sizeof guard);
    guard.sa_sigaction = on_sigbus;
    guard.sa_flags = SA_SIGINFO;
    sigemptyset(&guard.sa_mask);
    if (on)
        sigaction(SIGBUS, &guard, &former);
    else
        sigaction(SIGBUS, &former, NULL);
}
