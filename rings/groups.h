/* The fast lanes for runs (write_plain_frames, post_run, take_plain_frames, forward_run), GROUP slots at a time. Each
 * stops before the first group with a slot that its lane does not take. Memory is left as the scalar lane leaves it,
 * to the bit (tests/rings/test_vectors.py).
 *
 * avx2.c and avx512.c include this file and define VECTOR. A slot and a descriptor have 16 bytes, so two vectors hold
 * a group. unpacklo puts the first quadwords of both side by side in one vector, in another order (0 2 1 3 for four
 * slots); the same operation restores the order:
 *
 *     slots   | word 0, ptr 0 | word 1, ptr 1 |   | word 2, ptr 2 | word 3, ptr 3 |
 *     words   | word 0, word 2 | word 1, word 3 |      unpacklo of both
 *
 * Slots are loaded once, into registers, and the checked values are the values used. The order of the two quadwords
 * of a descriptor or a slot does not matter: a doorbell or a ring's tail is stored after them.
 * ASSUMPTION (datasheet not at hand): a vector load never splits an aligned quadword, because no known processor
 * does. Intel and AMD promise it for aligned loads of 16 bytes on processors with AVX.
 */
enum { IN_VECTOR = GROUP / 2 }; /* slots */

/* The 32-bit halves of the first quadword of 16 bytes, as bits for MIXED. */
enum { LOW = 1, HIGH = 2, WORD = LOW | HIGH };

/* volatile: the compiler must not load a second time */
TARGET static inline VECTOR load(const void *slots)
{
    return *(const volatile UNALIGNED *)slots;
}

TARGET static inline void store(void *slots, VECTOR value)
{
    *(UNALIGNED *)slots = value;
}

/* Every quadword has these two halves, as a slot's word has them. */
TARGET static inline VECTOR halves(uint32_t len_flags, uint32_t buf_idx)
{
    return ALL((int64_t)((uint64_t)len_flags << 32 | buf_idx));
}

/* The valid words of a queue's slots, and the place of their buffers. */
struct buffers {
    VECTOR iova, stride, least, range;
};

TARGET static inline struct buffers buffers_of(const struct queue *q, uint32_t least_length, uint32_t length_range)
{
    return (struct buffers){
        .iova = ALL((int64_t)q->buffers_iova),
        .stride = ALL(q->buf_size),
        .least = halves(least_length, RESERVED_BUFFERS),
        .range = halves(length_range, q->total_buffers - 1 - RESERVED_BUFFERS),
    };
}

/* mul_epu32 multiplies the low halves of quadwords: buf_idx. */
TARGET static inline VECTOR addresses(const struct buffers *b, VECTOR words)
{
    return b->iova + MM(mul_epu32)(words, b->stride);
}

TARGET static inline void store_descriptors(struct descriptor *at, VECTOR address, VECTOR control)
{
    store(at, MM(unpacklo_epi64)(address, control));
    store(at + IN_VECTOR, MM(unpackhi_epi64)(address, control));
}

/* plain_frame_control() for each length. */
TARGET static inline VECTOR tx_controls(VECTOR length)
{
    return length | MM(slli_epi64)(length, TX_PAYLEN_SHIFT) | ALL((int64_t)(TX_DATA | TX_EOP));
}

enum { REQUESTED_AHEAD = 16 }; /* descriptors */

/* Take the lines of the descriptors of a later group away from the NIC's core, which read them last, so that the stores
 * need not wait. __builtin_prefetch(line, 1) does not: without -mprfchw compilers make a prefetch to read of it. A
 * processor without prefetchw ignores it. Only for groups of this call: the NIC may use the descriptors after them. */
TARGET static inline void request(const struct descriptor *descriptor, uint32_t done, uint32_t count)
{
    if (done + REQUESTED_AHEAD + GROUP > count)
        return;
    for (uint32_t i = 0; i < GROUP; i += 4) /* descriptors in a line */
        __asm__ volatile("prefetchw %0" : : "m"(descriptor[done + REQUESTED_AHEAD + i]));
}

/* write_plain_frames: plain frames become descriptors without RS. */
TARGET struct run GROUPS(tx)(const struct queue *q, uint32_t from, uint32_t count)
{
    const struct buffers buffers = buffers_of(q, MIN_FRAME, q->buf_size - MIN_FRAME);
    const VECTOR kept = halves(~((uint32_t)NS_BUF_CHANGED << 16), UINT32_MAX);
    const struct netmap_slot *slot = &q->ring->slot[from];
    struct descriptor *descriptor = &q->descriptors[from];
    VECTOR bytes = ALL(0), seen = bytes;
    uint32_t done = 0;
    for (; done + GROUP <= count; done += GROUP) {
        request(descriptor, done, count);
        VECTOR asked = MM(unpacklo_epi64)(load(slot + done), load(slot + done + IN_VECTOR));
        VECTOR words = asked & kept;
        if (!within(words, buffers.least, buffers.range))
            break;
        VECTOR length = MM(srli_epi64)(words, 32);
        store_descriptors(descriptor + done, addresses(&buffers, words), tx_controls(length));
        bytes += length;
        seen |= asked;
    }
    return (struct run){done, (uint32_t)(ored(seen) >> 48), sum(bytes)};
}

