/* groups.h with 64-byte vectors: groups of eight slots. */
#include "vectors.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f")))
#define GROUPS(what) what##_groups_avx512
#define GROUP 8
#define VECTOR __m512i
#define UNALIGNED __m512i_u
#define MM(operation) _mm512_##operation
#define ALL(quadword) _mm512_set1_epi64(quadword)
/* `which` selects 32-bit halves in each 16 bytes: `b` where its bit is set, `a` elsewhere. */
#define MIXED(a, b, which) _mm512_mask_blend_epi32((which) * 0x1111, a, b)

/* Whether every half of `words` is in least..least + range. Any flag makes len_flags larger than every length. */
TARGET static inline bool within(VECTOR words, VECTOR least, VECTOR range)
{
    return _mm512_cmple_epu32_mask(_mm512_sub_epi32(words, least), range) == UINT16_MAX;
}

TARGET static inline uint64_t sum(VECTOR quadwords)
{
    return (uint64_t)_mm512_reduce_add_epi64(quadwords);
}

TARGET static inline uint64_t ored(VECTOR quadwords)
{
    return (uint64_t)_mm512_reduce_or_epi64(quadwords);
}

#include "groups.h"

#endif
