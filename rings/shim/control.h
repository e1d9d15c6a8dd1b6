/* NIOCCTRL requests, with everything they point to in one piece. */
#ifndef SHIM_CONTROL_H
#define SHIM_CONTROL_H

#include "abi.h"
#include "handles.h"

enum {
    OPTIONS = 16, /* the daemon takes as many */
    OPTION_ROOM = NETMAP_REQ_MAXSIZE,
};

struct request {
    struct nmreq_header header; /* nr_options and nr_body: the program's addresses */
    uint8_t body[64]; /* by header.nr_reqtype */
    int count;
    struct {
        uint64_t address; /* of the program's copy */
        size_t size; /* of the option with its header */
        uint8_t *bytes; /* in `room` */
    } options[OPTIONS];
    size_t used;
    uint8_t room[OPTION_ROOM] __attribute__((aligned(8)));
};

static inline struct nmreq_option *option_at(struct request *r, int i)
{
    return (struct nmreq_option *)(void *)r->options[i].bytes;
}

/* The option of this type, or NULL. */
struct nmreq_option *option_find(struct request *r, enum option_type type);

size_t control_body_size(unsigned type);

/* Carry out a request whose parts are in `r`; the answer's are there afterwards. 0 or an errno. */
int control_perform(struct handle *h, struct request *r);

int control_ioctl(struct handle *h, uint64_t argument); /* NIOCCTRL. 0 or an errno */
int legacy_ioctl(struct handle *h, uint32_t request, uint64_t argument); /* NIOCREGIF, NIOCGINFO. 0 or an errno */

#endif
