/* Sends frames from Linux's side of an interface, as fast as it can: host_sender INTERFACE. Ends on SIGINT.
 *
 * An AF_PACKET socket past the queueing discipline, packet(7), with 64 frames a system call.
 */
#define _GNU_SOURCE

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { FRAMES = 64, LENGTH = 60, EXPERIMENTAL = 0x88B5 };

int main(int argc, char **argv)
{
    static char frame[LENGTH] = "\xff\xff\xff\xff\xff\xff\2\0\0\0\0\1\x88\xb5";
    int fd = socket(AF_PACKET, SOCK_RAW, 0), one = 1;
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(EXPERIMENTAL)};
    to.sll_ifindex = argc == 2 ? (int)if_nametoindex(argv[1]) : 0;
    if (fd < 0 || !to.sll_ifindex || setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one)) {
        fputs("usage: host_sender INTERFACE, as root\n", stderr);
        return 2;
    }
    struct iovec bytes = {frame, sizeof frame};
    struct mmsghdr messages[FRAMES];
    memset(messages, 0, sizeof messages);
    for (int i = 0; i < FRAMES; i++)
        messages[i].msg_hdr =
            (struct msghdr){.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = &bytes, .msg_iovlen = 1};
    puts("{}");
    fflush(stdout);
    for (;;)
        sendmmsg(fd, messages, FRAMES, 0); /* a full queue drops frames: it is the receiver that is measured */
}
