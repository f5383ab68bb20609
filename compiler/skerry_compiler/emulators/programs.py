"""Programs of other processors in QEMU's user mode: a small loader takes the very library that ships, as a device's
runtime would, and feeds it rows.

The loader is C without a C library (building one for each processor would take a minute): it copies the library's
segments, applies its relocations, which are all relative in a library that needs nothing (System V ABI, "Dynamic
Linking"), finds `skerry_run` among its symbols, and calls it for every row of its input.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from pathlib import Path

from skerry_compiler.emulators.running import run
from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.form import SHARED
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.errors import CompileError
from skerry_contracts.bundle import Predicates, Signature
from skerry_targets import fit, host
from skerry_targets.profile import Profile

EMULATOR, EMULATED_BITS = "qemu-x86_64-static", 256  # for x86 that this machine is not; it has no AVX-512
# What the loader ends with where the library is at fault.
FAULTS = {
    101: "it is no library for this processor",
    102: "it needs another library",
    103: "it has no skerry_run",
    104: "its pages cannot be made executable",
}


@dataclasses.dataclass(frozen=True, slots=True)
class System:
    """Linux on a processor: ELF's number of the machine and of its relative relocation, the numbers of the system calls
    read, write, exit and mprotect, and the assembly that makes one (syscall(2)).
    """

    machine: int
    relative: int
    calls: tuple[int, int, int, int]
    how: str


_REGISTERS = """register long n __asm__("%s") = number, x __asm__("%s") = a, y __asm__("%s") = b, z __asm__("%s") = c;
    __asm__ volatile("%s" : "+r"(x) : "r"(n), "r"(y), "r"(z) : "memory");
    return x;"""
_X86 = """long found;
    __asm__ volatile("%s" : "=a"(found) : "a"(number), "%s"(a), "%s"(b), "d"(c) : "memory"%s);
    return found;"""
_ARM = _REGISTERS % ("r7", "r0", "r1", "r2", "svc 0")
SYSTEMS = {
    "aarch64": System(183, 1027, (63, 64, 93, 226), _REGISTERS % ("x8", "x0", "x1", "x2", "svc 0")),
    "riscv64": System(243, 3, (63, 64, 93, 226), _REGISTERS % ("a7", "a0", "a1", "a2", "ecall")),
    "armv7l": System(40, 23, (3, 4, 1, 125), _ARM),
    "armv6l": System(40, 23, (3, 4, 1, 125), _ARM),
    "x86_64": System(62, 8, (0, 1, 60, 10), _X86 % ("syscall", "D", "S", ', "rcx", "r11"')),
    "i686": System(3, 8, (3, 4, 1, 125), _X86 % ("int $0x80", "b", "c", "")),
}
LOADER = """
#include <stdint.h>

enum { READ = %(read)d, WRITE = %(write)d, EXIT = %(exit)d, PROTECT = %(protect)d };
enum { PAGE = 65536, LOAD = 1, DYNAMIC = 2, RELATIVE = %(relative)d };

#if __SIZEOF_POINTER__ == 8
typedef uint64_t word;
typedef struct { unsigned char ident[16]; uint16_t type, machine; uint32_t version; word entry, headers, sections;
                 uint32_t flags; uint16_t size, header_size, count; } Elf;
typedef struct { uint32_t type, flags; word offset, at, physical, file, memory, align; } Segment;
typedef struct { uint32_t name; uint8_t info, other; uint16_t section; word value, size; } Symbol;
#else
typedef uint32_t word;
typedef struct { unsigned char ident[16]; uint16_t type, machine; uint32_t version; word entry, headers, sections;
                 uint32_t flags; uint16_t size, header_size, count; } Elf;
typedef struct { uint32_t type; word offset, at, physical, file, memory; uint32_t flags; word align; } Segment;
typedef struct { uint32_t name; word value, size; uint8_t info, other; uint16_t section; } Symbol;
#endif
typedef int32_t Run(const void *const *in, void *const *out);

extern const unsigned char library[] __attribute__((visibility("hidden")));
static _Alignas(PAGE) unsigned char image[%(image)d];
static _Alignas(64) unsigned char buffers[%(buffers)d];
static word tag[32];

static long call(long number, long a, long b, long c)
{
    %(how)s
}

static void end(long status)
{
    for (;;) call(EXIT, status, 0, 0);
}

static int whole(long number, int file, unsigned char *at, long size)
{
    while (size > 0) {
        const long done = call(number, file, (long)at, size);
        if (done <= 0) return 0;
        at += done;
        size -= done;
    }
    return 1;
}

static void relocate(const word *table, word size, int addends)
{
    const word step = addends ? 3 : 2;
    for (word i = 0; i < size / sizeof(word); i += step) {
        if ((uint32_t)table[i + 1] != RELATIVE) end(102);
        word *const to = (word *)(image + table[i]);
        *to = (word)(uintptr_t)image + (addends ? table[i + 2] : *to);
    }
}

static int same(const char *one, const char *two)
{
    while (*one && *one == *two) one++, two++;
    return *one == *two;
}

