"""What a model takes of a board without a system: flash and memory of the linked object, and what most of it is."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import onnx
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from google.protobuf.message import DecodeError

from skerry_compiler.firmware.image import linked
from skerry_contracts.bundle import Signature
from skerry_targets.nearest import kilobytes
from skerry_targets.profile import Profile

BETWEEN, CONSTANTS = "values between layers", "constants"


@dataclasses.dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of flash (code, constants, first contents of memory) and of memory (static, and the rows in it; not the
    stack), and of what they are made.
    """

    flash_bytes: int
    ram_bytes: int
    flash: dict[str, int]
    ram: dict[str, int]

    def __str__(self) -> str:
        """Return it as a person reads it."""
        return f"{kilobytes(self.flash_bytes)} of flash, {kilobytes(self.ram_bytes)} of memory"


def footprint(model: bytes, profile: Profile, signature: Signature) -> Footprint:
    """Return what the native engine's artifact takes of a board without a system, linked as firmware links it.

    Raises:
        ToolError: it does not link.
    """
    found = linked(model, profile)
    sections = list(ELFFile(io.BytesIO(model)).iter_sections())
    code = sum(each["sh_size"] for each in sections if each["sh_flags"] & SH_FLAGS.SHF_EXECINSTR)
    code = min(code, len(found.text))
    rows = sum(spec.size_bytes for spec in (*signature.inputs, *signature.outputs))
    flash = {"code": code, CONSTANTS: len(found.text) - code, "first contents of memory": len(found.data)}
    ram = {BETWEEN: found.ram_bytes, "inputs and outputs": rows}
    return Footprint(sum(flash.values()), sum(ram.values()), flash, ram)


def too_large(found: Footprint, profile: Profile, original: Path | None = None) -> str | None:
    """Return what does not fit a board, by how much, and what most of it is; None where all fits.

    Args:
        found: what the model takes.
        profile: the board.
        original: the model, where its largest tensor's name is looked for.
    """
    said = []
    for what, taken, most, parts in (
        ("flash", found.flash_bytes, profile.budget.artifact_bytes, found.flash),
        ("memory", found.ram_bytes, profile.budget.memory_bytes, found.ram),
    ):
        if taken > most:
            part = max(parts, key=lambda name: parts[name])
            named = "" if original is None else _largest(original, part)
            words = f"{kilobytes(taken)} of {what}, {kilobytes(taken - most)} more than the {kilobytes(most)} it allows"
            said.append(f"{words} (mostly {part}, {kilobytes(parts[part])}{named})")
    return "; ".join(said) or None


def _largest(original: Path, part: str) -> str:
    """Return the name and shape of a model's largest tensor of a kind, in words; "" where there is none to name."""
    try:
        model = onnx.load(original)
        graph = onnx.shape_inference.infer_shapes(model).graph if part == BETWEEN else model.graph
    except (onnx.shape_inference.InferenceError, DecodeError, ValueError, OSError):  # a .tflite file
        return ""
    if part == CONSTANTS:
        shapes = {each.name: tuple(each.dims) for each in graph.initializer}
    elif part == BETWEEN:
        shapes = {
            each.name: tuple(extent.dim_value for extent in each.type.tensor_type.shape.dim)
            for each in graph.value_info
        }
    else:
        return ""
    if not shapes:
        return ""
    name = max(shapes, key=lambda each: _count(shapes[each]))
    return f", the largest {name[:60]!r} {'x'.join(map(str, shapes[name])) or 'a number'}"


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for extent in shape:
        count *= max(1, extent)
    return count
