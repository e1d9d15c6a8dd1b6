/* Signals to eventfds of other programs.
 *
 * A write to an eventfd waits while the eventfd is full. Its owner can fill it, and make it blocking, between a look at
 * it and the write, and the engine would wait with its lock held. Signals of the kernel itself never wait. So here the
 * kernel signals: an asynchronous read of an empty file is complete at once, and asks for such a signal.
 */
#define _GNU_SOURCE
#include <linux/aio_abi.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine.h"

static struct {
    aio_context_t context;
    int file;
} foreign = {.file = -1};

/* Called with the engine frozen, as all functions here. Without asynchronous I/O in the kernel nothing is opened. */
void foreign_open(void)
{
    if (syscall(SYS_io_setup, 1, &foreign.context))
        return;
    foreign.file = memfd_create("ixrings-empty", MFD_CLOEXEC);
    if (foreign.file < 0)
        foreign_close();
}

void foreign_close(void)
{
    if (foreign.context)
        syscall(SYS_io_destroy, foreign.context);
    if (foreign.file >= 0)
        close(foreign.file);
    foreign.context = 0, foreign.file = -1;
}

/* Add 1 to an eventfd, also if it is full. False if this is not possible here: write to it instead. */
bool foreign_signal(int fd)
{
    if (!foreign.context)
        return false;
    char byte;
    struct iocb read = {
        .aio_lio_opcode = IOCB_CMD_PREAD,
        .aio_fildes = (uint32_t)foreign.file,
        .aio_buf = (uintptr_t)&byte,
        .aio_nbytes = 1,
        .aio_flags = IOCB_FLAG_RESFD,
        .aio_resfd = (uint32_t)fd,
    };
    struct iocb *reads = &read;
    struct io_event done;
    if (syscall(SYS_io_submit, foreign.context, 1, &reads) != 1)
        return false;
    syscall(SYS_io_getevents, foreign.context, 1, 1, &done, NULL); /* it is complete: this makes room for the next */
    return true;
}
