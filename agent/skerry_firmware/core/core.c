/* The agent of a microcontroller: takes images over a link into the slot that is not running, tries them, commits or
 * goes back, runs the model and reports. Whenever the power goes, the board starts with a whole model or says that it has
 * none.
 *
 * A frame is bytes without zeros (COBS, Cheshire and Baker 1999) and a zero; inside are a kind, a number, words, and a CRC-32.
 * Every frame gets one reply with the same number; besides, the board says S when it has started. */
#include "sha512.h"
#include "slots.h"

enum { FRAME = 1100, HEAD = 2, CHUNK = 1024, PROTOCOL = 1, FORGIVEN = 1000 };

static const board *on;
static uint8_t frame[FRAME], reply[FRAME];
static uint8_t target = NONE; /* the slot that takes an image */
static uint32_t taken;        /* bytes of it */
static _Alignas(4) uint8_t page[PAGE];
static uint32_t runs, answered_ms;
static int ready; /* the active model's RAM is as it should be */

static uint32_t word(const uint8_t *at)
{
    return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24;
}

static void put(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(value >> 8 * i);
}

static void copy(uint8_t *to, const uint8_t *from, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) ((volatile uint8_t *)to)[i] = from[i];
}

/* Send a reply of so many bytes in `reply`, its kind first, with the number of what it answers. */
static void send(uint32_t size)
{
    reply[1] = reply[0] == 'S' ? 0 : frame[1];
    static uint8_t coded[FRAME + FRAME / 254 + 2];
    put(reply + size, crc32(reply, size));
    size += 4;
    uint32_t at = 1, mark = 0;
    uint8_t count = 1;
    for (uint32_t i = 0; i < size; i++) {
        if (reply[i]) {
            coded[at++] = reply[i];
            count++;
        }
        if (!reply[i] || count == 0xff) {
            coded[mark] = count;
            mark = at++;
            count = 1;
        }
    }
    coded[mark] = count;
    coded[at++] = 0;
    port_write(coded, at);
}

static void say(uint8_t kind, uint32_t value)
{
    reply[0] = kind;
    put(reply + HEAD, value);
    send(HEAD + 4);
}

static void refuse(uint8_t problem)
{
    say('E', problem);
}

static uint32_t filled;
static int broken;

static void add(uint8_t byte)
{
    if (filled < FRAME) frame[filled++] = byte;
    else broken = 1;
}

/* Return the size of the next sound frame in `frame`, without its check. */
static uint32_t received(void)
{
    for (;;) {
        uint8_t code = 0xff, byte;
        uint32_t left = 0;
        filled = 0;
        broken = 0;
        while ((byte = port_read())) {
            if (left) {
                add(byte);
                left--;
                continue;
            }
            if (code != 0xff) add(0);
            code = byte;
            left = byte - 1u;
        }
        const int whole = !broken && !left && filled >= HEAD + 4;
        if (whole && crc32(frame, filled - 4) == word(frame + filled - 4)) return filled - 4;
        if (filled) {
            frame[1] = 0;
            refuse(BAD_FRAME);
        }
    }
}

static void cleared(uint8_t slot)
{
    const header *const of = slots_header(on, slot);
    const uint8_t *const data = slots_body(on, slot) + of->data;
    for (uint32_t i = 0; i < of->ram; i++) ((volatile uint8_t *)on->ram)[i] = i < of->data_size ? data[i] : 0;
}

/* Run a slot's model on the row behind its RAM; return its status. */
static int32_t run(uint8_t slot)
{
    const header *const of = slots_header(on, slot);
    const void *in[TENSORS];
    void *out[TENSORS];
    uint8_t *at = on->ram + (of->ram + 15) / 16 * 16;
    for (int i = 0; i < of->inputs + of->outputs; at += of->sizes[i++]) {
        if (i < of->inputs) in[i] = at;
        else out[i - of->inputs] = at;
    }
    int32_t (*const call)(const void *const *, void *const *) =
        (int32_t (*)(const void *const *, void *const *))((uintptr_t)(slots_body(on, slot) + of->run) | 1);
    const uint32_t began = port_clock();
    port_limit(of->limit_ms);
    const int32_t status = call(in, out);
    port_limit(0);
    answered_ms = port_clock() - began;
    return status;
}

