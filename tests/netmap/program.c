/* Opening a port, waiting for it, and frames that carry their own number. */
#include "program.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

/* ---- names ---- */

static const char *parse_rings(const char *at, struct nmreq_register *reg)
{
    char kind = *at++;
    char *end = (char *)at;
    if (isdigit((unsigned char)*at) && kind != '*')
        reg->nr_ringid = (uint16_t)strtoul(at, &end, 10);
    bool numbered = end != at;
    if (kind == '-' && !numbered)
        fail("a ring number must follow -");
    reg->nr_mode = kind == '-' ? NR_REG_ONE_NIC : kind == '*' ? NR_REG_NIC_SW : numbered ? NR_REG_ONE_SW : NR_REG_SW;
    return end;
}

static const char *parse_flags(const char *at, struct nmreq_register *reg)
{
    static const struct {
        char letter;
        uint32_t flag;
    } flags[] = {
        {'x', NR_EXCLUSIVE},  {'z', NR_ZCOPY_MON},     {'t', NR_MONITOR_TX},
        {'r', NR_MONITOR_RX}, {'R', NR_RX_RINGS_ONLY}, {'T', NR_TX_RINGS_ONLY},
    };
    for (; *at && *at != '@'; at++) {
        uint32_t found = 0;
        for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
            found |= flags[i].letter == *at ? flags[i].flag : 0;
        if (!found)
            fail("%c is not a flag of a port's name", *at);
        reg->nr_flags |= found;
    }
    return at;
}

void parse_name(const char *text, struct nmreq_header *header, struct nmreq_register *reg)
{
    const char *name = strncmp(text, "netmap:", 7) ? text : text + 7;
    size_t length = strcspn(name, "-*^/@");
    if (!length || length >= sizeof header->nr_name)
        fail("%s is not a port's name", text);
    memset(header, 0, sizeof *header);
    header->nr_version = NETMAP_API;
    memcpy(header->nr_name, name, length);
    reg->nr_mode = NR_REG_ALL_NIC;
    const char *at = name + length;
    if (*at && strchr("-*^", *at))
        at = parse_rings(at, reg);
    if (*at == '/')
        at = parse_flags(at + 1, reg);
    if (*at == '@')
        reg->nr_mem_id = (uint16_t)strtoul(at + 1, (char **)&at, 10);
    if (*at)
        fail("%s is not a port's name from %s on", text, at);
}

/* ---- open ---- */

void port_open(struct port *port, const char *name, uint32_t extra)
{
    memset(port, 0, sizeof *port);
    parse_name(name, &port->header, &port->reg);
    port->reg.nr_extra_bufs = extra;
    port->header.nr_reqtype = NETMAP_REQ_REGISTER;
    port->header.nr_body = (uintptr_t)&port->reg;
    port->fd = open("/dev/netmap", O_RDWR);
    if (port->fd < 0)
        fail("/dev/netmap cannot be opened: %s", strerror(errno));
    if (ioctl(port->fd, NIOCCTRL, &port->header))
        fail("%s cannot be registered: %s", name, strerror(errno));
    port_map(port);
}

static uint32_t bound(struct netmap_if *nifp, uint32_t first, uint32_t count, struct netmap_ring **rings)
{
    uint32_t found = 0;
    for (uint32_t i = first; i < first + count && found < MOST_RINGS; i++)
        if (nifp->ring_ofs[i])
            rings[found++] = NETMAP_TXRING(nifp, i);
    return found;
}

void port_map(struct port *port)
{
    port->memory = mmap(NULL, port->reg.nr_memsize, PROT_READ | PROT_WRITE, MAP_SHARED, port->fd, 0);
    if (port->memory == MAP_FAILED)
        fail("the memory of %s cannot be mapped: %s", port->header.nr_name, strerror(errno));
    port_find_rings(port, port->memory);
}

void port_find_rings(struct port *port, char *memory)
{
    port->memory = memory;
    struct netmap_if *nifp = port->nifp = NETMAP_IF(port->memory, port->reg.nr_offset);
    uint32_t tx = nifp->ni_tx_rings + nifp->ni_host_tx_rings, rx = nifp->ni_rx_rings + nifp->ni_host_rx_rings;
    port->tx_count = bound(nifp, 0, tx, port->tx);
    port->rx_count = bound(nifp, tx, rx, port->rx);
}

void port_close(struct port *port)
{
    munmap(port->memory, port->reg.nr_memsize);
    close(port->fd);
}

void port_announce(const struct port *port)
{
    printf("{\"port\": \"%s\", \"tx\": %u, \"rx\": %u, \"mem_id\": %u, \"memsize\": %llu, \"extra\": %u}\n",
           port->header.nr_name, port->tx_count, port->rx_count, port->reg.nr_mem_id,
           (unsigned long long)port->reg.nr_memsize, port->reg.nr_extra_bufs);
    fflush(stdout);
}

