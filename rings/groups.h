/* The loops of tx_frames, rx_frames, rx_write_piece and forward_slots in hotloop.c, GROUP slots at a time; each stops before the first
 * group of which a slot is not as that loop wants it. What it leaves in memory is what the loop leaves, to the bit
 * (tests/rings/test_vectors.py).
 *
 * Included by avx2.c and avx512.c, which say what a VECTOR is. A slot and a descriptor have 16 bytes, so two vectors hold a group. The
 * first quadwords of both, side by side in one vector, stand in another order (0 2 1 3 of four), and the same operation puts them back:
 *
 *     slots   | word 0, ptr 0 | word 1, ptr 1 |   | word 2, ptr 2 | word 3, ptr 3 |
 *     words   | word 0, word 2 | word 1, word 3 |      unpacklo of both
 *
 * Slots are loaded once, into registers, and what is used is what was checked. The order of a descriptor's or slot's two quadwords
 * is free: a doorbell or a ring's tail comes after them. ASSUMPTION: a load of a whole vector takes each aligned quadword in it whole.
 * Intel and AMD promise it for the aligned 16 bytes of processors with AVX, when loaded by themselves; no processor is known that splits
 * a quadword.
 */
enum { IN_ONE = GROUP / 2 }; /* slots in a vector */

/* The two 32-bit halves of a slot's word or of a descriptor's second quadword, as bits for MIXED. */
enum { LOW = 1, HIGH = 2, WORD = LOW | HIGH };

/* volatile: loaded here and once, whatever the compiler thinks of it */
TARGET static inline VECTOR load(const void *slots)
{
    return *(const volatile UNALIGNED *)slots;
}

TARGET static inline void store(void *slots, VECTOR value)
{
    *(UNALIGNED *)slots = value;
}

/* The same two halves in each quadword: of a slot's word that is len and flags, then buf_idx. */
TARGET static inline VECTOR halves(uint32_t len_flags, uint32_t buf_idx)
{
    return ALL((int64_t)((uint64_t)len_flags << 32 | buf_idx));
}

/* What buffers a queue's slots may have, and where they are. Multiplying quadwords takes their low halves only: buf_idx. */
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

TARGET static inline VECTOR addresses(const struct buffers *b, VECTOR words)
{
    return b->iova + MM(mul_epu32)(words, b->stride);
}

TARGET static inline void store_descriptors(struct descriptor *at, VECTOR address, VECTOR control)
{
    store(at, MM(unpacklo_epi64)(address, control));
    store(at + IN_ONE, MM(unpackhi_epi64)(address, control));
}

/* Commands and both lengths of frames in one slot; nothing but the length is in the words' high halves. */
TARGET static inline VECTOR tx_controls(VECTOR length)
{
    return length | MM(slli_epi64)(length, TX_PAYLEN_SHIFT) | ALL((int64_t)(TX_DATA | TX_EOP));
}

/* Slots that may be sent as they are become descriptors without RS. Such a slot has no flag but NS_BUF_CHANGED, and no padding to do. */
TARGET struct run GROUPS(tx)(const struct queue *q, uint32_t from, uint32_t count)
{
    const struct buffers buffers = buffers_of(q, MIN_FRAME, q->buf_size - MIN_FRAME);
    const VECTOR kept = halves(~((uint32_t)NS_BUF_CHANGED << 16), UINT32_MAX);
    const struct netmap_slot *slot = &q->ring->slot[from];
    struct descriptor *descriptor = &q->descriptors[from];
    VECTOR bytes = ALL(0), seen = bytes;
    uint32_t done = 0;
    for (; done + GROUP <= count; done += GROUP) {
        VECTOR asked = MM(unpacklo_epi64)(load(slot + done), load(slot + done + IN_ONE));
        VECTOR words = asked & kept;
        if (!within(words, buffers.least, buffers.range))
            break;
        VECTOR length = MM(srli_epi64)(words, 32);
        store_descriptors(descriptor + done, addresses(&buffers, words), tx_controls(length));
        bytes += length;
        seen |= asked;
    }
    return (struct run){done, (uint32_t)(joined(seen) >> 48), sum(bytes)};
}