static uint32_t bytes(const header *of, int outputs)
{
    uint32_t sum = 0;
    for (int i = 0; i < of->inputs + of->outputs; i++)
        if (outputs == (i >= of->inputs)) sum += of->sizes[i];
    return sum;
}

static uint8_t *row_of(const header *of)
{
    return on->ram + (of->ram + 15) / 16 * 16;
}

/* Return whether outputs are the right ones: floats within the tolerance, all else to the bit. */
static int right(const header *of, const uint8_t *found, const uint8_t *wanted)
{
    for (int i = 0; i < of->outputs; i++) {
        for (uint32_t k = 0; k < of->sizes[of->inputs + i]; k += 4, found += 4, wanted += 4) {
            const float apart = *(const float *)found - *(const float *)wanted;
            if (of->exact >> i & 1 ? word(found) != word(wanted) : !(apart <= of->tolerance && -apart <= of->tolerance))
                return 0; /* NaN, too */
        }
    }
    return 1;
}

/* Return FINE where a slot's model answers its golden rows. */
static int golden(uint8_t slot)
{
    const header *const of = slots_header(on, slot);
    const uint32_t given = bytes(of, 0), answer = bytes(of, 1);
    const uint8_t *row = slots_body(on, slot) + of->golden;
    cleared(slot);
    for (uint32_t i = 0; i < of->rows; i++, row += given + answer) {
        copy(row_of(of), row, given);
        if (run(slot)) return BAD_ANSWER;
        if (!right(of, row_of(of) + given, row + given)) return BAD_ANSWER;
    }
    return FINE;
}

/* Try what is in `now.trial`: it becomes the active model, or it is forgotten. */
static void try(void)
{
    const uint8_t slot = now.trial;
    int problem = FINE;
    if (now.tries >= MOST_STARTS) problem = now.problem ? now.problem : FAULTED;
    else {
        now.tries++;
        slots_keep(on);
        problem = slots_whole(on, slot) ? golden(slot) : BAD_DIGEST;
    }
    now.trial = NONE;
    now.problem = (uint8_t)problem;
    if (!problem) {
        now.active = slot;
        now.floor = slots_header(on, slot)->release;
        now.faults = 0;
    }
    slots_keep(on);
    ready = 0;
}

/* Begin with what is durably known, and what the last start ended with. */
static void begin(void)
{
    const uint32_t reason = port_reason();
    slots_begin(on);
    now.starts++;
    if (reason != REASON_POWER) {
        now.problem = reason == REASON_HANG ? HUNG : FAULTED;
        if (now.trial == NONE && now.faults < 0xff) now.faults++;
    }
    slots_keep(on);
    if (now.trial != NONE) try();
    const uint8_t other = now.active == NONE ? 0 : 1 - now.active;
    if (now.active == NONE || (slots_whole(on, now.active) && now.faults < MOST_FAULTS)) return;
    now.problem = now.faults < MOST_FAULTS ? BAD_DIGEST : now.problem;
    now.active = slots_whole(on, other) ? other : now.faults < MOST_FAULTS ? NONE : now.active;
    now.faults = 0;
    slots_keep(on);
}

static void tell(void)
{
    const int model = now.active != NONE;
    const header *const of = model ? slots_header(on, now.active) : 0;
    const uint32_t words[] = {
        PROTOCOL, on->features, on->slot_size, on->ram_size, now.floor, model ? of->release : 0, now.starts,
        now.faults, now.problem, runs, answered_ms, port_clock(), model ? bytes(of, 0) : 0, model ? bytes(of, 1) : 0,
        now.active,
    };
    reply[0] = 'H';
    for (uint32_t i = 0; i < sizeof words / 4; i++) put(reply + HEAD + 4 * i, words[i]);
    for (int i = 0; i < NAME; i++) reply[HEAD + sizeof words + i] = model ? (uint8_t)of->name[i] : 0;
    send(HEAD + sizeof words + NAME);
}

static void offered(uint32_t size)
{
    header wanted;
    target = NONE;
    if (size != HEAD + sizeof(header)) {
        refuse(BAD_SIZE);
        return;
    }
    copy((uint8_t *)&wanted, frame + HEAD, sizeof wanted);
    const int problem = slots_check(on, &wanted);
    if (problem) {
        refuse((uint8_t)problem);
        return;
    }
    const uint8_t slot = now.active == NONE ? 0 : 1 - now.active;
    if (!port_erase(on->slots[slot], on->slot_size) || !port_program(on->slots[slot], (const uint8_t *)&wanted)) {
        refuse(BAD_FLASH);
        return;
    }
    target = slot;
    taken = 0;
    say('K', 0);
}

