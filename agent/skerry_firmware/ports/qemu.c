/* The core on QEMU's Arm MPS boards: flash in a file of the machine outside, the link over two pipes, both by
 * semihosting (Arm, "Semihosting for AArch32 and AArch64"). Flash is written through as it is programmed, so that the
 * power may go at any moment; its bits only ever turn from one to zero until it is erased. */
#include "../core/image.h"
#include "../core/port.h"

extern uint32_t top[], begin[], end[], from[], zero[], last[], flash[], model_ram[];

void core(void);

enum { OPEN = 1, WRITE = 5, READ = 6, SEEK = 10, EXIT = 0x20 };
enum { STATE_BYTES = STATES * PAGE, FLASH_BYTES = STATE_BYTES + SLOTS * SLOT_BYTES };
enum { WORD_MAGIC = 0x5eed0000 };

static const uint8_t key[32] = {KEY};
__attribute__((section(".noinit"))) static volatile uint32_t why;
static volatile uint32_t ticks, limit;
static int file, incoming, outgoing;
static board this;

static int host(int what, void *with)
{
    register int r0 __asm__("r0") = what;
    register void *r1 __asm__("r1") = with;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static int opened(const char *name, uint32_t length, uint32_t mode)
{
    uint32_t words[] = {(uint32_t)name, mode, length};
    const int found = host(OPEN, words);
    uint32_t status[] = {0x20026, 3};
    if (found < 0) host(EXIT, status);
    return found;
}

static int left(int what, int where, void *at, uint32_t size)
{
    uint32_t words[] = {(uint32_t)where, (uint32_t)at, size};
    return host(what, words);
}

static void restart(uint32_t reason)
{
    why = WORD_MAGIC | reason;
    __asm__ volatile("dsb");
    *(volatile uint32_t *)0xe000ed0c = 0x05fa0004;
    for (;;) {}
}

static void fault(void)
{
    restart(REASON_FAULT);
}

static void tick(void)
{
    ticks++;
    if (limit && !--limit) restart(REASON_HANG);
}

static int through(uint8_t *at, uint32_t size)
{
    uint32_t words[] = {(uint32_t)file, (uint32_t)(at - (uint8_t *)flash)};
    return !host(SEEK, words) && !left(WRITE, file, at, size);
}

const board *port_begin(void)
{
    file = opened("flash", 5, 3);
    left(READ, file, flash, FLASH_BYTES);
    incoming = opened("in", 2, 1);
    outgoing = opened("out", 3, 5);
    for (int i = 0; i < STATES; i++) this.states[i] = (uint8_t *)flash + i * PAGE;
    for (int i = 0; i < SLOTS; i++) this.slots[i] = (uint8_t *)flash + STATE_BYTES + i * SLOT_BYTES;
    this.slot_size = SLOT_BYTES;
    this.ram = (uint8_t *)model_ram;
    this.ram_size = RAM_BYTES;
    this.features = FEATURES;
    this.key = key;
    *(volatile uint32_t *)0xe000e014 = 25000 - 1; /* SysTick: a thousand a second */
    *(volatile uint32_t *)0xe000e018 = 0;
    *(volatile uint32_t *)0xe000e010 = 7;
    return &this;
}

int port_erase(uint8_t *at, uint32_t size)
{
    for (uint32_t i = 0; i < size; i += PAGE) {
        for (uint32_t k = 0; k < PAGE; k++) ((volatile uint8_t *)at)[i + k] = 0xff;
        if (!through(at + i, PAGE)) return 0;
    }
    return 1;
}

int port_program(uint8_t *at, const uint8_t page[PAGE])
{
    uint8_t apart = 0;
    for (uint32_t i = 0; i < PAGE; i++) ((volatile uint8_t *)at)[i] &= page[i];
    for (uint32_t i = 0; i < PAGE; i++) apart |= at[i] ^ page[i];
    return through(at, PAGE) && !apart;
}

uint8_t port_read(void)
{
    static uint8_t buffer[64];
    static uint32_t at, size;
    while (at == size) {
        at = 0;
        size = sizeof buffer - (uint32_t)left(READ, incoming, buffer, sizeof buffer);
        if (!size) { /* the other end has gone */
            uint32_t status[] = {0x20026, 0};
            host(EXIT, status);
        }
    }
    return buffer[at++];
}

void port_write(const uint8_t *data, uint32_t size)
{
    left(WRITE, outgoing, (void *)data, size);
}

uint32_t port_clock(void)
{
    return ticks;
}

void port_limit(uint32_t milliseconds)
{
    limit = milliseconds;
}

uint32_t port_reason(void)
{
    const uint32_t found = why;
    why = 0;
    return (found & 0xffff0000) == WORD_MAGIC ? found & 0xffff : REASON_POWER;
}

static void start(void)
{
    for (volatile uint32_t *to = begin, *of = from; to < end; to++, of++) *to = *of;
    for (volatile uint32_t *to = zero; to < last; to++) *to = 0;
#ifdef __ARM_FP
    *(volatile uint32_t *)0xe000ed88 |= 0xf << 20; /* the floating-point unit, and the vector unit with it */
    __asm__ volatile("dsb\nisb");
#endif
    core();
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    top, (void *)start, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault, 0, 0, 0, 0,
    (void *)fault, (void *)fault, 0, (void *)fault, (void *)tick,
};
