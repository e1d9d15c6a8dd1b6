/* Requests, and the errno or the values that netmap answers to them.
 *
 *   nm_ctrl -i NIC [TOPIC...]     topics: headers registration options info legacy views exclusive syncs interface
 *                                         pipes switch offsets memory; without any: all
 */
#include "checks.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

const char *nic;
static int checks, failures;

void check(const char *sentence, long long found, long long expected)
{
    checks++;
    failures += found != expected;
    if (found == expected)
        printf("ok %d - %s\n", checks, sentence);
    else
        printf("not ok %d - %s: found %lld, expected %lld\n", checks, sentence, found, expected);
    fflush(stdout);
}

void check_true(const char *sentence, bool holds)
{
    check(sentence, holds, 1);
}

int checks_end(void)
{
    printf("1..%d\n", checks);
    return failures ? 1 : 0;
}

int open_netmap(void)
{
    int fd = open("/dev/netmap", O_RDWR);
    if (fd < 0)
        fail("/dev/netmap cannot be opened: %s", strerror(errno));
    return fd;
}

struct nmreq_header header_of(uint16_t reqtype, const char *name, void *body)
{
    struct nmreq_header header = {.nr_version = NETMAP_API, .nr_reqtype = reqtype, .nr_body = (uintptr_t)body};
    snprintf(header.nr_name, sizeof header.nr_name, "%s", name);
    return header;
}

int control(int fd, struct nmreq_header *header)
{
    return ioctl(fd, NIOCCTRL, header) ? errno : 0;
}

int port_try(struct port *port, const char *name, void *option)
{
    memset(port, 0, sizeof *port);
    parse_name(name, &port->header, &port->reg);
    port->header.nr_reqtype = NETMAP_REQ_REGISTER;
    port->header.nr_body = (uintptr_t)&port->reg;
    port->header.nr_options = (uintptr_t)option;
    port->fd = open_netmap();
    int error = control(port->fd, &port->header);
    if (error)
        close(port->fd);
    return error;
}

int request(int fd, uint16_t reqtype, const char *name, void *body)
{
    struct nmreq_header header = header_of(reqtype, name, body);
    return control(fd, &header);
}

int registered(int fd, const char *name, uint32_t mode, uint16_t ringid, uint64_t flags)
{
    struct nmreq_register reg = {.nr_mode = mode, .nr_ringid = ringid, .nr_flags = flags};
    return request(fd, NETMAP_REQ_REGISTER, name, &reg);
}

int opened(const char *name, uint64_t flags, int *error)
{
    int fd = open_netmap();
    *error = registered(fd, name, NR_REG_ALL_NIC, 0, flags);
    if (!*error)
        return fd;
    close(fd);
    return -1;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } topics[] = {
        {"headers", check_headers},     {"registration", check_registration},
        {"options", check_options},     {"info", check_info},
        {"legacy", check_legacy},       {"views", check_views},
        {"exclusive", check_exclusive}, {"syncs", check_syncs},
        {"interface", check_interface}, {"pipes", check_pipes},
        {"switch", check_switch},       {"offsets", check_offsets},
        {"memory", check_memory},
    };
    for (int letter; (letter = getopt(argc, argv, "i:")) != -1;)
        if (letter == 'i')
            nic = optarg;
        else
            return 2;
    if (!nic)
        fail("usage: nm_ctrl -i NIC [TOPIC...]");
    for (size_t i = 0; i < sizeof topics / sizeof topics[0]; i++) {
        bool wanted = optind == argc;
        for (int k = optind; k < argc; k++)
            wanted = wanted || !strcmp(argv[k], topics[i].name);
        if (wanted) {
            printf("# %s\n", topics[i].name);
            topics[i].run();
        }
    }
    return checks_end();
}
