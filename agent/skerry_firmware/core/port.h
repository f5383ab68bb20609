/* What the core asks of a board: flash that forgets only when erased, a link of bytes, a clock, and a way to start anew. */
#ifndef SKERRY_PORT_H
#define SKERRY_PORT_H

#include <stdint.h>

enum { PAGE = 256, SLOTS = 2, STATES = 2 };

/* Why the board started anew, kept where a restart does not reach (not over a power cut). */
enum { REASON_POWER, REASON_FAULT, REASON_HANG };

typedef struct {
    uint8_t *slots[SLOTS];       /* where each slot is seen, PAGE aligned */
    uint32_t slot_size;          /* whole pages */
    uint8_t *states[STATES];     /* two places of one page each, erased one by one */
    uint8_t *ram;                /* for the model, 16 aligned */
    uint32_t ram_size;
    uint32_t features;           /* FEATURE_… */
    const uint8_t *key;          /* 32 bytes: whose images it takes (Ed25519) */
} board;

/* Return the board; called before anything else. */
const board *port_begin(void);

/* Erase whole pages to 0xff; return whether they are. */
int port_erase(uint8_t *at, uint32_t size);

/* Program one erased page; return whether it holds the bytes. */
int port_program(uint8_t *at, const uint8_t page[PAGE]);

/* Return the next byte of the link; waits for it. */
uint8_t port_read(void);

void port_write(const uint8_t *data, uint32_t size);

/* Milliseconds since the start. */
uint32_t port_clock(void);

/* Start anew, with REASON_HANG, unless called again (with 0: never) within so many milliseconds. */
void port_limit(uint32_t milliseconds);

/* Why it started, and whether a model ran at that moment. */
uint32_t port_reason(void);

#endif
