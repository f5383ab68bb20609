/* SHA-512 (FIPS 180-4), in pieces. */
#ifndef SKERRY_SHA512_H
#define SKERRY_SHA512_H

#include <stdint.h>

typedef struct {
    uint64_t state[8];
    uint64_t length; /* bytes so far */
    uint8_t block[128];
} sha512;

void sha512_begin(sha512 *hash);
void sha512_more(sha512 *hash, const uint8_t *data, uint32_t size);
void sha512_end(sha512 *hash, uint8_t digest[64]);

#endif
