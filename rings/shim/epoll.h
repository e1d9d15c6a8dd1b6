/* Handles in epoll instances. */
#ifndef SHIM_EPOLL_H
#define SHIM_EPOLL_H

#include "calls.h"

struct handle;

/* Whether any handle is in any epoll instance, or was there and may still be reported. */
bool epoll_has_handles(void);
/* `fd`, a handle or an epoll descriptor, is going to be closed. */
void epoll_forget(int fd);
/* `copy` is a new duplicate of `fd`, which may be an epoll descriptor. */
void epoll_copied(int fd, int copy);
/* The handle has been registered: its wake descriptors exist now. */
void epoll_bound(struct handle *h);
/* Ask and arm the handles of the instance `fd`, for a poll() of `fd` itself. True: one is ready. */
bool epoll_ask(int fd);

#endif
