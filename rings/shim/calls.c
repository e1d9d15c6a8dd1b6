#include "calls.h"

#include <dlfcn.h>

struct calls calls_table;

/* dlsym() returns an object pointer; POSIX lets a function pointer have the same bits. */
static void find(const char *name, void *pointer)
{
    *(void **)pointer = dlsym(RTLD_NEXT, name);
}

/* Two threads may do this at the same time: both store the same values. */
void find_calls(void)
{
    struct calls *c = &calls_table;
    find("open", &c->open);
    find("open64", &c->open64);
    find("openat", &c->openat);
    find("openat64", &c->openat64);
    find("__open_2", &c->open_2);
    find("__open64_2", &c->open64_2);
    find("__openat_2", &c->openat_2);
    find("__openat64_2", &c->openat64_2);
    find("close", &c->close);
    find("close_range", &c->close_range);
    find("closefrom", &c->closefrom);
    find("dup", &c->dup);
    find("dup2", &c->dup2);
    find("dup3", &c->dup3);
    find("fcntl", &c->fcntl);
    find("fcntl64", &c->fcntl64);
    if (!c->fcntl64) /* before glibc 2.28 */
        c->fcntl64 = c->fcntl;
    find("ioctl", &c->ioctl);
    find("mmap", &c->mmap);
    find("poll", &c->poll);
    find("ppoll", &c->ppoll);
    find("select", &c->select);
    find("pselect", &c->pselect);
    find("epoll_create", &c->epoll_create);
    find("epoll_create1", &c->epoll_create1);
    find("epoll_ctl", &c->epoll_ctl);
    find("epoll_wait", &c->epoll_wait);
    find("epoll_pwait", &c->epoll_pwait);
    find("epoll_pwait2", &c->epoll_pwait2);
    find("recvmsg", &c->recvmsg);
    find("recvmmsg", &c->recvmmsg);
    find("read", &c->read);
    find("readv", &c->readv);
    find("write", &c->write);
    find("writev", &c->writev);
    find("send", &c->send);
    find("sendto", &c->sendto);
    find("sendmsg", &c->sendmsg);
    find("sendmmsg", &c->sendmmsg);
    find("recv", &c->recv);
    find("recvfrom", &c->recvfrom);
    find("__read_chk", &c->read_chk);
    find("__recv_chk", &c->recv_chk);
    find("__recvfrom_chk", &c->recvfrom_chk);
    atomic_store_explicit(&c->found, true, memory_order_release);
}
