/* A handle's rings in this library's own mapping of the region. */
#ifndef SHIM_VIEW_H
#define SHIM_VIEW_H

#include "handles.h"
#include "../hotloop.h"

struct netmap_if {
    char ni_name[16];
    uint32_t ni_version, ni_flags;
    uint32_t ni_tx_rings, ni_rx_rings;
    uint32_t ni_bufs_head;
    uint32_t ni_host_tx_rings, ni_host_rx_rings;
    uint32_t spare[3];
    int64_t ring_ofs[];
};

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
