/* Lines "ok 3 - sentence" and "not ok 4 - sentence: found 22, expected 0", and requests of one line. */
#ifndef CHECKS_H
#define CHECKS_H

#include "program.h"

extern const char *nic; /* the NIC's name without netmap: */

void check(const char *sentence, long long found, long long expected);
void check_true(const char *sentence, bool holds);
int checks_end(void); /* prints the plan; returns the program's exit status */

int open_netmap(void);
struct nmreq_header header_of(uint16_t reqtype, const char *name, void *body);

/* 0, or the errno. */
int control(int fd, struct nmreq_header *header);

/* Open `name` with an option, and map nothing. 0, or the errno; then the descriptor is closed. */
int port_try(struct port *port, const char *name, void *option);
int request(int fd, uint16_t reqtype, const char *name, void *body);
int registered(int fd, const char *name, uint32_t mode, uint16_t ringid, uint64_t flags);

/* A fresh descriptor, registered with mode ALL_NIC and `flags`; the errno in *error if it was refused, and -1. */
int opened(const char *name, uint64_t flags, int *error);

void check_headers(void);
void check_registration(void);
void check_options(void);
void check_info(void);
void check_legacy(void);
void check_views(void);
void check_exclusive(void);
void check_syncs(void);
void check_interface(void);
void check_pipes(void);
void check_switch(void);
void check_offsets(void);
void check_memory(void);

#endif
