"""Find engines' shared libraries without importing their Python packages (which would load numpy and a second copy of
themselves), and map model files.
"""

from __future__ import annotations

import ctypes.util
import mmap
import os
import sys

from skerry_agent.engines.base import EngineError

VARIABLE = "SKERRY_ONNXRUNTIME_LIBRARY"
# Engine: the variable that names its library, where its wheel keeps it, how the file's name begins, what the system
# calls it, the wheel's name, and the version to assume where nothing tells (the oldest that the engine here loads).
_KNOWN = {
    "onnxruntime": (VARIABLE, "onnxruntime/capi", "libonnxruntime.so", "onnxruntime", "onnxruntime", "0"),
    "litert": ("SKERRY_LITERT_LIBRARY", "ai_edge_litert", "libLiteRt.so", "LiteRt", "ai_edge_litert", "2.2.0"),
    "openvino": (
        "SKERRY_OPENVINO_LIBRARY", "openvino/libs", "libopenvino_c.so", "openvino_c", "openvino", "2024.0.0",
    ),
    "tvm": ("SKERRY_TVM_LIBRARY", "tvm/lib", "libtvm_runtime.so", "tvm_runtime", "apache_tvm", "0.27.0"),
}  # fmt: skip


class Library:
    """Where the library is and which version it says it is ("0" where nothing tells)."""

    __slots__ = ("path", "version")

    def __init__(self, path: str, version: str) -> None:
        self.path = path
        self.version = version


def find(engine: str = "onnxruntime") -> Library | None:
    """Return an engine's library: named by its variable, inside an installed wheel, or the system's; else None."""
    variable, inside, begins, system, wheel, least = _KNOWN[engine]
    named = os.environ.get(variable)
    if named:
        return Library(named, _version(named) or least) if os.path.isfile(named) else None  # noqa: PTH113
    for folder in sys.path:
        where = os.path.join(folder or ".", inside)  # noqa: PTH118 pathlib costs a megabyte in every worker
        try:
            names = sorted(os.listdir(where))  # noqa: PTH208
        except OSError:
            continue
        for name in names:
            if name.startswith((begins, begins.replace(".so", ".dylib"))):
                version = _version(name) or _installed(folder or ".", wheel) or least
                return Library(os.path.join(where, name), version)  # noqa: PTH118
    found = ctypes.util.find_library(system)
    return Library(found, _version(found) or least) if found else None


def variable(engine: str) -> str:
    """Return the environment variable that names an engine's library."""
    return _KNOWN[engine][0]


def mapped(path: str) -> mmap.mmap:
    """Return the file's bytes, mapped copy-on-write: clean pages are shared with the page cache and can be dropped.

    Raises:
        EngineError: it cannot be read, or is empty.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:
        raise EngineError(f"the model cannot be read: {error}") from error


def _version(path: str) -> str:
    """Return the version in `libonnxruntime.so.1.32.0`, or "" where the name has none."""
    version = os.path.basename(path).partition(".so.")[2]  # noqa: PTH119
    return version if "." in version and version.replace(".", "").isdigit() else ""


def _installed(folder: str, wheel: str) -> str:
    """Return the version that a wheel's metadata folder bears, or ""."""
    for name in sorted(os.listdir(folder)):  # noqa: PTH208
        if name.startswith(f"{wheel}-") and name.endswith(".dist-info"):
            return name.removeprefix(f"{wheel}-").removesuffix(".dist-info")
    return ""
