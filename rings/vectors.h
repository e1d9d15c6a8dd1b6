/* The loops of tx_frames, rx_frames, rx_write_piece and forward_slots in hotloop.c, GROUP slots at a time; each stops before the first
 * group of which a slot is not as that loop wants it. What it leaves in memory is what the loop leaves, to the bit
 * (tests/test_rings_vectors.py).
 *
 * A slot and a descriptor have 16 bytes, so a vector holds a pair. The first quadwords of two pairs, of slots 0, 1 and 2, 3, side by
 * side in one vector stand in the order 0 2 1 3, and the same operation puts them back:
 *
 *     pairs   | word 0, ptr 0 | word 1, ptr 1 |   | word 2, ptr 2 | word 3, ptr 3 |
 *     words   | word 0, word 2 | word 1, word 3 |      unpacklo of both pairs
 *
 * A pair is loaded once, into a register, and what is used is what was checked. The order of a descriptor's or slot's two quadwords
 * is free: a doorbell or a ring's tail comes after them. ASSUMPTION: a load of 32 bytes takes each aligned quadword in it whole. Intel
 * and AMD promise it for the aligned halves of 16 bytes of processors with AVX, when loaded by themselves; no processor is known
 * that splits a quadword.
 */
#ifndef VECTORS_H
#define VECTORS_H

#include "descriptor.h"
#include "queue.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))

int has_vectors(void)
{
    return __builtin_cpu_supports("avx2") != 0;
}

/* volatile: loaded here and once, whatever the compiler thinks of it */
AVX2 static inline __m256i load_pair(const void *pair)
{
    return *(const volatile __m256i_u *)pair;
}

AVX2 static inline void store_pair(void *pair, __m256i value)
{
    _mm256_storeu_si256(pair, value);
}

/* The same two 32-bit halves in each quadword: of a slot's word that is len and flags, then buf_idx. */
AVX2 static inline __m256i halves(uint32_t len_flags, uint32_t buf_idx)
{
    return _mm256_set1_epi64x((int64_t)((uint64_t)len_flags << 32 | buf_idx));
}

/* Every half of `words` is `least`..`least + range`. A flag makes len_flags larger than any length. */
AVX2 static inline bool within(__m256i words, __m256i least, __m256i range)
{
    __m256i above = _mm256_sub_epi32(words, least);
    return _mm256_movemask_epi8(_mm256_cmpeq_epi32(_mm256_max_epu32(above, range), range)) == -1;
}

AVX2 static inline uint64_t sum(__m256i quadwords)
{
    __m128i two = _mm_add_epi64(_mm256_castsi256_si128(quadwords), _mm256_extracti128_si256(quadwords, 1));
    return (uint64_t)_mm_cvtsi128_si64(two) + (uint64_t)_mm_extract_epi64(two, 1);
}

