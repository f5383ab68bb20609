"""What a compiled model is on each system, and how the pinned compiler links it: a shared library, or, where programs
cannot load one, an object file that the application links. Nothing is linked in, and the same input gives the same
bytes.
"""

from __future__ import annotations

import dataclasses

_QUIET = "-Wno-unused-command-line-argument"


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """A kind of artifact.

    Attributes:
        file: its name while it is made.
        link: flags of the compiler.
        section: what the assembler calls the section of the weights (without a processor's own details).
        prefix: what symbols begin with.
        tail: the assembler's last words.
        extra: C that every artifact of the kind needs.
    """

    file: str
    link: tuple[str, ...]
    section: str = ".section .rodata"
    prefix: str = ""
    tail: str = ""
    extra: str = ""

    def assembly(self, size: int, path: str = "weights.bin") -> str:
        """Return the assembly that brings in the file of weights as `skerry_weights`."""
        name = f"{self.prefix}skerry_weights"
        lines = [self.section, ".p2align 6", f".globl {name}", f"{name}:", f'.incbin "{path}"']
        return "\n".join([*lines, self.tail.format(name=name, size=size)]).rstrip() + "\n"


_ELF_TAIL = '.hidden {name}\n.section .note.GNU-stack,"",%progbits'
SHARED = Form(
    "model.so",
    ("-shared", "-nostdlib", "-s", "-Wl,--build-id=none", "-Wl,-z,defs", "-Wl,-soname,model.so"),
    tail=_ELF_TAIL,
)
# A library for Windows must have an entry, also where it has nothing to do there.
WINDOWS = Form(
    "model.dll",
    ("-shared", "-nostdlib", "-s"),
    section='.section .rdata,"dr"',
    extra="int __stdcall DllMainCRTStartup(void *at, unsigned why, void *more)\n"
    "{\n    (void)at, (void)why, (void)more;\n    return 1;\n}\n",
)
MACOS = Form(
    "model.dylib",
    ("-dynamiclib", "-nostdlib", "-Wl,-undefined,dynamic_lookup", "-install_name", "model.dylib"),
    section=".section __TEXT,__const",
    prefix="_",
    tail=".private_extern {name}",
)
IOS = dataclasses.replace(MACOS, file="model.o", link=("-r", "-nostdlib"))
OBJECT = Form("model.o", ("-r", "-nostdlib"), tail=_ELF_TAIL)
WASM = Form(
    "model.wasm",
    ("-nostdlib", "-Wl,--no-entry", "-Wl,--export-dynamic", "-Wl,--export-memory", "-Wl,--strip-all"),
    section='.section .rodata.skerry_weights,"",@',
    tail=".size {name}, {size}",
)


def form_of(triple: str) -> Form:
    """Return the kind of artifact that a target triple of the pinned compiler gets."""
    machine, system, *_ = triple.split("-")
    if machine == "wasm32":
        return WASM
    if system == "windows":
        return dataclasses.replace(WINDOWS, prefix="_") if machine == "x86" else WINDOWS
    return {"macos": MACOS, "ios": IOS, "freestanding": OBJECT}.get(system.split(".")[0], SHARED)


def flags(form: Form) -> list[str]:
    """Return the flags that link an artifact, without files."""
    return [*form.link, _QUIET]
