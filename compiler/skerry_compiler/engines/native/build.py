"""C to what a board loads (`form`), the same bytes on every machine: one pinned compiler from a wheel, no paths, no
times, nothing linked in.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from skerry_compiler.engines.native.form import OBJECT, flags, form_of
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.errors import LimitError, ToolError

TIME_LIMIT_S = 300
FLAGS = (
    "-std=c11",
    "-O3",
    "-fPIC",
    "-ffreestanding",
    "-fno-sanitize=all",
    "-fno-stack-protector",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-fvisibility=hidden",
    "-fno-ident",
    "-g0",
    "-Werror=implicit-function-declaration",
)


# Where a file says this, every operation is rounded by itself; clang's `fast` would not listen to the pragma.
ROUNDED = "#pragma STDC FP_CONTRACT OFF"


def compiler_version() -> str:
    """Return the pinned compiler's version, as a recipe records it."""
    return f"ziglang {metadata.version('ziglang')}"


def compile_flags(machine: Machine) -> list[str]:
    """Return the flags for one machine, without files."""
    vectors = (
        [f"-mprefer-vector-width={machine.vector_bits}"]
        if machine.triple.startswith("x86_64") and machine.vector_bits
        else []
    )
    if form_of(machine.triple) is not OBJECT:
        return ["-target", machine.triple, f"-mcpu={machine.cpu}", *FLAGS, *vectors]
    # Placed where the application links it; addresses are whole words, which can be moved (an image's relocations).
    whole = "+no_movt" if machine.triple.startswith("thumb") else ""
    return ["-target", machine.triple, f"-mcpu={machine.cpu}{whole}", *FLAGS, "-Os", "-fno-pic"]


def artifact(text: str, machine: Machine, weights: bytes | None = None, more: Sequence[str] = ()) -> bytes:
    """Return what a C file becomes on a board: a shared library where it has such.

    Args:
        text: the C file.
        machine: of the board.
        weights: what the file calls `skerry_weights`: as C text a megabyte of them would take the compiler seconds.
        more: flags of the compiler.

    Raises:
        ToolError: the compiler refuses it (a mistake in the generator).
        LimitError: it takes too long.
    """
    made = form_of(machine.triple)
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        sources = {"model.c": text} | ({"system.c": made.extra} if made.extra else {})
        if weights is not None:
            (folder / "weights.bin").write_bytes(weights)
            sources["weights.S"] = made.assembly(len(weights))
        for file, content in sources.items():
            (folder / file).write_text(content)
        run([*compile_flags(machine), *flags(made), *contraction(text), *more, "-o", made.file, *sources], folder)
        return (folder / made.file).read_bytes()


def contraction(text: str) -> list[str]:
    """Return the flags by which a C file's products and sums are rounded as it says."""
    return ["-ffp-contract=off"] if ROUNDED in text else []


def run(arguments: list[str], folder: Path) -> None:
    """Run the pinned compiler in a folder.

    Raises:
        ToolError, LimitError: see `artifact`.
    """
    cache = os.environ.get("ZIG_GLOBAL_CACHE_DIR") or str(_cache_folder())
    environment = {
        **os.environ,
        "ZIG_GLOBAL_CACHE_DIR": cache,
        "ZIG_LOCAL_CACHE_DIR": str(folder / "zig"),
        "LC_ALL": "C",
    }
    command = [sys.executable, "-m", "ziglang", "cc", *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise LimitError(f"the C compiler took more than {TIME_LIMIT_S} s") from error
    if done.returncode:
        said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[-200:])
        raise ToolError(
            f"the C compiler failed: {said[:300]}", hint="is ziglang installed? pip install skerry[compiler]"
        )


def _cache_folder() -> Path:
    """Return the user's cache folder for the compiler, or one in the temporary folder where there is no home."""
    try:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "skerry" / "zig"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # a read-only home, or none
        folder = Path(tempfile.gettempdir()) / f"skerry-zig-{os.getuid()}"
        folder.mkdir(exist_ok=True, mode=0o700)
    return folder
