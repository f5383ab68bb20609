"""Generated C for another machine, run here in an emulator: proves that its answers are right, says nothing about its
speed.

The C file is linked with a small main into one static program, so no system root of the other machine is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.errors import CompileError
from skerry_contracts.bundle import Signature
from skerry_targets.profile import Profile

TIME_LIMIT_S = 60

MAIN = """
#include <stdint.h>
#include <stdio.h>

int32_t skerry_run(const void *const *in, void *const *out);

static _Alignas(64) unsigned char buffers[%d];

int main(void)
{
    const void *in[%d] = {%s};
    void *out[%d] = {%s};
    while (fread(buffers, 1, %d, stdin) == %d) {
        if (skerry_run(in, out)) return 1;
        fwrite(buffers + %d, 1, %d, stdout);
    }
    return 0;
}
"""


def available(profile: Profile) -> bool:
    """Return whether this machine has the profile's emulator."""
    return profile.emulator.kind == "qemu-user" and shutil.which(profile.emulator.command) is not None


def outputs(c_text: str, profile: Profile, signature: Signature, rows: bytes) -> bytes:
    """Return the outputs of rows as the emulated processor computes them.

    Raises:
        CompileError: it does not build, crashes (an instruction the processor lacks), or takes too long.
    """
    machine = Machine.of(profile)
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        (folder / "model.c").write_text(c_text)
        (folder / "main.c").write_text(_main(signature))
        triple = machine.triple.replace("-gnu", "-musl")
        flags = ["-target", triple, f"-mcpu={machine.cpu}", "-O2", "-static", "-fno-sanitize=all", "-ffp-contract=fast"]
        build.run([*flags, "-o", "model", "model.c", "main.c"], folder)
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
    return MAIN % (at, sources, ins, targets, outs, size, size, size, at - size)
