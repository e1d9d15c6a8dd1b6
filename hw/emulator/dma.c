/* DMA as an IOMMU would let it through: only what the driver mapped, everything else is a recorded fault. */
#include <stdlib.h>
#include <string.h>

#include "nic.h"

void report(struct nic *nic, enum finding_kind kind, uint32_t queue, uint64_t first, uint64_t second) {
    if (nic->finding_count < FINDINGS)
        nic->findings[nic->finding_count] = (struct finding){kind, queue, {first, second}};
    nic->finding_count++;
}

/* Index of the first window that ends after `iova`. */
static uint32_t window_after(const struct nic *nic, uint64_t iova) {
    uint32_t low = 0, high = nic->window_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct dma_window *window = &nic->windows[middle];
        if (iova - window->iova < window->size || iova < window->iova)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Host address of [iova, iova + length) when one window holds all of it, else NULL. */
uint8_t *dma_reach(struct nic *nic, uint64_t iova, uint64_t length) {
    uint32_t index = window_after(nic, iova);
    if (index == nic->window_count)
        return NULL;
    const struct dma_window *window = &nic->windows[index];
    uint64_t into = iova - window->iova;
    if (iova < window->iova || length > window->size - into)
        return NULL;
    return window->host + into;
}

/* Adjacent windows need not be adjacent in the host: go piece by piece. */
static bool dma_copy(struct nic *nic, uint64_t iova, uint8_t *bytes, uint64_t length, bool to_host) {
    while (length) {
        uint32_t index = window_after(nic, iova);
        if (index == nic->window_count || iova < nic->windows[index].iova)
            return false;
        const struct dma_window *window = &nic->windows[index];
        uint64_t into = iova - window->iova;
        uint64_t piece = window->size - into < length ? window->size - into : length;
        if (to_host)
            memcpy(window->host + into, bytes, piece);
        else
            memcpy(bytes, window->host + into, piece);
        iova += piece, bytes += piece, length -= piece;
    }
    return true;
}

bool dma_read(struct nic *nic, uint32_t queue, uint64_t iova, uint8_t *to, uint64_t length) {
    if (dma_copy(nic, iova, to, length, false))
        return true;
    report(nic, FINDING_DMA_READ, queue, iova, length);
    return false;
}

bool dma_write(struct nic *nic, uint32_t queue, uint64_t iova, const uint8_t *from, uint64_t length) {
    uint8_t *host = dma_reach(nic, iova, length);
    if (host) {
        memcpy(host, from, length);
        return true;
    }
    /* The cast drops const for the shared copier, which only reads `from` in this direction. */
    if (dma_copy(nic, iova, (uint8_t *)(uintptr_t)from, length, true))
        return true;
    report(nic, FINDING_DMA_WRITE, queue, iova, length);
    return false;
}

/* A descriptor is 16 bytes on a 16-byte boundary of a page: always within one window. */
struct descriptor *dma_descriptor(struct nic *nic, uint32_t queue, uint64_t iova, enum finding_kind kind) {
    uint8_t *host = dma_reach(nic, iova, sizeof(struct descriptor));
    if (!host)
        report(nic, kind, queue, iova, sizeof(struct descriptor));
    return (struct descriptor *)(void *)host;
}

/* Add a window; windows are kept in order and do not overlap. 0, or -1 when it overlaps or memory is out. */
int nic_map_dma(struct nic *nic, uint64_t iova, uint64_t size, uint8_t *host) {
    uint32_t index = window_after(nic, iova);
    if (!size || iova + size < iova)
        return -1;
    if (index < nic->window_count && nic->windows[index].iova < iova + size)
        return -1;
    if (nic->window_count == nic->window_room) {
        uint32_t room = nic->window_room ? 2 * nic->window_room : 16;
        struct dma_window *more = realloc(nic->windows, room * sizeof *more);
        if (!more)
            return -1;
        nic->windows = more, nic->window_room = room;
    }
    memmove(&nic->windows[index + 1], &nic->windows[index], (nic->window_count - index) * sizeof *nic->windows);
    nic->windows[index] = (struct dma_window){iova, size, host};
    nic->window_count++;
    return 0;
}

/* Remove every window inside [iova, iova + size); returns how many. */
int nic_unmap_dma(struct nic *nic, uint64_t iova, uint64_t size) {
    uint32_t kept = 0, count = nic->window_count;
    for (uint32_t i = 0; i < count; i++) {
        const struct dma_window *window = &nic->windows[i];
        bool inside = window->iova >= iova && window->iova - iova < size && window->size <= size - (window->iova - iova);
        if (!inside)
            nic->windows[kept++] = *window;
    }
    nic->window_count = kept;
    return (int)(count - kept);
}
