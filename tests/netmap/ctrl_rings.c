/* What programs find in the memory, and what syncs and poll() do with rings. */
#include "checks.h"

#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static struct port view_of(const char *suffix)
{
    struct port port;
    char name[128];
    snprintf(name, sizeof name, "%s%s", nic, suffix);
    port_open(&port, name, 0);
    return port;
}

static uint32_t wrong_slots(const struct port *port, struct netmap_ring *ring)
{
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < ring->num_slots; i++) {
        struct netmap_slot *slot = &ring->slot[i];
        char *end = NETMAP_BUF(ring, slot->buf_idx) + ring->nr_buf_size;
        wrong += slot->buf_idx < 2 || slot->len != ring->nr_buf_size || slot->flags || slot->ptr ||
                 end > port->memory + port->reg.nr_memsize;
    }
    return wrong;
}

static void check_first_state(const struct port *port)
{
    uint32_t wrong = 0, indices = 0;
    for (uint32_t i = 0; i < port->tx_count; i++) {
        struct netmap_ring *ring = port->tx[i];
        indices += ring->head || ring->cur || ring->tail != ring->num_slots - 1 || ring->ringid != i || ring->dir != 1;
        wrong += wrong_slots(port, ring);
    }
    for (uint32_t i = 0; i < port->rx_count; i++) {
        struct netmap_ring *ring = port->rx[i];
        indices += ring->head || ring->cur || ring->tail || ring->ringid != i || ring->dir != 0;
        wrong += wrong_slots(port, ring);
    }
    check("all rings start with head = cur = 0, and tail before it (TX) or at it (RX)", indices, 0);
    check("all slots start with a buffer, its size, and no flag", wrong, 0);
}

void check_views(void)
{
    int fd = open_netmap();
    struct pollfd asked = {.fd = fd, .events = POLLIN | POLLOUT};
    check("a TX sync before the registration is ENXIO", ioctl(fd, NIOCTXSYNC, NULL) ? errno : 0, ENXIO);
    check("an RX sync before the registration is ENXIO", ioctl(fd, NIOCRXSYNC, NULL) ? errno : 0, ENXIO);
    check("poll() before the registration", poll(&asked, 1, 0), 1);
    check("reports POLLERR", asked.revents & POLLERR, POLLERR);
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check("mmap() before the registration is EINVAL", memory == MAP_FAILED ? errno : 0, EINVAL);
    close(fd);

    struct port port = view_of("");
    check("a handle of all rings has all TX rings", port.tx_count, port.reg.nr_tx_rings);
    check("and all RX rings", port.rx_count, port.reg.nr_rx_rings);
    check_true("ni_name is the port's name", !strncmp(port.nifp->ni_name, nic, 15));
    check_true("there is a place for a host ring of each direction",
               port.nifp->ni_host_tx_rings >= 1 && port.nifp->ni_host_rx_rings >= 1);
    check_first_state(&port);
    memory = mmap(NULL, port.reg.nr_memsize + (1 << 20), PROT_READ, MAP_SHARED, port.fd, 0);
    check("mapping more than there is is EINVAL", memory == MAP_FAILED ? errno : 0, EINVAL);
    port_close(&port);

    port = view_of("/T");
    check("/T binds all TX rings and no RX ring", port.tx_count * 1000 + port.rx_count, port.reg.nr_tx_rings * 1000);
    asked = (struct pollfd){.fd = port.fd, .events = POLLIN};
    check("without RX rings POLLIN never comes", poll(&asked, 1, 0), 0);
    port_close(&port);
    port = view_of("/R");
    check("/R binds all RX rings and no TX ring", port.tx_count * 1000 + port.rx_count, port.reg.nr_rx_rings);
    asked = (struct pollfd){.fd = port.fd, .events = POLLOUT};
    check("without TX rings POLLOUT never comes", poll(&asked, 1, 0), 0);
    port_close(&port);
    port = view_of("-0");
    check("-0 binds one ring of each direction", port.tx_count * 1000 + port.rx_count, 1001);
    check_true("and shows no other", port.reg.nr_tx_rings < 2 || !port.nifp->ring_ofs[1]);
    port_close(&port);
}

