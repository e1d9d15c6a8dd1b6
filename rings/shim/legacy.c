/* NIOCREGIF and NIOCGINFO: the old requests, translated to the new ones. */
#include "calls.h"
#include "control.h"
#include "usercopy.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { /* bits of nmreq.nr_ringid */
       RING_MASK = 0xFFF,
       RING_NO_TX_POLL = 0x1000,
       RING_SW = 0x2000,
       RING_HW = 0x4000,
       RING_DO_RX_POLL = 0x8000,
};

enum { /* nmreq.nr_cmd */
       CMD_REGISTER = 0,
       CMD_ATTACH = 1,
       CMD_DETACH = 2,
       CMD_LIST = 4,
       CMD_HDR_SET = 5,
       CMD_NEWIF = 6,
       CMD_DELIF = 7,
       CMD_HOST_CREATE = 8,
       CMD_HOST_DELETE = 9,
       CMD_POLLING_ON = 10,
       CMD_POLLING_OFF = 11,
       CMD_HDR_GET = 12,
       ATTACH_HOST = 1, /* nr_arg1 of CMD_ATTACH: with the host rings */
};

/* ---- to the new form ---- */

static uint32_t mode_of(const struct nmreq *old)
{
    uint32_t mode = old->nr_flags & NR_REG_MASK;
    if (mode)
        return mode;
    return old->nr_ringid & RING_SW ? NR_REG_SW : old->nr_ringid & RING_HW ? NR_REG_ONE_NIC : NR_REG_ALL_NIC;
}

/* "{3" or "}3" after the name, for the modes that named a pipe by its number. */
static int add_pipe(struct request *r, uint32_t mode, uint32_t ring)
{
    char *name = r->header.nr_name;
    size_t length = strlen(name), room = NETMAP_NAME_SIZE - length;
    int n = snprintf(name + length, room, "%c%u", mode == NR_REG_PIPE_MASTER ? '{' : '}', ring);
    return (size_t)n < room ? 0 : ENOMEM;
}

static int to_register(const struct nmreq *old, struct request *r)
{
    struct nmreq_register *body = (void *)r->body;
    uint32_t mode = mode_of(old), ring = old->nr_ringid & RING_MASK;
    int error = 0;
    if (mode == NR_REG_PIPE_MASTER || mode == NR_REG_PIPE_SLAVE) {
        error = add_pipe(r, mode, ring);
        mode = NR_REG_ALL_NIC;
        ring = 0;
    }
    *body = (struct nmreq_register){
        .nr_offset = old->nr_offset,
        .nr_memsize = old->nr_memsize,
        .nr_tx_slots = old->nr_tx_slots,
        .nr_rx_slots = old->nr_rx_slots,
        .nr_tx_rings = old->nr_tx_rings,
        .nr_rx_rings = old->nr_rx_rings,
        .nr_mem_id = old->nr_arg2,
        .nr_ringid = (uint16_t)ring,
        .nr_mode = mode,
        .nr_extra_bufs = old->nr_arg3,
        .nr_flags = (old->nr_flags & ~(uint32_t)NR_REG_MASK) | (old->nr_ringid & RING_NO_TX_POLL ? NR_NO_TX_POLL : 0) |
                    (old->nr_ringid & RING_DO_RX_POLL ? NR_DO_RX_POLL : 0),
    };
    return error;
}

static void to_polling(const struct nmreq *old, struct request *r)
{
    uint32_t mode = old->nr_flags & NR_REG_MASK;
    *(struct nmreq_vale_polling *)(void *)r->body = (struct nmreq_vale_polling){
        .nr_mode = mode == NR_REG_ONE_NIC   ? 2
                   : mode == NR_REG_ALL_NIC ? 1
                                            : 0,
        .nr_first_cpu_id = old->nr_ringid & RING_MASK,
        .nr_num_polling_cpus = old->nr_arg1,
    };
}

static int translate_register(const struct nmreq *old, struct request *r)
{
    struct nmreq_vale_attach *attach = (void *)r->body;
    switch (old->nr_cmd) {
    case CMD_REGISTER:
        r->header.nr_reqtype = NETMAP_REQ_REGISTER;
        return to_register(old, r);
    case CMD_ATTACH:
        r->header.nr_reqtype = NETMAP_REQ_VALE_ATTACH;
        attach->reg.nr_mem_id = old->nr_arg2;
        attach->reg.nr_mode = old->nr_arg1 & ATTACH_HOST ? NR_REG_NIC_SW : NR_REG_ALL_NIC;
        return 0;
    case CMD_DETACH:
        r->header.nr_reqtype = NETMAP_REQ_VALE_DETACH;
        return 0;
    case CMD_HDR_SET:
    case CMD_HDR_GET:
        r->header.nr_reqtype = old->nr_cmd == CMD_HDR_SET ? NETMAP_REQ_PORT_HDR_SET : NETMAP_REQ_PORT_HDR_GET;
        ((struct nmreq_port_hdr *)(void *)r->body)->nr_hdr_len = old->nr_arg1;
        return 0;
    case CMD_NEWIF:
        r->header.nr_reqtype = NETMAP_REQ_VALE_NEWIF;
        *(struct nmreq_vale_newif *)(void *)r->body = (struct nmreq_vale_newif){
            old->nr_tx_slots, old->nr_rx_slots, old->nr_tx_rings, old->nr_rx_rings, old->nr_arg2, 0};
        return 0;
    case CMD_DELIF:
        r->header.nr_reqtype = NETMAP_REQ_VALE_DELIF;
        return 0;
    case CMD_POLLING_ON:
    case CMD_POLLING_OFF:
        r->header.nr_reqtype =
            old->nr_cmd == CMD_POLLING_ON ? NETMAP_REQ_VALE_POLLING_ENABLE : NETMAP_REQ_VALE_POLLING_DISABLE;
        to_polling(old, r);
        return 0;
    case CMD_HOST_CREATE:
    case CMD_HOST_DELETE:
        return ENOMEM;
    default:
        return EINVAL;
    }
}

