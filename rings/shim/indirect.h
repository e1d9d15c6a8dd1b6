/* NS_INDIRECT: a TX slot whose frame is at slot->ptr, in the program's own memory. */
#ifndef SHIM_INDIRECT_H
#define SHIM_INDIRECT_H

struct handle;

/* Whether the rings take such slots: in netmap only those of a switch port do. It alone has memory of its own. */
#define TAKES_INDIRECT(bound) ((bound)->nr_mem_id > 1)

/* Before a request that sends: the frames of such slots are copied into the slots' buffers. */
void indirect_copy(const struct handle *h);

#endif
