/* netmap's control structures and numbers (API 14), as programs pass them to ioctl(). Sizes are checked below. */
#ifndef SHIM_ABI_H
#define SHIM_ABI_H

#include <assert.h>
#include <stdint.h>

enum {
    NIOCCTRL = (int)0xC0586997u,
    NIOCGINFO = (int)0xC03C6991u,
    NIOCREGIF = (int)0xC03C6992u,
    NIOCTXSYNC = 0x6994,
    NIOCRXSYNC = 0x6995,
    NIOCCONFIG = (int)0xC1106996u,

    NETMAP_MIN_API = 14,
    NETMAP_MAX_API = 15,
    NETMAP_REQ_MAXSIZE = 4096,
    NETMAP_NAME_SIZE = 64,
};

enum request_type {
    NETMAP_REQ_REGISTER = 1,
    NETMAP_REQ_PORT_INFO_GET,
    NETMAP_REQ_VALE_ATTACH,
    NETMAP_REQ_VALE_DETACH,
    NETMAP_REQ_VALE_LIST,
    NETMAP_REQ_PORT_HDR_SET,
    NETMAP_REQ_PORT_HDR_GET,
    NETMAP_REQ_VALE_NEWIF,
    NETMAP_REQ_VALE_DELIF,
    NETMAP_REQ_VALE_POLLING_ENABLE,
    NETMAP_REQ_VALE_POLLING_DISABLE,
    NETMAP_REQ_POOLS_INFO_GET,
    NETMAP_REQ_SYNC_KLOOP_START,
    NETMAP_REQ_SYNC_KLOOP_STOP,
    NETMAP_REQ_CSB_ENABLE,
    NETMAP_REQ_END,
};

enum option_type {
    NETMAP_REQ_OPT_EXTMEM = 1,
    NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS,
    NETMAP_REQ_OPT_CSB,
    NETMAP_REQ_OPT_SYNC_KLOOP_MODE,
    NETMAP_REQ_OPT_OFFSETS,
    NETMAP_REQ_OPT_END,
};

enum {
    NR_REG_ALL_NIC = 1,
    NR_REG_SW = 2,
    NR_REG_NIC_SW = 3,
    NR_REG_ONE_NIC = 4,
    NR_REG_PIPE_MASTER = 5,
    NR_REG_PIPE_SLAVE = 6,
    NR_REG_MASK = 0xF,
    NR_EXCLUSIVE = 0x800,
    NR_DO_RX_POLL = 0x10000,
    NR_NO_TX_POLL = 0x20000,
};

struct nmreq_header {
    uint16_t nr_version;
    uint16_t nr_reqtype;
    uint32_t nr_reserved;
    char nr_name[NETMAP_NAME_SIZE];
    uint64_t nr_options; /* address of the first option */
    uint64_t nr_body; /* address of the request's own structure */
};

struct nmreq_option {
    uint64_t nro_next;
    uint32_t nro_reqtype;
    uint32_t nro_status;
    uint64_t nro_size;
};

struct nmreq_register {
    uint64_t nr_offset;
    uint64_t nr_memsize;
    uint32_t nr_tx_slots, nr_rx_slots;
    uint16_t nr_tx_rings, nr_rx_rings;
    uint16_t nr_host_tx_rings, nr_host_rx_rings;
    uint16_t nr_mem_id;
    uint16_t nr_ringid;
    uint32_t nr_mode;
    uint32_t nr_extra_bufs;
    uint32_t pad;
    uint64_t nr_flags;
};

struct nmreq_port_info_get {
    uint64_t nr_memsize;
    uint32_t nr_tx_slots, nr_rx_slots;
    uint16_t nr_tx_rings, nr_rx_rings;
    uint16_t nr_host_tx_rings, nr_host_rx_rings;
    uint16_t nr_mem_id;
    uint16_t pad[3];
};

