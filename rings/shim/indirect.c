#include "calls.h"
#include "indirect.h"
#include "usercopy.h"
#include "view.h"

#include <pthread.h>
#include <signal.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* A thread of the parent may have held the lock. */
static void after_fork(void)
{
    pthread_mutex_init(&lock, NULL);
}

__attribute__((constructor)) static void setup(void)
{
    pthread_atfork(NULL, NULL, after_fork);
}

/* What the daemon would refuse stays as it is, so that the daemon says why. The flag goes last: while it is there,
 * another thread waits. Memory that cannot be read gives a frame of no bytes, as in netmap. */
static void copy_frame(const struct view *view, struct netmap_ring *ring, struct netmap_slot *slot)
{
    uint8_t *buffer = (uint8_t *)ring + ring->buf_ofs + (uint64_t)slot->buf_idx * ring->nr_buf_size;
    uint64_t at = (uint64_t)(buffer - (uint8_t *)view->region);
    uint16_t length = slot->len;
    if (length > ring->nr_buf_size || at > view->size - ring->nr_buf_size)
        return;
    if (copy_in(buffer, slot->ptr, length))
        slot->len = 0;
    slot->ptr &= ~ring->offset_mask; /* the frame begins with the buffer now */
    __atomic_fetch_and(&slot->flags, (uint16_t)~NS_INDIRECT, __ATOMIC_RELEASE);
}

/* A switch port's tail is one slot before what it has not sent yet. True: there is such a slot; with `copy`, none is
 * left. Acquire: the slots were written before head. */
static bool look(const struct view *view, struct netmap_ring *ring, bool copy)
{
    uint32_t n = ring->num_slots, head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
    uint32_t tail = __atomic_load_n(&ring->tail, __ATOMIC_RELAXED);
    if (head >= n || tail >= n)
        return false;
    for (uint32_t i = tail + 1 == n ? 0 : tail + 1; i != head; i = i + 1 == n ? 0 : i + 1) {
        if (!(__atomic_load_n(&ring->slot[i].flags, __ATOMIC_RELAXED) & NS_INDIRECT))
            continue;
        if (!copy)
            return true;
        copy_frame(view, ring, &ring->slot[i]);
    }
    return false;
}

/* Two threads may send by one handle, because a poll() for frames sends, too. Signals are blocked, because a handler may
 * poll. */
static void copy_frames(const struct view *view, struct netmap_ring *ring)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pthread_mutex_lock(&lock);
    look(view, ring, true);
    pthread_mutex_unlock(&lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void indirect_copy(const struct handle *h)
{
    for (uint32_t i = 0; h->view && i < h->view->tx; i++)
        if (look(h->view, h->view->ring[i], false))
            copy_frames(h->view, h->view->ring[i]);
}
