#include "calls.h"
#include "view.h"

#include <stdlib.h>

static int find_rings(struct view *view, uint64_t offset)
{
    if (offset > view->size - sizeof(struct netmap_if))
        return EINVAL;
    struct netmap_if *nifp = (void *)((char *)view->region + offset);
    uint32_t tx = nifp->ni_tx_rings + nifp->ni_host_tx_rings, all = tx + nifp->ni_rx_rings + nifp->ni_host_rx_rings;
    for (uint32_t i = 0; i < all; i++) {
        if (!nifp->ring_ofs[i])
            continue;
        if (view->rings == CONTROL_TAILS)
            return EINVAL;
        view->ring[view->rings++] = (void *)((char *)nifp + nifp->ring_ofs[i]);
        view->tx += i < tx;
    }
    return 0;
}

int view_make(struct view **made, int region, const struct nmreq_register *bound)
{
    struct view *view = calloc(1, sizeof *view);
    if (!view)
        return ENOMEM;
    view->size = bound->nr_memsize;
    view->region = original()->mmap(NULL, view->size, PROT_READ | PROT_WRITE, MAP_SHARED, region, 0);
    int error = view->region == MAP_FAILED ? errno : find_rings(view, bound->nr_offset);
    if (error)
        view_release(view);
    else
        *made = view;
    return error;
}

void view_release(struct view *view)
{
    if (!view)
        return;
    if (view->region != MAP_FAILED)
        munmap(view->region, view->size);
    free(view);
}
