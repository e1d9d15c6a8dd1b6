/* netmap's interface to programs, as far as the lab and the tests need it: API 14, x86-64.
 *
 * The names and numbers are netmap's, so a program that includes this file also compiles with netmap's own
 * <net/netmap.h> and <net/netmap_user.h> in its place.
 */
#ifndef NETMAP_ABI_H
#define NETMAP_ABI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/time.h>

/* ---- shared memory: slots, rings, and what a handle has of them ---- */

struct netmap_slot {
    uint32_t buf_idx; /* number of the buffer */
    uint16_t len; /* bytes of the frame */
    uint16_t flags; /* NS_... */
    uint64_t ptr;
};

enum {
    NS_BUF_CHANGED = 0x1, /* the program has put another buffer into the slot */
    NS_REPORT = 0x2, /* tell me soon when this one is sent */
    NS_MOREFRAG = 0x20, /* the frame goes on in the next slot */
};

struct netmap_ring {
    int64_t buf_ofs; /* from the ring to buffer 0 */
    uint32_t num_slots;
    uint32_t nr_buf_size;
    uint16_t ringid;
    uint16_t dir;
    uint32_t head; /* the program writes head and cur; [head, tail) are its slots */
    uint32_t cur;
    uint32_t tail; /* only a sync moves it */
    uint32_t flags;
    struct timeval ts; /* RX: the time of the last sync */
    uint64_t offset_mask;
    uint64_t buf_align;
    uint8_t sem[128] __attribute__((aligned(128)));
    struct netmap_slot slot[];
};

struct netmap_if {
    char ni_name[16];
    uint32_t ni_version;
    uint32_t ni_flags;
    uint32_t ni_tx_rings;
    uint32_t ni_rx_rings;
    uint32_t ni_bufs_head; /* the first extra buffer. Each begins with the number of the next; 0 ends the list */
    uint32_t ni_host_tx_rings;
    uint32_t ni_host_rx_rings;
    uint32_t ni_spare1[3];
    int64_t ring_ofs[]; /* from here to each ring: TX, host TX, RX, host RX. 0: not bound by this handle */
};

/* ---- requests: ioctl(fd, NIOCCTRL, &header) ---- */

#define NIOCCTRL 0xc0586997UL
#define NIOCTXSYNC 0x6994UL
#define NIOCRXSYNC 0x6995UL
#define NIOCGINFO 0xc03c6991UL /* NIOCGINFO and NIOCREGIF are the requests of old programs, with a struct nmreq */
#define NIOCREGIF 0xc03c6992UL

enum { NETMAP_API = 14 };

enum {
    NETMAP_REQ_REGISTER = 1,
    NETMAP_REQ_PORT_INFO_GET = 2,
    NETMAP_REQ_VALE_ATTACH = 3,
    NETMAP_REQ_VALE_DETACH = 4,
    NETMAP_REQ_VALE_LIST = 5,
    NETMAP_REQ_PORT_HDR_SET = 6,
    NETMAP_REQ_PORT_HDR_GET = 7,
    NETMAP_REQ_VALE_NEWIF = 8,
    NETMAP_REQ_VALE_DELIF = 9,
    NETMAP_REQ_POOLS_INFO_GET = 12,
    NETMAP_REQ_SYNC_KLOOP_START = 13,
    NETMAP_REQ_SYNC_KLOOP_STOP = 14,
    NETMAP_REQ_CSB_ENABLE = 15,
};

/* nro_reqtype */
enum {
    NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS = 2,
    NETMAP_REQ_OPT_CSB = 3,
};

/* nr_mode: which rings */
enum {
    NR_REG_DEFAULT = 0,
    NR_REG_ALL_NIC = 1, /* all of the NIC */
    NR_REG_SW = 2, /* the host's */
    NR_REG_NIC_SW = 3,
    NR_REG_ONE_NIC = 4, /* queue nr_ringid */
    NR_REG_PIPE_MASTER = 5,
    NR_REG_PIPE_SLAVE = 6,
    NR_REG_NULL = 7,
    NR_REG_ONE_SW = 8,
};

/* nr_flags */
enum {
    NR_MONITOR_TX = 0x100,
    NR_MONITOR_RX = 0x200,
    NR_ZCOPY_MON = 0x400,
    NR_EXCLUSIVE = 0x800,
    NR_RX_RINGS_ONLY = 0x2000,
    NR_TX_RINGS_ONLY = 0x4000,
    NR_ACCEPT_VNET_HDR = 0x8000,
    NR_DO_RX_POLL = 0x10000,
    NR_NO_TX_POLL = 0x20000,
};