/* post_run: slots with valid buffers become descriptors to fill. */
TARGET struct run GROUPS(rx_post)(const struct queue *q, uint32_t from, uint32_t count)
{
    const struct buffers buffers = buffers_of(q, 0, UINT32_MAX);
    const struct netmap_slot *slot = &q->ring->slot[from];
    struct descriptor *descriptor = &q->descriptors[from];
    VECTOR seen = ALL(0);
    uint32_t done = 0;
    for (; done + GROUP <= count; done += GROUP) {
        VECTOR words = MM(unpacklo_epi64)(load(slot + done), load(slot + done + IN_VECTOR));
        if (!within(words, buffers.least, buffers.range))
            break;
        store_descriptors(descriptor + done, addresses(&buffers, words), ALL(0));
        seen |= words;
    }
    return (struct run){done, (uint32_t)(ored(seen) >> 48), 0};
}

/* take_plain_frames: descriptors with DD and EOP, without RXE, and with a length up to most_received become slots. len
 * and flags are stored together with the buf_idx and ptr just read. The application does not own these slots yet,
 * so a correct one writes nothing there meanwhile. */
TARGET struct run GROUPS(rx_take)(const struct queue *q, uint32_t from, uint32_t count)
{
    const VECTOR checked = halves(UINT16_MAX, (uint32_t)(RX_DD | RX_EOP | RX_RXE)), length_only = halves(UINT16_MAX, 0);
    const VECTOR least = halves(0, (uint32_t)(RX_DD | RX_EOP)), range = halves(q->most_received, 0);
    struct netmap_slot *slot = &q->ring->slot[from];
    const struct descriptor *descriptor = &q->descriptors[from];
    VECTOR bytes = ALL(0);
    uint32_t done = 0;
    for (; done + GROUP <= count; done += GROUP) {
        VECTOR controls = MM(unpackhi_epi64)(load(descriptor + done), load(descriptor + done + IN_VECTOR));
        VECTOR lengths = controls & length_only;
        if (!within(controls & checked, least, range))
            break;
        store(slot + done, MIXED(load(slot + done), MM(unpacklo_epi64)(lengths, ALL(0)), HIGH));
        store(slot + done + IN_VECTOR, MIXED(load(slot + done + IN_VECTOR), MM(unpackhi_epi64)(lengths, ALL(0)), HIGH));
        bytes += lengths;
    }
    return (struct run){done, 0, sum(bytes) >> 32};
}

/* forward_run: buffers change places, and both slots become descriptors, the TX descriptor without RS. Both queues
 * use the same buffers. */
TARGET struct run GROUPS(forward)(const struct queue *rx, const struct queue *tx, uint32_t from, uint32_t to,
                                  uint32_t count)
{
    const struct buffers sent = buffers_of(tx, MIN_FRAME, tx->buf_size - MIN_FRAME),
                         given = buffers_of(rx, 0, UINT32_MAX);
    const VECTOR kept = MIXED(ALL(-1), halves(~((uint32_t)NS_BUF_CHANGED << 16), UINT32_MAX), WORD);
    struct netmap_slot *rx_slot = &rx->ring->slot[from], *tx_slot = &tx->ring->slot[to];
    struct descriptor *rx_descriptor = &rx->descriptors[from], *tx_descriptor = &tx->descriptors[to];
    VECTOR bytes = ALL(0);
    uint32_t done = 0;
    for (; done + GROUP <= count; done += GROUP) {
        request(tx_descriptor, done, count);
        VECTOR full = load(rx_slot + done) & kept, full_2 = load(rx_slot + done + IN_VECTOR) & kept;
        VECTOR empty = load(tx_slot + done), empty_2 = load(tx_slot + done + IN_VECTOR);
        VECTOR words = MM(unpacklo_epi64)(full, full_2), spare = MM(unpacklo_epi64)(empty, empty_2);
        if (!within(words, sent.least, sent.range) || !within(spare, given.least, given.range))
            break;
        store(tx_slot + done, MIXED(empty, full, WORD));
        store(tx_slot + done + IN_VECTOR, MIXED(empty_2, full_2, WORD));
        store(rx_slot + done, MIXED(full, empty, LOW));
        store(rx_slot + done + IN_VECTOR, MIXED(full_2, empty_2, LOW));
        VECTOR length = MM(srli_epi64)(words, 32);
        store_descriptors(tx_descriptor + done, addresses(&sent, words), tx_controls(length));
        store_descriptors(rx_descriptor + done, addresses(&given, spare), ALL(0));
        bytes += length;
    }
    return (struct run){done, 0, sum(bytes)};
}
