"""Generated C for another machine, run here in an emulator: proves that its answers are right, says nothing about its
speed.

The C file is linked with a small start into one static program, so no system root of the other machine is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.engines.network import library
from skerry_compiler.errors import CompileError
from skerry_contracts.bundle import Signature
from skerry_targets.profile import Profile

TIME_LIMIT_S = 60

# A program without a C library: building one for each processor would take a minute. Linux system calls of 64-bit ARM.
MAIN = """
#include <stdint.h>

int32_t skerry_run(const void *const *in, void *const *out);

static _Alignas(64) unsigned char buffers[%d];

static long call(long number, long a, long b, long c)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    return x0;
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

void _start(void)
{
    const void *in[%d] = {%s};
    void *out[%d] = {%s};
    long status = 0;
    while (!status && whole(63, 0, buffers, %d)) {
        status = skerry_run(in, out);
        if (!whole(64, 1, buffers + %d, %d)) status = 2;
    }
    call(93, status, 0, 0);
}
"""


def available(profile: Profile) -> bool:
    """Return whether this machine has the profile's emulator."""
    emulated = profile.emulator.kind == "qemu-user" and profile.abi.machine == "aarch64"
    return emulated and shutil.which(profile.emulator.command) is not None


def outputs(c_text: str, weights: bytes | None, profile: Profile, signature: Signature, rows: bytes) -> bytes:
    """Return the outputs of rows as the emulated processor computes them.

    Raises:
        CompileError: it does not build, crashes (an instruction the processor lacks), or takes too long.
    """
    machine = Machine.of(profile)
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        (folder / "model.c").write_text(c_text)
        (folder / "main.c").write_text(_main(signature))
        flags = [*build.compile_flags(machine), "-static", "-nostdlib", "-Wl,-e,_start", "-o", "model"]
        sources = ["model.c", "main.c"]
        if weights is not None:
            (folder / "weights.bin").write_bytes(weights)
            (folder / "weights.S").write_text(library.ASSEMBLY)
            sources += ["weights.S", "-Wno-unused-command-line-argument"]
        build.run([*flags, *sources], folder)
        environment = {
            "PATH": os.environ.get("PATH", ""),
            **({"QEMU_CPU": profile.cpu.qemu_cpu} if profile.cpu.qemu_cpu else {}),
        }
        command = [profile.emulator.command, str(folder / "model")]
        try:
            done = subprocess.run(command, input=rows, capture_output=True, timeout=TIME_LIMIT_S, env=environment)
        except subprocess.TimeoutExpired as error:
            raise CompileError(f"the emulator took more than {TIME_LIMIT_S} s") from error
        except OSError as error:
            raise CompileError(f"the emulator does not start: {error.strerror}") from error
    if done.returncode:
        raise CompileError(f"the emulated program ended with {done.returncode}")
    return done.stdout


def _main(signature: Signature) -> str:
    """Return a main that reads rows, runs the model, and writes its outputs; buffers are packed as rows are."""
    places, at = [], 0
    for spec in (*signature.inputs, *signature.outputs):
        places.append(f"buffers + {at}")
        at += spec.size_bytes
    sources, targets = len(signature.inputs), len(signature.outputs)
    size = sum(spec.size_bytes for spec in signature.inputs)
    ins, outs = ", ".join(places[:sources]), ", ".join(places[sources:])
    return MAIN % (at, sources, ins, targets, outs, size, size, at - size)
