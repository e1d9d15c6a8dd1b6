/* groups.h with 32-byte vectors: groups of four slots. */
#include "vectors.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx2")))
#define GROUPS(what) what##_groups_avx2
#define GROUP 4
#define VECTOR __m256i
#define UNALIGNED __m256i_u
#define MM(operation) _mm256_##operation
#define ALL(quadword) _mm256_set1_epi64x(quadword)
/* `which` selects 32-bit halves in each 16 bytes: `b` where its bit is set, `a` elsewhere. */
#define MIXED(a, b, which) _mm256_blend_epi32(a, b, (which) * 0x11)

/* Whether every half of `words` is in least..least + range. Any flag makes len_flags larger than every length. */
TARGET static inline bool within(VECTOR words, VECTOR least, VECTOR range)
{
    VECTOR above = _mm256_sub_epi32(words, least);
    return _mm256_movemask_epi8(_mm256_cmpeq_epi32(_mm256_max_epu32(above, range), range)) == -1;
}

TARGET static inline uint64_t sum(VECTOR quadwords)
{
    __m128i two = _mm256_castsi256_si128(quadwords) + _mm256_extracti128_si256(quadwords, 1);
    return (uint64_t)_mm_cvtsi128_si64(two) + (uint64_t)_mm_extract_epi64(two, 1);
}

TARGET static inline uint64_t ored(VECTOR quadwords)
{
    __m128i two = _mm256_castsi256_si128(quadwords) | _mm256_extracti128_si256(quadwords, 1);
    return (uint64_t)(_mm_cvtsi128_si64(two) | _mm_extract_epi64(two, 1));
}

#include "groups.h"

#endif
