/* The NICs of this process and what happens to one as a whole: engine.c, foreign.c, link.c, wire.c. */
#ifndef IXRINGS_ENGINE_H
#define IXRINGS_ENGINE_H

#include "nic.h"

/* engine.c */
void engine_freeze(void);
void engine_resume(void);
bool engine_holds_freeze(void);
bool engine_has(const struct nic *nic);
struct nic *engine_first_nic(void);

/* foreign.c */
void foreign_open(void);
void foreign_close(void);
bool foreign_signal(int fd);

/* link.c */
void nic_link_update(struct nic *nic);

/* wire.c */
void wire_close(struct nic *nic);
bool wire_has_far_end(const struct nic *nic);

#endif
