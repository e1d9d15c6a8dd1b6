/* DMA to memory that this process cannot map: messages ask its owner to read and write it (vfio-user's DMA_READ and
 * DMA_WRITE).
 *
 * The engine never waits for an answer. When data is missing, it is requested, the step leaves everything as it was,
 * and a later step finds the data. Until then the data does not change: the NIC owns descriptors before the tail and
 * buffers that are being sent. Writes are posted, in order, and interrupts wait for them.
 *
 * Python (hw/vfio_user) carries the messages: it waits for `event` and takes requests with nic_remote_next().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "dma.h"

enum {
    READS = 128,         /* more than the descriptors and buffers of one frame */
    WRITES = 256,        /* a queue waits at this many; a frame in progress may exceed it */
    WRITE_ID = 1u << 31, /* set in the ids of writes, clear in those of reads */
};

_Static_assert(READS > 2 * CHIP_HOLDS, "a frame could need more reads than there are");

enum state { FREE, WANTED, ASKED, STALE, HERE, FAILED };

struct read {
    enum state state;
    bool used; /* by the frame in progress of `owner` */
    uint32_t owner;
    uint64_t iova;
    uint32_t length;
    uint8_t bytes[FRAME_MAX] __attribute__((aligned(16)));
};

struct write {
    struct write *next;
    uint64_t iova;
    uint32_t id, length;
    bool sent;
    uint8_t bytes[];
};

struct remote {
    int event;
    uint32_t victim, next_id, write_count, worker;
    struct write *first, **last;
    struct read reads[READS];
};

/* A request as Python sees it (messages.py). */
struct remote_request {
    uint64_t iova;
    uint32_t id, length, is_write;
};

bool remote_create(struct nic *nic)
{
    struct remote *remote = calloc(1, sizeof *remote);
    int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (!remote || event < 0) {
        free(remote);
        if (event >= 0)
            close(event);
        return false;
    }
    remote->event = event, remote->last = &remote->first;
    nic->function->remote = remote;
    return true;
}

static void remove_write(struct remote *remote, struct write **at)
{
    struct write *write = *at;
    *at = write->next;
    if (!*at)
        remote->last = at;
    remote->write_count--;
    free(write);
}

void remote_destroy(struct nic *nic)
{
    if (!nic->function->remote)
        return;
    while (nic->function->remote->first)
        remove_write(nic->function->remote, &nic->function->remote->first);
    close(nic->function->remote->event);
    free(nic->function->remote);
    nic->function->remote = NULL;
}

static void wake(const struct remote *remote)
{
    uint64_t one = 1;
    ssize_t ignored = write(remote->event, &one, sizeof one); /* if it is full, it is readable already */
    (void)ignored;
}

/* ---- reads ---- */

/* A slot for a read: a free one, or one with data that no frame in progress uses. NULL when all wait for an answer. */
static struct read *slot_for_read(struct remote *remote)
{
    for (uint32_t i = 0; i < READS; i++)
        if (remote->reads[i].state == FREE)
            return &remote->reads[i];
    for (uint32_t i = 0; i < READS; i++) {
        struct read *read = &remote->reads[remote->victim++ % READS];
        if ((read->state == HERE || read->state == FAILED) && !read->used)
            return read;
    }
    for (uint32_t i = 0; i < READS; i++) { /* all are used: the lowest owner proceeds, the others read again */
        struct read *read = &remote->reads[i];
        if ((read->state == HERE || read->state == FAILED) && read->owner > remote->worker)
            return read;
    }
    return NULL;
}

/* Set the owner of the accesses that follow: 0 for received frames, 1 + number for a transmit queue. */
void remote_work(struct nic *nic, uint32_t owner)
{
    nic->function->remote->worker = owner;
}

/* The bytes when they have arrived. Else NULL: they are requested (dma_waiting), or the owner refused them. */
uint8_t *remote_reach(struct nic *nic, uint64_t iova, uint64_t length)
{
    struct remote *remote = nic->function->remote;
    if (length > FRAME_MAX)
        return NULL;
    for (uint32_t i = 0; i < READS; i++) {
        struct read *read = &remote->reads[i];
        if (read->iova != iova || read->length != length || read->state == FREE || read->state == STALE)
            continue;
        nic->function->dma_waiting = read->state == WANTED || read->state == ASKED;
        read->used = true, read->owner = remote->worker;
        return read->state == HERE ? read->bytes : NULL;
    }
    struct read *read = slot_for_read(remote);
    nic->function->dma_waiting = true;
    if (read) {
        read->state = WANTED, read->used = false, read->iova = iova, read->length = (uint32_t)length;
        wake(remote);
    }
    return NULL;
}

bool remote_holds(const struct nic *nic, const void *bytes)
{
    const uint8_t *at = bytes, *from = (const uint8_t *)nic->function->remote->reads;
    return at >= from && at < from + sizeof nic->function->remote->reads;
}

