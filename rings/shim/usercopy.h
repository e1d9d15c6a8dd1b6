/* Copies from and to addresses that a program passed. As in a kernel, a bad address gives EFAULT, not a signal. */
#ifndef SHIM_USERCOPY_H
#define SHIM_USERCOPY_H

#include <stddef.h>
#include <stdint.h>

int copy_in(void *to, uint64_t from, size_t size); /* 0 or EFAULT; errno stays as it is */
int copy_out(uint64_t to, const void *from, size_t size);

#endif
