/* The memory of a DMA window is a file of another program, which may truncate it. An access to the lost part then
 * raises SIGBUS in this process. On real hardware the access would fail on the bus and the machine would go on. Here
 * the access is reported as a DMA fault, the window allows no further access, and the NIC goes on. */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "engine.h"
#include "freeze.h"

static struct sigaction previous;

/* Close the window whose mapping holds `address`. Anonymous memory takes the mapping's place, for the access that is
 * under way. All of it is replaced at once: with single pages, an owner could make the NIC exceed the kernel's number of
 * mappings, or use any amount of memory. mmap is safe in a signal handler: a plain system call on Linux. */
static bool close_window(struct nic *nic, struct function *function, const uint8_t *address)
{
    for (uint32_t i = 0; i < function->window_count; i++) {
        struct dma_window *window = &function->windows[i];
        if (!window->mapping || address < window->mapping || address >= window->mapping + window->mapped)
            continue;
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
        if (mmap(window->mapping, window->mapped, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
            return false;
        window->access = 0;
        memset(function->recent, 0, sizeof function->recent);
        for (uint32_t number = 0; number < QUEUES; number++)
            nic->rx[number].ring = NULL; /* until settings_read() finds it again in another window */
        report(nic, FINDING_DMA_READ, 0, window->iova + (uint64_t)(address - window->host), 1);
        return true;
    }
    return false;
}

/* Runs in the thread that accessed the memory. It holds the lock, so the windows do not change. */
static void on_sigbus(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (freeze_held())
        for (struct nic *nic = engine_first_nic(); nic; nic = nic->next)
            for (uint32_t function = 0; function <= nic->vf_count; function++)
                if (close_window(nic, function ? &nic->vf[function - 1].function : &nic->pf, info->si_addr))
                    return;
    sigaction(number, &previous, NULL); /* not ours: the instruction runs again, under the previous handler */
}

/* Install or remove the handler: on while memory and eventfds of other programs are in use. Each `true` needs a `false`. */
EXPORT void engine_guard(bool on)
{
    static unsigned guards;
    struct sigaction guard;
    memset(&guard, 0, sizeof guard);
    guard.sa_sigaction = on_sigbus;
    guard.sa_flags = SA_SIGINFO;
    sigemptyset(&guard.sa_mask);
    engine_freeze();
    if (on && !guards++) {
        sigaction(SIGBUS, &guard, &previous);
        foreign_open();
    } else if (!on && !--guards) {
        sigaction(SIGBUS, &previous, NULL);
        foreign_close();
    }
    engine_resume();
}
