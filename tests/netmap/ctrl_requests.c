/* What requests are answered: headers, registration, options, information, and old programs' requests. */
#include "checks.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

void check_headers(void)
{
    int fd = open_netmap();
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    struct nmreq_header header = header_of(NETMAP_REQ_REGISTER, nic, &reg);
    check("a request at address 0 is EINVAL", ioctl(fd, NIOCCTRL, NULL) ? errno : 0, EINVAL);
    check("a request that cannot be read is EFAULT", ioctl(fd, NIOCCTRL, (void *)16) ? errno : 0, EFAULT);
    check("an unknown ioctl is EOPNOTSUPP", ioctl(fd, 0x6990UL, &header) ? errno : 0, EOPNOTSUPP);
    header.nr_version = 13;
    check("version 13 is EINVAL", control(fd, &header), EINVAL);
    header.nr_version = 16;
    check("version 16 is EINVAL", control(fd, &header), EINVAL);
    header = header_of(NETMAP_REQ_REGISTER, nic, &reg);
    header.nr_reserved = 1;
    check("a reserved field that is not 0 is EINVAL", control(fd, &header), EINVAL);
    check("a registration without a body is EINVAL", request(fd, NETMAP_REQ_REGISTER, nic, NULL), EINVAL);
    check("a body that cannot be read is EFAULT", request(fd, NETMAP_REQ_REGISTER, nic, (void *)16), EFAULT);
    check("CSB_ENABLE with a body is EINVAL", request(fd, NETMAP_REQ_CSB_ENABLE, nic, &reg), EINVAL);
    check("SYNC_KLOOP_STOP with a body is EINVAL", request(fd, NETMAP_REQ_SYNC_KLOOP_STOP, nic, &reg), EINVAL);
    check("request 0 is EINVAL", request(fd, 0, nic, &reg), EINVAL);
    check("request 99 is EINVAL", request(fd, 99, nic, &reg), EINVAL);
    check("request 99 without a body is EINVAL", request(fd, 99, nic, NULL), EINVAL);
    check("after all these the descriptor can be registered", request(fd, NETMAP_REQ_REGISTER, nic, &reg), 0);
    close(fd);
    fd = open_netmap();
    reg = (struct nmreq_register){.nr_mode = NR_REG_ALL_NIC};
    header = header_of(NETMAP_REQ_REGISTER, nic, &reg);
    header.nr_version = 15;
    check("version 15 is accepted", control(fd, &header), 0);
    check("the version is not changed", header.nr_version, 15);
    close(fd);
}

static void check_refused_registrations(int fd)
{
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC, .nr_memsize = 77, .nr_mem_id = 9999};
    check("an unknown memory is EINVAL", request(fd, NETMAP_REQ_REGISTER, nic, &reg), EINVAL);
    check("a failed registration leaves its body", (long long)reg.nr_memsize, 77);
    check("an unknown name is ENXIO", registered(fd, "nowhere0", NR_REG_ALL_NIC, 0, 0), ENXIO);
    check("an empty name is ENXIO", registered(fd, "", NR_REG_ALL_NIC, 0, 0), ENXIO);
    check("mode 0 is EINVAL", registered(fd, nic, NR_REG_DEFAULT, 0, 0), EINVAL);
    check("mode PIPE_MASTER is EINVAL", registered(fd, nic, NR_REG_PIPE_MASTER, 0, 0), EINVAL);
    check("mode PIPE_SLAVE is EINVAL", registered(fd, nic, NR_REG_PIPE_SLAVE, 0, 0), EINVAL);
    check("mode 9 is EINVAL", registered(fd, nic, 9, 0, 0), EINVAL);
    check("a queue that does not exist is EINVAL", registered(fd, nic, NR_REG_ONE_NIC, 4000, 0), EINVAL);
    check("a null port without memory is EINVAL", registered(fd, nic, NR_REG_NULL, 0, 0), EINVAL);
}

