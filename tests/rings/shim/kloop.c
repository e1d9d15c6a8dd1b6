/* A program in CSB mode: it never syncs. A thread of its own runs the sync loop, which in netmap runs in the kernel.
 *
 *   kloop PORT COUNT time|kicks      the loop looks at the rings by time, or when an eventfd tells it
 */
#include "netmap.h"

#include <pthread.h>
#include <sys/eventfd.h>

struct atok {
    uint32_t head, cur, appl_need_kick, sync_flags, pad[12];
};

struct ktoa {
    uint32_t hwcur, hwtail, kern_need_kick, pad[13];
};

enum { RINGS = 16 };

static struct {
    struct atok atok[RINGS]; /* of TX rings, then of RX rings; the first of each is used */
    struct ktoa ktoa[RINGS];
} csb __attribute__((aligned(64)));

static struct {
    struct nmreq_option option;
    int32_t fds[RINGS][2]; /* of each ring: the program kicks, the loop kicks */
} events = {.option = {.nro_reqtype = NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS}};

static struct port port;
static uint32_t rx; /* the first RX ring's entry */
static const char *name;
static bool by_kicks;

static int request(uint16_t type, uint64_t options, const void *body)
{
    struct nmreq_header header = {
        .nr_version = 14, .nr_reqtype = type, .nr_options = options, .nr_body = (uintptr_t)body};
    snprintf(header.nr_name, sizeof header.nr_name, "%s", name);
    return ioctl(port.fd, NIOCCTRL, &header);
}

static void *run_loop(void *argument)
{
    uint32_t body[2] = {100, 0};
    expect("SYNC_KLOOP_START", request(NETMAP_REQ_SYNC_KLOOP_START, by_kicks ? (uintptr_t)&events : 0, body), 0);
    return argument;
}

static void enter_csb_mode(void)
{
    struct {
        struct nmreq_option option;
        uint64_t atok, ktoa;
    } option = {{.nro_reqtype = NETMAP_REQ_OPT_CSB}, (uintptr_t)csb.atok, (uintptr_t)csb.ktoa};
    expect_error("SYNC_KLOOP_START before CSB mode", request(NETMAP_REQ_SYNC_KLOOP_START, 0, &(uint64_t){0}), EINVAL);
    expect("CSB_ENABLE", request(NETMAP_REQ_CSB_ENABLE, (uintptr_t)&option, NULL), 0);
    expect("its status", option.option.nro_status, 0);
    expect("hwtail of the TX ring", csb.ktoa[0].hwtail, port.tx->num_slots - 1);
    expect("hwtail of the RX ring", csb.ktoa[rx].hwtail, 0);
    expect_error("NIOCTXSYNC in CSB mode", ioctl(port.fd, NIOCTXSYNC, NULL), EBUSY);
    struct pollfd entry = {.fd = port.fd, .events = POLLIN};
    expect("poll in CSB mode", poll(&entry, 1, 0), 1);
    expect("poll in CSB mode", entry.revents, POLLERR);
}

/* Give slots to the loop, and tell it if it sleeps. */
static void give(uint32_t ring, uint32_t head)
{
    __atomic_store_n(&csb.atok[ring].cur, head, __ATOMIC_RELAXED);
    __atomic_store_n(&csb.atok[ring].head, head, __ATOMIC_SEQ_CST);
    if (by_kicks && __atomic_load_n(&csb.ktoa[ring].kern_need_kick, __ATOMIC_SEQ_CST))
        eventfd_write(events.fds[ring][0], 1);
}

/* In CSB mode cur and tail of a ring are the program's own. Some programs keep there what they have read, and read it
 * again a moment later: a newer value would lead them past the hwtail that they know. */
static void use_cur_and_tail(uint32_t round)
{
    struct netmap_ring *rings[] = {port.tx, port.rx};
    for (int i = 0; i < 2; i++) {
        uint32_t n = rings[i]->num_slots;
        if (round > 0) {
            expect("cur, which is the program's", rings[i]->cur, (round - 1) * 7 % n);
            expect("tail, which is the program's", rings[i]->tail, (round - 1) * 13 % n);
        }
        __atomic_store_n(&rings[i]->cur, round * 7 % n, __ATOMIC_RELAXED);
        __atomic_store_n(&rings[i]->tail, round * 13 % n, __ATOMIC_RELAXED);
    }
}