/* Program the page of the stream that is full. */
static int programmed(void)
{
    const uint32_t start = taken - PAGE, body = (uint32_t)(slots_body(on, target) - on->slots[target]) - PAGE;
    if (start >= body) slots_relocate(on, target, page, start - body, PAGE, 0);
    return port_program(on->slots[target] + PAGE + start, page);
}

/* The stream as it lies in the slot: the relocations filled up to a page, then the body. */
static void piece(uint32_t size)
{
    if (target == NONE || size <= HEAD + 4 || size > HEAD + 4 + CHUNK) {
        refuse(target == NONE ? BAD_ORDER : BAD_SIZE);
        return;
    }
    const header *const of = slots_header(on, target);
    const uint32_t before = (uint32_t)(slots_body(on, target) - on->slots[target]) - PAGE;
    const uint32_t whole = before + (of->body + PAGE - 1) / PAGE * PAGE;
    const uint32_t at = word(frame + HEAD);
    size -= HEAD + 4;
    if (at > taken || size > whole - at) {
        refuse(BAD_ORDER);
        return;
    }
    for (uint32_t i = taken - at; i < size; i++) { /* what came before is not programmed again */
        page[taken++ % PAGE] = frame[HEAD + 4 + i];
        if (taken % PAGE == 0 && !programmed()) {
            target = NONE;
            refuse(BAD_FLASH);
            return;
        }
    }
    say('K', taken);
}

static void finished(void)
{
    if (target == NONE || !slots_whole(on, target)) {
        refuse(target == NONE ? BAD_ORDER : BAD_DIGEST);
        return;
    }
    now.trial = target;
    now.tries = 0;
    now.problem = FINE;
    target = NONE;
    if (!slots_keep(on)) {
        now.trial = NONE;
        refuse(BAD_FLASH);
        return;
    }
    try();
    if (now.problem) refuse(now.problem);
    else say('K', now.floor);
}

static void fed(uint32_t size)
{
    const header *const of = now.active == NONE ? 0 : slots_header(on, now.active);
    const int sound = size >= HEAD + 4;
    const uint32_t at = sound ? word(frame + HEAD) : 0;
    size -= sound ? HEAD + 4 : 0;
    if (!of || !sound || at > bytes(of, 0) || size > bytes(of, 0) - at) {
        refuse(of ? BAD_SIZE : NO_MODEL);
        return;
    }
    copy(row_of(of) + at, frame + HEAD + 4, size);
    say('K', at + size);
}

static void asked(void)
{
    if (now.active == NONE) {
        refuse(NO_MODEL);
        return;
    }
    if (!ready) cleared(now.active);
    ready = 1;
    const int32_t status = run(now.active);
    if (++runs == FORGIVEN && now.faults) { /* long enough without a fault */
        now.faults = 0;
        slots_keep(on);
    }
    say(status ? 'E' : 'K', status ? BAD_ANSWER : answered_ms);
}

static void read(uint32_t size)
{
    const header *const of = now.active == NONE ? 0 : slots_header(on, now.active);
    const int sound = size == HEAD + 8;
    const uint32_t at = sound ? word(frame + HEAD) : -1u, length = sound ? word(frame + HEAD + 4) : 0;
    if (!of || length > CHUNK || at > bytes(of, 1) || length > bytes(of, 1) - at) {
        refuse(of ? BAD_SIZE : NO_MODEL);
        return;
    }
    reply[0] = 'O';
    copy(reply + HEAD, row_of(of) + bytes(of, 0) + at, length);
    send(HEAD + length);
}

void core(void)
{
    on = port_begin();
    begin();
    say('S', now.problem);
    for (;;) {
        const uint32_t size = received();
        switch (frame[0]) {
        case 'h': tell(); break;
        case 'b': offered(size); break;
        case 'd': piece(size); break;
        case 'f': finished(); break;
        case 'i': fed(size); break;
        case 'r': asked(); break;
        case 'o': read(size); break;
        default: refuse(BAD_FRAME);
        }
    }
}