void check_registration(void)
{
    int fd = open_netmap();
    check_refused_registrations(fd);
    const uint64_t odd = 1ull << 40 | 0x1000;
    struct nmreq_register reg = {
        .nr_mode = NR_REG_ONE_NIC, .nr_ringid = 0, .nr_flags = odd, .nr_extra_bufs = 7, .nr_mem_id = 1};
    check("a registration succeeds after refused ones", request(fd, NETMAP_REQ_REGISTER, nic, &reg), 0);
    check_true("unknown flags come back unchanged", reg.nr_flags == odd);
    check("the mode comes back", reg.nr_mode, NR_REG_ONE_NIC);
    check("as many extra buffers come as were asked for", reg.nr_extra_bufs, 7);
    check("a NIC's memory has the number 1", reg.nr_mem_id, 1);
    check_true("the interface lies in the memory", reg.nr_offset + sizeof(struct netmap_if) < reg.nr_memsize);
    check_true("rings and slots are told", reg.nr_tx_rings && reg.nr_rx_rings && reg.nr_tx_slots && reg.nr_rx_slots);
    check("a second registration is EBUSY", registered(fd, nic, NR_REG_ALL_NIC, 0, 0), EBUSY);
    struct nmreq old = {.nr_version = 14, .nr_flags = NR_REG_ALL_NIC};
    snprintf(old.nr_name, sizeof old.nr_name, "%s", nic);
    check("an old program's registration is EBUSY, too", ioctl(fd, NIOCREGIF, &old) ? errno : 0, EBUSY);
    close(fd);
    fd = open_netmap();
    check("without rings of either direction any mode is accepted",
          registered(fd, nic, 77, 0, NR_TX_RINGS_ONLY | NR_RX_RINGS_ONLY), 0);
    check("syncs of no ring succeed", ioctl(fd, NIOCTXSYNC, NULL) | ioctl(fd, NIOCRXSYNC, NULL), 0);
    close(fd);
    fd = open_netmap();
    reg = (struct nmreq_register){.nr_mode = NR_REG_NULL,
                                  .nr_mem_id = 1,
                                  .nr_tx_rings = 10,
                                  .nr_rx_rings = 5,
                                  .nr_tx_slots = 256,
                                  .nr_rx_slots = 100};
    check("a null port is opened", request(fd, NETMAP_REQ_REGISTER, nic, &reg), 0);
    check("it has the rings that were asked for", reg.nr_tx_rings * 1000 + reg.nr_rx_rings, 10005);
    check("it has the slots that were asked for", reg.nr_tx_slots * 1000 + reg.nr_rx_slots, 256100);
    check("a null port is synced", ioctl(fd, NIOCTXSYNC, NULL) | ioctl(fd, NIOCRXSYNC, NULL), 0);
    close(fd);
}

static int with_options(uint16_t reqtype, void *body, struct nmreq_option *first)
{
    int fd = open_netmap();
    struct nmreq_header header = header_of(reqtype, nic, body);
    header.nr_options = (uintptr_t)first;
    int error = control(fd, &header);
    close(fd);
    return error;
}

void check_options(void)
{
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    struct nmreq_port_info_get info = {0};
    struct nmreq_option one = {.nro_reqtype = 1234}, two = {.nro_reqtype = 1234, .nro_next = (uintptr_t)&one};
    check("an unknown option is EOPNOTSUPP", with_options(NETMAP_REQ_REGISTER, &reg, &one), EOPNOTSUPP);
    check("and its status says so", one.nro_status, EOPNOTSUPP);
    two.nro_status = one.nro_status = 0;
    check("two unknown ones of a type are EOPNOTSUPP", with_options(NETMAP_REQ_REGISTER, &reg, &two), EOPNOTSUPP);
    check("and the first one's status says so", two.nro_status, EOPNOTSUPP);
    check_true("the list stays as it was", two.nro_next == (uintptr_t)&one);
    check("an unknown option does not fail another request", with_options(NETMAP_REQ_PORT_INFO_GET, &info, &one), 0);
    check("but its status says EOPNOTSUPP", one.nro_status, EOPNOTSUPP);
    one.nro_next = (uintptr_t)&one;
    check("a list without an end is EMSGSIZE", with_options(NETMAP_REQ_REGISTER, &reg, &one), EMSGSIZE);
    one = (struct nmreq_option){.nro_reqtype = 0};
    check("option 0 is EINVAL", with_options(NETMAP_REQ_REGISTER, &reg, &one), EINVAL);
    check("and its status says so", one.nro_status, EINVAL);
    struct {
        struct nmreq_option option;
        uint64_t atok, ktoa;
    } csb[2] = {{.option.nro_reqtype = 3}, {.option.nro_reqtype = 3}};
    csb[0].option.nro_next = (uintptr_t)&csb[1];
    check("a known option that comes twice is EINVAL", with_options(NETMAP_REQ_REGISTER, &reg, &csb[0].option), EINVAL);
    check("and both say so", csb[0].option.nro_status * 1000 + csb[1].option.nro_status, EINVAL * 1001);
    reg = (struct nmreq_register){.nr_mode = NR_REG_ALL_NIC, .nr_flags = NR_EXCLUSIVE};
    csb[0].option.nro_next = 0, csb[0].atok = 0x10, csb[0].ktoa = 0x800;
    check_true("a CSB at a bad address is refused", with_options(NETMAP_REQ_REGISTER, &reg, &csb[0].option) != 0);
    one = (struct nmreq_option){.nro_reqtype = 1, .nro_next = 16};
    check("an option that cannot be read is EFAULT", with_options(NETMAP_REQ_REGISTER, &reg, (void *)16), EFAULT);
}

