"""Every kind of processor the network engine generates for, and how this machine runs a program for it: itself, an
emulator of programs, an emulator of a board, or node for WebAssembly. Programs have no C library.
"""

from __future__ import annotations

import dataclasses
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.native.build import FLAGS, contraction
from skerry_compiler.engines.network import cost
from skerry_compiler.engines.network.cost import Machine

TIME_LIMIT_S = 120


@dataclasses.dataclass(frozen=True, slots=True)
class Isa:
    """A processor: what is generated for it, how the C compiler is told of it, and the command that runs a program.

    `flags`: what /proc/cpuinfo must list where this machine is to run it itself.
    """

    id: str
    machine: Machine
    target: str
    cpu: str
    command: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def missing(self) -> str:
        """What this machine lacks to run it, "" for nothing."""
        if self.command:
            return "" if shutil.which(self.command[0]) else f"needs {self.command[0]}"
        text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
        lacks = [flag for flag in self.flags if flag not in text.split()]
        return f"the processor lacks {', '.join(lacks)}" if lacks else ""


X86, ARM = "x86_64-linux-musl", "arm-linux-musleabihf"
AVX512 = ("avx512bw", "avx512vl")
BOARD = ("-nographic", "-monitor", "none", "-serial", "none", "-semihosting-config", "enable=on,target=native")
M55 = ("qemu-system-arm", "-M", "mps3-an547", *BOARD, "-kernel")
A64 = ("qemu-aarch64-static", "-cpu")
A32 = ("qemu-arm-static", "-cpu")
# Boards without a system get compact code.
SMALL_M4, SMALL_M55 = (dataclasses.replace(each, compact=True) for each in (cost.CORTEX_M, cost.HELIUM))
# QEMU's program emulator does not start as a Cortex-M, but a Cortex-A15 knows all instructions of a Cortex-M4.
ISAS = [
    Isa("sse2", cost.SSE2, X86, "x86_64", flags=("sse2",)),
    Isa("ssse3", cost.SSE, X86, "x86_64_v2", flags=("ssse3",)),
    Isa("avx2", cost.AVX2, X86, "x86_64_v3", flags=("avx2",)),
    Isa("avx2-vnni", cost.AVX2, X86, "x86_64_v3+avxvnni", flags=("avx_vnni",)),
    Isa("avx512", cost.AVX512, X86, "x86_64_v4", flags=AVX512),
    Isa("avx512-vnni", cost.AVX512, X86, "x86_64_v4+avx512vnni", flags=(*AVX512, "avx512_vnni")),
    Isa("neon", cost.NEON, "aarch64-linux-musl", "generic", (*A64, "cortex-a53")),
    Isa("neon-dotprod", cost.NEON_DOT, "aarch64-linux-musl", "cortex_a76", (*A64, "cortex-a76")),
    Isa("neon-i8mm", cost.NEON_I8MM, "aarch64-linux-musl", "generic+v8_2a+dotprod+i8mm", (*A64, "max")),
    Isa("neon32", cost.NEON_32, ARM, "cortex_a7", (*A32, "cortex-a7")),
    Isa("neon32-no-fma", cost.NEON_32, ARM, "cortex_a9", (*A32, "cortex-a9")),
    Isa("cortex-m4", SMALL_M4, "thumb-linux-musleabihf", "cortex_m4+vfp4d16sp", (*A32, "cortex-a15")),
    Isa("cortex-m55", SMALL_M55, "thumb-freestanding-eabihf", "cortex_m55+mve_fp", M55),
    Isa("riscv64", cost.PLAIN, "riscv64-linux-musl", "baseline_rv64", ("qemu-riscv64-static",)),
    Isa("wasm", cost.WASM, "wasm32-freestanding", "generic+simd128", ("node",)),
]

