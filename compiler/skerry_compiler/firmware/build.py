"""The microcontroller agent's core, built for an emulated board."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import skerry_firmware
from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.firmware.image import PAGE, features
from skerry_targets.profile import Profile

SOURCES = Path(skerry_firmware.__file__).parent
QUIET = "-Wno-unused-command-line-argument"


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """Where an emulated board has code, memory, memory for models, and memory that stands for flash."""

    code: int
    code_bytes: int
    ram: int
    ram_bytes: int
    model_ram: int
    big: int
    big_bytes: int


# From QEMU's description of the boards.
MEMORIES = {
    "mps2-an385": Memory(0x0, 4 << 20, 0x20000000, 256 << 10, 0x20040000, 0x21000000, 8 << 20),
    "mps2-an386": Memory(0x0, 4 << 20, 0x20000000, 256 << 10, 0x20040000, 0x21000000, 8 << 20),
    "mps2-an500": Memory(0x0, 4 << 20, 0x20000000, 256 << 10, 0x20040000, 0x60000000, 8 << 20),
    "mps3-an547": Memory(0x0, 512 << 10, 0x20000000, 64 << 10, 0x20010000, 0x60000000, 8 << 20),
}
MODEL_RAM_BYTES, MOST_SLOT_BYTES = 384 << 10, 2 << 20


def slot_bytes(profile: Profile) -> int:
    """Return how large one of the two slots of an emulated board is: its budget, as far as the board has room."""
    return min(profile.budget.artifact_bytes, MOST_SLOT_BYTES) // PAGE * PAGE


def firmware(profile: Profile, key: bytes) -> bytes:
    """Return the core for the emulated board of a profile, as ELF, which takes images signed with a key (Ed25519).

    Raises:
        ToolError: the compiler refuses it.
    """
    memory = MEMORIES[profile.emulator.machine]
    places = {
        "@CODE_BYTES": memory.code_bytes,
        "@CODE": memory.code,
        "@RAM_BYTES": memory.ram_bytes,
        "@RAM": memory.ram,
        "@BIG_BYTES": memory.big_bytes,
        "@BIG": memory.big,
        "@MODEL_RAM": memory.model_ram,
    }
    layout = (SOURCES / "ports" / "qemu.ld").read_text()
    for word, place in places.items():
        layout = layout.replace(word, hex(place))
    values = {
        "SLOT_BYTES": slot_bytes(profile),
        "RAM_BYTES": min(profile.budget.memory_bytes, MODEL_RAM_BYTES),
        "FEATURES": features(profile),
        "KEY": ",".join(map(str, key)),
    }
    defines = [f"-D{name}={value}" for name, value in values.items()]
    sources = [str(each) for each in (*sorted((SOURCES / "core").glob("*.c")), SOURCES / "ports" / "qemu.c")]
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        (folder / "board.ld").write_text(layout)
        flags = [*build.compile_flags(Machine.of(profile)), "-Os", "-Wl,-T,board.ld", "-Wl,--gc-sections", *defines]
        build.run([*flags, "-Wl,-e,core", QUIET, "-o", "core.elf", *sources], folder)
        return (folder / "core.elf").read_bytes()
