/* The lock that orders the engine's thread and Python (freeze.c). */
#ifndef IXRINGS_FREEZE_H
#define IXRINGS_FREEZE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

bool freeze_enter(void);
void freeze_leave(void);
bool freeze_held(void);
void freeze_reset(void);

#endif
