"""Debian packages of any architecture and suite: resolved, fetched and verified by apt in a state of its own, so that
neither root nor a change of this machine is needed; and read without dpkg.

The mirror is the one that this machine's apt uses. Layout of a package: deb(5), ar(5).
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from skerry_simulators.errors import SimulatorError
from skerry_simulators.images.tree import Tree

ARCHITECTURES = {"linux/amd64": "amd64", "linux/arm64": "arm64", "linux/arm/v7": "armhf", "linux/riscv64": "riscv64"}
_FIELDS = "$(REPO_URI)|$(LABEL)"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_FRESH_S = 3600.0  # for so long nobody asks the mirror again what there is
_MAGIC, _HEADER_BYTES = b"!<arch>\n", 60


@dataclasses.dataclass(frozen=True, slots=True)
class Package:
    """A package file: its name, version and architecture as it says itself, its digest, and its control fields."""

    name: str
    version: str
    architecture: str
    sha256: str
    control: str
    path: Path

    def unpack(self) -> Tree:
        """Return what it installs.

        Raises:
            SimulatorError: it is no sound package.
        """
        tree = Tree()
        tree.unpack(_member(self.path.read_bytes(), "data.tar", self.path.name))
        return tree


def read(path: Path) -> Package:
    """Return what a package file says of itself.

    Raises:
        SimulatorError: it is no sound package.
    """
    content = path.read_bytes()
    tree = Tree()
    tree.unpack(_member(content, "control.tar", path.name))
    if "control" not in tree:
        raise SimulatorError(f"{path.name}: no control file", hint="remove it and try again")
    control = tree["control"].data.decode("utf-8")
    fields = dict(re.findall(r"^([A-Za-z-]+): *(.*)$", control, re.MULTILINE))
    try:
        words = (fields["Package"], fields["Version"], fields["Architecture"])
    except KeyError as error:
        raise SimulatorError(f"{path.name}: no field {error}", hint="remove it and try again") from error
    return Package(*words, hashlib.sha256(content).hexdigest(), control, path)


def _member(content: bytes, prefix: str, name: str) -> bytes:
    """Return the member of an ar archive whose name begins so."""
    at = len(_MAGIC)
    while content.startswith(_MAGIC) and at + _HEADER_BYTES <= len(content):
        header = content[at : at + _HEADER_BYTES]
        size = header[48:58].strip()
        if header[58:] != b"`\n" or not size.isdigit():
            break
        begin = at + _HEADER_BYTES
        end = begin + int(size)
        if header[:16].decode("ascii", "replace").startswith(prefix) and end <= len(content):
            return content[begin:end]
        at = end + end % 2
    raise SimulatorError(f"{name} is no Debian package, or was cut short", hint="remove it and try again")


def fetch(suite: str, architecture: str, names: Sequence[str], cache: Path) -> list[Package]:
    """Return these packages and all they depend on, newest of the suite (security updates included), sorted by name.
    Lists and package files stay in `cache`, so that only what is new is fetched the next time.

    Raises:
        SimulatorError: no apt, no mirror, no such package, or no way to it.
    """
    if shutil.which("apt-get") is None:
        raise SimulatorError("there is no apt-get here", hint="images are built on Debian, or in a container of it")
    root = (cache / "apt" / suite / architecture).absolute()
    (root / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    (root / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        options = _state(root, suite, architecture)
        updated = root / "updated"
        try:
            fresh = time.time() - updated.stat().st_mtime < _FRESH_S
        except OSError:
            fresh = False
        if fresh:  # packages that have left the mirror since make this fail
            with contextlib.suppress(SimulatorError):
                return _fetched(root, options, names)
        _apt([*options, "update", "-qq"])
        updated.touch()
        return _fetched(root, options, names)


def _fetched(root: Path, options: Sequence[str], names: Sequence[str]) -> list[Package]:
    plan = planned(_apt([*options, "install", "-qq", "--simulate", *names]))
    if not all((root / "archives" / name).exists() for name in plan):
        _apt([*options, "install", "-qq", "-y", "--download-only", *names])
    return sorted((read(root / "archives" / name) for name in plan), key=lambda each: each.name)


def planned(plan: str) -> list[str]:
    """Return the names of the package files that apt's simulation would install.

    >>> planned("Inst zlib1g (1:1.3-1 Debian:13.1/stable [arm64])\\nConf zlib1g (1:1.3-1 Debian:13.1/stable [arm64])")
    ['zlib1g_1%3a1.3-1_arm64.deb']
    """
    found = re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) .*\[(\w+)\]\)", plan, re.MULTILINE)
    return [f"{name.split(':')[0]}_{version.replace(':', '%3a')}_{arch}.deb" for name, version, arch in found]


def mirrors(lines: str) -> dict[str, str]:
    """Return the address of Debian's archive and of its security updates, of what `apt-get indextargets` printed.

    >>> mirrors("http://m/debian/|Debian\\nhttp://m/x|Other\\n")
    {'Debian': 'http://m/debian/'}
    """
    found: dict[str, str] = {}
    for line in lines.splitlines():
        address, label = line.partition("|")[0], line.rpartition("|")[2]
        if label in ("Debian", "Debian-Security"):
            found.setdefault(label, address)
    return found


def _state(root: Path, suite: str, architecture: str) -> list[str]:
    """Prepare a folder as apt's state for one suite and architecture; return the options that make apt use it."""
    found = mirrors(_apt(["indextargets", "--format", _FIELDS, "Created-By: Packages"]))
    if "Debian" not in found:
        hint = "add Debian's archive to this machine's apt sources"
        raise SimulatorError("this machine's apt knows no mirror of Debian", hint=hint)
    (root / "status").touch()
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    lines = [f"deb {signed}{found['Debian']} {suite} main"]
    if "Debian-Security" in found:
        lines.append(f"deb {signed}{found['Debian-Security']} {suite}-security main")
    (root / "sources.list").write_text("\n".join(lines) + "\n")
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures::": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",  # no change of user: the state is this user's own
        "Acquire::Languages": "none",
        "Debug::NoLocking": "1",
        "Dir::State": str(root),
        "Dir::State::lists": str(root / "lists"),
        "Dir::State::status": str(root / "status"),
        "Dir::Cache": str(root),
        "Dir::Cache::archives": str(root / "archives"),
        "Dir::Etc::sourcelist": str(root / "sources.list"),
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _apt(words: Sequence[str]) -> str:
    """Run apt-get; return what it printed."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["apt-get", *words], capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        said = [line[3:] for line in done.stderr.splitlines() if line.startswith("E: ")] or ["it gave no reason"]
        missing = any("Unable to locate" in line for line in said)
        hint = "check --suite" if missing else "apt-get update says whether the mirror can be reached"
        raise SimulatorError(f"apt-get: {said[0]:.300}", hint=hint)
    return done.stdout