void check_info(void)
{
    int fd = open_netmap();
    struct nmreq_port_info_get info = {0};
    check("a port's information is told", request(fd, NETMAP_REQ_PORT_INFO_GET, nic, &info), 0);
    check_true("it has memory, rings and slots",
               info.nr_memsize && info.nr_tx_rings && info.nr_rx_rings && info.nr_tx_slots && info.nr_rx_slots);
    check("it is in memory 1", info.nr_mem_id, 1);
    check("an unknown port is ENXIO", request(fd, NETMAP_REQ_PORT_INFO_GET, "nowhere0", &info), ENXIO);
    uint64_t memsize = info.nr_memsize;
    info = (struct nmreq_port_info_get){0};
    check("without a name the memory is told", request(fd, NETMAP_REQ_PORT_INFO_GET, "", &info), 0);
    check_true("it is the same memory", info.nr_memsize == memsize && info.nr_mem_id == 1);
    info = (struct nmreq_port_info_get){.nr_mem_id = 9999};
    check("an unknown memory is EINVAL", request(fd, NETMAP_REQ_PORT_INFO_GET, "", &info), EINVAL);
    struct nmreq_pools_info pools = {0};
    check("the pools are told", request(fd, NETMAP_REQ_POOLS_INFO_GET, nic, &pools), 0);
    check_true("each pool has objects", pools.nr_if_pool_objtotal && pools.nr_if_pool_objsize &&
                                            pools.nr_ring_pool_objtotal && pools.nr_ring_pool_objsize &&
                                            pools.nr_buf_pool_objtotal && pools.nr_buf_pool_objsize);
    check_true("they lie in the memory", pools.nr_memsize == memsize && pools.nr_buf_pool_offset < memsize &&
                                             pools.nr_ring_pool_offset < memsize);
    check("pools without a name are ENXIO", request(fd, NETMAP_REQ_POOLS_INFO_GET, "", &pools), ENXIO);
    struct nmreq_port_hdr hdr = {.nr_hdr_len = 99};
    check("a NIC has no virtio header", request(fd, NETMAP_REQ_PORT_HDR_GET, nic, &hdr), 0);
    check("its length is 0", hdr.nr_hdr_len, 0);
    check("an unknown port has none to tell", request(fd, NETMAP_REQ_PORT_HDR_GET, "nowhere0", &hdr), ENXIO);
    check("information binds nothing: a sync is ENXIO", ioctl(fd, NIOCTXSYNC, NULL) ? errno : 0, ENXIO);
    close(fd);
}

static int old_request(int fd, unsigned long number, uint32_t version, struct nmreq *old)
{
    old->nr_version = version;
    snprintf(old->nr_name, sizeof old->nr_name, "%s", nic);
    return ioctl(fd, number, old) ? errno : 0;
}

void check_legacy(void)
{
    static const uint32_t versions[] = {14, 15, 16};
    int fd = open_netmap();
    struct nmreq old = {.nr_flags = NR_REG_ALL_NIC};
    check("version 13 of an old request is EINVAL", old_request(fd, NIOCREGIF, 13, &old), EINVAL);
    old = (struct nmreq){0};
    check("an old program gets information", old_request(fd, NIOCGINFO, 14, &old), 0);
    check_true("with memory, rings and slots", old.nr_memsize && old.nr_tx_rings && old.nr_tx_slots);
    check("the memory is number 1", old.nr_arg2, 1);
    close(fd);
    for (int i = 0; i < 3; i++) {
        fd = open_netmap();
        old = (struct nmreq){.nr_flags = i ? NR_REG_ALL_NIC : 0, .nr_arg3 = 20};
        check("an old program registers", old_request(fd, NIOCREGIF, versions[i], &old), 0);
        check("the version is not changed", old.nr_version, versions[i]);
        check("the flags are not changed", old.nr_flags, i ? NR_REG_ALL_NIC : 0);
        check("20 extra buffers come", old.nr_arg3, 20);
        check_true("memory and rings are told", old.nr_memsize && old.nr_tx_rings && old.nr_rx_slots);
        close(fd);
    }
    fd = open_netmap();
    old = (struct nmreq){.nr_ringid = 0x4000}; /* one hardware ring, in the way of even older programs */
    check("the ring bits of nr_ringid choose a queue", old_request(fd, NIOCREGIF, 14, &old), 0);
    check("nr_ringid is not changed", old.nr_ringid, 0x4000);
    close(fd);
}
