"""Python packages for another machine: exactly the locked ones, by digest, fetched by pip and unpacked without it.

Layout of a wheel: PyPA's "Binary distribution format"; which of them fit a C library: PEP 600.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from skerry_simulators.errors import SimulatorError
from skerry_simulators.images.tree import Tree

MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "armv7l", "riscv64": "riscv64"}
_OLDEST_GLIBC = 5  # manylinux1


def lock(name: str) -> Path:
    """Return a file of locked requirements: of this checkout, or what came with the installed package.

    Raises:
        SimulatorError: there is none.
    """
    here = Path(__file__)
    places = (here.parents[3] / "requirements" / f"{name}.txt", here.parent / "requirements" / f"{name}.txt")
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise SimulatorError(f"no locked requirements {name}.txt", hint="use a checkout: make lock writes them")
    return found


def tags(machine: str, glibc: tuple[int, int]) -> list[str]:
    """Return the platforms whose wheels run with a GNU C library of this version, newest first.

    >>> tags("aarch64", (2, 6))
    ['manylinux_2_6_aarch64', 'manylinux_2_5_aarch64', 'manylinux2014_aarch64', 'linux_aarch64']
    """
    levels = [f"manylinux_{glibc[0]}_{minor}_{machine}" for minor in range(glibc[1], _OLDEST_GLIBC - 1, -1)]
    return [*levels, f"manylinux2014_{machine}", f"linux_{machine}"]


def fetch(requirements: Path, machine: str, python: tuple[int, int], glibc: tuple[int, int], cache: Path) -> list[Path]:
    """Return the wheels of locked requirements for a machine, sorted by name; none is built, none is resolved anew.

    Raises:
        SimulatorError: no pip, no way to an index, or one of them has no wheel for this machine.
    """
    if importlib.util.find_spec("pip") is None:
        raise SimulatorError("this Python has no pip", hint="python -m ensurepip")
    version = ".".join(map(str, python))
    folder = cache / "wheels" / f"{requirements.stem}-{machine}-{version}"
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    words += ["--require-hashes", "--only-binary=:all:", "--dest", str(folder), "--python-version", version]
    words += ["--implementation", "cp", "--abi", f"cp{python[0]}{python[1]}", "--abi", "abi3", "--abi", "none"]
    words += [word for tag in tags(machine, glibc) for word in ("--platform", tag)]
    done = subprocess.run(
        [*words, "--requirement", str(requirements)], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or ["ERROR: no word from it"]
        missing = next((line for line in lines if "No matching distribution" in line), lines[-1])
        hint = f"no wheel for {machine}, or no way to the package index"
        raise SimulatorError(f"pip: {missing[7:]:.300}", hint=hint)
    return locked(requirements.read_text(encoding="utf-8"), sorted(folder.glob("*.whl")))


def locked(requirements: str, wheels: Sequence[Path]) -> list[Path]:
    """Return those of some wheels whose name and version are locked: a cache may hold older ones, too."""
    pins = {(_plain(name), version) for name, version in re.findall(r"^([\w.-]+)==(\S+)", requirements, re.MULTILINE)}
    return [each for each in wheels if (_plain(each.name.split("-")[0]), each.name.split("-")[1]) in pins]


def unpack(wheel: Path, site: str) -> Tree:
    """Return what a wheel installs below `site`, the path of the folder from which Python imports. Commands are left
    out: an image calls its one program by module.

    Raises:
        SimulatorError: it is no sound wheel.
    """
    tree = Tree()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for info in archive.infolist():
                parts = PurePosixPath(info.filename).parts
                if info.is_dir():
                    continue
                if parts[0].endswith(".data"):
                    if parts[1] not in ("purelib", "platlib"):
                        continue
                    parts = parts[2:]
                mode = 0o755 if info.external_attr >> 16 & 0o111 else 0o644
                tree.file("/".join((site, *parts)), archive.read(info), mode)
    except (zipfile.BadZipFile, IndexError) as error:
        raise SimulatorError(f"{wheel.name} is no wheel: {error}", hint="remove it and try again") from error
    return tree


def _plain(name: str) -> str:
    """Return a project's name as all spellings of it agree (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
