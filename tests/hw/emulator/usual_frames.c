/* Compares what receive_usual() finds out about a frame with what classify() does, bit for bit.
 *
 *     usual_frames SEED FRAMES
 *
 * Frames are random: of IPv4 and IPv6, tagged or not, with options, fragments, right and wrong checksums and lengths,
 * and some of their bytes are changed. Each ends where its memory ends. Prints how many were compared.
 */
#include <stdio.h>
#include <stdlib.h>

#include "usual.h"

enum { REGISTERS = 0x20000, LONGEST = 2000, ROUND = 500 };

void nic_rss_key_changed(struct nic *nic);

static uint64_t state;

/* xorshift64* (Marsaglia, Vigna): below `limit` */
static uint32_t below(uint32_t limit)
{
    state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1Dull) >> 33) % limit;
}

static void set_up(struct nic *nic)
{
    static const uint8_t types[2][3] = {{RSS_TYPE_IPV4, 1, 7}, {RSS_TYPE_IPV6, 3, 8}};
    for (uint32_t i = 0; i < 10; i++)
        reg_store(nic, R_RSSRK + 4 * i, below(1u << 16) << 16 | below(1u << 16));
    for (uint32_t i = 0; i < 32; i++)
        reg_store(nic, R_RETA + 4 * i, below(1u << 16) << 16 | below(1u << 16));
    nic_rss_key_changed(nic);
    nic->settings.vlan_type = 0x8100;
    nic->settings.hash_mask = below(2) ? UINT32_MAX : 0;
    for (uint32_t version = 0; version < 2; version++)
        for (uint32_t ports = 0; ports < 3; ports++)
            nic->settings.rss_types[version][ports] =
                (const uint8_t[]){0, types[version][RSS_NO_PORTS], types[version][ports]}[below(3)];
}

/* Make the checksum at `at` right for `bytes`; `start` is the sum of what else it covers. */
static void check(uint8_t *bytes, uint32_t length, uint32_t at, uint32_t start)
{
    put16(bytes + at, 0);
    put16(bytes + at, ~ones_sum(bytes, length, start));
}

static void ipv4(uint8_t *ip, uint32_t room)
{
    uint32_t header = below(8) ? 20 : 4 * (5 + below(11)),
             size = header + (below(40) ? 20 : 0) + below(room - header - 20);
    bool udp = below(2);
    if (!below(4))
        size = room;
    ip[0] = (uint8_t)(0x40 | header / 4), ip[9] = udp ? IP_UDP : IP_TCP;
    put16(ip + 2, size), put16(ip + 6, below(8) ? 0x4000 : below(1u << 16));
    if (udp)
        put16(ip + header + 4, size - header);
    uint32_t pseudo = ones_sum(ip + 12, 8, fold(ip[9] + size - header));
    if (size >= header + 20)
        check(ip + header, size - header, udp ? 6 : 16, pseudo);
    if (udp && !below(8))
        put16(ip + header + 6, 0);
    check(ip, header, 10, 0);
}

static void ipv6(uint8_t *ip, uint32_t room)
{
    ip[0] = 0x60, ip[6] = below(2) ? IP_UDP : IP_TCP;
    put16(ip + 4, below(room - 40));
}

static void make_frame(uint8_t *frame, uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        frame[i] = (uint8_t)below(256);
    uint32_t at = ADDRESSES;
    if (!below(8))
        put16(frame + at, 0x8100), at += VLAN_TAG;
    bool old = below(8);
    put16(frame + at, old ? 0x0800 : 0x86DD);
    if (length >= at + 2 + 100)
        (old ? ipv4 : ipv6)(frame + at + 2, length - at - 2);
    else if (length >= at + 2 + 42 && old)
        frame[at + 2] = 0x45, frame[at + 11] = IP_UDP, put16(frame + at + 4, below(60)), put16(frame + at + 8, 0),
                   check(frame + at + 2, 20, 10, 0);
    if (!below(3))
        for (uint32_t changes = 1 + below(3); changes; changes--)
            frame[below(below(2) ? 40 : length)] ^= (uint8_t)(1u << below(8));
}

static bool same(const struct class *a, const struct class *b)
{
    return a->queue == b->queue && a->status == b->status && a->q0 == b->q0 && a->tagged == b->tagged &&
           a->rare == b->rare && a->searched == b->searched && a->event == b->event;
}

int main(int count, char **arguments)
{
    if (count != 3)
        return 2;
    struct nic *nic = aligned_alloc(CACHE_LINE, sizeof *nic);
    uint64_t frames = strtoull(arguments[2], NULL, 10), usual = 0, wrong = 0, steered = 0;
    memset(nic, 0, sizeof *nic);
    nic->regs = calloc(1, REGISTERS);
    state = strtoull(arguments[1], NULL, 10) * 2 + 1;
    for (uint64_t i = 0; i < frames; i++) {
        if (i % ROUND == 0)
            set_up(nic);
        uint32_t length = below(2) ? 40 + below(100) : 40 + below(LONGEST);
        uint8_t *frame = malloc(length);
        make_frame(frame, length);
        struct class quick, whole;
        classify(nic, frame, length, &whole);
        if (classify_usual(nic, frame, length, &quick)) {
            usual++, wrong += quick.status & (RX_IPE | RX_TCPE) ? 1 : 0, steered += quick.queue ? 1 : 0;
            if (!same(&quick, &whole)) {
                printf("frame %llu of %u bytes: queue %u %u, status %x %x, q0 %llx %llx\n", (unsigned long long)i,
                       length, quick.queue, whole.queue, quick.status, whole.status, (unsigned long long)quick.q0,
                       (unsigned long long)whole.q0);
                return 1;
            }
        }
        free(frame);
    }
    printf("%llu frames, %llu usual, %llu with a wrong checksum, %llu in other queues than 0\n",
           (unsigned long long)frames, (unsigned long long)usual, (unsigned long long)wrong,
           (unsigned long long)steered);
    free((void *)(uintptr_t)nic->regs);
    free(nic);
    return 0;
}