/* Slots whose buffers are there become descriptors for the NIC to fill. */
TARGET struct run GROUPS(rx_write)(const struct queue *q, uint32_t from, uint32_t count)
{
    const struct buffers buffers = buffers_of(q, 0, UINT32_MAX);
    const struct netmap_slot *slot = &q->ring->slot[from];
    struct descriptor *descriptor = &q->descriptors[from];
    VECTOR seen = ALL(0);
    uint32_t done = 0;
    for (; done + GROUP <= count; done += GROUP) {
        VECTOR words = MM(unpacklo_epi64)(load(slot + done), load(slot + done + IN_ONE));
        if (!within(words, buffers.least, buffers.range))
            break;
        store_descriptors(descriptor + done, addresses(&buffers, words), ALL(0));
        seen |= words;
    }
    return (struct run){done, (uint32_t)(joined(seen) >> 48), 0};
}

/* Completed descriptors of whole good frames become slots: DD and EOP without RXE, and a length up to a buffer's. These are the NIC's
 * slots still, so that len and flags may be stored together with the buf_idx and ptr that were read: whoever writes there now has no
 * business to. */
TARGET struct run GROUPS(rx)(const struct queue *q, uint32_t from, uint32_t count)
{
    const VECTOR looked_at = halves(UINT16_MAX, (uint32_t)(RX_DD | RX_EOP | RX_RXE)),
                 length_only = halves(UINT16_MAX, 0);
    const VECTOR least = halves(0, (uint32_t)(RX_DD | RX_EOP)), range = halves(q->buf_size, 0);
    struct netmap_slot *slot = &q->ring->slot[from];
    const struct descriptor *descriptor = &q->descriptors[from];
    VECTOR bytes = ALL(0);
    uint32_t done = 0;
    for (; done + GROUP <= count; done += GROUP) {
        VECTOR controls = MM(unpackhi_epi64)(load(descriptor + done), load(descriptor + done + IN_ONE));
        VECTOR lengths = controls & length_only;
        if (!within(controls & looked_at, least, range))
            break;
        store(slot + done, MIXED(load(slot + done), MM(unpacklo_epi64)(lengths, ALL(0)), HIGH));
        store(slot + done + IN_ONE, MIXED(load(slot + done + IN_ONE), MM(unpackhi_epi64)(lengths, ALL(0)), HIGH));
        bytes += lengths;
    }
    return (struct run){done, 0, sum(bytes) >> 32};
}

/* Frames in one slot go from a receive to a send ring: buffers change places, and both slots become descriptors, that for sending
 * without RS. Both queues have buffers of the same memory. */
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
        VECTOR full = load(rx_slot + done) & kept, full_too = load(rx_slot + done + IN_ONE) & kept;
        VECTOR empty = load(tx_slot + done), empty_too = load(tx_slot + done + IN_ONE);
        VECTOR words = MM(unpacklo_epi64)(full, full_too), spare = MM(unpacklo_epi64)(empty, empty_too);
        if (!within(words, sent.least, sent.range) || !within(spare, given.least, given.range))
            break;
        store(tx_slot + done, MIXED(empty, full, WORD));
        store(tx_slot + done + IN_ONE, MIXED(empty_too, full_too, WORD));
        store(rx_slot + done, MIXED(full, empty, LOW));
        store(rx_slot + done + IN_ONE, MIXED(full_too, empty_too, LOW));
        VECTOR length = MM(srli_epi64)(words, 32);
        store_descriptors(tx_descriptor + done, addresses(&sent, words), tx_controls(length));
        store_descriptors(rx_descriptor + done, addresses(&given, spare), ALL(0));
        bytes += length;
    }
    return (struct run){done, 0, sum(bytes)};
}
