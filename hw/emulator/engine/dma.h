/* Memory as the NIC reaches it: the windows of the IOMMU (dma.c), and memory reached by messages (remote.c).
 *
 * An access whose data has not arrived yet fails, sets dma_waiting and is not a fault: a later step tries again.
 */
#ifndef IXRINGS_DMA_H
#define IXRINGS_DMA_H

#include "nic.h"

/* dma.c */
uint8_t *dma_find(struct nic *nic, uint64_t iova, uint64_t length, uint32_t access);
bool dma_read(struct nic *nic, uint32_t queue, uint64_t iova, uint8_t *to, uint64_t length);
bool dma_write_pieces(struct nic *nic, uint32_t queue, uint64_t iova, const uint8_t *from, uint64_t length);
struct descriptor *dma_find_descriptor(struct nic *nic, uint32_t queue, uint64_t iova, uint32_t access);
void dma_write_descriptor(struct nic *nic, struct descriptor *descriptor, uint64_t iova, uint64_t q0, uint64_t q1);
bool dma_comes_later(struct nic *nic);
bool dma_peek(struct nic *nic, uint64_t iova, uint8_t *to, uint64_t length);
void dma_close(struct nic *nic);

/* remote.c; all but remote_create() and remote_destroy() need nic->function->remote */
bool remote_create(struct nic *nic);
void remote_destroy(struct nic *nic);
uint8_t *remote_reach(struct nic *nic, uint64_t iova, uint64_t length);
bool remote_holds(const struct nic *nic, const void *bytes);
bool remote_write(struct nic *nic, uint64_t iova, const uint8_t *bytes, uint64_t length);
bool remote_full(const struct nic *nic);
bool remote_writing(const struct nic *nic);
void remote_work(struct nic *nic, uint32_t owner);
void remote_used(struct nic *nic);
void remote_forget(struct nic *nic);
void remote_forget_queue(struct nic *nic, uint32_t queue);
void remote_unmap(struct nic *nic, uint64_t iova, uint64_t last);

/* NULL when the guess was wrong; the access may still be allowed. */
static inline uint8_t *recent_reach(const struct reach *recent, uint64_t iova, uint64_t length)
{
    uint64_t at = iova - recent->iova;
    return at < recent->size && length <= recent->size - at ? recent->host + at : NULL;
}

/* The bytes [iova, iova + length) when one window holds all of them, else NULL. For a write access also NULL where only
 * messages reach the memory. */
static inline uint8_t *dma_reach(struct nic *nic, uint64_t iova, uint64_t length, uint32_t access)
{
    uint8_t *host = recent_reach(&nic->function->recent[BUFFERS][access], iova, length);
    return host ? host : dma_find(nic, iova, length, access);
}

/* The descriptor in place, or a copy of one that messages reach. `access`: DMA_BOTH when it will be written back. */
static inline struct descriptor *dma_descriptor(struct nic *nic, uint32_t queue, uint64_t iova, uint32_t access)
{
    uint8_t *host = recent_reach(&nic->function->recent[DESCRIPTORS][access], iova, sizeof(struct descriptor));
    return host ? (struct descriptor *)(void *)host : dma_find_descriptor(nic, queue, iova, access);
}

static inline bool dma_write(struct nic *nic, uint32_t queue, uint64_t iova, const uint8_t *from, uint64_t length)
{
    uint8_t *host = recent_reach(&nic->function->recent[BUFFERS][DMA_WRITE], iova, length);
    if (!host)
        return dma_write_pieces(nic, queue, iova, from, length);
    memcpy(host, from, length);
    return true;
}

static inline void store_descriptor(struct descriptor *descriptor, uint64_t q0, uint64_t q1)
{
    atomic_store_explicit(&descriptor->q0, q0, memory_order_relaxed);
    /* release: the data and the low half are in memory before DD is, as PCIe's ordered writes guarantee */
    atomic_store_explicit(&descriptor->q1, q1, memory_order_release);
}

#endif
