/* NIOCCTRL: collect the request, have it carried out, and return the answer, in netmap's order and with its errno. */
#include "calls.h"
#include "control.h"
#include "csb.h"
#include "external.h"
#include "usercopy.h"
#include "wire.h"

#include <errno.h>
#include <string.h>

enum { HEADER = sizeof(struct nmreq_header), OPTION = sizeof(struct nmreq_option), KERNEL_OPTION = 32 };

size_t control_body_size(unsigned type)
{
    static const uint8_t sizes[NETMAP_REQ_END] = {
        [NETMAP_REQ_REGISTER] = sizeof(struct nmreq_register),
        [NETMAP_REQ_PORT_INFO_GET] = sizeof(struct nmreq_port_info_get),
        [NETMAP_REQ_VALE_ATTACH] = sizeof(struct nmreq_vale_attach),
        [NETMAP_REQ_VALE_DETACH] = 8,
        [NETMAP_REQ_VALE_LIST] = sizeof(struct nmreq_vale_list),
        [NETMAP_REQ_PORT_HDR_SET] = sizeof(struct nmreq_port_hdr),
        [NETMAP_REQ_PORT_HDR_GET] = sizeof(struct nmreq_port_hdr),
        [NETMAP_REQ_VALE_NEWIF] = sizeof(struct nmreq_vale_newif),
        [NETMAP_REQ_VALE_POLLING_ENABLE] = sizeof(struct nmreq_vale_polling),
        [NETMAP_REQ_VALE_POLLING_DISABLE] = sizeof(struct nmreq_vale_polling),
        [NETMAP_REQ_POOLS_INFO_GET] = sizeof(struct nmreq_pools_info),
        [NETMAP_REQ_SYNC_KLOOP_START] = sizeof(struct nmreq_sync_kloop_start),
    };
    return type < NETMAP_REQ_END ? sizes[type] : 0;
}

/* With its header. nro_size counts only for the eventfds, whose number varies. */
static size_t option_size(const struct nmreq_option *option)
{
    static const uint8_t sizes[NETMAP_REQ_OPT_END] = {
        [NETMAP_REQ_OPT_EXTMEM] = sizeof(struct nmreq_opt_extmem),
        [NETMAP_REQ_OPT_CSB] = sizeof(struct nmreq_opt_csb),
        [NETMAP_REQ_OPT_SYNC_KLOOP_MODE] = sizeof(struct nmreq_opt_sync_kloop_mode),
        [NETMAP_REQ_OPT_OFFSETS] = 56,
    };
    if (option->nro_reqtype == NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS)
        return option->nro_size > OPTION ? option->nro_size : OPTION;
    return option->nro_reqtype < NETMAP_REQ_OPT_END ? sizes[option->nro_reqtype] : OPTION;
}

struct nmreq_option *option_find(struct request *r, enum option_type type)
{
    for (int i = 0; i < r->count; i++)
        if (option_at(r, i)->nro_reqtype == type)
            return option_at(r, i);
    return NULL;
}

/* ---- in ---- */

/* netmap copies the list to a buffer of 4 KiB, 32 bytes an option, and so finds a circle. Nothing is written back then.
 * Here more than OPTIONS known options are too many, too; netmap has five, and refuses a second of a kind. */
static int count_options(uint64_t address)
{
    for (int n = 0; address; n++) {
        struct nmreq_option option;
        if (n * KERNEL_OPTION >= NETMAP_REQ_MAXSIZE - KERNEL_OPTION)
            return EMSGSIZE;
        if (copy_in(&option, address, OPTION))
            return EFAULT;
        address = option.nro_next;
    }
    return 0;
}

static int take_option(struct request *r, uint64_t address, uint64_t *next)
{
    struct nmreq_option option;
    if (r->count == OPTIONS)
        return EMSGSIZE;
    if (copy_in(&option, address, OPTION))
        return EFAULT;
    size_t size = option_size(&option);
    if (size > NETMAP_REQ_MAXSIZE || r->used + size > OPTION_ROOM)
        return EMSGSIZE;
    struct nmreq_option *earlier = option.nro_reqtype < NETMAP_REQ_OPT_END ? option_find(r, option.nro_reqtype) : NULL;
    uint8_t *bytes = r->room + r->used;
    if (copy_in(bytes, address, size))
        return EFAULT;
    r->options[r->count].address = address;
    r->options[r->count].size = size;
    r->options[r->count++].bytes = bytes;
    r->used += (size + 7) & ~(size_t)7;
    *next = option.nro_next;
    option_at(r, r->count - 1)->nro_status = option.nro_reqtype && !earlier ? 0 : EINVAL;
    if (earlier)
        earlier->nro_status = EINVAL;
    return option.nro_reqtype && !earlier ? 0 : EINVAL;
}

static int take_options(struct request *r)
{
    int error = count_options(r->header.nr_options);
    for (uint64_t next = r->header.nr_options; next && !error;)
        error = take_option(r, next, &next);
    for (int i = 0; i < r->count && !error; i++)
        option_at(r, i)->nro_status = EOPNOTSUPP; /* until somebody knows it */
    return error;
}

static int take_request(struct request *r, uint64_t argument)
{
    if (!argument)
        return EINVAL;
    if (copy_in(&r->header, argument, HEADER))
        return EFAULT;
    size_t size = control_body_size(r->header.nr_reqtype);
    if (r->header.nr_version < NETMAP_MIN_API || r->header.nr_version > NETMAP_MAX_API || r->header.nr_reserved ||
        !size != !r->header.nr_body)
        return EINVAL;
    if (size && copy_in(r->body, r->header.nr_body, size))
        return EFAULT;
    r->header.nr_name[NETMAP_NAME_SIZE - 1] = 0;
    return take_options(r);
}

