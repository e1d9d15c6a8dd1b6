/* ioctl(): netmap's requests on handles, and questions about interfaces on any socket. */
#include "calls.h"
#include "control.h"
#include "indirect.h"
#include "interface.h"
#include "wire.h"

#include <errno.h>
#include <stdarg.h>

/* Requests are compared as 32 bits: some programs pass them sign-extended. */
static bool is_netmap(uint32_t request)
{
    switch (request) {
    case (uint32_t)NIOCCTRL:
    case (uint32_t)NIOCGINFO:
    case (uint32_t)NIOCREGIF:
    case (uint32_t)NIOCCONFIG:
    case NIOCTXSYNC:
    case NIOCRXSYNC:
        return wire_is_set_up();
    default:
        return false;
    }
}

static int sync_rings(struct handle *h, bool tx)
{
    if (!handle_is_bound(h) || atomic_load(&h->gone))
        return ENXIO;
    if (atomic_load_explicit(&h->csb, memory_order_relaxed))
        return EBUSY;
    if (tx)
        indirect_copy(h);
    return tx ? client_sync_tx(&h->client) : client_sync_rx(&h->client);
}

static int perform(struct handle *h, uint32_t request, uint64_t argument)
{
    switch (request) {
    case NIOCTXSYNC:
        return sync_rings(h, true);
    case NIOCRXSYNC:
        return sync_rings(h, false);
    case (uint32_t)NIOCCTRL:
        return control_ioctl(h, argument);
    case (uint32_t)NIOCCONFIG: /* for modules of a switch, and a plain switch has none */
        return EINVAL;
    default:
        return legacy_ioctl(h, request, argument);
    }
}

/* Other requests are the socket's. One that it does not know is EOPNOTSUPP, as of netmap's descriptors. */
static int other_ioctl(int fd, unsigned long request, void *argument)
{
    int result = interface_ioctl(fd, request, argument);
    if (result >= 0 || errno != ENOTTY)
        return result;
    struct handle *h = handle_get(fd);
    if (h)
        handle_put(h);
    errno = h ? EOPNOTSUPP : ENOTTY;
    return result;
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (!is_netmap((uint32_t)request))
        return other_ioctl(fd, request, argument);
    int before = errno;
    struct handle *h = handle_get(fd);
    if (!h && !(h = handle_adopt(fd)))
        return original()->ioctl(fd, request, argument);
    int error = perform(h, (uint32_t)request, (uintptr_t)argument);
    handle_put(h);
    errno = error ? error : before;
    return error ? -1 : 0;
}
