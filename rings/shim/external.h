/* The option EXTMEM: a region of the daemon's takes the place of the program's own memory. */
#ifndef SHIM_EXTERNAL_H
#define SHIM_EXTERNAL_H

#include "control.h"
#include "handles.h"

/* The program's memory, before and after the registration. */
struct external {
    struct nmreq_opt_extmem *option; /* NULL: the request has no such option */
    uint64_t usrptr;
    uint64_t inode; /* of the shared memory that is mapped there from its first byte on, or 0 */
};

/* Look for the option, and check the memory. The daemon gets the inode in place of usrptr. 0 or an errno. */
int external_find(struct external *external, struct request *r);
/* The daemon has answered: usrptr is the program's again. */
void external_restore(struct external *external);
/* After the registration: map the region over the program's memory. 0 or an errno. */
int external_map(const struct external *external, struct handle *h);

#endif
