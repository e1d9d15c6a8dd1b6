/* DMA through an IOMMU: accesses to windows that the driver mapped; every other access is a recorded fault. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "dma.h"
#include "prefetch.h"

enum { PAGE = 4096, HUGETLBFS = 0x958458f6 };
#define MAPPED_MOST (1ull << 45) /* a quarter of a process's addresses; files may be larger than all memory */

/* What one function may map: an equal part, so that no function takes the addresses of the others. */
static uint64_t mapped_most(const struct nic *nic)
{
    return MAPPED_MOST / (1 + nic->vf_count);
}

/* ---- looking up ---- */

/* Index of the first window that ends after `iova`. */
static uint32_t window_after(const struct nic *nic, uint64_t iova)
{
    uint32_t low = 0, high = nic->function->window_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct dma_window *window = &nic->function->windows[middle];
        if (iova - window->iova < window->size || iova < window->iova)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* The window that holds `iova` and allows `access`, or NULL. The next access tries this window first. */
static const struct dma_window *window_at(struct nic *nic, uint64_t iova, uint32_t access, enum recent what)
{
    uint32_t index = window_after(nic, iova);
    const struct dma_window *window = &nic->function->windows[index];
    if (index == nic->function->window_count || iova < window->iova || (window->access & access) != access)
        return NULL;
    if (window->host)
        nic->function->recent[what][access] = (struct reach){window->iova, window->size, window->host};
    return window;
}

/* dma_reach() when the guess was wrong. */
uint8_t *dma_find(struct nic *nic, uint64_t iova, uint64_t length, uint32_t access)
{
    const struct dma_window *window = window_at(nic, iova, access, BUFFERS);
    if (!window || length > window->size - (iova - window->iova))
        return NULL;
    if (window->host)
        return window->host + (iova - window->iova);
    return access & DMA_WRITE ? NULL : remote_reach(nic, iova, length);
}

/* Copy memory for the rules: not an access of the NIC. False where only messages reach the memory. */
bool dma_peek(struct nic *nic, uint64_t iova, uint8_t *to, uint64_t length)
{
    const struct dma_window *window = window_at(nic, iova, DMA_READ, BUFFERS);
    if (!window || !window->host || length > window->size - (iova - window->iova))
        return false;
    memcpy(to, window->host + (iova - window->iova), length);
    return true;
}

/* Whether the access that just failed only waits for its data. Clears the mark. */
bool dma_comes_later(struct nic *nic)
{
    bool later = nic->function->dma_waiting;
    nic->function->dma_waiting = false;
    return later;
}

/* ---- copying piece by piece: adjacent windows need not be adjacent in the host ---- */

static bool copy_in(struct nic *nic, uint64_t iova, uint8_t *to, uint64_t length)
{
    while (length) {
        const struct dma_window *window = window_at(nic, iova, DMA_READ, BUFFERS);
        if (!window)
            return false;
        uint64_t left = window->size - (iova - window->iova), piece = left < length ? left : length;
        const uint8_t *from = window->host ? window->host + (iova - window->iova) : remote_reach(nic, iova, piece);
        if (!from)
            return false;
        memcpy(to, from, piece);
        iova += piece, to += piece, length -= piece;
    }
    return true;
}

static bool copy_out(struct nic *nic, uint64_t iova, const uint8_t *from, uint64_t length)
{
    while (length) {
        const struct dma_window *window = window_at(nic, iova, DMA_WRITE, BUFFERS);
        if (!window)
            return false;
        uint64_t left = window->size - (iova - window->iova), piece = left < length ? left : length;
        if (window->host)
            memcpy(window->host + (iova - window->iova), from, piece);
        else if (!remote_write(nic, iova, from, piece))
            return false;
        iova += piece, from += piece, length -= piece;
    }
    return true;
}

bool dma_read(struct nic *nic, uint32_t queue, uint64_t iova, uint8_t *to, uint64_t length)
{
    if (copy_in(nic, iova, to, length))
        return true;
    if (!nic->function->dma_waiting)
        report(nic, FINDING_DMA_READ, queue, iova, length);
    return false;
}

/* dma_write() when the guess was wrong. */
bool dma_write_pieces(struct nic *nic, uint32_t queue, uint64_t iova, const uint8_t *from, uint64_t length)
{
    if (copy_out(nic, iova, from, length))
        return true;
    report(nic, FINDING_DMA_WRITE, queue, iova, length);
    return false;
}

/* ---- descriptors: 16 bytes, aligned to 16 bytes, so always within one window ---- */

/* dma_descriptor() when the guess was wrong. */
struct descriptor *dma_find_descriptor(struct nic *nic, uint32_t queue, uint64_t iova, uint32_t access)
{
    const struct dma_window *window = window_at(nic, iova, access, DESCRIPTORS);
    const uint64_t length = sizeof(struct descriptor);
    uint8_t *bytes = NULL;
    if (window)
        bytes = window->host ? window->host + (iova - window->iova) : remote_reach(nic, iova, length);
    if (!bytes && !nic->function->dma_waiting)
        report(nic, !window && window_at(nic, iova, DMA_READ, DESCRIPTORS) ? FINDING_DMA_WRITE : FINDING_DMA_READ,
               queue, iova, length);
    return (struct descriptor *)(void *)bytes;
}

void dma_write_descriptor(struct nic *nic, struct descriptor *descriptor, uint64_t iova, uint64_t q0, uint64_t q1)
{
    const uint64_t written[2] = {q0, q1};
    /* Posted data has not arrived yet: DD is posted after it, also to memory that a store would reach. */
    if (nic->function->remote && (remote_holds(nic, descriptor) || remote_writing(nic)))
        remote_write(nic, iova, (const uint8_t *)written, sizeof written);
    else
        store_descriptor(descriptor, q0, q1);
}

/* ---- windows: kept in order, never overlapping ---- */

static int insert(struct nic *nic, uint32_t index, const struct dma_window *window)
{
    if (nic->function->window_count == nic->function->window_room) {
        uint32_t room = nic->function->window_room ? 2 * nic->function->window_room : 16;
        struct dma_window *more = realloc(nic->function->windows, room * sizeof *more);
        if (!more)
            return ENOMEM;
        nic->function->windows = more, nic->function->window_room = room;
    }
    memmove(&nic->function->windows[index + 1], &nic->function->windows[index],
            (nic->function->window_count - index) * sizeof *nic->function->windows);
    nic->function->windows[index] = *window;
    nic->function->window_count++;
    nic->function->mapped_bytes += window->mapped;
    return 0;
}

/* Map the part of a file that a window shows. It must lie inside the file: an access past the end raises SIGBUS. */
static int map_file(const struct nic *nic, struct dma_window *window, int fd, uint64_t offset)
{
    struct stat file;
    struct statfs system;
    if (fstat(fd, &file) || fstatfs(fd, &system))
        return errno;
    if (!S_ISREG(file.st_mode) || offset % PAGE || offset > (uint64_t)file.st_size ||
        window->size > (uint64_t)file.st_size - offset)
        return EINVAL;
    const uint64_t granule =
        system.f_type == HUGETLBFS ? (uint64_t)system.f_bsize : PAGE; /* the page size of the file */
    uint64_t start = offset - offset % granule, end = offset + window->size;
    end += (granule - end % granule) % granule;
    uint64_t most = mapped_most(nic), mapped = nic->function->mapped_bytes; /* VFs may be enabled after a window */
    if (mapped > most || end - start > most - mapped)
        return ENOMEM;
    int protection = (window->access & DMA_READ ? PROT_READ : 0) | (window->access & DMA_WRITE ? PROT_WRITE : 0);
    void *mapping = mmap(NULL, end - start, protection, MAP_SHARED, fd, (off_t)start);
    if (mapping == MAP_FAILED)
        return errno;
    window->mapping = mapping, window->mapped = end - start;
    window->host = window->mapping + (offset - start);
    return 0;
}

/* Add a window on file `fd`, which the caller keeps, or (fd -1) one that messages reach. Returns 0 or an errno. */
EXPORT int nic_map_dma(struct nic *nic, uint64_t iova, uint64_t size, int fd, uint64_t offset, uint32_t access)
{
    uint32_t index = window_after(nic, iova);
    if (!size || iova % PAGE || size % PAGE || iova + size < iova || !(access & DMA_BOTH) ||
        access & ~(uint32_t)DMA_BOTH)
        return EINVAL;
    if (index < nic->function->window_count && nic->function->windows[index].iova <= iova + (size - 1))
        return EEXIST;
    struct dma_window window = {.iova = iova, .size = size, .access = access};
    int error = 0;
    if (fd >= 0)
        error = map_file(nic, &window, fd, offset);
    else if (!nic->function->remote && !remote_create(nic))
        error = ENOMEM;
    if (!error)
        error = insert(nic, index, &window);
    if (nic->function->remote)
        remote_forget(nic);
    if (error && window.mapping)
        munmap(window.mapping, window.mapped);
    return error;
}

static void unmap(struct nic *nic, const struct dma_window *window)
{
    if (window->mapping)
        munmap(window->mapping, window->mapped);
    nic->function->mapped_bytes -= window->mapped;
}

static bool inside(const struct dma_window *window, uint64_t iova, uint64_t last)
{
    return window->iova >= iova && window->iova + (window->size - 1) <= last;
}

/* Remove every window inside [iova, iova + size). EINVAL, and nothing removed, when the range would split one. */
EXPORT int nic_unmap_dma(struct nic *nic, uint64_t iova, uint64_t size)
{
    uint64_t last = iova + (size - 1);
    uint32_t kept = 0, count = nic->function->window_count;
    if (!size || last < iova)
        return EINVAL;
    for (uint32_t i = window_after(nic, iova); i < count && nic->function->windows[i].iova <= last; i++)
        if (!inside(&nic->function->windows[i], iova, last))
            return EINVAL;
    for (uint32_t i = 0; i < count; i++) {
        const struct dma_window *window = &nic->function->windows[i];
        if (!inside(window, iova, last))
            nic->function->windows[kept++] = *window;
        else
            unmap(nic, window);
    }
    nic->function->window_count = kept;
    memset(nic->function->recent, 0, sizeof nic->function->recent);
    if (nic->function->remote)
        remote_unmap(nic, iova, last);
    return 0;
}

EXPORT uint32_t nic_window_count(const struct nic *nic)
{
    return nic->function->window_count;
}

/* Remove all windows, for nic_destroy(). */
void dma_close(struct nic *nic)
{
    for (uint32_t i = 0; i < nic->function->window_count; i++)
        unmap(nic, &nic->function->windows[i]);
    free(nic->function->windows);
    nic->function->windows = NULL, nic->function->window_count = 0;
    remote_destroy(nic);
}

EXPORT void nic_set_bus_master(struct nic *nic, bool on)
{
    nic->function->bus_master = on;
}

EXPORT bool nic_master_abort(const struct nic *nic)
{
    return nic->function->master_abort;
}

EXPORT void nic_clear_master_abort(struct nic *nic)
{
    nic->function->master_abort = false;
}
