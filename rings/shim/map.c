/* mmap() of a handle: the region. */
#include "calls.h"
#include "handles.h"

#include <errno.h>

/* As netmap: EINVAL without a registration, and beyond the region; ENODEV for a program's own memory. */
static void *map_region(struct handle *h, void *address, size_t length, int protection, int flags, off_t offset)
{
    int region = -1;
    if (handle_is_bound(h) && offset >= 0 && length <= h->bound.nr_memsize &&
        (uint64_t)offset <= h->bound.nr_memsize - length)
        region = h->region;
    void *mapping = MAP_FAILED;
    if (region < 0)
        errno = EINVAL;
    else if (atomic_load(&h->external))
        errno = ENODEV;
    else
        mapping = original()->mmap(address, length, protection, flags, region, offset);
    handle_put(h);
    return mapping;
}

EXPORT void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    struct handle *h = flags & MAP_ANONYMOUS ? NULL : handle_get(fd);
    if (!h) {
        int before = errno;
        void *mapping = original()->mmap(address, length, protection, flags, fd, offset);
        /* ENODEV: a socket, for example. It may be a handle that another process has passed on. */
        if (mapping != MAP_FAILED || errno != ENODEV || !(h = handle_adopt(fd)))
            return mapping;
        errno = before;
    }
    return map_region(h, address, length, protection, flags, offset);
}

EXPORT void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t offset)
{
    return mmap(address, length, protection, flags, fd, offset);
}
