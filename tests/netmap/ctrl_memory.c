/* Memory: the option EXTMEM, and nr_mem_id. */
#include "checks.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, BUFFER = 2048, BUFFERS = 8192, RINGS = 16, RING = 20480, IFS = 8, IF = 1024, LENGTH = 60 };
enum { SIZE = IFS * IF + RINGS * RING + BUFFERS * BUFFER, CANARY = 0x5A, KEPT = 0x77 };

struct extmem {
    struct nmreq_option option;
    uint64_t usrptr;
    struct nmreq_pools_info info;
};

static struct extmem extmem(const void *memory, uint64_t size)
{
    return (struct extmem){
        .option.nro_reqtype = 1,
        .usrptr = (uintptr_t)memory,
        .info = {.nr_memsize = size,
                 .nr_if_pool_objtotal = IFS,
                 .nr_if_pool_objsize = IF,
                 .nr_ring_pool_objtotal = RINGS,
                 .nr_ring_pool_objsize = RING,
                 .nr_buf_pool_objtotal = BUFFERS,
                 .nr_buf_pool_objsize = BUFFER},
    };
}

/* Open `name` in the memory. 0, or the errno; then the descriptor is closed. */
static int open_in(struct port *port, const char *name, struct extmem *asked)
{
    int error = port_try(port, name, asked);
    if (!error)
        port_find_rings(port, (char *)(uintptr_t)asked->usrptr);
    return error;
}

static char *new_memory(uint64_t size)
{
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        fail("no memory: %s", strerror(errno));
    return memory;
}

static void check_refused(const char *sentence, struct extmem asked, int expected)
{
    struct port port;
    uint64_t usrptr = asked.usrptr, size = asked.info.nr_memsize;
    check(sentence, open_in(&port, "vale8:ext", &asked), expected);
    check("the option's status says so", asked.option.nro_status, expected);
    check("and the option stays as it was", asked.usrptr == usrptr && asked.info.nr_memsize == size, 1);
}

static void check_refusals(char *memory)
{
    struct extmem asked = extmem(memory, SIZE);
    check_refused("memory that does not begin with a page is EINVAL", extmem(memory + 8, SIZE), EINVAL);
    check_refused("memory of 0 bytes is EINVAL", extmem(memory, 0), EINVAL);
    check_refused("2^63 bytes are EFAULT", extmem(memory, UINT64_C(1) << 63), EFAULT);
    check_refused("bytes beyond the address space are EFAULT", extmem(memory, -(uint64_t)PAGE), EFAULT);
    check_refused("memory at 0 is EFAULT", extmem(NULL, SIZE), EFAULT);
    char *constant = new_memory(SIZE);
    mprotect(constant + SIZE / PAGE / 2 * PAGE, PAGE, PROT_READ);
    check_refused("memory with a constant page is EFAULT", extmem(constant, SIZE), EFAULT);
    munmap(constant, SIZE);
    check_refused("pools that do not fit are ENOMEM", extmem(memory, SIZE - 1), ENOMEM);
    asked.info.nr_buf_pool_objtotal = UINT32_MAX;
    check_refused("2^32 buffers are ENOMEM", asked, ENOMEM);
    asked = extmem(memory, SIZE);
    asked.info.nr_buf_pool_objsize = 100;
    check_refused("buffers of 100 bytes are EINVAL", asked, EINVAL);
    asked = extmem(memory, SIZE);
    asked.info.nr_buf_pool_objtotal = 100;
    check("buffers that are too few for the rings are ENOMEM", open_in(&(struct port){0}, "vale8:ext", &asked), ENOMEM);
    asked = extmem(memory, SIZE);
    asked.info.nr_ring_pool_objtotal = 1;
    check("and room for one ring, too", open_in(&(struct port){0}, "vale8:ext", &asked), ENOMEM);
}

/* One frame from one port to the other. */
static void check_passes(const char *sentence, struct port *from, struct port *to, uint32_t stream)
{
    char frame[LENGTH], got[65536];
    uint32_t length = 0, slots = 0;
    double end = now() + 20;
    frame_write(frame, LENGTH, stream, 1);
    frame_put(from->tx[0], from->tx[0]->head, frame, LENGTH);
    ring_advance(from->tx[0], nm_ring_next(from->tx[0], from->tx[0]->head));
    ioctl(from->fd, NIOCTXSYNC, NULL);
    while (!slots && now() < end) {
        ioctl(to->fd, NIOCRXSYNC, NULL);
        for (uint32_t i = 0; i < to->rx_count && !slots; i++) {
            slots = frame_get(to->rx[i], to->rx[i]->head, got, &length);
            if (slots)
                ring_advance(to->rx[i], nm_ring_next(to->rx[i], to->rx[i]->head));
        }
    }
    check(sentence, length == LENGTH && !memcmp(got, frame, LENGTH), 1);
}

