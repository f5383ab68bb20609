/* Two slots for images and what is durably known of them. */
#ifndef SKERRY_SLOTS_H
#define SKERRY_SLOTS_H

#include "image.h"
#include "port.h"

enum { NONE = 0xff, MOST_STARTS = 2, MOST_FAULTS = 3 };

/* What went wrong last; the other end of the link has the words. */
enum {
    FINE,
    BAD_FRAME,
    BAD_HEADER,
    BAD_SIGNATURE,
    TOO_OLD,
    TOO_LARGE,
    NEEDS_MORE,
    BAD_ORDER,
    BAD_DIGEST,
    BAD_FLASH,
    BAD_ANSWER,
    FAULTED,
    HUNG,
    NO_MODEL,
    BAD_SIZE,
};

/* One page, written whole, in turns in two places: the newer of the sound ones counts. */
typedef struct {
    uint32_t magic;
    uint32_t sequence;
    uint32_t floor;   /* no image of an older release is taken any more */
    uint32_t starts;  /* of the board */
    uint8_t active;   /* slot, or NONE */
    uint8_t trial;    /* slot on trial, or NONE */
    uint8_t tries;    /* starts since the trial began */
    uint8_t faults;   /* of the active model, since it last ran long without */
    uint8_t problem;  /* the last */
    uint8_t spare[3];
    uint32_t check;   /* CRC-32 of what is before it */
} state;

extern state now;

uint32_t crc32(const uint8_t *data, uint32_t size);

/* Read what is durably known; begins anew where there is nothing. */
void slots_begin(const board *on);

/* Write `now`; return whether it is durable. */
int slots_keep(const board *on);

/* Return whether a header is one that the board may take: FINE or what is wrong. */
int slots_check(const board *on, const header *wanted);

/* Return whether a slot holds a whole, signed image. */
int slots_whole(const board *on, uint8_t slot);

const header *slots_header(const board *on, uint8_t slot);
uint8_t *slots_body(const board *on, uint8_t slot);

/* Apply the relocations that lie in a piece of the body of an image whose relocations are in the slot already; `back`
 * undoes them. */
void slots_relocate(const board *on, uint8_t slot, uint8_t *piece, uint32_t from, uint32_t size, int back);

#endif
