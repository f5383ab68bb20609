/* Ed25519 signatures (RFC 8032), only their verification, of a message in two pieces. It takes as long as its input
 * makes it take: everything it sees is public. */
#ifndef SKERRY_ED25519_H
#define SKERRY_ED25519_H

#include <stdint.h>

/* Return whether a signature is the key's, over the message. */
int ed25519_verify(const uint8_t key[32], const uint8_t signature[64], const uint8_t *message, uint32_t size);

#endif