CALLS = """
#if defined(__x86_64__)
static long call(long number, long a, long b, long c) {
  __asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return number;
}
enum { WRITE = 1, EXIT = 60 };
#elif defined(__aarch64__)
static long call(long number, long a, long b, long c) {
  register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
  return x0;
}
enum { WRITE = 64, EXIT = 93 };
#elif defined(__riscv)
static long call(long number, long a, long b, long c) {
  register long a7 __asm__("a7") = number, a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c;
  __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2) : "memory");
  return a0;
}
enum { WRITE = 64, EXIT = 93 };
#elif defined(__linux__)
static long call(long number, long a, long b, long c) {
  register long r7 __asm__("r7") = number, r0 __asm__("r0") = a, r1 __asm__("r1") = b, r2 __asm__("r2") = c;
  __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2) : "memory");
  return r0;
}
enum { WRITE = 4, EXIT = 1 };
#endif
"""
MAIN = """
#include <stdint.h>
int32_t skerry_run(const void *const *in, void *const *out);
__attribute__((aligned(64))) const unsigned char skerry_weights[] = {
#embed "weights.bin"
};
static _Alignas(64) const unsigned char given[] = {
#embed "input.bin"
};
static _Alignas(64) unsigned char taken[@TAKEN];
static int work(void) {
  const void *in[] = {@IN};
  void *out[] = {@OUT};
  return skerry_run(in, out) || skerry_run(in, out); /* the second time from used memory */
}
#if defined(__wasm__)
__attribute__((export_name("run"))) int run(void) { return work(); }
__attribute__((export_name("at"))) unsigned char *at(void) { return taken; }
#elif !defined(__linux__) /* a Cortex-M: a vector table, the vector unit switched on, semihosting */
static int host(int what, void *with) {
  register int r0 __asm__("r0") = what;
  register void *r1 __asm__("r1") = with;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}
static void reset(void);
__attribute__((section(".vectors"), used)) static void *const table[2] = {(void *)0x20080000, (void *)reset};
static void start(void) {
  uint32_t name[] = {(uint32_t)":tt", 4, 3};
  uint32_t text[] = {(uint32_t)host(1, name), (uint32_t)taken, sizeof taken};
  const int status = work();
  host(5, text);
  uint32_t end[] = {0x20026, (uint32_t)status};
  host(0x20, end);
}
static void reset(void) {
  *(volatile uint32_t *)0xe000ed88 |= 0xf << 20;
  __asm__ volatile("dsb\\nisb");
  start();
  for (;;) {}
}
#else
@CALLS
__attribute__((used)) static void begin(void) {
  const int status = work();
  for (long done = 0; !status && done < @TAKEN;) done += call(WRITE, 1, (long)(taken + done), @TAKEN - done);
  call(EXIT, status, 0, 0);
  for (;;) {}
}
#if defined(__x86_64__)
__asm__(".globl _start\\n_start:\\n and $-64, %rsp\\n call begin\\n");
#else
void _start(void) { begin(); }
#endif
#endif
"""
BOARD_MEMORY = """
SECTIONS {
  . = 0x0;
  .text : { KEEP(*(.vectors)) *(.text*) *(.rodata*) }
  .ARM.exidx : { *(.ARM.exidx*) }
  . = 0x20000000;
  .data : { *(.data*) *(.bss*) *(COMMON) }
}
"""
NODE = """
const code = require("fs").readFileSync(process.argv[2]);
WebAssembly.instantiate(code, {}).then(({instance: {exports}}) => {
  const status = exports.run();
  if (status) process.exit(1);
  require("fs").writeSync(1, new Uint8Array(exports.memory.buffer, exports.at(), Number(process.argv[3])));
});
"""


def outputs(
    isa: Isa, text: str, weights: bytes, inputs: list[NDArray[np.float32]], shapes: list[tuple[int, ...]], folder: Path
) -> list[NDArray[np.float32]]:
    """Return what generated C (or C with the same interface) computes on a processor."""
    sizes = [4 * math.prod(shape) for shape in shapes]
    places = [str(sum(i.nbytes for i in inputs[:k])) for k in range(len(inputs))]
    targets = [str(sum(sizes[:k])) for k in range(len(sizes))]
    main = MAIN.replace("@CALLS", CALLS).replace("@TAKEN", str(sum(sizes)))
    main = main.replace("@IN", ", ".join(f"given + {p}" for p in places))
    main = main.replace("@OUT", ", ".join(f"taken + {p}" for p in targets))
    (folder / "model.c").write_text(text)
    (folder / "main.c").write_text(main)
    (folder / "weights.bin").write_bytes(weights or b"\0")
    (folder / "input.bin").write_bytes(b"".join(np.ascontiguousarray(i, np.float32).tobytes() for i in inputs))
    (folder / "board.ld").write_text(BOARD_MEMORY)
    (folder / "node.js").write_text(NODE)
    link = {
        "wasm32": ["-Wl,--no-entry", "-Wl,--export-memory", "-Wl,-z,stack-size=65536"],
        "thumb-freestanding": ["-Wl,-T,board.ld"],
    }
    extra = next((v for k, v in link.items() if isa.target.startswith(k)), ["-static", "-Wl,-e,_start"])
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        isa.target,
        f"-mcpu={isa.cpu}",
        *FLAGS,
        "-O1",
        *contraction(text),
    ]
    command += [
        "-Wno-c23-extensions",
        "-fomit-frame-pointer",
        "-nostdlib",
        *extra,
        "-o",
        "program",
        "model.c",
        "main.c",
    ]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    tail = ["node.js", "program", str(sum(sizes))] if isa.command[:1] == ("node",) else ["./program"]
    done = subprocess.run([*isa.command, *tail], cwd=folder, capture_output=True, timeout=TIME_LIMIT_S, check=False)
    assert done.returncode == 0, (done.returncode, done.stderr[-500:])
    found = np.frombuffer(done.stdout, np.float32)
    assert found.nbytes == sum(sizes)
    parts = np.split(found, np.cumsum([s // 4 for s in sizes])[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
