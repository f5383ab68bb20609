"""TVM's candidate: the network compiled ahead by relax and LLVM into a library for TVM's virtual machine.

Untuned, which is what compiling in minutes allows, its code ran at 0.03 to 0.07 of ONNX Runtime's speed on eight
networks; it ships only where the tournament measures otherwise. LLVM's order of some stores follows addresses, so the
compiler runs in a child without address randomisation and with nothing of the caller's environment.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from onnx import ModelProto

from skerry_compiler.engines.candidate import Draft, Failure, megabytes
from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.errors import CompileError, LimitError, ToolError, UnsupportedError
from skerry_contracts.bundle import Predicates
from skerry_targets.profile import Profile

ENGINE = "tvm"
ORDER = 40  # last of all: unmeasured, nothing speaks for it
RUNTIME_BYTES = 12 << 20
TIME_LIMIT_S = 240
MODEL, OBJECTS, REASON = "model.onnx", "objects", "reason"
LINK_FLAGS = ("-shared", "-nostdlib", "-s", "-Wl,--build-id=none", "-Wl,-soname,model.so")
_NO_RANDOMIZE = 0x0040000  # ADDR_NO_RANDOMIZE of personality(2)


def candidates(model: ModelProto, profile: Profile) -> list[Draft | Failure]:
    """Return TVM's one candidate.

    Args:
        model: fixed shapes.
        profile: the target.
    """
    try:
        content = library(model, profile)
    except CompileError as error:
        return [Failure(ENGINE, ENGINE, "fp32", str(error))]
    abi = profile.abi
    features = tuple(sorted(profile.cpu.features))
    least = profile.engines[ENGINE].version_min
    requires = Predicates(abi.os, abi.machine, features, abi.libc, abi.libc_min, least)
    memory = megabytes(RUNTIME_BYTES + 2 * len(content))
    return [Draft(ENGINE, ENGINE, "fp32", requires, memory, ORDER, {"library": content}, {})]


def library(model: ModelProto, profile: Profile) -> bytes:
    """Return the shared library.

    Raises:
        ToolError: TVM is not installed.
        UnsupportedError: it does not take the model.
        LimitError: it takes too long.
    """
    if importlib.util.find_spec("tvm") is None:
        raise ToolError("TVM is not installed here", hint="pip install skerry[tvm]")
    machine = Machine.of(profile)
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        (folder / MODEL).write_bytes(model.SerializeToString(deterministic=True))
        (folder / OBJECTS).mkdir()
        cpu, *extras = machine.cpu.replace("_", "-").split("+")
        child(folder, "skerry_compiler.engines.tvm_child", [machine.triple, cpu, *extras])
        objects = sorted(each.name for each in (folder / OBJECTS).iterdir())
        names = [f"{OBJECTS}/{each}" for each in objects]
        build.run(["-target", machine.triple, *LINK_FLAGS, "-o", "model.so", *names], folder)
        return (folder / "model.so").read_bytes()


def child(folder: Path, module: str, words: Sequence[str], more: Mapping[str, str] | None = None) -> None:
    """Run a module that uses TVM in a process of its own, on the model in a folder.

    Args:
        folder: its current one; a file with a reason there says that TVM does not take the model.
        module: its name.
        words: its arguments.
        more: of its environment, which is bare otherwise.

    Raises:
        UnsupportedError: TVM does not take the model.
        ToolError, LimitError: it fails, or takes too long.
    """
    environment = {"PATH": os.defpath, "PYTHONHASHSEED": "0", "LC_ALL": "C", "TZ": "UTC", "TVM_NUM_THREADS": "1"}
    environment |= more or {}
    if len(sys.path) > 1:
        environment["PYTHONPATH"] = os.pathsep.join(each for each in sys.path if each)
    command = [sys.executable, "-m", module, *words]
    libc = ctypes.CDLL(None, use_errno=True)
    before = libc.personality(ctypes.c_ulong(0xFFFFFFFF)) if platform.system() == "Linux" else 0
    libc.personality(ctypes.c_ulong(before | _NO_RANDOMIZE))
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=TIME_LIMIT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise LimitError(f"TVM took more than {TIME_LIMIT_S} s") from error
    finally:
        libc.personality(ctypes.c_ulong(before))
    reason = folder / REASON
    if reason.exists():
        raise UnsupportedError(f"TVM does not take this model: {reason.read_text()}")
    if done.returncode:
        last = " ".join(done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:])
        raise ToolError(f"TVM failed with code {done.returncode}: {last[:200]}")
