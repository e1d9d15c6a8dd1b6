/* Changes of what this library knows about descriptors, which a fork must not cut in two.
 *
 * A fork copies the descriptors first and the memory later, while other threads go on. A child could so know a handle
 * whose descriptors it does not have, or know them by numbers that are others there. Therefore new descriptors become
 * known between begin_change() and end_change(), when all of them exist, and a fork waits for the end. What is forgotten
 * needs no such care: it is forgotten before its descriptors are closed. */
#ifndef SHIM_CHANGES_H
#define SHIM_CHANGES_H

#include <signal.h>

/* Signals are blocked meanwhile, so a signal handler never waits for the thread that it interrupted. There must be no
 * wait and no point of cancellation between the two, and no second change. */
void begin_change(sigset_t *signals);
void end_change(const sigset_t *signals);

/* When the library is loaded. */
void changes_setup(void);

#endif
