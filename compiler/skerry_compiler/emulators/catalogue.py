"""Which emulator runs what a board runs, and whether it is here."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata

from skerry_compiler.emulators import boards, browsers, modules, nodes, programs
from skerry_compiler.errors import CompileError
from skerry_contracts.bundle import Signature
from skerry_targets.profile import Profile

# QEMU's emulator of a machine's programs.
PROGRAMS = {
    "aarch64": "qemu-aarch64-static",
    "armv7l": "qemu-arm-static",
    "i686": "qemu-i386-static",
    "riscv64": "qemu-riscv64-static",
    "x86_64": "qemu-x86_64-static",
}


def available(profile: Profile) -> bool:
    """Return whether this machine runs the board's programs, in an emulator or itself."""
    others = (boards, browsers, modules, nodes)
    return programs.command(profile) is not None or any(each.available(profile) for each in others)


def outputs(library: bytes, profile: Profile, signature: Signature, rows: bytes) -> bytes:
    """Return the outputs of rows as the board computes them, of the very bytes that ship.

    Args:
        library: the native engine's artifact.
        profile: the board.
        signature: of the model.
        rows: whole rows, one after another; with none the artifact is only loaded.

    Raises:
        CompileError: nothing here runs it, or it does not load, crashes, or takes too long.
    """
    if boards.available(profile):
        return boards.outputs(library, profile, signature, rows)
    if modules.available(profile):
        return modules.outputs(library, signature, rows)
    if nodes.available(profile):
        return nodes.outputs(library, profile, signature, rows)
    if browsers.available(profile):
        return browsers.outputs(library, profile, signature, rows)
    return programs.outputs(library, profile, signature, rows)


def tool(profile: Profile) -> tuple[str, str]:
    """Return the name and version of what runs the board's programs here.

    Raises:
        CompileError: nothing does.
    """
    if modules.available(profile):
        return "wasmtime", metadata.version("wasmtime")
    named = any(each.available(profile) for each in (boards, browsers, nodes))
    name = [profile.emulator.command] if named else programs.command(profile)
    if name is None:
        raise CompileError(f"nothing here runs programs of {profile.id}")
    if not name:
        return platform.machine(), "this machine"
    said = subprocess.run([name[0], "--version"], capture_output=True, text=True, check=False).stdout.split()
    return name[0], next((each.lstrip("v") for each in said if each.lstrip("v")[:1].isdigit()), "unknown")
