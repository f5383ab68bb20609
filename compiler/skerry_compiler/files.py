"""Bundles on disk: opened, unpacked for a measuring process, and written so that a crash leaves the old file or the
new one.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from skerry_compiler.errors import CompileError
from skerry_contracts import container
from skerry_contracts.container import Container
from skerry_contracts.errors import ContractError


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Container]:
    """Open a bundle file for the time of a with statement.

    Raises:
        CompileError: no such file, or not a whole bundle.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise CompileError(f"cannot read {path}: {error.strerror}") from error
    try:
        with file:
            yield container.open_container(file)
    except ContractError as error:
        raise CompileError(f"{path.name}: {error}", hint=error.hint) from error


def unpack(bundle: Container, folder: Path) -> None:
    """Write every blob by its digest, and the manifest, into a folder, as the agent's store has them."""
    for sha256 in bundle.manifest.blobs():
        (folder / sha256).write_bytes(bundle.read_blob(sha256))
    (folder / "manifest.json").write_bytes(bundle.manifest_bytes)


def write_handover(path: Path, plain: dict[str, Any], model: Path) -> None:
    """Write the hand-over for retraining: JSON, and the QDQ ONNX beside it under the same name.

    Raises:
        CompileError: it cannot be written there.
    """
    beside = path.with_suffix(".onnx")
    try:
        path.write_text(json.dumps({**plain, "model": beside.name}, indent=1) + "\n")
        beside.write_bytes(model.read_bytes())
    except OSError as error:
        raise CompileError(f"cannot write {path}: {error.strerror}") from error


def refuse_unwritable(outputs: Sequence[Path | None], inputs: Sequence[Path | None]) -> None:
    """Refuse files that could not be written in the end, before any work is done; None stands for a file not asked for.

    Raises:
        CompileError: a folder, in no folder, in one that may not be written to, two outputs in one place, or an input.
    """
    taken = {_place(path): f"the input {path}" for path in inputs if path is not None and path.exists()}
    for path in (each for each in outputs if each is not None):
        if path.is_dir() or not path.name:
            raise CompileError(f"cannot write {path}: it is a folder", hint="name a file in it")
        if not path.parent.is_dir():
            raise CompileError(f"cannot write {path}: no folder {path.parent}", hint="make the folder first")
        if not os.access(path.parent, os.W_OK):
            raise CompileError(f"cannot write {path}: no permission in {path.parent.resolve()}")
        if _place(path) in taken:
            raise CompileError(f"cannot write {path}: {taken[_place(path)]} would be lost", hint="name another file")
        taken[_place(path)] = f"the output {path}"


def _place(path: Path) -> tuple[int, int] | Path:
    """Return what is the same for two names of one file."""
    try:
        found = path.stat()
    except OSError:
        return path.resolve()
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that takes the path's place when the with statement ends well, and is gone when it does not.

    Raises:
        CompileError: it cannot be written there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CompileError(f"cannot write {path}: {error.strerror}") from error


def write(path: Path, manifest: bytes, blobs: dict[str, bytes], evidence: bytes | None) -> None:
    """Write a bundle file.

    Raises:
        CompileError: it cannot be written there.
    """
    with replaced(path) as file:
        container.write_container(file, manifest, blobs.items(), evidence)