static Run *loaded(void)
{
    const Elf *const elf = (const Elf *)library;
    const Segment *const segments = (const Segment *)(library + elf->headers);
    volatile unsigned char *const to = image;
    const word *dynamic = 0;
    if (elf->machine != %(machine)d || elf->ident[4] != sizeof(word) / 4) end(101);
    for (int i = 0; i < elf->count; i++) {
        const Segment *const each = segments + i;
        if (each->type == LOAD)
            for (word k = 0; k < each->file; k++) to[each->at + k] = library[each->offset + k];
        if (each->type == DYNAMIC) dynamic = (const word *)(image + each->at);
    }
    if (!dynamic) end(101);
    for (; dynamic[0]; dynamic += 2) {
        if (dynamic[0] == 1) end(102);
        if (dynamic[0] < 32) tag[dynamic[0]] = dynamic[1];
    }
    relocate((const word *)(image + tag[7]), tag[8], 1);
    relocate((const word *)(image + tag[17]), tag[18], 0);
    relocate((const word *)(image + tag[23]), tag[2], tag[20] == 7);
    if (call(PROTECT, (long)image, sizeof image, 7)) end(104);
    const Symbol *const symbols = (const Symbol *)(image + tag[6]);
    const char *const names = (const char *)(image + tag[5]);
    for (const Symbol *each = symbols + 1; (const char *)(each + 1) <= names; each++)
        if (each->section && same(names + each->name, "skerry_run")) return (Run *)(image + each->value);
    end(103);
    return 0;
}

%(aligned)svoid _start(void)
{
    const void *in[%(sources)d] = {%(in)s};
    void *out[%(targets)d] = {%(out)s};
    long status = 0;
    Run *const run = loaded();
    for (int first = 1; !status && (%(row)d ? whole(READ, 0, buffers, %(row)d) : first); first = 0) {
        status = run(in, out);
        if (!whole(WRITE, 1, buffers + %(row)d, %(answer)d)) status = 2;
    }
    end(status);
}
"""


def command(profile: Profile) -> list[str] | None:
    """Return what runs the board's programs here: nothing (this machine does), an emulator, or None: neither."""
    abi, cpu = profile.abi, profile.cpu
    if abi.os != "linux" or abi.machine not in SYSTEMS or profile.emulator.kind not in ("native", "qemu-user"):
        return None
    if profile.emulator.kind == "native":  # of the emulators, x86 has one
        facts = host.hardware({}, "")
        if not fit.missing(Predicates(abi.os, abi.machine, cpu.features), facts):
            return []
        if cpu.vector_bits > EMULATED_BITS:
            return None
    name = profile.emulator.command or EMULATOR
    return [name] if shutil.which(name) else None


def outputs(library: bytes, profile: Profile, signature: Signature, rows: bytes) -> bytes:
    """Return the outputs of rows as the emulated processor computes them; none for no rows: then it is only loaded.

    Raises:
        CompileError: the library does not load, crashes (an instruction the processor lacks), or takes too long.
    """
    machine = Machine.of(profile)
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        (folder / "library.bin").write_bytes(library)
        text = SHARED.assembly(0, "library.bin").replace("skerry_weights", "library")
        (folder / "library.S").write_text(text)
        (folder / "main.c").write_text(_loader(signature, profile.abi.machine, 2 * len(library) + (64 << 20)))
        flags = [*build.compile_flags(machine), "-O1", "-static", "-nostdlib", "-Wl,-e,_start", "-o", "program"]
        build.run([*flags, "main.c", "library.S", "-Wno-unused-command-line-argument"], folder)
        environment = {"PATH": os.environ.get("PATH", "")}
        if profile.cpu.qemu_cpu:
            environment["QEMU_CPU"] = profile.cpu.qemu_cpu
        emulator = command(profile)
        if emulator is None:
            raise CompileError(f"nothing here runs programs of {profile.id}")
        return run([*emulator, str(folder / "program")], rows, folder, environment, FAULTS)


def _loader(signature: Signature, machine: str, image_bytes: int) -> str:
    """Return a loader whose buffers are packed as rows are."""
    places, at = [], 0
    for spec in (*signature.inputs, *signature.outputs):
        places.append(f"buffers + {at}")
        at += spec.size_bytes
    row, sources = sum(spec.size_bytes for spec in signature.inputs), len(signature.inputs)
    system = SYSTEMS[machine]
    words = {
        **dict(zip(("read", "write", "exit", "protect"), system.calls, strict=True)),
        "machine": system.machine,
        "relative": system.relative,
        "how": system.how,
        "image": image_bytes,
        "buffers": max(at, 1),
        "aligned": "__attribute__((force_align_arg_pointer)) " if machine in ("x86_64", "i686") else "",
        "sources": max(sources, 1),
        "in": ", ".join(places[:sources]) or "0",
        "targets": len(signature.outputs),
        "out": ", ".join(places[sources:]),
        "row": row,
        "answer": at - row,
    }
    return LOADER % words