static void put_frame(uint32_t slot, uint32_t number)
{
    uint8_t *frame = buffer(port.tx, slot);
    memset(frame, 0xFF, 12);
    memcpy(frame + 12, "\x88\xB5", 2);
    memcpy(frame + 14, &number, sizeof number);
    port.tx->slot[slot].len = 60;
    port.tx->slot[slot].flags = 0;
}

static void transfer(uint32_t count)
{
    uint32_t sent = 0, received = 0;
    double end = now() + PATIENCE_MS / 1000.0;
    for (uint32_t round = 0; received < count; round++) {
        use_cur_and_tail(round);
        struct pollfd entry = {.fd = events.fds[rx][1], .events = POLLIN};
        uint32_t head = csb.atok[0].head, tail = __atomic_load_n(&csb.ktoa[0].hwtail, __ATOMIC_ACQUIRE), n = 0;
        for (; head != tail && sent < count && sent - received < port.rx->num_slots / 4;
             n++, sent++, head = nm_ring_next(port.tx, head))
            put_frame(head, sent);
        if (n)
            give(0, head);
        head = csb.atok[rx].head, tail = __atomic_load_n(&csb.ktoa[rx].hwtail, __ATOMIC_ACQUIRE), n = 0;
        for (; head != tail; n++, received++, head = nm_ring_next(port.rx, head))
            expect("number of a frame", *(uint32_t *)(void *)(buffer(port.rx, head) + 14), received);
        if (n)
            give(rx, head);
        else if (by_kicks) {
            poll(&entry, 1, 100);
            uint64_t kicks;
            expect("read of a kick", entry.revents & POLLIN ? read(entry.fd, &kicks, sizeof kicks) : 8, 8);
        } else
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
        if (now() > end)
            FAIL("%u of %u frames came in time", received, count);
    }
}

/* What the program has given before the stop is sent. A head that breaks a rule is refused, and its entry stays. */
static void stop_loop(void)
{
    uint32_t head = csb.atok[0].head, taken = csb.atok[rx].head;
    double end = now() + PATIENCE_MS / 1000.0;
    while (__atomic_load_n(&csb.ktoa[rx].hwcur, __ATOMIC_ACQUIRE) != taken && now() < end)
        nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
    put_frame(head, 0);
    __atomic_store_n(&csb.atok[rx].head, (taken + port.rx->num_slots / 2) % port.rx->num_slots, __ATOMIC_RELEASE);
    __atomic_store_n(&csb.atok[0].head, nm_ring_next(port.tx, head), __ATOMIC_RELEASE);
    expect("SYNC_KLOOP_STOP", request(NETMAP_REQ_SYNC_KLOOP_STOP, 0, NULL), 0);
    expect("hwcur of the TX ring", csb.ktoa[0].hwcur, nm_ring_next(port.tx, head));
    expect("hwcur of the RX ring", csb.ktoa[rx].hwcur, taken);
}

int main(int argc, char **argv)
{
    pthread_t loop;
    if (argc != 4) {
        fprintf(stderr, "usage: kloop PORT COUNT time|kicks\n");
        return 2;
    }
    name = argv[1];
    by_kicks = !strcmp(argv[3], "kicks");
    port = open_port(name, NR_EXCLUSIVE);
    rx = port.netif->ni_tx_rings;
    uint32_t rings = rx + port.netif->ni_rx_rings;
    if (rings > RINGS)
        FAIL("%u rings are too many", rings);
    for (uint32_t i = 0; i < 2 * rings; i++)
        events.fds[i / 2][i % 2] = eventfd(0, EFD_NONBLOCK);
    events.option.nro_size = sizeof events.option + rings * sizeof events.fds[0];
    enter_csb_mode();
    expect("SYNC_KLOOP_STOP before a start", request(NETMAP_REQ_SYNC_KLOOP_STOP, 0, NULL), 0);
    run_loop(NULL); /* ends at once, because the stop came first */
    pthread_create(&loop, NULL, run_loop, NULL);
    transfer((uint32_t)strtoul(argv[2], NULL, 10));
    stop_loop();
    pthread_join(loop, NULL);
    return 0;
}