AVX2 static inline uint32_t flags_of(__m256i words)
{
    __m128i two = _mm_or_si128(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    return (uint32_t)((uint64_t)(_mm_cvtsi128_si64(two) | _mm_extract_epi64(two, 1)) >> 48);
}

/* What buffers a queue's slots may have, and where they are. Multiplying quadwords takes their low halves only: buf_idx. */
struct buffers {
    __m256i iova, stride, least, range;
};

AVX2 static inline struct buffers buffers_of(const struct queue *q, uint32_t least_length, uint32_t length_range)
{
    return (struct buffers){
        .iova = _mm256_set1_epi64x((int64_t)q->buffers_iova), .stride = _mm256_set1_epi64x(q->buf_size),
        .least = halves(least_length, RESERVED_BUFFERS), .range = halves(length_range, q->total_buffers - 1 - RESERVED_BUFFERS),
    };
}

AVX2 static inline __m256i addresses(const struct buffers *b, __m256i words)
{
    return _mm256_add_epi64(b->iova, _mm256_mul_epu32(words, b->stride));
}

AVX2 static inline void store_descriptors(struct descriptor *at, __m256i address, __m256i control)
{
    store_pair(at, _mm256_unpacklo_epi64(address, control));
    store_pair(at + 2, _mm256_unpackhi_epi64(address, control));
}

/* Commands and both lengths of frames in one slot; nothing but the length is in the words' high halves. */
AVX2 static inline __m256i tx_controls(__m256i length)
{
    __m256i lengths = _mm256_or_si256(length, _mm256_slli_epi64(length, TX_PAYLEN_SHIFT));
    return _mm256_or_si256(lengths, _mm256_set1_epi64x((int64_t)(TX_DATA | TX_EOP)));
}

/* Slots that may be sent as they are become descriptors without RS. Such a slot has no flag but NS_BUF_CHANGED, and no padding to do. */
AVX2 static struct run tx_groups(const struct queue *q, uint32_t from, uint32_t count)
{
    const struct buffers buffers = buffers_of(q, MIN_FRAME, q->buf_size - MIN_FRAME);
    const __m256i kept = halves(~((uint32_t)NS_BUF_CHANGED << 16), UINT32_MAX);
    const struct netmap_slot *slot = &q->ring->slot[from];
    struct descriptor *descriptor = &q->descriptors[from];
    __m256i bytes = _mm256_setzero_si256(), seen = bytes;
    uint32_t done = 0;
    for (; done + GROUP <= count; done += GROUP) {
        __m256i asked = _mm256_unpacklo_epi64(load_pair(slot + done), load_pair(slot + done + 2));
        __m256i words = _mm256_and_si256(asked, kept);
        if (!within(words, buffers.least, buffers.range))
            break;
        __m256i length = _mm256_srli_epi64(words, 32);
        store_descriptors(descriptor + done, addresses(&buffers, words), tx_controls(length));
        bytes = _mm256_add_epi64(bytes, length);
        seen = _mm256_or_si256(seen, asked);
    }
    return (struct run){done, flags_of(seen), sum(bytes)};
}

/* Slots whose buffers are there become descriptors for the NIC to fill. */
AVX2 static struct run rx_write_groups(const struct queue *q, uint32_t from, uint32_t count)
{
    const struct buffers buffers = buffers_of(q, 0, UINT32_MAX);
    const struct netmap_slot *slot = &q->ring->slot[from];
    struct descriptor *descriptor = &q->descriptors[from];
    __m256i seen = _mm256_setzero_si256();
    uint32_t done = 0;
    for (; done + GROUP <= count; done += GROUP) {
        __m256i words = _mm256_unpacklo_epi64(load_pair(slot + done), load_pair(slot + done + 2));
        if (!within(words, buffers.least, buffers.range))
            break;
        store_descriptors(descriptor + done, addresses(&buffers, words), _mm256_setzero_si256());
        seen = _mm256_or_si256(seen, words);
    }
    return (struct run){done, flags_of(seen), 0};
}

/* Completed descriptors of whole good frames become slots. These are the NIC's slots still, so that len and flags may be stored together
 * with the buf_idx and ptr that were read: whoever writes there now has no business to. */
AVX2 static struct run rx_groups(const struct queue *q, uint32_t from, uint32_t count)
{
    const __m256i status = halves(0, (uint32_t)(RX_DD | RX_EOP | RX_RXE)), good = halves(0, (uint32_t)(RX_DD | RX_EOP));
    const __m256i longest = halves(q->buf_size, 0), length_only = halves(UINT16_MAX, 0), zero = _mm256_setzero_si256();
    struct netmap_slot *slot = &q->ring->slot[from];
    const struct descriptor *descriptor = &q->descriptors[from];
    __m256i bytes = zero;
    uint32_t done = 0;
    for (; done + GROUP <= count; done += GROUP) {
        __m256i controls = _mm256_unpackhi_epi64(load_pair(descriptor + done), load_pair(descriptor + done + 2));
        __m256i lengths = _mm256_and_si256(controls, length_only);
        __m256i as_wanted = _mm256_cmpeq_epi32(_mm256_and_si256(controls, status), good);
        __m256i short_enough = _mm256_cmpeq_epi32(_mm256_max_epu32(lengths, longest), longest);
        if (_mm256_movemask_epi8(_mm256_and_si256(as_wanted, short_enough)) != -1)
            break;
        store_pair(slot + done, _mm256_blend_epi32(load_pair(slot + done), _mm256_unpacklo_epi64(lengths, zero), 0x22));
        store_pair(slot + done + 2, _mm256_blend_epi32(load_pair(slot + done + 2), _mm256_unpackhi_epi64(lengths, zero), 0x22));
        bytes = _mm256_add_epi64(bytes, lengths);
    }
    return (struct run){done, 0, sum(bytes) >> 32};
}

/* Frames in one slot go from a receive to a send ring: buffers change places, and both slots become descriptors, that for sending
 * without RS. Both queues have buffers of the same memory. */
AVX2 static struct run forward_groups(const struct queue *rx, const struct queue *tx, uint32_t from, uint32_t to, uint32_t count)
{
    const struct buffers sent = buffers_of(tx, MIN_FRAME, tx->buf_size - MIN_FRAME), given = buffers_of(rx, 0, UINT32_MAX);
    const __m256i kept = _mm256_set_epi32(-1, -1, 0xFFFF | ~(NS_BUF_CHANGED << 16), -1, -1, -1, 0xFFFF | ~(NS_BUF_CHANGED << 16), -1);
    struct netmap_slot *rx_slot = &rx->ring->slot[from], *tx_slot = &tx->ring->slot[to];
    struct descriptor *rx_descriptor = &rx->descriptors[from], *tx_descriptor = &tx->descriptors[to];
    __m256i bytes = _mm256_setzero_si256();
    uint32_t done = 0;
    for (; done + GROUP <= count; done += GROUP) {
        __m256i full01 = _mm256_and_si256(load_pair(rx_slot + done), kept), full23 = _mm256_and_si256(load_pair(rx_slot + done + 2), kept);
        __m256i empty01 = load_pair(tx_slot + done), empty23 = load_pair(tx_slot + done + 2);
        __m256i words = _mm256_unpacklo_epi64(full01, full23), spare = _mm256_unpacklo_epi64(empty01, empty23);
        if (!within(words, sent.least, sent.range) || !within(spare, given.least, given.range))
            break;
        store_pair(tx_slot + done, _mm256_blend_epi32(empty01, full01, 0x33));
        store_pair(tx_slot + done + 2, _mm256_blend_epi32(empty23, full23, 0x33));
        store_pair(rx_slot + done, _mm256_blend_epi32(full01, empty01, 0x11));
        store_pair(rx_slot + done + 2, _mm256_blend_epi32(full23, empty23, 0x11));
        __m256i length = _mm256_srli_epi64(words, 32);
        store_descriptors(tx_descriptor + done, addresses(&sent, words), tx_controls(length));
        store_descriptors(rx_descriptor + done, addresses(&given, spare), _mm256_setzero_si256());
        bytes = _mm256_add_epi64(bytes, length);
    }
    return (struct run){done, 0, sum(bytes)};
}

#else /* no vectors: queues are made without them, and nobody comes here */

int has_vectors(void)
{
    return 0;
}

static inline struct run tx_groups(const struct queue *q, uint32_t from, uint32_t count)
{
    (void)q, (void)from, (void)count;
    return (struct run){0};
}

static inline struct run rx_write_groups(const struct queue *q, uint32_t from, uint32_t count)
{
    return tx_groups(q, from, count);
}

static inline struct run rx_groups(const struct queue *q, uint32_t from, uint32_t count)
{
    return tx_groups(q, from, count);
}

static inline struct run forward_groups(const struct queue *rx, const struct queue *tx, uint32_t from, uint32_t to, uint32_t count)
{
    (void)tx, (void)to;
    return tx_groups(rx, from, count);
}

#endif

#endif
