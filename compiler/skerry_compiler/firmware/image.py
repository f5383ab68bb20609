"""From a model's object file to an image that a microcontroller takes over its link (core/image.h of skerry_firmware).

The object is linked twice, with flash and memory in other places: a word that moved with one of them is one to which
the board adds where that is. The table of relocations names those; a word that moved in another way cannot be brought.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from elftools.elf.elffile import ELFFile

from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.errors import CompileError, LimitError
from skerry_contracts.bundle import Signature
from skerry_contracts.tensor import DType, TensorSpec
from skerry_targets import nearest
from skerry_targets.profile import Profile

MAGIC, HEADER_BYTES, SIGNED_BYTES, FEATURES_AT, PAGE = 0x314D4B53, 256, 192, 8, 256
TENSORS, NAME_BYTES = 8, 24
PLACES = ((0, 0x80000000), (0x00100000, 0x80700000))  # of flash and memory while the image is linked
FEATURES = {"dsp": 1, "fpv4-sp": 2, "fpv5-sp": 2, "fpv5-dp": 6, "mve.fp": 8}
LAYOUT = """
SECTIONS {
  . = %#x;
  .text : { *(.text*) *(.rodata*) . = ALIGN(64); }
  . = %#x;
  .data : { *(.data*) . = ALIGN(4); }
  .bss (NOLOAD) : { *(.bss*) *(COMMON) . = ALIGN(64); }
  /DISCARD/ : { *(.ARM.exidx*) *(.ARM.extab*) *(.comment) *(.ARM.attributes) }
}
"""
Signer = Callable[[bytes], bytes]


@dataclasses.dataclass(frozen=True, slots=True)
class Golden:
    """Rows with the right answers (each row's inputs, then its outputs), how many, and by how much one may differ."""

    rows: bytes
    count: int
    tolerance: float


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """An image and what it takes on a board: bytes of flash (the header included) and of memory."""

    content: bytes
    flash_bytes: int
    ram_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Linked:
    """A model's object file as firmware links it: code with constants, first contents of memory, all memory that it
    uses, where in the code it is called, and which words hold addresses.
    """

    text: bytes
    data: bytes
    ram_bytes: int
    run: int
    relocations: tuple[int, ...]


def features(profile: Profile) -> int:
    """Return the features of a board's processor as images name them."""
    return sum({bit for name in profile.cpu.features for bit in (FEATURES.get(name, 0),)}) & 15


def image(
    model: bytes,
    profile: Profile,
    signature: Signature,
    golden: Golden,
    *,
    name: str,
    release: int,
    limit_ms: int,
    sign: Signer,
) -> Image:
    """Return the signed image of a model's object file.

    Args:
        model: the native engine's artifact for a microcontroller.
        profile: the board.
        signature: the model's inputs and outputs.
        golden: what the board tries it with before it counts.
        name: what the board reports; at most 24 bytes.
        release: greater than that of every image the board has had.
        limit_ms: an inference that takes longer hangs.
        sign: makes an Ed25519 signature.

    Raises:
        LimitError: it does not fit the board.
        CompileError: it has more tensors than an image can name, or needs what an image cannot bring.
    """
    specs = _specs(signature, name)
    linked = _link(model, profile)
    body = linked.text + linked.data + golden.rows
    body += bytes(-len(body) % 4)
    table = b"".join(struct.pack("<I", each) for each in linked.relocations)
    sizes = [spec.size_bytes for spec in specs] + [0] * (TENSORS - len(specs))
    ram = linked.ram_bytes
    taken, used, budget = len(body) + len(table), ram + sum(sizes), profile.budget
    if used > budget.memory_bytes or taken > budget.artifact_bytes:
        words = f"{taken} bytes of flash and {used} of memory do not fit {profile.id}"
        room = f"{budget.artifact_bytes} and {budget.memory_bytes}"
        raise LimitError(f"{words} ({room})", hint=nearest.with_room(profile, taken, used))
    head = struct.pack(
        "<11IfI2H8I24s64sI12x",
        *(
            MAGIC,
            release,
            features(profile),
            len(linked.relocations),
            len(body),
            ram,
            len(linked.text),
            len(linked.data),
        ),
        *(linked.run, len(linked.text) + len(linked.data), golden.count, golden.tolerance, limit_ms),
        *(len(signature.inputs), len(signature.outputs), *sizes, name.encode()),
        hashlib.sha512(table + body).digest(),
        sum(1 << at for at, spec in enumerate(signature.outputs) if spec.dtype is not DType.FP32),
    )
    return Image(head + sign(head) + table + body, HEADER_BYTES + _pages(table) + _pages(body), ram + sum(sizes))


def _specs(signature: Signature, name: str) -> tuple[TensorSpec, ...]:
    """Return a model's inputs and outputs, where the core can run it."""
    specs = (*signature.inputs, *signature.outputs)
    if len(specs) > TENSORS or len(name.encode()) > NAME_BYTES:
        raise CompileError(f"an image names at most {TENSORS} inputs and outputs, and itself in {NAME_BYTES} bytes")
    odd = next((each.name for each in specs if each.size_bytes % 4), None)
    if odd is not None or not signature.inputs:
        what = f"{odd!r:.40} is not of whole words (4 bytes)" if odd is not None else "the model takes nothing"
        raise CompileError(f"a microcontroller's core cannot run this model: {what}")
    return specs


def stream(content: bytes) -> tuple[bytes, bytes]:
    """Return an image's header, and what comes after it as it lies in a slot: relocations and body, each filled up to
    whole pages.
    """
    count = struct.unpack_from("<I", content, 12)[0]
    table, body = content[HEADER_BYTES : HEADER_BYTES + 4 * count], content[HEADER_BYTES + 4 * count :]
    return content[:HEADER_BYTES], _filled(table) + _filled(body)


def _filled(content: bytes) -> bytes:
    return content + b"\xff" * (-len(content) % PAGE)


def _pages(content: bytes) -> int:
    return len(_filled(content))


def linked(model: bytes, profile: Profile) -> Linked:
    """Return a model's object file as it is linked for a board (no relocations yet).

    Raises:
        ToolError: it does not link.
    """
    return _linked_at(model, profile, *PLACES[0])


def _link(model: bytes, profile: Profile) -> Linked:
    one, two = (_linked_at(model, profile, *places) for places in PLACES)
    relocations, body = [], bytearray(one.text + one.data)
    moved = {two - one: one | bit for bit, (one, two) in enumerate(zip(*PLACES, strict=True))}
    for at in range(0, len(body), 4):
        first, second = (struct.unpack_from("<I", each.text + each.data, at)[0] for each in (one, two))
        if first == second:
            continue
        base = moved.get(second - first)
        if base is None:
            raise CompileError("the image has a word that is the distance between flash and memory")
        struct.pack_into("<I", body, at, first - (base & ~1))
        relocations.append(at | base & 1)
    text = len(one.text)
    return dataclasses.replace(one, text=bytes(body[:text]), data=bytes(body[text:]), relocations=tuple(relocations))


def _linked_at(model: bytes, profile: Profile, flash: int, memory: int) -> Linked:
    with tempfile.TemporaryDirectory(prefix="skerry-") as where:
        folder = Path(where)
        (folder / "model.o").write_bytes(model)
        (folder / "image.ld").write_text(LAYOUT % (flash, memory))
        flags = [*build.compile_flags(Machine.of(profile)), "-Wl,-T,image.ld", "-Wl,-e,skerry_run", "-Wl,--gc-sections"]
        build.run([*flags, "-o", "image.elf", "model.o", "-Wno-unused-command-line-argument"], folder)
        elf = ELFFile(io.BytesIO((folder / "image.elf").read_bytes()))
    found = {each.name: each for each in elf.iter_sections()}
    text, data = (found[name].data() if name in found else b"" for name in (".text", ".data"))
    bss = found.get(".bss")
    end = bss["sh_addr"] + bss["sh_size"] - memory if bss is not None and bss["sh_size"] else len(data)
    return Linked(text, data, end, (elf.header["e_entry"] & ~1) - flash, ())
