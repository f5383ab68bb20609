#include "slots.h"

#include "ed25519.h"
#include "sha512.h"

enum { STATE_MAGIC = 0x54534b53 };

state now;

uint32_t crc32(const uint8_t *data, uint32_t size)
{
    uint32_t found = -1u;
    for (uint32_t i = 0; i < size; i++) {
        found ^= data[i];
        for (int k = 0; k < 8; k++) found = found >> 1 ^ (0xedb88320 & -(found & 1));
    }
    return ~found;
}

static int sound(const state *of)
{
    return of->magic == STATE_MAGIC && of->check == crc32((const uint8_t *)of, sizeof(state) - 4);
}

static const state *newest(const board *on)
{
    const state *found = 0;
    for (int i = 0; i < STATES; i++) {
        const state *const each = (const state *)on->states[i];
        if (sound(each) && (!found || each->sequence > found->sequence)) found = each;
    }
    return found;
}

void slots_begin(const board *on)
{
    const state *const found = newest(on);
    if (found) now = *found;
    else now = (state){.magic = STATE_MAGIC, .active = NONE, .trial = NONE};
}

int slots_keep(const board *on)
{
    uint8_t page[PAGE];
    const uint8_t *const old = (const uint8_t *)newest(on);
    uint8_t *const to = old == on->states[0] ? on->states[1] : on->states[0];
    now.sequence++;
    now.check = crc32((const uint8_t *)&now, sizeof(state) - 4);
    for (uint32_t i = 0; i < PAGE; i++) page[i] = i < sizeof(state) ? ((const uint8_t *)&now)[i] : 0xff;
    return port_erase(to, PAGE) && port_program(to, page) && sound((const state *)to);
}

static uint32_t pages(uint32_t size)
{
    return (size + PAGE - 1) / PAGE * PAGE;
}

/* Return whether a part lies in a whole, sums that overflow included. */
static int inside(uint32_t at, uint32_t size, uint32_t whole)
{
    return at <= whole && size <= whole - at;
}

int slots_check(const board *on, const header *wanted)
{
    uint32_t row = 0;
    if (wanted->magic != MAGIC || !wanted->inputs || !wanted->outputs) return BAD_HEADER;
    if (wanted->inputs > TENSORS || wanted->outputs > TENSORS - wanted->inputs) return BAD_HEADER;
    if (wanted->relocations > on->slot_size / 4 || wanted->body > on->slot_size || wanted->body % 4) return TOO_LARGE;
    if (!inside(PAGE + pages(4 * wanted->relocations), pages(wanted->body), on->slot_size)) return TOO_LARGE;
    if (wanted->ram > on->ram_size) return TOO_LARGE;
    for (int i = 0; i < wanted->inputs + wanted->outputs; i++) {
        if (wanted->sizes[i] % 4 || !inside(row, wanted->sizes[i], on->ram_size)) return TOO_LARGE;
        row += wanted->sizes[i];
    }
    if (!inside(wanted->ram, row, on->ram_size)) return TOO_LARGE;
    if (wanted->data % 4 || !inside(wanted->data, wanted->data_size, wanted->body)) return BAD_HEADER;
    if (wanted->data_size > wanted->ram || !inside(wanted->run, 2, wanted->body)) return BAD_HEADER;
    if (wanted->golden % 4 || (row && wanted->rows > wanted->body / row)) return BAD_HEADER;
    if (!wanted->rows || !wanted->limit_ms || !inside(wanted->golden, wanted->rows * row, wanted->body)) return BAD_HEADER;
    if (wanted->features & ~on->features) return NEEDS_MORE;
    if (wanted->release <= now.floor) return TOO_OLD;
    return ed25519_verify(on->key, wanted->signature, (const uint8_t *)wanted, 192) ? FINE : BAD_SIGNATURE;
}

const header *slots_header(const board *on, uint8_t slot)
{
    return (const header *)on->slots[slot];
}

uint8_t *slots_body(const board *on, uint8_t slot)
{
    return on->slots[slot] + PAGE + pages(4 * slots_header(on, slot)->relocations);
}

void slots_relocate(const board *on, uint8_t slot, uint8_t *piece, uint32_t from, uint32_t size, int back)
{
    const uint32_t *const table = (const uint32_t *)(on->slots[slot] + PAGE);
    uint32_t low = 0, high = slots_header(on, slot)->relocations;
    while (low < high) { /* the first that is not before the piece */
        const uint32_t middle = low + (high - low) / 2;
        if ((table[middle] & ~3u) < from) low = middle + 1;
        else high = middle;
    }
    for (high = slots_header(on, slot)->relocations; low < high && (table[low] & ~3u) - from < size; low++) {
        const uint32_t base = (uint32_t)(uintptr_t)(table[low] & 1 ? on->ram : slots_body(on, slot));
        uint32_t *const word = (uint32_t *)(piece + ((table[low] & ~3u) - from));
        *word += back ? -base : base;
    }
}

int slots_whole(const board *on, uint8_t slot)
{
    const header *const found = slots_header(on, slot);
    const uint32_t floor = now.floor;
    now.floor = 0; /* what is installed may be older than what may come */
    const int problem = slots_check(on, found);
    now.floor = floor;
    if (problem) return 0;
    sha512 hash;
    uint8_t digest[64], differs = 0;
    uint32_t page[PAGE / 4];
    sha512_begin(&hash);
    sha512_more(&hash, on->slots[slot] + PAGE, 4 * found->relocations);
    for (uint32_t at = 0; at < found->body; at += PAGE) {
        const uint32_t size = found->body - at < PAGE ? found->body - at : PAGE;
        for (uint32_t i = 0; i < PAGE / 4; i++) page[i] = ((const uint32_t *)(slots_body(on, slot) + at))[i];
        slots_relocate(on, slot, (uint8_t *)page, at, size, 1);
        sha512_more(&hash, (const uint8_t *)page, size);
    }
    sha512_end(&hash, digest);
    for (int i = 0; i < 64; i++) differs |= digest[i] ^ found->digest[i];
    return !differs;
}