/* ---- waiting ---- */

enum waiting parse_waiting(const char *text)
{
    static const char *const names[] = {"poll", "select", "epoll", "busy"};
    for (int i = 0; i < 4; i++)
        if (!strcmp(text, names[i]))
            return (enum waiting)i;
    fail("%s is none of poll, select, epoll, busy", text);
}

static short wait_poll(int fd, short events, int milliseconds)
{
    struct pollfd asked = {.fd = fd, .events = events};
    return poll(&asked, 1, milliseconds) > 0 ? asked.revents : 0;
}

static short wait_select(int fd, short events, int milliseconds)
{
    struct timeval limit = {.tv_sec = milliseconds / 1000, .tv_usec = milliseconds % 1000 * 1000};
    fd_set in, out;
    FD_ZERO(&in);
    FD_ZERO(&out);
    if (events & POLLIN)
        FD_SET(fd, &in);
    if (events & POLLOUT)
        FD_SET(fd, &out);
    if (select(fd + 1, &in, &out, NULL, &limit) <= 0)
        return 0;
    return (short)((FD_ISSET(fd, &in) ? POLLIN : 0) | (FD_ISSET(fd, &out) ? POLLOUT : 0));
}

/* One epoll descriptor a thread, with one netmap descriptor in it, as long as the thread asks for the same one. */
static short wait_epoll(int fd, short events, int milliseconds)
{
    static _Thread_local int epoll = -1, member = -1;
    struct epoll_event event = {.events = (uint32_t)events, .data.fd = fd};
    if (epoll < 0 && (epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
        fail("epoll_create1: %s", strerror(errno));
    if (epoll_ctl(epoll, member == fd ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event))
        fail("epoll_ctl: %s", strerror(errno));
    member = fd;
    if (epoll_wait(epoll, &event, 1, milliseconds) <= 0)
        return 0;
    if (event.data.fd != fd)
        fail("epoll_wait reports the token %d, and not %d", event.data.fd, fd);
    return (short)event.events;
}

static short wait_busy(struct port *port, short events, int milliseconds)
{
    double end = now() + milliseconds / 1000.0;
    do {
        short ready = 0;
        if (ioctl(port->fd, NIOCTXSYNC, NULL) || ((events & POLLIN) && ioctl(port->fd, NIOCRXSYNC, NULL)))
            return POLLERR;
        if ((events & POLLIN) && total_space(port->rx, port->rx_count))
            ready |= POLLIN;
        if ((events & POLLOUT) && total_space(port->tx, port->tx_count))
            ready |= POLLOUT;
        if (ready)
            return ready;
    } while (now() < end && !stopping);
    return 0;
}

short port_wait(struct port *port, enum waiting how, short events, int milliseconds)
{
    switch (how) {
    case WAIT_SELECT:
        return wait_select(port->fd, events, milliseconds);
    case WAIT_EPOLL:
        return wait_epoll(port->fd, events, milliseconds);
    case WAIT_BUSY:
        return wait_busy(port, events, milliseconds);
    default:
        return wait_poll(port->fd, events, milliseconds);
    }
}

bool port_flush(struct port *port, double seconds)
{
    double end = now() + seconds;
    for (uint32_t i = 0; i < port->tx_count; i++)
        while (nm_tx_pending(port->tx[i])) {
            if (ioctl(port->fd, NIOCTXSYNC, NULL) || now() > end)
                return false;
            if (nm_tx_pending(port->tx[i]))
                usleep(20);
        }
    return true;
}

uint32_t total_space(struct netmap_ring *const *rings, uint32_t count)
{
    uint32_t space = 0;
    for (uint32_t i = 0; i < count; i++)
        space += nm_ring_space(rings[i]);
    return space;
}

void ring_advance(struct netmap_ring *ring, uint32_t head)
{
    /* cur first: another thread's poll() may sync the ring between the two, and head may not pass cur. Release: slots
     * and buffers are written before. */
    __atomic_store_n(&ring->cur, head, __ATOMIC_RELEASE);
    __atomic_store_n(&ring->head, head, __ATOMIC_RELEASE);
}

/* ---- frames ---- */

enum { HEADERS = 14 + 20 + 8, MAGIC = 0x31786972 };

struct stamp {
    uint32_t magic, stream;
    uint64_t number;
};

static void put16(char *at, uint32_t value)
{
    at[0] = (char)(value >> 8), at[1] = (char)value;
}

static void headers_write(char *frame, uint32_t length, uint32_t stream)
{
    memset(frame, 0xFF, 6);
    memcpy(frame + 6, "\2\0\0\0\0", 5);
    frame[11] = (char)stream;
    put16(frame + 12, 0x0800);
    char *ip = frame + 14;
    memcpy(ip, "\x45\0\0\0\0\0\0\0\x40\x11\0\0\x0a\0\0\1\x0a\0\0\2", 20);
    put16(ip + 2, length - 14);
    uint32_t sum = 0;
    for (int i = 0; i < 20; i += 2)
        sum += (uint32_t)((uint8_t)ip[i] << 8 | (uint8_t)ip[i + 1]);
    sum = (sum & 0xFFFF) + (sum >> 16);
    put16(ip + 10, ~(sum + (sum >> 16)));
    put16(ip + 20, 1000 + stream); /* a flow of its own, so RSS keeps the order of a stream */
    put16(ip + 22, 2000);
    put16(ip + 24, length - 34);
    put16(ip + 26, 0);
}

static char pattern(uint64_t number, uint32_t stream, uint32_t at)
{
    return (char)(number * 31 + stream * 5 + at * 7);
}

void frame_write(char *frame, uint32_t length, uint32_t stream, uint64_t number)
{
    struct stamp stamp = {MAGIC, stream, number};
    headers_write(frame, length, stream);
    memcpy(frame + HEADERS, &stamp, sizeof stamp);
    for (uint32_t at = HEADERS + sizeof stamp; at < length; at++)
        frame[at] = pattern(number, stream, at);
}

void frame_check(struct streams *streams, const char *frame, uint32_t length, bool start_anywhere)
{
    struct stamp stamp = {0};
    if (length >= SHORTEST)
        memcpy(&stamp, frame + HEADERS, sizeof stamp);
    if (stamp.magic != MAGIC || stamp.stream >= MOST_STREAMS) {
        streams->foreign++;
        return;
    }
    char right[HEADERS];
    headers_write(right, length, stamp.stream);
    bool good = !memcmp(frame, right, HEADERS);
    for (uint32_t at = HEADERS + sizeof stamp; at < length; at++)
        good = good && frame[at] == pattern(stamp.number, stamp.stream, at);
    streams->damaged += !good;
    streams->frames++;
    streams->bytes += length;
    uint64_t *next = &streams->next[stamp.stream];
    if (stamp.number < *next) {
        streams->reordered++;
        return;
    }
    if (*next || !start_anywhere)
        streams->lost += stamp.number - *next;
    *next = stamp.number + 1;
}

uint32_t frame_put(struct netmap_ring *ring, uint32_t head, const char *frame, uint32_t length)
{
    uint32_t slots = (length + ring->nr_buf_size - 1) / ring->nr_buf_size;
    uint32_t space = ring->tail >= head ? ring->tail - head : ring->tail + ring->num_slots - head;
    if (slots > space)
        return 0;
    for (uint32_t done = 0; done < length;) {
        struct netmap_slot *slot = &ring->slot[head];
        uint32_t piece = length - done < ring->nr_buf_size ? length - done : ring->nr_buf_size;
        memcpy(NETMAP_BUF(ring, slot->buf_idx), frame + done, piece);
        done += piece;
        slot->len = (uint16_t)piece;
        slot->flags = done < length ? NS_MOREFRAG : 0;
        head = nm_ring_next(ring, head);
    }
    return slots;
}

uint32_t frame_get(struct netmap_ring *ring, uint32_t head, char *frame, uint32_t *length)
{
    *length = 0;
    for (uint32_t slots = 1; head != ring->tail; slots++) {
        const struct netmap_slot *slot = &ring->slot[head];
        if (*length + slot->len > LONGEST)
            fail("a frame of more than %d bytes has come", LONGEST);
        memcpy(frame + *length, NETMAP_BUF(ring, slot->buf_idx), slot->len);
        *length += slot->len;
        if (!(slot->flags & NS_MOREFRAG))
            return slots;
        head = nm_ring_next(ring, head);
    }
    return 0;
}

void streams_print(const struct streams *s, double seconds)
{
    printf("{\"frames\": %llu, \"bytes\": %llu, \"lost\": %llu, \"reordered\": %llu, \"damaged\": %llu, "
           "\"foreign\": %llu, \"seconds\": %.6f, \"rate\": %.0f}\n",
           (unsigned long long)s->frames, (unsigned long long)s->bytes, (unsigned long long)s->lost,
           (unsigned long long)s->reordered, (unsigned long long)s->damaged, (unsigned long long)s->foreign, seconds,
           seconds > 0 ? (double)s->frames / seconds : 0.0);
    fflush(stdout);
}

/* ---- ends ---- */

volatile int stopping;

static void stop(int number)
{
    (void)number;
    stopping = 1;
}

void stop_on_signals(void)
{
    struct sigaction action = {.sa_handler = stop}; /* without SA_RESTART, so a wait ends */
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

_Noreturn void fail(const char *format, ...)
{
    va_list rest;
    va_start(rest, format);
    vfprintf(stderr, format, rest);
    va_end(rest);
    fputc('\n', stderr);
    exit(1);
}