/* ---- out ---- */

/* The body only after success; an option's header always, its rest only if both succeeded. */
static int give_answer(struct request *r, int error)
{
    for (int i = 0; i < r->count; i++) {
        bool whole = !error && !option_at(r, i)->nro_status;
        if (copy_out(r->options[i].address, r->options[i].bytes, whole ? r->options[i].size : OPTION))
            error = EFAULT;
    }
    size_t size = error ? 0 : control_body_size(r->header.nr_reqtype);
    return size && copy_out(r->header.nr_body, r->body, size) ? EFAULT : error;
}

/* ---- by the daemon ---- */

/* What of an option goes to the daemon. It has no use for this process's addresses and descriptors. */
static size_t sent_size(struct request *r, int i)
{
    return option_at(r, i)->nro_reqtype == NETMAP_REQ_OPT_SYNC_KLOOP_EVENTFDS ? OPTION : r->options[i].size;
}

static bool is_sent(struct request *r, int i)
{
    return option_at(r, i)->nro_reqtype != NETMAP_REQ_OPT_CSB;
}

static size_t flatten(struct request *r, uint8_t *to)
{
    struct nmreq_header header = r->header;
    size_t at = HEADER, body = control_body_size(header.nr_reqtype);
    bool more = false;
    memcpy(to + at, r->body, body);
    at += body;
    for (int i = 0; i < r->count; i++) {
        if (!is_sent(r, i))
            continue;
        size_t size = sent_size(r, i);
        memcpy(to + at, r->options[i].bytes, size);
        *(uint64_t *)(void *)(to + at) = 1; /* nro_next: another one follows. The last is mended below */
        at += size;
        more = true;
    }
    header.nr_options = more;
    header.nr_body = body != 0;
    memcpy(to, &header, HEADER);
    for (int i = r->count; more && i--;) /* find the last that was sent */
        if (is_sent(r, i)) {
            *(uint64_t *)(void *)(to + at - sent_size(r, i)) = 0;
            break;
        }
    return at;
}

static void unflatten(struct request *r, const uint8_t *from, size_t length)
{
    size_t at = HEADER, body = control_body_size(r->header.nr_reqtype);
    if (at + body > length)
        return;
    memcpy(r->body, from + at, body);
    at += body;
    for (int i = 0; i < r->count; i++) {
        size_t size = sent_size(r, i);
        if (!is_sent(r, i) || at + size > length)
            continue;
        uint64_t next = option_at(r, i)->nro_next; /* the program's own stays */
        memcpy(r->options[i].bytes, from + at, size);
        option_at(r, i)->nro_next = next;
        at += size;
    }
}

static int ask_daemon(struct handle *h, struct request *r)
{
    uint8_t message[HEADER + sizeof r->body + OPTION_ROOM] __attribute__((aligned(8)));
    struct reply reply;
    size_t size = flatten(r, message);
    int error = wire_request(h->socket, MESSAGE_CTRL, 0, message, size, sizeof message, &reply);
    if (error)
        return error;
    unflatten(r, message, reply.size);
    if (!reply.error && r->header.nr_reqtype == NETMAP_REQ_REGISTER) {
        if (reply.count != REPLY_DESCRIPTORS)
            reply.error = EIO;
        else {
            reply.count = 0; /* handle_bind() takes them */
            reply.error = handle_bind(h, reply.fds, (struct nmreq_register *)(void *)r->body, reply.value);
        }
    }
    while (reply.count)
        original()->close(reply.fds[--reply.count]);
    return reply.error;
}

/* A registration with the program's own memory, if it gives some. */
static int register_memory(struct handle *h, struct request *r)
{
    struct external external;
    int error = external_find(&external, r);
    if (error) {
        external.option->nro_opt.nro_status = (uint32_t)error;
        return error;
    }
    error = ask_daemon(h, r);
    external_restore(&external);
    if (error)
        return error;
    error = external_map(&external, h);
    if (external.option)
        external.option->nro_opt.nro_status = (uint32_t)error;
    return error;
}

static int register_handle(struct handle *h, struct request *r)
{
    struct nmreq_opt_csb *csb = (void *)option_find(r, NETMAP_REQ_OPT_CSB);
    const struct nmreq_register *wanted = (void *)r->body;
    int error = csb ? csb_check(csb, wanted->nr_flags) : 0; /* first: there is no way back from a registration */
    if (csb)
        csb->nro_opt.nro_status = (uint32_t)error;
    if (!error)
        error = register_memory(h, r);
    if (csb && !error) {
        error = csb_enable(h, csb);
        csb->nro_opt.nro_status = (uint32_t)error;
    }
    return error;
}

int control_perform(struct handle *h, struct request *r)
{
    switch (r->header.nr_reqtype) {
    case NETMAP_REQ_REGISTER:
        return register_handle(h, r);
    case NETMAP_REQ_CSB_ENABLE:
        return csb_request(h, r);
    case NETMAP_REQ_SYNC_KLOOP_START:
        return kloop_start(h, r);
    case NETMAP_REQ_SYNC_KLOOP_STOP:
        return kloop_stop(h);
    default:
        return ask_daemon(h, r);
    }
}

int control_ioctl(struct handle *h, uint64_t argument)
{
    struct request r;
    r.count = 0;
    r.used = 0;
    memset(r.body, 0, sizeof r.body);
    int error = take_request(&r, argument);
    if (error == EMSGSIZE && !r.count)
        return error;
    if (!error)
        error = control_perform(h, &r);
    return give_answer(&r, error);
}
