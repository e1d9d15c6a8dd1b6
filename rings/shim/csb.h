/* CSB mode: a program and its sync loop share head, cur and tail in a control block of the program's own, and the loop
 * (NETMAP_REQ_SYNC_KLOOP_START) runs in the program's thread that starts it. In netmap it runs in the kernel. */
#ifndef SHIM_CSB_H
#define SHIM_CSB_H

#include "control.h"

/* Whether REGISTER with these flags may have the option. 0 or an errno. */
int csb_check(const struct nmreq_opt_csb *option, uint64_t flags);
/* Begin CSB mode. It ends with the handle. */
int csb_enable(struct handle *h, const struct nmreq_opt_csb *option);
void csb_end(struct handle *h);

/* The requests of the same names. */
int csb_request(struct handle *h, struct request *r);
int kloop_start(struct handle *h, struct request *r);
int kloop_stop(struct handle *h);

#endif
