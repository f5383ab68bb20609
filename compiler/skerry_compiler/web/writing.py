"""A web package on disk: a folder, or one file that `npm install` (.tgz) or any server's unpacker (.zip) takes."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from skerry_compiler import files
from skerry_compiler.errors import CompileError

ARCHIVES = (".zip", ".tgz")
_EARLIEST = (1980, 1, 1, 0, 0, 0)
MARK = "about.js"  # a folder that holds it is an earlier package, and may be replaced


def refuse_unwritable(output: Path, bundle: Path) -> None:
    """Refuse what could not be written in the end, before any work is done.

    Raises:
        CompileError: no such place, or a folder with something else in it.
    """
    if output.suffix in ARCHIVES:
        return files.refuse_unwritable([output], [bundle])
    if not output.exists():
        if not output.absolute().parent.is_dir():
            raise CompileError(f"cannot write {output}: no folder {output.parent}", hint="make the folder first")
    elif not output.is_dir():
        raise CompileError(f"cannot write {output}: it is a file", hint="name a folder, or a .zip or .tgz file")
    elif any(output.iterdir()) and not (output / MARK).is_file():
        raise CompileError(f"cannot write {output}: it holds other things", hint="name an empty folder, or a new one")


def write(output: Path, content: Mapping[str, bytes], name: str) -> None:
    """Write a package's files. Other files in a folder, such as node_modules, stay.

    Raises:
        CompileError: it cannot be written there.
    """
    try:
        if output.suffix == ".zip":
            with files.replaced(output) as file:
                file.write(_zip(content, name))
        elif output.suffix == ".tgz":
            with files.replaced(output) as file:
                file.write(gzip.compress(_tar(content), mtime=0))
        else:
            output.mkdir(exist_ok=True)
            for path, each in content.items():
                with files.replaced(output / path) as file:
                    file.write(each)
    except OSError as error:
        raise CompileError(f"cannot write {output}: {error.strerror}") from error


def _zip(content: Mapping[str, bytes], name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, each in sorted(content.items()):
            entry = zipfile.ZipInfo(f"{name}/{path}", _EARLIEST)
            entry.external_attr, entry.compress_type = 0o100644 << 16, zipfile.ZIP_DEFLATED
            archive.writestr(entry, each)
    return buffer.getvalue()


def _tar(content: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, each in sorted(content.items()):
            entry = tarfile.TarInfo(f"package/{path}")  # the folder that npm expects
            entry.size, entry.mode = len(each), 0o644
            archive.addfile(entry, io.BytesIO(each))
    return buffer.getvalue()
