/* Bytes between the buffers of a run of slots and an array, a row for each slot.
 *
 * The lines of received frames are in the cache of the core that wrote them, if the NIC is emulated. Fetching such a
 * line takes longer than copying its bytes, so lines to read are requested AHEAD frames before. Stores do not wait for
 * their lines, and requests for them cost more than they gain.
 *
 * Another process may change the slots meanwhile: each index is loaded once and checked, and only the copy is used.
 */
#include <string.h>

#include "queue.h"

enum {
    AHEAD = 16, /* frames; a power of two */
    LINES = 4,  /* of a frame; the processor itself notices longer runs */
    CACHE_LINE = 64,
};

/* Bytes [offset, offset + length) of the buffers of slots [from, from + count). */
struct bytes {
    uint32_t from, count, offset, length;
};

/* The application owns the slots [head, tail). Relaxed: it synced before, and it knows its own head. */
static inline int refusal(const struct frames *f, struct bytes b)
{
    uint32_t head = __atomic_load_n(&f->ring->head, __ATOMIC_RELAXED);
    uint32_t tail = __atomic_load_n(&f->ring->tail, __ATOMIC_RELAXED);
    if (b.offset > f->buf_size || b.length > f->buf_size - b.offset)
        return NOT_IN_A_BUFFER;
    if (head >= f->num_slots || tail >= f->num_slots || b.from >= f->num_slots)
        return NOT_OWNED;
    uint32_t owned = distance(head, tail, f->num_slots), before = distance(head, b.from, f->num_slots);
    return before <= owned && b.count <= owned - before && b.count <= f->num_slots - b.from ? 0 : NOT_OWNED;
}

/* NULL for an index that is not a buffer, after noting it. Relaxed: the sync that moved tail has the barrier. */
static inline uint8_t *bytes_of(struct frames *f, struct bytes b, uint32_t i)
{
    uint32_t index = read_slot(f->ring, b.from + i).buf_idx;
    if (index - RESERVED_BUFFERS < f->total_buffers - RESERVED_BUFFERS)
        return f->buffers + (uint64_t)index * f->buf_size + b.offset;
    f->refused = index;
    return NULL;
}

static inline void request(const uint8_t *bytes, uint32_t length)
{
    const uint8_t *end = bytes + least(length, LINES * CACHE_LINE);
    for (const uint8_t *line = bytes - (uintptr_t)bytes % CACHE_LINE; line < end; line += CACHE_LINE)
        __builtin_prefetch(line);
}

/* Two overlapping parts cover every length between one and two of them: no loop, and no call for a header. */
static inline void copy(uint8_t *restrict to, const uint8_t *restrict from, size_t length)
{
    if (length > 64) {
        memcpy(to, from, length);
    } else if (length > 32) {
        memcpy(to, from, 32);
        memcpy(to + length - 32, from + length - 32, 32);
    } else if (length > 16) {
        memcpy(to, from, 16);
        memcpy(to + length - 16, from + length - 16, 16);
    } else if (length >= 8) {
        memcpy(to, from, 8);
        memcpy(to + length - 8, from + length - 8, 8);
    } else if (length >= 4) {
        memcpy(to, from, 4);
        memcpy(to + length - 4, from + length - 4, 4);
    } else {
        for (size_t i = 0; i < length; i++)
            to[i] = from[i];
    }
}

/* Returns 0, or 1 + the first slot whose index is not a buffer: the frames before it are read. */
int read_frames(struct frames *f, uint32_t from, uint32_t count, uint32_t offset, uint32_t length, uint8_t *rows)
{
    const struct bytes b = {from, count, offset, length};
    const uint8_t *requested[AHEAD];
    uint32_t next = 0, end = count;
    int refused = count ? refusal(f, b) : 0;
    if (refused)
        return refused;
    for (uint32_t i = 0; i < end; i++, rows += length) {
        while (next < end && next < i + AHEAD) {
            const uint8_t *bytes = bytes_of(f, b, next);
            if (!bytes) {
                end = next;
                break;
            }
            request(bytes, length);
            requested[next++ % AHEAD] = bytes;
        }
        if (i < end)
            copy(rows, requested[i % AHEAD], length);
    }
    return end < count ? (int)(from + end) + 1 : 0;
}

/* stride: `length`, or 0 to write one row into every frame. Returns as read_frames() does. */
int write_frames(struct frames *f, uint32_t from, uint32_t count, uint32_t offset, uint32_t length, const uint8_t *rows,
                 uint32_t stride)
{
    const struct bytes b = {from, count, offset, length};
    int refused = count ? refusal(f, b) : 0;
    if (refused)
        return refused;
    for (uint32_t i = 0; i < count; i++, rows += stride) {
        uint8_t *bytes = bytes_of(f, b, i);
        if (!bytes)
            return (int)(from + i) + 1;
        copy(bytes, rows, length);
    }
    return 0;
}

/* Add to a big-endian number of 1, 2 or 4 bytes. */
static inline void add(uint8_t *bytes, size_t length, uint32_t amount)
{
    uint16_t two;
    uint32_t four;
    if (length == 1) {
        *bytes = (uint8_t)(*bytes + amount);
    } else if (length == 2) {
        memcpy(&two, bytes, sizeof(two));
        two = __builtin_bswap16((uint16_t)(__builtin_bswap16(two) + amount));
        memcpy(bytes, &two, sizeof(two));
    } else {
        memcpy(&four, bytes, sizeof(four));
        four = __builtin_bswap32(__builtin_bswap32(four) + amount);
        memcpy(bytes, &four, sizeof(four));
    }
}

/* length: 1, 2 or 4. Returns as write_frames() does. */
int add_to_frames(struct frames *f, uint32_t from, uint32_t count, uint32_t offset, uint32_t length, uint32_t amount)
{
    const struct bytes b = {from, count, offset, length};
    int refused = count ? refusal(f, b) : 0;
    if (refused)
        return refused;
    for (uint32_t i = 0; i < count; i++) {
        uint8_t *bytes = bytes_of(f, b, i);
        if (!bytes)
            return (int)(from + i) + 1;
        add(bytes, length, amount);
    }
    return 0;
}