static uint32_t differing(const char *bytes, size_t count, char expected)
{
    uint32_t found = 0;
    for (size_t i = 0; i < count; i++)
        found += bytes[i] != expected;
    return found;
}

static void check_switch_port(char *memory)
{
    struct port port, other, third;
    struct extmem asked = extmem(memory, SIZE), again = extmem(memory, SIZE);
    memset(memory, KEPT, SIZE);
    check("a switch port is opened in the program's memory", open_in(&port, "vale8:ext", &asked), 0);
    check("the status is 0", asked.option.nro_status, 0);
    check("address and size stay as they were", asked.usrptr == (uintptr_t)memory && asked.info.nr_memsize == SIZE, 1);
    check("the buffers' place is told", memory + asked.info.nr_buf_pool_offset == NETMAP_BUF(port.tx[0], 0), 1);
    check_true("the memory has a number of its own", port.reg.nr_mem_id > 1);
    check("what was in the buffers is still there",
          differing(NETMAP_BUF(port.tx[0], port.tx[0]->slot[5].buf_idx), BUFFER, KEPT), 0);
    void *mapped = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, port.fd, 0);
    check("mmap() of the descriptor is ENODEV", mapped == MAP_FAILED ? errno : 0, ENODEV);
    port_open(&other, "vale8:other", 0);
    check_passes("a frame leaves it", &port, &other, 1);
    check_passes("and one comes", &other, &port, 2);
    check("another port is opened in the same memory", open_in(&third, "vale8:third", &again), 0);
    check("it has the same number", third.reg.nr_mem_id, port.reg.nr_mem_id);
    check_passes("a frame goes to it", &port, &third, 3);
    close(third.fd);
    port_close(&other);
    close(port.fd);
    check("after the close the bytes are still the program's", (unsigned char)memory[SIZE - 1], KEPT);
}

static void check_other_ports(char *memory)
{
    struct port port, other;
    struct extmem asked = extmem(memory, SIZE), again = asked;
    check("a pipe is opened in the program's memory", open_in(&port, "own{1", &asked), 0);
    check("and its other end", open_in(&other, "own}1", &again), 0);
    check("both have the same memory", port.reg.nr_mem_id, other.reg.nr_mem_id);
    check_passes("a frame goes through", &port, &other, 4);
    close(other.fd);
    close(port.fd);
    asked = extmem(memory, SIZE);
    check("a NIC is opened in the program's memory", open_in(&port, nic, &asked), 0);
    check_passes("what it sends comes back", &port, &port, 5);
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_mem_id = port.reg.nr_mem_id};
    int pipe = open_netmap();
    check("a pipe is opened by the memory's number", request(pipe, NETMAP_REQ_REGISTER, "num{1", &reg), 0);
    check("it lies in that memory", reg.nr_mem_id, port.reg.nr_mem_id);
    close(pipe);
    close(port.fd);
    port_open(&port, nic, 0);
    check("afterwards the NIC is in memory 1 again", port.reg.nr_mem_id, 1);
    asked = extmem(memory, SIZE);
    check("a NIC in use does not move", open_in(&other, nic, &asked), EBUSY);
    check_passes("and goes on", &port, &port, 6);
    port_close(&port);
}

void check_memory(void)
{
    char *around = new_memory(SIZE + 2 * PAGE + PAGE), *memory = around + PAGE;
    memset(around, CANARY, SIZE + 3 * PAGE);
    check_refusals(memory);
    check_switch_port(memory);
    check_other_ports(memory);
    check("nothing before the memory has changed", differing(around, PAGE, CANARY), 0);
    check("nothing behind it either", differing(memory + SIZE, PAGE, CANARY), 0);
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_mem_id = 60000};
    int fd = open_netmap();
    check("a number of no memory is EINVAL", request(fd, NETMAP_REQ_REGISTER, nic, &reg), EINVAL);
    reg.nr_mem_id = 60000;
    check("for a pipe, too", request(fd, NETMAP_REQ_REGISTER, "num{2", &reg), EINVAL);
    close(fd);
}
