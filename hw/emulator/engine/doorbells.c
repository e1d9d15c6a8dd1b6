/* Doorbells: writes of tail registers, and the pages of BAR0 with them as a file that another process maps.
 *
 * A tail is a word that the engine reads by itself. Whoever writes one takes no lock, and what the engine has read of
 * other registers stays valid. The rules look at the NIC before such a write (hw/emulator/rules/rings.py): each look
 * holds the lock for this one call only, not while Python works.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "dma.h"
#include "engine.h"
#include "freeze.h"
#include "receive.h"
#include "transmit.h"

/* The pages in the file: receive queues 0..63 and 64..127, then transmit queues 0..127. They hold other registers of
 * the same queues too; a store there changes only the value. The file holds nothing else of the NIC, and its size is
 * sealed. */
static const uint32_t doorbell_pages[] = {R_RDBAL, R_RDBAL_64, R_TDBAL, R_TDBAL + 0x1000};
enum { BAR_PAGE = 0x1000, DOORBELL_PAGES = sizeof doorbell_pages / sizeof *doorbell_pages };

/* ---- a tail is written ---- */

/* Python calls it with the GIL held or, where it has none, with the engine frozen: the NIC cannot be closed
 * meanwhile. NULL: it is closed. */
EXPORT void nic_ring(struct nic *nic, uint32_t offset, uint32_t tail)
{
    if (nic)
        /* release: the engine's acquire of the tail sees the descriptors that the driver wrote before it */
        atomic_store_explicit(&nic->regs[offset / 4], tail, memory_order_release);
}

/* Show the head in its register. Without effect when the NIC was closed meanwhile. */
EXPORT void nic_show_head(struct nic *nic, bool receive, uint32_t queue)
{
    bool entered = freeze_enter();
    if (engine_has(nic))
        receive ? nic_rx_head(nic, queue) : nic_tx_head(nic, queue);
    if (entered)
        freeze_leave();
}

/* Copy memory of the function whose queue this is (QUEUES: of the PF), for the rules: not an access of the NIC. False
 * where only messages reach the memory, and when the NIC was closed meanwhile. */
EXPORT bool nic_peek(struct nic *nic, uint32_t queue, uint64_t iova, uint8_t *to, uint64_t length)
{
    bool entered = freeze_enter();
    bool copied = false;
    if (engine_has(nic)) {
        struct function *before = nic->function;
        if (nic->settings.stale)
            settings_read(nic);
        nic->function = queue < QUEUES ? function_of(nic, queue) : &nic->pf;
        copied = dma_peek(nic, iova, to, length);
        nic->function = before;
    }
    if (entered)
        freeze_leave();
    return copied;
}

/* ---- for another process ---- */

/* The file, which the NIC owns, or -1. */
EXPORT int nic_share_doorbells(struct nic *nic)
{
    if (nic->doorbell_fd >= 0 || sysconf(_SC_PAGESIZE) != BAR_PAGE)
        return nic->doorbell_fd;
    int fd = memfd_create("ixrings-doorbells", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    uint8_t *registers = (uint8_t *)(uintptr_t)nic->regs;
    bool ready = !ftruncate(fd, BAR_PAGE * DOORBELL_PAGES);
    for (uint32_t i = 0; ready && i < DOORBELL_PAGES; i++)
        ready = pwrite(fd, registers + doorbell_pages[i], BAR_PAGE, BAR_PAGE * i) == BAR_PAGE;
    ready = ready && !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    for (uint32_t i = 0; ready && i < DOORBELL_PAGES; i++)
        ready = mmap(registers + doorbell_pages[i], BAR_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
                     BAR_PAGE * i) != MAP_FAILED;
    if (!ready) {
        close(fd); /* replaced pages hold the same values, so the NIC goes on */
        return -1;
    }
    return nic->doorbell_fd = fd;
}

/* Replace the pages by private ones with the same values: a process that still maps the file no longer rings. */
EXPORT bool nic_unshare_doorbells(struct nic *nic)
{
    if (nic->doorbell_fd < 0)
        return true;
    uint8_t *registers = (uint8_t *)(uintptr_t)nic->regs, values[BAR_PAGE];
    bool ready = true;
    for (uint32_t i = 0; ready && i < DOORBELL_PAGES; i++) {
        uint8_t *page = registers + doorbell_pages[i];
        memcpy(values, page, BAR_PAGE);
        ready =
            mmap(page, BAR_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
        if (ready)
            memcpy(page, values, BAR_PAGE);
    }
    if (!ready)
        return false; /* no memory for a page: the file stays shared, and doorbell_fd stays set */
    close(nic->doorbell_fd);
    nic->doorbell_fd = -1;
    return true;
}
