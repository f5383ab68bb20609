"""Find ONNX Runtime's shared library without importing its Python package (which would load numpy and a second copy
of itself).
"""

from __future__ import annotations

import ctypes.util
import os
import sys

VARIABLE = "SKERRY_ONNXRUNTIME_LIBRARY"


class Library:
    """Where the library is and which version it says it is ("0" where its name does not tell)."""

    __slots__ = ("path", "version")

    def __init__(self, path: str, version: str) -> None:
        self.path = path
        self.version = version


def find() -> Library | None:
    """Return ONNX Runtime's library: named by SKERRY_ONNXRUNTIME_LIBRARY, inside an installed wheel, or the system's;
    else None.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return Library(named, _version(named)) if os.path.isfile(named) else None  # noqa: PTH113
    for folder in sys.path:
        inside = os.path.join(folder or ".", "onnxruntime", "capi")  # noqa: PTH118 pathlib costs a megabyte in every worker
        try:
            names = sorted(os.listdir(inside))  # noqa: PTH208
        except OSError:
            continue
        for name in names:
            if name.startswith(("libonnxruntime.so", "libonnxruntime.dylib")):
                return Library(os.path.join(inside, name), _version(name))  # noqa: PTH118
    system = ctypes.util.find_library("onnxruntime")
    return Library(system, _version(system)) if system else None


def _version(path: str) -> str:
    """Return the version in `libonnxruntime.so.1.32.0`, or "0"."""
    version = os.path.basename(path).partition(".so.")[2]  # noqa: PTH119
    return version if version.replace(".", "").isdigit() else "0"
