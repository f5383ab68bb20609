/* An image: what a microcontroller runs, as it comes over the link. All numbers are little endian.
 *
 *   header          256 bytes, of which the last 64 are the signature (Ed25519) of the 192 before
 *   relocations     a word each, rising: a place in the body; its lowest bit says whether RAM's or the body's own
 *                   address is added to the word there
 *   body            code, constants, golden rows; linked as if body and RAM both began at 0
 *
 * In a slot the relocations are filled up to a whole page, and the body's words hold true addresses. */
#ifndef SKERRY_IMAGE_H
#define SKERRY_IMAGE_H

#include <stdint.h>

enum { MAGIC = 0x314d4b53, TENSORS = 8, NAME = 24 };
enum { FEATURE_DSP = 1, FEATURE_FLOAT = 2, FEATURE_DOUBLE = 4, FEATURE_VECTORS = 8 };

typedef struct {
    uint32_t magic;        /* SKM1 */
    uint32_t release;
    uint32_t features;     /* what the code needs */
    uint32_t relocations;  /* how many */
    uint32_t body;         /* bytes, whole words */
    uint32_t ram;          /* bytes that it uses */
    uint32_t data;         /* where in the body the first contents of RAM are */
    uint32_t data_size;    /* the rest of RAM begins as zeros */
    uint32_t run;          /* where in the body int32_t run(const void *const *in, void *const *out) is */
    uint32_t golden;       /* where in the body rows and their right answers are */
    uint32_t rows;         /* how many */
    float tolerance;       /* largest difference of a golden answer (float32) */
    uint32_t limit_ms;     /* an inference that takes longer hangs */
    uint16_t inputs, outputs;
    uint32_t sizes[TENSORS]; /* bytes of each, inputs first */
    char name[NAME];
    uint8_t digest[64];    /* SHA-512 of relocations and body */
    uint32_t exact;        /* a bit for each output that is no float32: its golden answers are compared bit by bit */
    uint8_t reserved[12];
    uint8_t signature[64];
} header;

_Static_assert(sizeof(header) == 256, "the header is one page");

#endif
