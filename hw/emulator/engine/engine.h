/* The NICs of this process and what happens to one as a whole: engine.c, foreign.c, link.c, wire.c, delay.c, watch.c. */
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

/* delay.c */
uint32_t line_deliver(struct nic *nic, uint64_t now_ns);
void line_close(struct line *line);

/* watch.c */
typedef void sends(struct nic *nic, const uint8_t *frame, uint32_t length);
sends *wire_send_by(struct nic *nic, sends *send);

/* wire.c */
void wire_close(struct nic *nic);
bool wire_has_far_end(const struct nic *nic);

/* watch.c */
bool nic_watch(struct nic *nic, bool on);

#endif