struct nmreq_header {
    uint16_t nr_version; /* NETMAP_API */
    uint16_t nr_reqtype; /* NETMAP_REQ_... */
    uint32_t nr_reserved; /* 0 */
    char nr_name[64];
    uint64_t nr_options; /* address of the first option, or 0 */
    uint64_t nr_body; /* address of the request's own structure */
};

struct nmreq_option {
    uint64_t nro_next;
    uint32_t nro_reqtype;
    uint32_t nro_status;
    uint64_t nro_size;
};

struct nmreq_register {
    uint64_t nr_offset; /* out: from the start of the memory to the struct netmap_if */
    uint64_t nr_memsize; /* out: bytes to map */
    uint32_t nr_tx_slots;
    uint32_t nr_rx_slots;
    uint16_t nr_tx_rings;
    uint16_t nr_rx_rings;
    uint16_t nr_host_tx_rings;
    uint16_t nr_host_rx_rings;
    uint16_t nr_mem_id; /* out: ports with the same number share their memory */
    uint16_t nr_ringid;
    uint32_t nr_mode; /* NR_REG_... */
    uint32_t nr_extra_bufs;
    uint64_t nr_flags;
};

struct nmreq_port_info_get {
    uint64_t nr_memsize;
    uint32_t nr_tx_slots;
    uint32_t nr_rx_slots;
    uint16_t nr_tx_rings;
    uint16_t nr_rx_rings;
    uint16_t nr_host_tx_rings;
    uint16_t nr_host_rx_rings;
    uint16_t nr_mem_id;
    uint16_t pad[3];
};

struct nmreq_pools_info {
    uint64_t nr_memsize;
    uint16_t nr_mem_id;
    uint16_t pad1[3];
    uint64_t nr_if_pool_offset;
    uint32_t nr_if_pool_objtotal;
    uint32_t nr_if_pool_objsize;
    uint64_t nr_ring_pool_offset;
    uint32_t nr_ring_pool_objtotal;
    uint32_t nr_ring_pool_objsize;
    uint64_t nr_buf_pool_offset;
    uint32_t nr_buf_pool_objtotal;
    uint32_t nr_buf_pool_objsize;
};

struct nmreq_port_hdr {
    uint32_t nr_hdr_len;
    uint32_t pad;
};

struct nmreq_vale_list {
    uint16_t nr_bridge_idx;
    uint16_t pad;
    uint32_t nr_port_idx;
};

struct nmreq_vale_newif {
    uint32_t nr_tx_slots;
    uint32_t nr_rx_slots;
    uint16_t nr_tx_rings;
    uint16_t nr_rx_rings;
    uint16_t nr_mem_id;
    uint16_t pad;
};

struct nmreq { /* NIOCGINFO, NIOCREGIF */
    char nr_name[16];
    uint32_t nr_version;
    uint32_t nr_offset;
    uint32_t nr_memsize;
    uint32_t nr_tx_slots;
    uint32_t nr_rx_slots;
    uint16_t nr_tx_rings;
    uint16_t nr_rx_rings;
    uint16_t nr_ringid;
    uint16_t nr_cmd;
    uint16_t nr_arg1;
    uint16_t nr_arg2; /* memory */
    uint32_t nr_arg3; /* extra buffers */
    uint32_t nr_flags;
    uint32_t spare2;
};

/* ---- the layout, to the byte ---- */

#define AT(type, member, offset) static_assert(offsetof(struct type, member) == (offset), #type "." #member)
#define SIZE(type, size) static_assert(sizeof(struct type) == (size), #type)

