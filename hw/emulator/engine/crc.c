/* The frame check sequence of a frame (802.3 3.2.9), eight bytes at a time. */
#include "nic.h"

enum { AT_ONCE = 8, POLYNOMIAL_BITS = 8 };

/* table[k][b]: what byte b adds to the register, k bytes before the last one that is added with it. */
static uint32_t table[AT_ONCE][256];

static __attribute__((constructor)) void fill_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (uint32_t bit = 0; bit < POLYNOMIAL_BITS; bit++)
            crc = crc >> 1 ^ (0xEDB88320u & (0u - (crc & 1)));
        table[0][byte] = crc;
    }
    for (uint32_t k = 1; k < AT_ONCE; k++)
        for (uint32_t byte = 0; byte < 256; byte++)
            table[k][byte] = table[k - 1][byte] >> 8 ^ table[0][table[k - 1][byte] & 0xFF];
}

uint32_t frame_check_sequence(const uint8_t *frame, uint32_t length)
{
    uint32_t crc = ~0u;
    for (; length >= AT_ONCE; frame += AT_ONCE, length -= AT_ONCE) {
        uint64_t word = word8(frame) ^ crc;
        crc = 0;
        for (uint32_t k = 0; k < AT_ONCE; k++, word >>= 8)
            crc ^= table[AT_ONCE - 1 - k][word & 0xFF];
    }
    for (; length; frame++, length--)
        crc = crc >> 8 ^ table[0][(crc ^ *frame) & 0xFF];
    return ~crc;
}
