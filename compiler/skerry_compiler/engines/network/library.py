"""From generated source to a shared library, through the pinned C compiler that all of the native engine shares."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine as Processor

# The weights go in as bytes: as C text a megabyte of them would take the compiler seconds.
ASSEMBLY = """\
.section .rodata
.balign 64
.globl skerry_weights
.hidden skerry_weights
skerry_weights:
.incbin "weights.bin"
.section .note.GNU-stack,"",%progbits
"""


def shared_library(text: str, weights: bytes, processor: Processor, flags: Sequence[str] = ()) -> bytes:
    """Return the shared library of a generated network: the same bytes wherever it is made.

    Raises:
        ToolError: the compiler refuses the code, which is a defect of the generator.
        LimitError: it takes too long.
    """
    with tempfile.TemporaryDirectory(prefix="skerry-") as folder:
        where = Path(folder)
        (where / "model.c").write_text(text)
        (where / "weights.bin").write_bytes(weights)
        (where / "weights.S").write_text(ASSEMBLY)
        arguments = [*build.compile_flags(processor), *build.LINK_FLAGS, *flags, "-Wno-unused-command-line-argument"]
        build.run([*arguments, "-o", "model.so", "model.c", "weights.S"], where)
        return (where / "model.so").read_bytes()