SIZE(netmap_slot, 16);
AT(netmap_slot, len, 4);
AT(netmap_slot, flags, 6);
AT(netmap_slot, ptr, 8);
SIZE(netmap_ring, 256);
AT(netmap_ring, num_slots, 8);
AT(netmap_ring, nr_buf_size, 12);
AT(netmap_ring, ringid, 16);
AT(netmap_ring, dir, 18);
AT(netmap_ring, head, 20);
AT(netmap_ring, cur, 24);
AT(netmap_ring, tail, 28);
AT(netmap_ring, flags, 32);
AT(netmap_ring, ts, 40);
AT(netmap_ring, offset_mask, 56);
AT(netmap_ring, buf_align, 64);
AT(netmap_ring, sem, 128);
AT(netmap_ring, slot, 256);
SIZE(netmap_if, 56);
AT(netmap_if, ni_version, 16);
AT(netmap_if, ni_flags, 20);
AT(netmap_if, ni_tx_rings, 24);
AT(netmap_if, ni_rx_rings, 28);
AT(netmap_if, ni_bufs_head, 32);
AT(netmap_if, ni_host_tx_rings, 36);
AT(netmap_if, ni_host_rx_rings, 40);
AT(netmap_if, ring_ofs, 56);
SIZE(nmreq_header, 88);
AT(nmreq_header, nr_reqtype, 2);
AT(nmreq_header, nr_reserved, 4);
AT(nmreq_header, nr_name, 8);
AT(nmreq_header, nr_options, 72);
AT(nmreq_header, nr_body, 80);
SIZE(nmreq_option, 24);
AT(nmreq_option, nro_reqtype, 8);
AT(nmreq_option, nro_status, 12);
AT(nmreq_option, nro_size, 16);
SIZE(nmreq_register, 56);
AT(nmreq_register, nr_memsize, 8);
AT(nmreq_register, nr_tx_slots, 16);
AT(nmreq_register, nr_rx_slots, 20);
AT(nmreq_register, nr_tx_rings, 24);
AT(nmreq_register, nr_rx_rings, 26);
AT(nmreq_register, nr_host_tx_rings, 28);
AT(nmreq_register, nr_host_rx_rings, 30);
AT(nmreq_register, nr_mem_id, 32);
AT(nmreq_register, nr_ringid, 34);
AT(nmreq_register, nr_mode, 36);
AT(nmreq_register, nr_extra_bufs, 40);
AT(nmreq_register, nr_flags, 48);
SIZE(nmreq_port_info_get, 32);
AT(nmreq_port_info_get, nr_tx_slots, 8);
AT(nmreq_port_info_get, nr_tx_rings, 16);
AT(nmreq_port_info_get, nr_host_tx_rings, 20);
AT(nmreq_port_info_get, nr_mem_id, 24);
SIZE(nmreq_pools_info, 64);
AT(nmreq_pools_info, nr_mem_id, 8);
AT(nmreq_pools_info, nr_if_pool_offset, 16);
AT(nmreq_pools_info, nr_ring_pool_offset, 32);
AT(nmreq_pools_info, nr_ring_pool_objtotal, 40);
AT(nmreq_pools_info, nr_buf_pool_offset, 48);
AT(nmreq_pools_info, nr_buf_pool_objsize, 60);
SIZE(nmreq_port_hdr, 8);
SIZE(nmreq_vale_list, 8);
SIZE(nmreq_vale_newif, 16);
SIZE(nmreq, 60);
AT(nmreq, nr_version, 16);
AT(nmreq, nr_memsize, 24);
AT(nmreq, nr_tx_rings, 36);
AT(nmreq, nr_ringid, 40);
AT(nmreq, nr_cmd, 42);
AT(nmreq, nr_arg2, 46);
AT(nmreq, nr_arg3, 48);
AT(nmreq, nr_flags, 52);

#undef AT
#undef SIZE

/* ---- where things are ---- */

static inline struct netmap_if *NETMAP_IF(void *memory, uint64_t offset)
{
    return (struct netmap_if *)(void *)((char *)memory + offset);
}

static inline struct netmap_ring *NETMAP_TXRING(struct netmap_if *nifp, uint32_t i)
{
    return (struct netmap_ring *)(void *)((char *)nifp + nifp->ring_ofs[i]);
}

static inline struct netmap_ring *NETMAP_RXRING(struct netmap_if *nifp, uint32_t i)
{
    return NETMAP_TXRING(nifp, nifp->ni_tx_rings + nifp->ni_host_tx_rings + i);
}

static inline char *NETMAP_BUF(struct netmap_ring *ring, uint32_t buf_idx)
{
    return (char *)ring + ring->buf_ofs + (size_t)buf_idx * ring->nr_buf_size;
}

static inline uint32_t nm_ring_next(const struct netmap_ring *ring, uint32_t i)
{
    return i + 1 == ring->num_slots ? 0 : i + 1;
}

/* The number of slots in [head, tail). */
static inline uint32_t nm_ring_space(const struct netmap_ring *ring)
{
    return ring->tail >= ring->head ? ring->tail - ring->head : ring->tail + ring->num_slots - ring->head;
}

/* Whether frames of this TX ring have not left yet. */
static inline int nm_tx_pending(const struct netmap_ring *ring)
{
    return nm_ring_next(ring, ring->tail) != ring->head;
}

#endif
