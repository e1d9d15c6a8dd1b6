#include "calls.h"
#include "handles.h"
#include "interface.h"
#include "usercopy.h"
#include "wire.h"

#include <errno.h>
#include <net/if.h>

/* What the daemon answers. Linux answers the others for the port's TAP interface. */
static bool asks_about_interface(uint32_t request)
{
    switch (request) {
    case SIOCGIFFLAGS:
    case SIOCSIFFLAGS:
    case SIOCGIFMTU:
    case SIOCGIFHWADDR:
        return wire_is_set_up();
    default:
        return false;
    }
}

/* Whether the daemon has a port of this name, and has answered. Its connection lives for this one question. */
static bool answered_by_daemon(uint32_t request, struct ifreq *question)
{
    struct reply reply;
    int socket = wire_connect(true);
    if (socket < 0)
        return false;
    int error = wire_request(socket, MESSAGE_INTERFACE, request, question, sizeof *question, sizeof *question, &reply);
    close_own(socket);
    while (reply.count)
        close_own(reply.fds[--reply.count]);
    return !error && !reply.error && reply.size == sizeof *question;
}

/* A program that uses netmap asks the daemon first. Another one asks Linux first, so nothing changes for the
 * interfaces that Linux has. */
int interface_ioctl(int fd, unsigned long request, void *argument)
{
    struct ifreq question;
    int before = errno, result = -1;
    bool about_interface = asks_about_interface((uint32_t)request), daemon_first = about_interface && handles_exist();
    if (!daemon_first)
        result = original()->ioctl(fd, request, argument);
    if (!about_interface || (!daemon_first && (!result || (errno != ENODEV && errno != ENXIO))))
        return result;
    int error = errno;
    if (argument && !copy_in(&question, (uintptr_t)argument, sizeof question)) {
        question.ifr_name[IFNAMSIZ - 1] = 0;
        if (answered_by_daemon((uint32_t)request, &question)) {
            errno = before;
            return copy_out((uintptr_t)argument, &question, sizeof question) ? (errno = EFAULT, -1) : 0;
        }
    }
    if (daemon_first)
        return original()->ioctl(fd, request, argument);
    errno = error;
    return result;
}
