"""The first file system of a virtual machine that is nothing but Python and a device's core: an initramfs, made without
root from what runs here.

What belongs in it is found by living a life and looking at what was loaded and read, so nothing is listed by hand.
Modules go in compiled, all below one folder; the interpreter itself is the machine's first process.
"""

from __future__ import annotations

import io
import json
import lzma
import os
import py_compile
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from skerry_simulators.errors import SimulatorError

SITE, LIBRARIES, PYTHON, MODULES, JOB = "site", "lib", "python", "modules", "job.json"
DRIVERS = ("virtio_pci", "virtio_blk", "virtio_rng", "crc32c_generic", "ext4")
OPTIONAL = {"virtio_rng", "crc32c_generic"}  # built in elsewhere, or not needed
_LINKED = re.compile(r"^\s*(\S+) => (/\S+) \(|^\s*(/\S+) \(", re.MULTILINE)
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")  # in a driver's .modinfo
_TRY = """
import json, random, sys
from pathlib import Path
read = set()
sys.addaudithook(lambda event, values: event == "open" and isinstance(values[0], (str, bytes)) and read.add(values[0]))
from skerry_simulators import vm_guest, vm_pack
vm_guest.rehearse(Path(sys.argv[1]))
vm_pack.tell(read, Path(sys.argv[2]))
"""


def tell(read: Iterable[str | bytes], out: Path) -> None:
    """Write which modules this process has loaded, and which other files below their folders it has read."""
    files = {name: found for name, module in sys.modules.items() if (found := _file(module)) is not None}
    tops = sorted(
        {str(Path(file).parents[name.count(".") + (Path(file).stem == "__init__")]) for name, file in files.items()},
        key=len,
        reverse=True,
    )
    data = {}
    for each in sorted({os.fsdecode(path) for path in read}):
        top = next((top for top in tops if each.startswith(f"{top}/")), None)
        if top is not None and not each.endswith((".py", ".pyc", ".so")) and Path(each).is_file():
            data[str(Path(each).relative_to(top))] = each
    out.write_text(json.dumps({"modules": files, "data": data}))


def _file(module: ModuleType) -> str | None:
    found = getattr(module, "__file__", None)
    return found if isinstance(found, str) and Path(found).is_file() else None


def pack(kernel: Path, version: str) -> bytes:
    """Return an initramfs for a kernel whose modules are below `kernel`/lib/modules/`version`.

    Raises:
        SimulatorError: a driver is missing, or a life does not go well here.
    """
    archive = Archive()
    with tempfile.TemporaryDirectory(prefix="skerry-pack-") as name:
        work = Path(name)
        (work / "life").mkdir()
        command = [sys.executable, "-c", _TRY, str(work / "life"), str(work / "told")]
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            words = (tried.stderr.strip().splitlines() or ["no word"])[-1]
            raise SimulatorError(f"a life does not go well here: {words}", hint="`skerry sim world` says more")
        told = json.loads((work / "told").read_text())
        libraries = [sys.executable]
        for module, file in sorted(told["modules"].items()):
            if module == "__main__":
                continue
            path = f"{SITE}/{module.replace('.', '/')}"
            if file.endswith(".so"):
                libraries.append(file)
                archive.add(f"{path}{''.join(Path(file).suffixes)}", Path(file).read_bytes(), 0o755)
            else:
                package = "/__init__" if Path(file).stem == "__init__" else ""
                archive.add(f"{path}{package}.pyc", _compiled(Path(file), work / "one.pyc"))
    for path, file in told["data"].items():
        archive.add(f"{SITE}/{path}", Path(file).read_bytes())
    archive.add(PYTHON, Path(sys.executable).resolve().read_bytes(), 0o755)
    _add_libraries(archive, libraries)
    _add_drivers(archive, kernel / "lib/modules" / version)
    for folder in ("dev", "proc", "tmp", "mnt"):
        archive.folder(folder)
    return archive.close()


def _compiled(source: Path, out: Path) -> bytes:
    if source.suffix == ".pyc":
        return source.read_bytes()
    py_compile.compile(
        str(source), str(out), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    return out.read_bytes()


def _add_libraries(archive: Archive, programs: list[str]) -> None:
    """Add what the interpreter and the extension modules are linked with."""
    said = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    for name, path, loader in sorted(set(_LINKED.findall(said))):
        if loader:
            archive.add(loader.lstrip("/"), Path(loader).read_bytes(), 0o755)
        else:
            archive.add(f"{LIBRARIES}/{name}", Path(path).read_bytes(), 0o755)


def _add_drivers(archive: Archive, folder: Path) -> None:
    """Add the kernel's drivers in an order in which they can be loaded."""
    built_in = (folder / "modules.builtin").read_text() if (folder / "modules.builtin").exists() else ""
    there = {path.name.partition(".")[0].replace("-", "_"): path for path in (folder / "kernel").rglob("*.ko*")}
    order: dict[str, bytes] = {}

    def take(name: str) -> None:
        data = there[name].read_bytes()
        data = lzma.decompress(data) if there[name].suffix == ".xz" else data
        needs = _DEPENDS.search(data)
        for each in needs[1].decode().split(",") if needs and needs[1] else ():
            take(each.replace("-", "_"))
        order.setdefault(name, data)

    for driver in DRIVERS:
        if driver in there:
            take(driver)
        elif f"/{driver}.ko" not in built_in and driver not in OPTIONAL:
            raise SimulatorError(
                f"the kernel of {folder} has no {driver}", hint="take Debian's linux-image-cloud-amd64"
            )
    for number, data in enumerate(order.values()):
        archive.add(f"{MODULES}/{number:02}", data)


class Archive:
    """A cpio archive as the kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst)."""

    def __init__(self) -> None:
        self._out = io.BytesIO()
        self._there: set[str] = set()

    def add(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a file; the first of a path counts."""
        self.folder(str(Path(path).parent))
        if path not in self._there:
            self._put(path, 0o100000 | mode, data)

    def folder(self, path: str) -> None:
        """Add a folder and those above it."""
        if path not in ("", ".") and path not in self._there:
            self.folder(str(Path(path).parent))
            self._put(path, 0o040755, b"")

    def close(self) -> bytes:
        """Return the archive. Another may follow it."""
        self._put("TRAILER!!!", 0, b"")
        return self._out.getvalue()

    def _put(self, path: str, mode: int, data: bytes) -> None:
        self._there.add(path)
        name = path.encode() + b"\0"
        number = len(self._there)
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
        self._out.write(b"070701" + b"".join(b"%08x" % each for each in fields) + name)
        self._out.write(bytes(-self._out.tell() % 4) + data)
        self._out.write(bytes(-self._out.tell() % 4))
