"""The microcontroller agent's core, built for an emulated board."""

from __future__ import annotations

import dataclasses
import io
import tempfile
from pathlib import Path

from elftools.elf.constants import P_FLAGS
from elftools.elf.elffile import ELFFile

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
    "mps2-an505": Memory(0x10000000, 4 << 20, 0x38000000, 256 << 10, 0x38040000, 0x38100000, 3 << 20),
    "mps3-an547": Memory(0x0, 512 << 10, 0x20000000, 64 << 10, 0x20010000, 0x60000000, 8 << 20),
}
# No emulated board with a Cortex-M0 has room for two slots; a Cortex-M3 runs its instructions.
STAND_INS = {"microbit": "mps2-an385"}
MODEL_RAM_BYTES, MOST_SLOT_BYTES, STATE_BYTES = 384 << 10, 2 << 20, 2 * PAGE


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """What a core takes of a board, without slots and the model's memory: bytes of flash and of memory."""

    flash_bytes: int
    ram_bytes: int


def machine_of(profile: Profile) -> str:
    """Return the emulated board that runs the core of a profile."""
    machine = profile.emulator.machine
    return STAND_INS.get(machine, machine)


def slot_bytes(profile: Profile) -> int:
    """Return how large one of the two slots of an emulated board is: its budget, as far as the board has room."""
    room = (MEMORIES[machine_of(profile)].big_bytes - STATE_BYTES) // 2
    return min(profile.budget.artifact_bytes, MOST_SLOT_BYTES, room) // PAGE * PAGE


def ram_bytes(profile: Profile) -> int:
    """Return how much memory an emulated board has for a model."""
    return min(profile.budget.memory_bytes, MODEL_RAM_BYTES)


def sizes(core: bytes) -> Sizes:
    """Return what a core's ELF takes of a board."""
    segments = [each for each in ELFFile(io.BytesIO(core)).iter_segments() if each["p_type"] == "PT_LOAD"]
    flash = sum(each["p_filesz"] for each in segments)
    return Sizes(flash, sum(each["p_memsz"] for each in segments if each["p_flags"] & P_FLAGS.PF_W))


def firmware(profile: Profile, key: bytes) -> bytes:
    """Return the core for the emulated board of a profile, as ELF, which takes images signed with a key (Ed25519).

    Raises:
        ToolError: the compiler refuses it.
    """
    memory = MEMORIES[machine_of(profile)]
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
        "RAM_BYTES": ram_bytes(profile),
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
