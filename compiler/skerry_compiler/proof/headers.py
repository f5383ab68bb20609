"""What an artifact says of itself: format, processor, word size, float ABI, what it needs.

ELF by the System V ABI and the ABI for the Arm Architecture (e_flags), PE by Microsoft's PE Format, Mach-O by Apple's
loader.h, WebAssembly by its core specification.
"""

from __future__ import annotations

import dataclasses
import re
import struct

from skerry_targets.profile import Profile

_ELF = {3: "i686", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}
_PE = {0x14C: "i686", 0x8664: "x86_64", 0xAA64: "aarch64"}
_MACHO = {0x01000007: "x86_64", 0x0100000C: "aarch64"}
_CUDA = 190
# From this version of its ABI on, a cubin's capability stands in the second byte of e_flags, before in the first
# (LLVM's BinaryFormat/ELF.h, EF_CUDA_SM).
_CUDA_ABI_2 = 8
_ARM_HARD, _ARM_SOFT = 0x400, 0x200
_FAMILY = {"armv7l": "arm", "armv6l": "arm", "thumb": "arm", "riscv64": "riscv", "riscv32": "riscv"}
_FORMATS = {"windows": "PE", "macos": "Mach-O", "ios": "Mach-O", "wasi": "WebAssembly", "browser": "WebAssembly"}


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """An artifact's own words; `float_abi` is None where it does not say; `needs` are libraries and newest symbols."""

    format: str
    machine: str
    bits: int
    float_abi: str | None = None
    needs: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it as a person reads it."""
        words = [f"{self.format}, {self.machine}, {self.bits} bits"]
        words += [f"{self.float_abi} floats"] if self.float_abi else []
        words.append(f"needs {', '.join(self.needs)}" if self.needs else "needs nothing")
        return ", ".join(words)


def read(content: bytes) -> Header | None:
    """Return an artifact's header, None where it is of no known format or cut short."""
    try:
        if content[:4] == b"\x7fELF":
            return _elf(content)
        if content[:2] == b"MZ":
            return _pe(content)
        if content[:4] == b"\0asm" and content[4:8] == b"\1\0\0\0":
            return Header("WebAssembly", "wasm32", 32)
        if content[:4] == b"\xcf\xfa\xed\xfe":
            machine = _MACHO.get(struct.unpack_from("<I", content, 4)[0], "unknown")
            return Header("Mach-O", machine, 64)
    except (struct.error, IndexError):
        return None
    return None


def wrong(header: Header | None, profile: Profile) -> str:
    """Return what of an artifact does not fit a board, "" where all does."""
    if header is None:
        return "it is of no known format"
    abi = profile.abi
    wanted = (_FORMATS.get(abi.os, "ELF"), _FAMILY.get(abi.machine, abi.machine), abi.elf_class)
    found = (header.format, header.machine, header.bits)
    if found != wanted:
        return f"it is {found[0]} for {found[1]} with {found[2]} bits, not {wanted[0]} for {wanted[1]} with {wanted[2]}"
    if header.float_abi is not None and header.float_abi != ("hard" if abi.float_abi == "hard" else "soft"):
        return f"it passes floats {header.float_abi}, the board {abi.float_abi}"
    return f"it needs {', '.join(header.needs)}" if header.needs else ""


def wrong_cubin(header: Header | None, arch: str) -> str:
    """Return what of an artifact does not fit a graphics processor of a capability (sm_90), "" where all does."""
    if header is None:
        return "it is of no known format"
    found = (header.format, header.machine, header.bits)
    return "" if found == ("cubin", arch, 64) else f"it is {found[0]} for {found[1]}, not a cubin for {arch}"


def _elf(content: bytes) -> Header:
    bits = {1: 32, 2: 64}[content[4]] if content[4] in (1, 2) else 0
    kind, machine = struct.unpack_from("<HH", content, 16)
    flags = struct.unpack_from("<I", content, 48 if bits == 64 else 36)[0]
    if machine == _CUDA:
        return Header("cubin", f"sm_{flags >> 8 & 0xFF if content[8] >= _CUDA_ABI_2 else flags & 0xFF}", bits)
    name, shared = _ELF.get(machine, "unknown"), kind == 3
    abi = None
    if name == "arm" and shared and flags & (_ARM_HARD | _ARM_SOFT):
        abi = "hard" if flags & _ARM_HARD else "soft"
    return Header("ELF", name, bits, abi, _needed(content, bits) if shared else ())


def _needed(content: bytes, bits: int) -> tuple[str, ...]:
    """Return the libraries that a shared one needs, and the newest version of glibc's symbols that it names."""
    wide = bits == 64
    at, size, count = (
        (*struct.unpack_from("<Q", content, 32), *struct.unpack_from("<HH", content, 54))
        if wide
        else (*struct.unpack_from("<I", content, 28), *struct.unpack_from("<HH", content, 42))
    )
    headers = [_segment(content, at + i * size, wide) for i in range(count)]
    entry, form = (16, "<QQ") if wide else (8, "<II")
    needed, strings = [], 0
    for kind, offset, _, length in headers:
        if kind == 2:
            pairs = [struct.unpack_from(form, content, offset + i) for i in range(0, length, entry)]
            needed = [value for tag, value in pairs if tag == 1]
            strings = next((value for tag, value in pairs if tag == 5), 0)
    loads = [each for each in headers if each[0] == 1]
    base = next((offset - at for _, offset, at, length in loads if at <= strings < at + length), 0)
    names = [_string(content, base + strings + each) for each in needed]
    versions = {tuple(map(int, each.split(b"."))) for each in re.findall(rb"GLIBC_(\d+(?:\.\d+)+)\0", content)}
    newest = [f"GLIBC_{'.'.join(map(str, max(versions)))}"] if versions else []
    return (*names, *newest)


def _segment(content: bytes, at: int, wide: bool) -> tuple[int, int, int, int]:
    """Return a program header's type, offset, address and size in the file."""
    if wide:
        kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", content, at)
    else:
        kind, offset, address, _, length = struct.unpack_from("<IIIII", content, at)
    return kind, offset, address, length


def _string(content: bytes, at: int) -> str:
    return content[at : content.index(b"\0", at)].decode("utf-8", "replace")


def _pe(content: bytes) -> Header:
    at = struct.unpack_from("<I", content, 0x3C)[0]
    machine, optional = struct.unpack_from("<H", content, at + 4)[0], at + 24
    wide = struct.unpack_from("<H", content, optional)[0] == 0x20B
    directories = optional + (112 if wide else 96)
    imports = struct.unpack_from("<II", content, directories + 8)
    needs = ("another DLL",) if imports[1] else ()
    return Header("PE", _PE.get(machine, "unknown"), 64 if wide else 32, None, needs)