struct nmreq_vale_attach {
    struct nmreq_register reg;
    uint32_t port_index;
    uint32_t pad;
};

struct nmreq_vale_list {
    uint16_t nr_bridge_idx;
    uint16_t pad;
    uint32_t nr_port_idx;
};

struct nmreq_port_hdr {
    uint32_t nr_hdr_len;
    uint32_t pad;
};

struct nmreq_vale_newif {
    uint32_t nr_tx_slots, nr_rx_slots;
    uint16_t nr_tx_rings, nr_rx_rings;
    uint16_t nr_mem_id;
    uint16_t pad;
};

struct nmreq_vale_polling {
    uint32_t nr_mode;
    uint32_t nr_first_cpu_id;
    uint32_t nr_num_polling_cpus;
    uint32_t pad;
};

struct nmreq_sync_kloop_start {
    uint32_t sleep_us;
    uint32_t pad;
};

struct nmreq_pools_info {
    uint64_t nr_memsize;
    uint16_t nr_mem_id;
    uint64_t nr_if_pool_offset;
    uint32_t nr_if_pool_objtotal, nr_if_pool_objsize;
    uint64_t nr_ring_pool_offset;
    uint32_t nr_ring_pool_objtotal, nr_ring_pool_objsize;
    uint64_t nr_buf_pool_offset;
    uint32_t nr_buf_pool_objtotal, nr_buf_pool_objsize;
};

struct nmreq_opt_extmem {
    struct nmreq_option nro_opt;
    uint64_t nro_usrptr;
    struct nmreq_pools_info nro_info;
};

struct nmreq_opt_csb {
    struct nmreq_option nro_opt;
    uint64_t csb_atok;
    uint64_t csb_ktoa;
};

struct nmreq_opt_sync_kloop_mode {
    struct nmreq_option nro_opt;
    uint32_t mode;
    uint32_t pad;
};

struct kloop_eventfds { /* one for each ring that is bound, TX rings first */
    int32_t ioeventfd; /* the program writes it: look at the ring */
    int32_t irqfd; /* the loop writes it: the ring has moved */
};

/* The legacy request of NIOCGINFO and NIOCREGIF. */
struct nmreq {
    char nr_name[16];
    uint32_t nr_version;
    uint32_t nr_offset;
    uint32_t nr_memsize;
    uint32_t nr_tx_slots, nr_rx_slots;
    uint16_t nr_tx_rings, nr_rx_rings;
    uint16_t nr_ringid;
    uint16_t nr_cmd;
    uint16_t nr_arg1, nr_arg2;
    uint32_t nr_arg3;
    uint32_t nr_flags;
    uint32_t spare2[1];
};

static_assert(sizeof(struct nmreq_header) == 88, "nmreq_header");
static_assert(sizeof(struct nmreq_option) == 24, "nmreq_option");
static_assert(sizeof(struct nmreq_register) == 56, "nmreq_register");
static_assert(sizeof(struct nmreq_port_info_get) == 32, "nmreq_port_info_get");
static_assert(sizeof(struct nmreq_vale_attach) == 64, "nmreq_vale_attach");
static_assert(sizeof(struct nmreq_vale_list) == 8, "nmreq_vale_list");
static_assert(sizeof(struct nmreq_vale_newif) == 16, "nmreq_vale_newif");
static_assert(sizeof(struct nmreq_vale_polling) == 16, "nmreq_vale_polling");
static_assert(sizeof(struct nmreq_pools_info) == 64, "nmreq_pools_info");
static_assert(sizeof(struct nmreq_opt_extmem) == 96, "nmreq_opt_extmem");
static_assert(sizeof(struct nmreq_opt_csb) == 40, "nmreq_opt_csb");
static_assert(sizeof(struct nmreq_opt_sync_kloop_mode) == 32, "nmreq_opt_sync_kloop_mode");
static_assert(sizeof(struct nmreq) == 60, "nmreq");

#endif
