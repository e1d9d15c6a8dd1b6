#include "calls.h"
#include "external.h"
#include "view.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { FIRST_BUFFER = 2, CHUNK = 1 << 16 };

/* ---- what is mapped at an address ---- */

/* /proc/self/maps in one piece, or NULL. System calls, because ioctl() is not a point of cancellation. */
static char *read_maps(void)
{
    char *text = NULL;
    size_t used = 0, room = 0;
    long n = 1, fd = syscall(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && n > 0) {
        char *larger = realloc(text, room += CHUNK);
        if (!larger)
            break;
        text = larger;
        while ((n = syscall(SYS_read, fd, text + used, room - used - 1)) > 0)
            used += (size_t)n;
        text[used] = 0;
        n = used + 1 == room;
    }
    if (fd >= 0)
        syscall(SYS_close, fd);
    return text;
}

/* Whether a line of maps is about memory that a daemon has made. Files of other kinds may have the same inode. */
static bool is_region(const char *line)
{
    const char *name = strstr(line, "/memfd:netmap-region"), *end = strchr(line, '\n');
    return name && (!end || name < end);
}

/* Whether all of [from, to) may be read and written. inode: of the region that is mapped at `from`, if that is its first
 * byte; or 0. */
static bool look_up(uint64_t from, uint64_t to, uint64_t *inode)
{
    uint64_t covered = from;
    char *text = read_maps(), rights[5];
    *inode = 0;
    for (char *line = text; line && *line && covered < to; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        unsigned long start, end, offset, number;
        if (sscanf(line, "%lx-%lx %4s %lx %*x:%*x %lu", &start, &end, rights, &offset, &number) != 5 || end <= covered)
            continue;
        if (start > covered || rights[0] != 'r' || rights[1] != 'w')
            break;
        if (start == from && !offset && is_region(line))
            *inode = number;
        covered = end;
    }
    free(text);
    return covered >= to;
}

int external_find(struct external *external, struct request *r)
{
    struct nmreq_opt_extmem *option = (void *)option_find(r, NETMAP_REQ_OPT_EXTMEM);
    external->option = option;
    if (!option)
        return 0;
    uint64_t size = option->nro_info.nr_memsize;
    external->usrptr = option->nro_usrptr;
    if (option->nro_usrptr % (uint64_t)sysconf(_SC_PAGESIZE) || !size)
        return EINVAL;
    if (option->nro_usrptr + size < size || !look_up(option->nro_usrptr, option->nro_usrptr + size, &external->inode))
        return EFAULT;
    option->nro_usrptr = external->inode;
    return 0;
}

void external_restore(struct external *external)
{
    if (external->option)
        external->option->nro_usrptr = external->usrptr;
}

/* ---- the program's memory, and the region ---- */

/* Buffers that the daemon may write to by now: those in RX rings. And those in the list of extra buffers, which begin
 * with the next one's index. */
static void mark_given(const struct view *view, const struct nmreq_register *bound, const uint8_t *buffers,
                       uint32_t total, uint32_t size, uint8_t *given)
{
    const struct netmap_if *nifp = (const void *)((const char *)view->region + bound->nr_offset);
    for (uint32_t i = view->tx; i < view->rings; i++)
        for (uint32_t k = 0; k < view->ring[i]->num_slots; k++)
            if (view->ring[i]->slot[k].buf_idx < total)
                given[view->ring[i]->slot[k].buf_idx] = 1;
    uint32_t next = nifp->ni_bufs_head;
    for (uint32_t n = 0; next >= FIRST_BUFFER && next < total && n < total; n++) {
        given[next] = 1;
        memcpy(&next, buffers + (uint64_t)next * size, sizeof next);
    }
}

/* As in netmap, what the program has in buffers stays there. */
static int copy_buffers(const struct external *external, const struct view *view, const struct nmreq_register *bound)
{
    const struct nmreq_pools_info *info = &external->option->nro_info;
    uint32_t total = info->nr_buf_pool_objtotal, size = info->nr_buf_pool_objsize;
    uint64_t first = info->nr_buf_pool_offset;
    if (first > view->size || (uint64_t)total * size > view->size - first)
        return EIO;
    uint8_t *given = calloc(total, 1), *to = (uint8_t *)view->region + first;
    const uint8_t *from = (const uint8_t *)(uintptr_t)external->usrptr + first;
    if (!given)
        return ENOMEM;
    mark_given(view, bound, to, total, size, given);
    for (uint32_t i = FIRST_BUFFER; i < total; i++)
        if (!given[i])
            memcpy(to + (uint64_t)i * size, from + (uint64_t)i * size, size);
    free(given);
    return 0;
}

static bool is_mapped_already(const struct external *external, int region)
{
    struct stat found;
    return external->inode && !fstat(region, &found) && found.st_ino == external->inode;
}

int external_map(const struct external *external, struct handle *h)
{
    struct view *view = NULL;
    if (!external->option)
        return 0;
    atomic_store(&h->external, true);
    if (is_mapped_already(external, h->region))
        return 0;
    if (h->bound.nr_memsize > external->option->nro_info.nr_memsize)
        return EIO;
    int error = view_make(&view, h->region, &h->bound);
    if (!error)
        error = copy_buffers(external, view, &h->bound);
    view_release(view);
    if (error)
        return error;
    void *at = (void *)(uintptr_t)external->usrptr;
    void *mapped =
        original()->mmap(at, h->bound.nr_memsize, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, h->region, 0);
    return mapped == MAP_FAILED ? errno : 0;
}
