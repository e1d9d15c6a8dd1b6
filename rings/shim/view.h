/* A handle's rings in this library's own mapping of the region. */
#ifndef SHIM_VIEW_H
#define SHIM_VIEW_H

#include "handles.h"
#include "../hotloop.h"

struct view {
    void *region;
    size_t size;
    uint32_t tx, rings; /* TX rings, all rings */
    struct netmap_ring *ring[CONTROL_TAILS]; /* those that are bound, TX rings first */
};

/* `region`: its descriptor. 0 or an errno, and nothing is made then. */
int view_make(struct view **view, int region, const struct nmreq_register *bound);
/* NULL: nothing to do. */
void view_release(struct view *view);

#endif
