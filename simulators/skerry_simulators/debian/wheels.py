"""Python packages for another machine: exactly the locked ones, by digest, fetched by pip and unpacked without it.

Layout of a wheel: PyPA's "Binary distribution format"; which of them fit a C library: PEP 600.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath

from skerry_simulators.debian.packages import FetchError
from skerry_simulators.debian.tree import Tree
from skerry_simulators.errors import SimulatorError

MACHINES = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "armv7l", "riscv64": "riscv64"}
_OLDEST_GLIBC = 5  # manylinux1


def locked(name: str) -> list[str]:
    """Return a file of locked requirements (requirements/NAME.txt) as pip's lines, each with its hashes; outside a
    checkout, where there is none, what this installation needs in the versions that run here, without.
    """
    path = Path(__file__).parents[3] / "requirements" / f"{name}.txt"
    if path.is_file():
        whole = re.sub(r"\s*\\\n\s*", " ", path.read_text(encoding="utf-8"))
        return re.findall(r"^[\w.-]+==.*$", whole, re.MULTILINE)
    return [f"{each}=={metadata.version(each)}" for each in sorted(_needed("skerry"))]


def _needed(distribution: str) -> set[str]:
    """Return what a distribution needs, and what that needs, without extras, by normal names."""
    found: set[str] = set()
    waiting = [distribution]
    while waiting:
        for line in metadata.requires(waiting.pop()) or ():
            name, _, marker = line.partition(";")
            plain = _plain(re.split(r"[^A-Za-z0-9._-]", name.strip())[0])
            if "extra" in marker or "python_full_version" in marker or "python_version" in marker or plain in found:
                continue
            found.add(plain)
            waiting.append(plain)
    return found


def without(lines: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return requirements but those of some projects.

    >>> without(["a-b==1", "c==2 --hash=sha256:00"], ["A_b"])
    ['c==2 --hash=sha256:00']
    """
    gone = {_plain(each) for each in names}
    return [each for each in lines if _plain(each.split("==")[0]) not in gone]


def tags(machine: str, glibc: tuple[int, int]) -> list[str]:
    """Return the platforms whose wheels run with a GNU C library of this version, newest first.

    >>> tags("aarch64", (2, 6))
    ['manylinux_2_6_aarch64', 'manylinux_2_5_aarch64', 'manylinux2014_aarch64', 'linux_aarch64']
    """
    levels = [f"manylinux_{glibc[0]}_{minor}_{machine}" for minor in range(glibc[1], _OLDEST_GLIBC - 1, -1)]
    return [*levels, f"manylinux2014_{machine}", f"linux_{machine}"]


def fetch(
    requirements: Sequence[str],
    machine: str,
    python: tuple[int, int],
    glibc: tuple[int, int],
    folder: Path,
    *,
    afresh: bool = False,
) -> list[Path]:
    """Return the wheels of locked requirements for a machine, sorted by name; none is built, none is resolved anew.
    What is in the folder is not fetched again, and with `afresh` nothing is taken from pip's own cache.

    Raises:
        FetchError: no pip, no way to an index, or one of them has no wheel for this machine.
    """
    if importlib.util.find_spec("pip") is None:
        raise FetchError("this Python has no pip", hint="python -m ensurepip")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = folder / "wanted.txt"
    wanted.write_text("\n".join(requirements) + "\n", encoding="utf-8")
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    words += ["--only-binary=:all:", "--dest", str(folder), "--python-version", ".".join(map(str, python))]
    words += ["--implementation", "cp", "--abi", f"cp{python[0]}{python[1]}", "--abi", "abi3", "--abi", "none"]
    words += [word for tag in tags(machine, glibc) for word in ("--platform", tag)]
    words += ["--require-hashes"] if all("--hash=" in line for line in requirements) else []
    words += ["--no-cache-dir"] if afresh else []
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [*words, "--requirement", str(wanted)],
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")] or ["ERROR: no word from it"]
        missing = next((line for line in lines if "No matching distribution" in line), lines[-1])
        hint = f"no wheel for {machine}, or no way to the package index"
        raise FetchError(f"pip could not fetch wheels for {machine}: {missing[7:]:.300}", hint=hint)
    return chosen(requirements, sorted(folder.glob("*.whl")))


def chosen(requirements: Sequence[str], wheels: Sequence[Path]) -> list[Path]:
    """Return those of some wheels whose name and version are required: a cache may hold older ones, too."""
    pins = {(_plain(name), version) for line in requirements for name, version in re.findall(r"^(.+?)==(\S+)", line)}
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
