"""Microcontrollers in QEMU's system mode: the object file that ships, linked with a start for the emulated board, reads
rows from a file by semihosting and writes its answers to another (Arm, "Semihosting for AArch32 and AArch64").
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from skerry_compiler.emulators.running import run
from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.errors import LimitError, ToolError
from skerry_contracts.bundle import Signature
from skerry_targets.profile import Profile

FAULTS = {101: "the board cannot read its rows"}
# Where an emulated board has its flash and its memory, and how much of each: from QEMU's description of the board.
MEMORIES = {
    "microbit": (0x0, 256 << 10, 0x20000000, 16 << 10),
    "mps2-an385": (0x0, 4 << 20, 0x20000000, 4 << 20),
    "mps2-an386": (0x0, 4 << 20, 0x20000000, 4 << 20),
    "mps2-an500": (0x0, 4 << 20, 0x20000000, 4 << 20),
    "mps2-an505": (0x10000000, 4 << 20, 0x38000000, 4 << 20),
    "mps3-an547": (0x0, 512 << 10, 0x20000000, 512 << 10),
}
STACK_BYTES = 4 << 10
FLAGS = ("-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native")
MAIN = """
#include <stdint.h>

int32_t skerry_run(const void *const *in, void *const *out);

extern uint32_t top[], begin[], end[], from[], zero[], last[];
static _Alignas(16) unsigned char buffers[%(buffers)d];

static int host(int what, void *with)
{
    register int r0 __asm__("r0") = what;
    register void *r1 __asm__("r1") = with;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void leave(uint32_t status)
{
    uint32_t words[] = {0x20026, status};
    for (;;) host(0x20, words);
}

static int open(const char *name, uint32_t length, uint32_t mode)
{
    uint32_t words[] = {(uint32_t)name, mode, length};
    return host(1, words);
}

static int left(int what, int file, unsigned char *at, uint32_t size)
{
    uint32_t words[] = {(uint32_t)file, (uint32_t)at, size};
    return size ? host(what, words) : 0;
}

static void work(void)
{
    const void *in[%(sources)d] = {%(in)s};
    void *out[%(targets)d] = {%(out)s};
    const int rows = open("rows", 4, 1), answers = open("answers", 7, 5);
    uint32_t status = rows < 0 || answers < 0 ? 101 : 0;
    for (int first = 1; !status && (%(row)d ? !left(6, rows, buffers, %(row)d) : first); first = 0) {
        status = (uint32_t)skerry_run(in, out);
        if (left(5, answers, buffers + %(row)d, %(answer)d)) status = 101;
    }
    leave(status);
}

static void fault(void)
{
    leave(139);
}

static void start(void)
{
    for (volatile uint32_t *to = begin, *of = from; to < end; to++, of++) *to = *of;
    for (volatile uint32_t *to = zero; to < last; to++) *to = 0;
#ifdef __ARM_FP
    *(volatile uint32_t *)0xe000ed88 |= 0xf << 20; /* the floating-point unit, and the vector unit with it */
    __asm__ volatile("dsb\\nisb");
#endif
    work();
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    top, (void *)start, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
};
"""
LAYOUT = """
MEMORY {
  flash (rx) : ORIGIN = %(flash)#x, LENGTH = %(flash_bytes)d
  ram (rwx) : ORIGIN = %(ram)#x, LENGTH = %(ram_bytes)d
}
SECTIONS {
  .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) } > flash
  .ARM.exidx : { *(.ARM.exidx*) } > flash
  .data : ALIGN(64) { begin = .; *(.data*) . = ALIGN(4); end = .; } > ram AT > flash
  from = LOADADDR(.data);
  .bss (NOLOAD) : ALIGN(64) { zero = .; *(.bss*) *(COMMON) . = ALIGN(4); last = .; } > ram
  top = ORIGIN(ram) + LENGTH(ram);
  ASSERT(last + %(stack)d <= top, "no room for a stack")
}
"""


def available(profile: Profile) -> bool:
    """Return whether this machine has the profile's emulated board."""
    named = profile.emulator.kind == "qemu-system" and profile.emulator.machine in MEMORIES
    return named and shutil.which(profile.emulator.command) is not None


def outputs(model: bytes, profile: Profile, signature: Signature, rows: bytes) -> bytes:
    """Return the outputs of rows as the emulated board computes them; none for no rows: then it only starts.

    Raises:
        LimitError: it does not fit the emulated board's memory.
        CompileError: it faults, or takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        (folder / "model.o").write_bytes(model)
        (folder / "rows").write_bytes(rows)
        _link(folder, profile, _main(signature))
        kernel = ["-M", profile.emulator.machine, *FLAGS, "-kernel", "program"]
        run([profile.emulator.command, *kernel], b"", folder, {"PATH": os.environ.get("PATH", "")}, FAULTS)
        answers = folder / "answers"
        return answers.read_bytes() if answers.exists() else b""


def _link(folder: Path, profile: Profile, main: str) -> None:
    """Link `model.o` in a folder with a start for the emulated board into `program`.

    Raises:
        LimitError: it does not fit.
    """
    flash, flash_bytes, ram, ram_bytes = MEMORIES[profile.emulator.machine]
    words = {"flash": flash, "flash_bytes": flash_bytes, "ram": ram, "ram_bytes": ram_bytes, "stack": STACK_BYTES}
    (folder / "main.c").write_text(main)
    (folder / "board.ld").write_text(LAYOUT % words)
    flags = [*build.compile_flags(Machine.of(profile)), "-Wl,-T,board.ld", "-Wl,--gc-sections"]
    try:
        build.run([*flags, "-o", "program", "main.c", "model.o", "-Wno-unused-command-line-argument"], folder)
    except ToolError as error:
        if "no room" in str(error) or "will not fit" in str(error):
            raise LimitError(f"it does not fit the memory of the emulated {profile.emulator.machine}") from error
        raise


def _main(signature: Signature) -> str:
    places, at = [], 0
    for spec in (*signature.inputs, *signature.outputs):
        places.append(f"buffers + {at}")
        at += spec.size_bytes
    row, sources = sum(spec.size_bytes for spec in signature.inputs), len(signature.inputs)
    return MAIN % {
        "buffers": max(at, 1),
        "sources": max(sources, 1),
        "in": ", ".join(places[:sources]) or "0",
        "targets": len(signature.outputs),
        "out": ", ".join(places[sources:]),
        "row": row,
        "answer": at - row,
    }
