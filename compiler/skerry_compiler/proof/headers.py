"""What an artifact says of itself: format, processor, word size, float ABI, what it needs.

ELF by the System V ABI and the ABI for the Arm Architecture (e_flags), PE by Microsoft's PE Format, Mach-O by Apple's
loader.h, WebAssembly by its core specification.
"""

from __future__ import annotations

import dataclasses
import re
import struct

from skerry_targets import fit
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
_PLATFORMS = {1: "macos", 2: "ios"}
# What every system of a kind has, by its C library on Linux, by its name elsewhere.
_OWN_LIBRARIES = {
    "glibc": ("libc.so.", "libm.so.", "libpthread.so.", "libdl.so.", "ld-linux"),
    "macos": ("/usr/lib/libSystem.",),
    "ios": ("/usr/lib/libSystem.",),
}
_FORMATS = {"windows": "PE", "macos": "Mach-O", "ios": "Mach-O", "wasi": "WebAssembly", "browser": "WebAssembly"}


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """An artifact's own words; `float_abi` and `system` are None where it does not say. `needs` are libraries, `glibc`
    is the newest version of glibc's symbols that it names, `moves_code` whether its code must be written to be loaded.
    """

    format: str
    machine: str
    bits: int
    float_abi: str | None = None
    needs: tuple[str, ...] = ()
    system: str | None = None
    glibc: str | None = None
    moves_code: bool = False

    def __str__(self) -> str:
        """Return it as a person reads it."""
        words = [f"{self.format}, {self.machine}, {self.bits} bits"]
        words += [f"for {self.system}"] if self.system else []
        words += [f"{self.float_abi} floats"] if self.float_abi else []
        needs = [*self.needs, *([f"glibc {self.glibc}"] if self.glibc else [])]
        words.append(f"needs {', '.join(needs)}" if needs else "needs nothing")
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
            return _macho(content)
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
    if header.system is not None and header.system != abi.os:
        return f"it is for {header.system}, not for {abi.os}"
    if header.moves_code:
        return "its code would have to be written to be loaded (text relocations)"
    own = _OWN_LIBRARIES.get(abi.libc if abi.os == "linux" else abi.os, ())
    strange = [each for each in header.needs if not each.startswith(own)]
    if strange:
        return f"it needs {', '.join(strange)}"
    if header.glibc is not None and (abi.libc != "glibc" or fit.older(abi.libc_min, header.glibc)):
        return f"it needs glibc {header.glibc}, the board may have {abi.libc} {abi.libc_min}"
    return ""


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
    found = Header("ELF", name, bits, abi)
    return _needing(content, found) if shared else found


def _needing(content: bytes, found: Header) -> Header:
    """Return a shared library's header with what its dynamic section says."""
    bits = found.bits
    wide = bits == 64
    at, size, count = (
        (*struct.unpack_from("<Q", content, 32), *struct.unpack_from("<HH", content, 54))
        if wide
        else (*struct.unpack_from("<I", content, 28), *struct.unpack_from("<HH", content, 42))
    )
    headers = [_segment(content, at + i * size, wide) for i in range(count)]
    entry, form = (16, "<QQ") if wide else (8, "<II")
    needed, strings, moves = [], 0, False
    for kind, offset, _, length in headers:
        if kind == 2:
            pairs = [struct.unpack_from(form, content, offset + i) for i in range(0, length, entry)]
            needed = [value for tag, value in pairs if tag == 1]
            strings = next((value for tag, value in pairs if tag == 5), 0)
            moves = any(tag == 22 or (tag == 30 and value & 4) for tag, value in pairs)  # DT_TEXTREL, DF_TEXTREL
    loads = [each for each in headers if each[0] == 1]
    base = next((offset - at for _, offset, at, length in loads if at <= strings < at + length), 0)
    names = tuple(_string(content, base + strings + each) for each in needed)
    versions = {tuple(map(int, each.split(b"."))) for each in re.findall(rb"GLIBC_(\d+(?:\.\d+)+)\0", content)}
    newest = ".".join(map(str, max(versions))) if versions else None
    return dataclasses.replace(found, needs=names, glibc=newest, moves_code=moves)


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


def _macho(content: bytes) -> Header:
    """Return what a Mach-O file's header and load commands say: the processor, the system, the libraries."""
    kind, count = struct.unpack_from("<I", content, 4)[0], struct.unpack_from("<I", content, 16)[0]
    at, system, needs = 32, None, []
    for _ in range(min(count, 1000)):
        command, size = struct.unpack_from("<2I", content, at)
        if command == 0x32:  # LC_BUILD_VERSION
            system = _PLATFORMS.get(struct.unpack_from("<I", content, at + 8)[0], "another system")
        elif command in (0x24, 0x25):  # LC_VERSION_MIN_MACOSX, LC_VERSION_MIN_IPHONEOS
            system = "macos" if command == 0x24 else "ios"
        elif command & 0x7FFFFFFF in (0xC, 0x18, 0x1F):  # LC_LOAD_DYLIB, weak, re-exported
            needs.append(_string(content, at + struct.unpack_from("<I", content, at + 8)[0]))
        at += max(8, size)
    return Header("Mach-O", _MACHO.get(kind, "unknown"), 64, None, tuple(needs), system)
