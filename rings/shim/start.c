/* What happens when the library is loaded. */
#include "calls.h"
#include "handles.h"
#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>

struct entry { /* of getdents64() */
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

/* Handles that were open before exec(). The system call needs no memory from malloc(). */
static void adopt_inherited(void)
{
    char buffer[4096] __attribute__((aligned(8)));
    int folder = original()->open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    long length;
    while (folder >= 0 && (length = syscall(SYS_getdents64, folder, buffer, sizeof buffer)) > 0)
        for (long at = 0; at < length; at += ((struct entry *)(void *)(buffer + at))->length) {
            const char *name = ((struct entry *)(void *)(buffer + at))->name;
            struct handle *h = *name == '.' ? NULL : handle_adopt(atoi(name));
            if (h)
                handle_put(h);
        }
    if (folder >= 0)
        close_own(folder);
}

__attribute__((constructor)) static void start(void)
{
    int before = errno;
    if (wire_setup()) {
        handles_setup();
        adopt_inherited();
    }
    errno = before;
}
