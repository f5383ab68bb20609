"""Bundles on disk: opened, unpacked for a measuring process, and written so that a crash leaves the old file or the
new one.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def write(path: Path, manifest: bytes, blobs: dict[str, bytes], evidence: bytes | None) -> None:
    """Write a bundle file.

    Raises:
        CompileError: it cannot be written there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with temporary.open("xb") as file:
                container.write_container(file, manifest, blobs.items(), evidence)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CompileError(f"cannot write {path}: {error.strerror}") from error
