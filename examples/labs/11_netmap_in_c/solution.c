/* Lab 11: a netmap client in C. It sends and receives, and then it tries to do harm. */
#include "netmap_abi.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { FRAMES = 200, ANSWERS = 100, LAST_FRAMES = 10, LENGTH = 60, MOST_TURNS = 1000 };
enum { PATIENCE_MS = 2000 };

static int fd;
static struct netmap_ring *tx, *rx;

static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

/* ---- open the port ---- */

static void open_port(const char *name)
{
    struct nmreq_register reg = {0};
    struct nmreq_header header = {.nr_version = NETMAP_API, .nr_reqtype = NETMAP_REQ_REGISTER};
    void *memory = MAP_FAILED;
    fd = -1;
    // GAP 1: Open "/dev/netmap" for reading and writing: fd.
    fd = open("/dev/netmap", O_RDWR);

    // GAP 2: Copy `name` to header.nr_name, and put the address of `reg` into header.nr_body.
    //   Ask for queue 0 alone: reg.nr_mode is NR_REG_ONE_NIC, and reg.nr_ringid is the queue.
    strncpy(header.nr_name, name, sizeof header.nr_name - 1);
    header.nr_body = (uintptr_t)&reg;
    reg.nr_mode = NR_REG_ONE_NIC;
    reg.nr_ringid = 0;

    if (ioctl(fd, NIOCCTRL, &header))
        give_up("NIOCCTRL");
    // GAP 3: Map reg.nr_memsize bytes of fd with mmap(), from 0 on, to read and write, MAP_SHARED: memory.
    memory = mmap(NULL, reg.nr_memsize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (memory == MAP_FAILED)
        give_up("mmap");
    struct netmap_if *nifp = NETMAP_IF(memory, reg.nr_offset);
    tx = NETMAP_TXRING(nifp, 0);
    rx = NETMAP_RXRING(nifp, 0);
    printf("memory: %s has %u and %u slots\n", nifp->ni_name, tx->num_slots, rx->num_slots);
}

/* poll() also syncs: it gives to the NIC what was released, and takes what has come. */
static short wait_for(short events)
{
    struct pollfd asked = {.fd = fd, .events = events};
    int count = poll(&asked, 1, PATIENCE_MS);
    if (count < 0)
        give_up("poll");
    if (!count)
        errno = ETIMEDOUT; /* give_up() prints it */
    return asked.revents;
}

/* ---- send ---- */

/* Write frame `number` into the buffer of the slot at `head`. */
static void write_frame(uint32_t head, unsigned number)
{
    static const uint8_t header[14] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 0xB, 0x88, 0xB5};
    struct netmap_slot *slot = &tx->slot[head];
    char *frame = NETMAP_BUF(tx, slot->buf_idx);
    memset(frame, 0, LENGTH);
    memcpy(frame, header, sizeof header);
    snprintf(frame + sizeof header, LENGTH - sizeof header, "frame %u", number);
    // GAP 4: Tell the slot how long the frame is: slot->len. It has no flags.
    slot->len = LENGTH;
    slot->flags = 0;
}

/* Send frames from number `first` on. Returns how many were released. */
static unsigned send_frames(unsigned first, unsigned count)
{
    unsigned number = first;
    for (unsigned turn = 0; turn < MOST_TURNS && number < first + count; turn++) {
        if (!(wait_for(POLLOUT) & POLLOUT))
            give_up("no slot to send");
        uint32_t head = tx->head;
        // GAP 5: Write frames while numbers are left and `head` is not the tail: write_frame(head, number).
        //   After each frame go on to the next number, and to the next slot: nm_ring_next(tx, head).
        while (number < first + count && head != tx->tail) {
            write_frame(head, number);
            number++;
            head = nm_ring_next(tx, head);
        }

        // GAP 6: Release the slots before `head`: write it to tx->cur and to tx->head.
        tx->cur = head;
        tx->head = head;
    }
    return number - first;
}

/* ---- receive ---- */

/* An answer has a number in bytes 16 to 19 that nobody can guess. */
static uint32_t token_of(const char *frame)
{
    uint32_t token;
    memcpy(&token, frame + 16, sizeof token);
    return token;
}

/* Take `count` answers. Returns the sum of their tokens. */
static uint32_t receive_answers(unsigned count)
{
    uint32_t sum = 0;
    for (unsigned turn = 0, taken = 0; turn < MOST_TURNS && taken < count; turn++) {
        if (!(wait_for(POLLIN) & POLLIN))
            give_up("no answer");
        uint32_t head = rx->head;
        // GAP 7: Go through the slots from `head` to rx->tail. Add token_of(the frame in the slot's buffer) to `sum`,
        //   count the answer in `taken`, and go on to the next slot.
        while (head != rx->tail) {
            sum += token_of(NETMAP_BUF(rx, rx->slot[head].buf_idx));
            taken++;
            head = nm_ring_next(rx, head);
        }

        // GAP 8: Release these slots, so the NIC can fill them again: rx->cur and rx->head.
        rx->cur = head;
        rx->head = head;
    }
    return sum;
}

/* ---- try to do harm ---- */

/* The daemon checks what you have written, finds the broken rule, hands nothing to the NIC and puts the ring back. */
static void expect_refusal(const char *what, short events)
{
    printf("%s: %s\n", what, wait_for(events) & POLLERR ? "refused" : "not refused");
}

static void do_harm(void)
{
    struct netmap_slot *slot = &tx->slot[tx->head], before = *slot;
    // GAP 9: Let the NIC read memory that is none of the buffers: buf_idx UINT32_MAX, and the flag NS_BUF_CHANGED.
    slot->buf_idx = UINT32_MAX;
    slot->flags = NS_BUF_CHANGED;

    tx->head = tx->cur = nm_ring_next(tx, tx->head);
    expect_refusal("a buffer outside the memory", POLLOUT);

    *slot = before;
    slot = &tx->slot[tx->head];
    before = *slot;
    // GAP 10: Let the NIC send what lies behind your buffer, which may be another program's: a len of 65535.
    slot->len = 65535;

    tx->head = tx->cur = nm_ring_next(tx, tx->head);
    expect_refusal("a length over the buffer", POLLOUT);

    *slot = before;
    // GAP 11: Release a receive slot that is not yours: set rx->head and rx->cur to the slot after rx->tail.
    rx->head = nm_ring_next(rx, rx->tail);
    rx->cur = nm_ring_next(rx, rx->tail);

    expect_refusal("a slot of somebody else", POLLIN);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: ixrings run ./lab PORT, or: python examples/labs/check.py 11\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0); /* a line is printed at once, whatever happens after it */
    open_port(argv[1]);
    printf("released: frames=%u\n", send_frames(0, FRAMES / 2));
    uint32_t sum = receive_answers(ANSWERS / 2);
    send_frames(FRAMES / 2, FRAMES / 2);
    sum += receive_answers(ANSWERS / 2);
    printf("answers: sum=%u\n", sum);
    do_harm();
    send_frames(FRAMES, LAST_FRAMES);
    // GAP 12: The last frames are released, and no poll() comes after them. Sync until none of them is pending:
    //   ioctl(fd, NIOCTXSYNC, NULL) while nm_tx_pending(tx).
    while (nm_tx_pending(tx))
        ioctl(fd, NIOCTXSYNC, NULL);

    return 0;
}
