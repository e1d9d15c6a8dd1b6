/* Doorbells for another process: the pages of BAR0 with tail registers, as a file that it maps. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "nic.h"

/* The pages in the file: receive queues 0..63 and 64..127, then transmit queues 0..127. They hold other registers of
 * the same queues too; a store there changes only the value. The file holds nothing else of the NIC, and its size is
 * sealed. */
static const uint32_t doorbell_pages[] = {R_RDBAL, R_RDBAL_64, R_TDBAL, R_TDBAL + 0x1000};
enum { BAR_PAGE = 0x1000, DOORBELL_PAGES = sizeof doorbell_pages / sizeof *doorbell_pages };

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