/* The frame in progress is done: free the data that it used. */
void remote_used(struct nic *nic)
{
    for (uint32_t i = 0; i < READS; i++) {
        struct read *read = &nic->function->remote->reads[i];
        if (!read->used || read->owner != nic->function->remote->worker)
            continue;
        if (read->state == HERE)
            read->state = FREE;
        read->used = false;
    }
}

/* A queue was enabled or disabled, or memory was mapped: data that was read or refused before is stale. */
void remote_forget(struct nic *nic)
{
    for (uint32_t i = 0; i < READS; i++) {
        struct read *read = &nic->function->remote->reads[i];
        read->state = read->state == ASKED || read->state == STALE ? STALE : FREE;
        read->used = false;
    }
}

/* A queue was enabled, disabled or moved: the data that its function read. */
void remote_forget_queue(struct nic *nic, uint32_t queue)
{
    struct function *before = nic->function;
    nic->function = function_of(nic, queue);
    if (nic->function->remote)
        remote_forget(nic);
    nic->function = before;
}

/* ---- writes ---- */

bool remote_write(struct nic *nic, uint64_t iova, const uint8_t *bytes, uint64_t length)
{
    struct remote *remote = nic->function->remote;
    struct write *write = malloc(sizeof *write + length);
    if (!write)
        return false;
    *write = (struct write){.iova = iova, .id = WRITE_ID | remote->next_id++, .length = (uint32_t)length};
    memcpy(write->bytes, bytes, length);
    *remote->last = write;
    remote->last = &write->next;
    remote->write_count++;
    wake(remote);
    return true;
}

bool remote_full(const struct nic *nic)
{
    return nic->function->remote->write_count >= WRITES;
}

bool remote_writing(const struct nic *nic)
{
    return nic->function->remote->first;
}

/* Memory is being unmapped: drop the writes to it, except those that the owner already has. */
void remote_unmap(struct nic *nic, uint64_t iova, uint64_t last)
{
    remote_forget(nic);
    for (struct write **at = &nic->function->remote->first; *at;)
        if (!(*at)->sent && (*at)->iova >= iova && (*at)->iova <= last)
            remove_write(nic->function->remote, at);
        else
            at = &(*at)->next;
}

/* ---- called by Python, with the engine frozen ---- */

/* An eventfd that is readable when there are requests; -1 while messages reach no window. */
EXPORT int nic_remote_event(const struct nic *nic)
{
    return nic->function->remote ? nic->function->remote->event : -1;
}

static bool next_write(struct remote *remote, struct remote_request *request, uint8_t *bytes)
{
    for (struct write *write = remote->first; write; write = write->next)
        if (!write->sent) {
            write->sent = true;
            *request = (struct remote_request){write->iova, write->id, write->length, 1};
            memcpy(bytes, write->bytes, write->length);
            return true;
        }
    return false;
}

/* Take the next request, if there is one. The bytes of a write are copied to `bytes`, which has FRAME_MAX bytes. */
EXPORT bool nic_remote_next(struct nic *nic, struct remote_request *request, uint8_t *bytes)
{
    struct remote *remote = nic->function->remote;
    if (!remote)
        return false;
    if (next_write(remote, request, bytes))
        return true;
    for (uint32_t i = 0; i < READS; i++)
        if (remote->reads[i].state == WANTED) {
            remote->reads[i].state = ASKED;
            *request = (struct remote_request){remote->reads[i].iova, i, remote->reads[i].length, 0};
            return true;
        }
    return false;
}

static void answer_read(struct read *read, const uint8_t *bytes, uint32_t length)
{
    if (read->state == STALE) {
        read->state = FREE;
    } else if (read->state == ASKED) {
        read->state = bytes && length == read->length ? HERE : FAILED;
        if (read->state == HERE)
            memcpy(read->bytes, bytes, length);
    }
}

/* The answer to a request. `bytes`: the data of a read. `done` false: the owner refused. */
EXPORT void nic_remote_answer(struct nic *nic, uint32_t id, bool done, const uint8_t *bytes, uint32_t length)
{
    struct remote *remote = nic->function->remote;
    if (!remote)
        return;
    if (!(id & WRITE_ID)) {
        if (id < READS)
            answer_read(&remote->reads[id], done ? bytes : NULL, length);
        return;
    }
    for (struct write **at = &remote->first; *at; at = &(*at)->next)
        if ((*at)->id == id) {
            if (!done)
                report(nic, FINDING_DMA_WRITE, 0, (*at)->iova, (*at)->length);
            remove_write(remote, at);
            return;
        }
}

/* The peer has disconnected. */
EXPORT void nic_remote_close(struct nic *nic)
{
    remote_destroy(nic);
}