void check_exclusive(void)
{
    int error, fd = opened(nic, NR_EXCLUSIVE, &error), other;
    check("an unused port is opened exclusively", error, 0);
    other = opened(nic, 0, &error);
    check("nobody else can open it", error, EBUSY);
    other = opened(nic, NR_EXCLUSIVE, &error);
    check("not exclusively either", error, EBUSY);
    close(fd);
    fd = opened(nic, 0, &error);
    check("after its close it can be opened", error, 0);
    other = opened(nic, 0, &error);
    check("and by two handles", error, 0);
    close(other);
    other = opened(nic, NR_EXCLUSIVE, &error);
    check("but not exclusively while it is in use", error, EBUSY);
    close(fd);
    fd = opened(nic, NR_EXCLUSIVE | NR_TX_RINGS_ONLY, &error);
    check("the TX rings are opened exclusively", error, 0);
    other = opened(nic, NR_EXCLUSIVE | NR_RX_RINGS_ONLY, &error);
    check("and the RX rings by somebody else", error, 0);
    close(fd);
    close(other);
}

/* The events that poll() reports at once. */
static int events_now(const struct port *port, short events)
{
    struct pollfd asked = {.fd = port->fd, .events = events};
    poll(&asked, 1, 0);
    return asked.revents;
}

static void check_broken(struct port *port, const char *sentence, uint32_t head, uint32_t cur)
{
    struct netmap_ring *ring = port->tx[0];
    uint32_t before = ring->head;
    char text[128];
    ring->head = head, ring->cur = cur;
    check(sentence, ioctl(port->fd, NIOCTXSYNC, NULL), 0);
    snprintf(text, sizeof text, "%s: the ring is where it was", sentence);
    check(text, ring->head * 10000 + ring->cur, before * 10001);
    check("and goes on", events_now(port, POLLOUT), POLLOUT);
}

void check_syncs(void)
{
    struct port port = view_of("-0"); /* one ring: another one with space would be ready, too */
    struct netmap_ring *ring = port.tx[0];
    check("an empty TX ring is ready at once", events_now(&port, POLLOUT), POLLOUT);
    check("POLLWRNORM is the same", events_now(&port, POLLWRNORM), POLLWRNORM);
    check("an empty RX ring is not ready", events_now(&port, POLLIN), 0);
    check("syncs succeed", ioctl(port.fd, NIOCTXSYNC, NULL) | ioctl(port.fd, NIOCRXSYNC, NULL), 0);
    uint32_t tail = ring->tail;
    ring->tail = 5;
    check("a tail that the program has changed is no error", ioctl(port.fd, NIOCTXSYNC, NULL), 0);
    check("it is restored", ring->tail, tail);
    ring->cur = ring->tail;
    check("a program that has set cur to tail waits for all slots", events_now(&port, POLLOUT), 0);
    ring->cur = ring->head;
    check_broken(&port, "a head outside the ring", ring->num_slots, ring->num_slots);
    check_broken(&port, "a head of 2^32 - 1", UINT32_MAX, 0);
    check_broken(&port, "a cur before head", 3, 1);
    ring->head = ring->cur = ring->num_slots;
    check("poll() reports POLLERR for a broken ring", events_now(&port, POLLOUT) & POLLERR, POLLERR);
    check("once", events_now(&port, POLLOUT), POLLOUT);
    ring->slot[ring->head].buf_idx = 0xFFFFFFF0;
    ring->slot[ring->head].len = 60;
    ring->slot[ring->head].flags = NS_BUF_CHANGED;
    ring_advance(ring, nm_ring_next(ring, ring->head));
    check("a buffer outside the memory is not sent, and the sync returns 0", ioctl(port.fd, NIOCTXSYNC, NULL), 0);
    check("no frame is pending", port_flush(&port, 5), 1);
    port_close(&port);
}

void check_interface(void)
{
    struct port port = view_of(""); /* the names are ours for a program that has a port, else first the kernel's */
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    struct ifreq ask = {0};
    snprintf(ask.ifr_name, sizeof ask.ifr_name, "%s", nic);
    check("SIOCGIFMTU is answered for a port", ioctl(fd, SIOCGIFMTU, &ask) ? errno : 0, 0);
    check_true("an MTU of at least 1500", ask.ifr_mtu >= 1500);
    check("SIOCGIFHWADDR is answered", ioctl(fd, SIOCGIFHWADDR, &ask) ? errno : 0, 0);
    check_true("with an address that is not 0", memcmp(ask.ifr_hwaddr.sa_data, "\0\0\0\0\0", 6));
    check("SIOCGIFFLAGS is answered", ioctl(fd, SIOCGIFFLAGS, &ask) ? errno : 0, 0);
    check("the port is up", ask.ifr_flags & IFF_UP, IFF_UP);
    snprintf(ask.ifr_name, sizeof ask.ifr_name, "lo");
    check("another interface is the kernel's", ioctl(fd, SIOCGIFFLAGS, &ask) ? errno : 0, 0);
    check("and is a loopback", ask.ifr_flags & IFF_LOOPBACK, IFF_LOOPBACK);
    close(fd);
    port_close(&port);
}
