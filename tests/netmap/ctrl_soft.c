/* Pipes and the switch, as requests see them. */
#include "checks.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

void check_pipes(void)
{
    char master[64], slave[64], lone[64];
    snprintf(master, sizeof master, "%s{ctrl", nic);
    snprintf(slave, sizeof slave, "%s}ctrl", nic);
    snprintf(lone, sizeof lone, "%s{", nic);
    int fd = open_netmap();
    check("a pipe without an id is EINVAL", registered(fd, lone, NR_REG_ALL_NIC, 0, 0), EINVAL);
    check("a pipe has no host rings: EINVAL", registered(fd, master, NR_REG_NIC_SW, 0, 0), EINVAL);
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    check("one end is opened", request(fd, NETMAP_REQ_REGISTER, master, &reg), 0);
    check("it has one ring of each direction", reg.nr_tx_rings * 10 + reg.nr_rx_rings, 11);
    check("and no host rings", reg.nr_host_tx_rings + reg.nr_host_rx_rings, 0);
    check("it is in its parent's memory", reg.nr_mem_id, 1);
    int other, error;
    other = opened(slave, NR_EXCLUSIVE, &error);
    check("the other end is opened exclusively by another handle", error, 0);
    close(other);
    close(fd);
    fd = opened("nobody{1", 0, &error);
    check("a pipe needs no parent that exists", error, 0);
    close(fd);
    struct nmreq_port_info_get info = {0};
    fd = open_netmap();
    check("information about a pipe end is told", request(fd, NETMAP_REQ_PORT_INFO_GET, slave, &info), 0);
    check_true("with rings and slots", info.nr_tx_rings && info.nr_rx_slots && info.nr_memsize);
    close(fd);
}

static void check_persistent(int fd)
{
    struct nmreq_vale_newif newif = {0};
    struct {
        struct nmreq_register reg;
        uint32_t port_index, pad;
    } attach = {.reg.nr_mode = NR_REG_ALL_NIC};
    check("a persistent port is made", request(fd, NETMAP_REQ_VALE_NEWIF, "per4", &newif), 0);
    check_true("its rings and slots are told", newif.nr_tx_rings && newif.nr_rx_slots);
    check("a second one of that name is EEXIST", request(fd, NETMAP_REQ_VALE_NEWIF, "per4", &newif), EEXIST);
    check("it is attached", request(fd, NETMAP_REQ_VALE_ATTACH, "vale77:per4", &attach), 0);
    check("a second time is EBUSY", request(fd, NETMAP_REQ_VALE_ATTACH, "vale77:per4", &attach), EBUSY);
    check("while it is attached it cannot be deleted", request(fd, NETMAP_REQ_VALE_DELIF, "per4", NULL), EBUSY);
    struct nmreq_vale_list list = {0};
    check("the switch lists it", request(fd, NETMAP_REQ_VALE_LIST, "vale77:per4", &list), 0);
    check_true("as a port", list.nr_port_idx < 254);
    struct {
        uint32_t port_index;
    } detach = {0};
    check("it is detached", request(fd, NETMAP_REQ_VALE_DETACH, "vale77:per4", &detach), 0);
    check("and deleted", request(fd, NETMAP_REQ_VALE_DELIF, "per4", NULL), 0);
    check("a second time is ENXIO", request(fd, NETMAP_REQ_VALE_DELIF, "per4", NULL), ENXIO);
}

void check_switch(void)
{
    int fd = open_netmap();
    check_persistent(fd);
    struct nmreq_register reg = {.nr_mode = NR_REG_ALL_NIC};
    check("an ephemeral port has no host rings: EINVAL", registered(fd, "vale77:a", NR_REG_SW, 0, 0), EINVAL);
    check("it is opened", request(fd, NETMAP_REQ_REGISTER, "vale77:a", &reg), 0);
    check_true("its memory is its own", reg.nr_mem_id > 1);
    struct nmreq_port_hdr hdr = {.nr_hdr_len = 12};
    check("it gets a virtio header", request(fd, NETMAP_REQ_PORT_HDR_SET, "vale77:a", &hdr), 0);
    hdr.nr_hdr_len = 0;
    check("which is told", request(fd, NETMAP_REQ_PORT_HDR_GET, "vale77:a", &hdr), 0);
    check("with its length", hdr.nr_hdr_len, 12);
    hdr.nr_hdr_len = 5;
    check("a header of 5 bytes is EINVAL", request(fd, NETMAP_REQ_PORT_HDR_SET, "vale77:a", &hdr), EINVAL);
    struct nmreq_vale_list list = {0};
    check("a port that is not there is listed without an index",
          request(fd, NETMAP_REQ_VALE_LIST, "vale77:none", &list), 0);
    check("which is 255", list.nr_port_idx, 255);
    check("a switch that is not there is ENOENT", request(fd, NETMAP_REQ_VALE_LIST, "vale78:a", &list), ENOENT);
    check("a name that is none of a switch is EINVAL", request(fd, NETMAP_REQ_VALE_LIST, nic, &list), EINVAL);
    close(fd);
    int error, other = opened("vale77:a", 0, &error);
    check("after its close it is made again, without a virtio header", error, 0);
    close(other);
}