static int translate_info(const struct nmreq *old, struct request *r)
{
    if (old->nr_cmd == CMD_LIST) {
        r->header.nr_reqtype = NETMAP_REQ_VALE_LIST;
        *(struct nmreq_vale_list *)(void *)r->body =
            (struct nmreq_vale_list){.nr_bridge_idx = old->nr_arg1, .nr_port_idx = old->nr_arg2};
        return 0;
    }
    r->header.nr_reqtype = NETMAP_REQ_PORT_INFO_GET;
    *(struct nmreq_port_info_get *)(void *)r->body = (struct nmreq_port_info_get){
        .nr_memsize = old->nr_memsize,
        .nr_tx_slots = old->nr_tx_slots,
        .nr_rx_slots = old->nr_rx_slots,
        .nr_tx_rings = old->nr_tx_rings,
        .nr_rx_rings = old->nr_rx_rings,
        .nr_mem_id = old->nr_arg2,
    };
    return 0;
}

/* ---- and back ---- */

static void from_register(const struct nmreq_register *body, struct nmreq *old)
{
    old->nr_offset = (uint32_t)body->nr_offset;
    old->nr_memsize = (uint32_t)body->nr_memsize;
    old->nr_tx_slots = body->nr_tx_slots;
    old->nr_rx_slots = body->nr_rx_slots;
    old->nr_tx_rings = body->nr_tx_rings;
    old->nr_rx_rings = body->nr_rx_rings;
    old->nr_arg2 = body->nr_mem_id;
    old->nr_arg3 = body->nr_extra_bufs;
}

static void from_info(const struct nmreq_port_info_get *body, struct nmreq *old)
{
    old->nr_memsize = (uint32_t)body->nr_memsize;
    old->nr_tx_slots = body->nr_tx_slots;
    old->nr_rx_slots = body->nr_rx_slots;
    old->nr_tx_rings = body->nr_tx_rings;
    old->nr_rx_rings = body->nr_rx_rings;
    old->nr_arg2 = body->nr_mem_id;
}

static void from_newif(const struct nmreq_vale_newif *body, struct nmreq *old)
{
    old->nr_tx_slots = body->nr_tx_slots;
    old->nr_rx_slots = body->nr_rx_slots;
    old->nr_tx_rings = body->nr_tx_rings;
    old->nr_rx_rings = body->nr_rx_rings;
    old->nr_arg2 = body->nr_mem_id;
}

static void translate_back(const struct request *r, struct nmreq *old)
{
    const void *body = r->body;
    const struct nmreq_vale_list *list = body;
    switch (r->header.nr_reqtype) {
    case NETMAP_REQ_REGISTER:
        from_register(body, old);
        break;
    case NETMAP_REQ_VALE_ATTACH:
        from_register(&((const struct nmreq_vale_attach *)body)->reg, old);
        break;
    case NETMAP_REQ_PORT_INFO_GET:
        from_info(body, old);
        break;
    case NETMAP_REQ_PORT_HDR_GET:
    case NETMAP_REQ_PORT_HDR_SET:
        old->nr_arg1 = (uint16_t)((const struct nmreq_port_hdr *)body)->nr_hdr_len;
        break;
    case NETMAP_REQ_VALE_NEWIF:
        from_newif(body, old);
        break;
    case NETMAP_REQ_VALE_LIST:
        snprintf(old->nr_name, sizeof old->nr_name, "%.15s", r->header.nr_name);
        old->nr_arg1 = list->nr_bridge_idx;
        old->nr_arg2 = (uint16_t)list->nr_port_idx;
        break;
    }
}

int legacy_ioctl(struct handle *h, uint32_t request, uint64_t argument)
{
    struct nmreq old;
    struct request r;
    if (!argument)
        return EINVAL;
    if (copy_in(&old, argument, sizeof old))
        return EFAULT;
    if (old.nr_version < NETMAP_MIN_API)
        return EINVAL;
    memset(&r, 0, offsetof(struct request, room));
    r.header.nr_version = NETMAP_MIN_API;
    snprintf(r.header.nr_name, sizeof old.nr_name, "%.15s", old.nr_name);
    int error = request == (uint32_t)NIOCREGIF ? translate_register(&old, &r) : translate_info(&old, &r);
    if (!error)
        error = control_perform(h, &r);
    if (error)
        return error;
    translate_back(&r, &old);
    return copy_out(argument, &old, sizeof old);
}
