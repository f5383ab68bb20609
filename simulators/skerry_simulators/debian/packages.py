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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from skerry_simulators.debian.tree import Tree
from skerry_simulators.errors import SimulatorError

ARCHITECTURES = {"linux/amd64": "amd64", "linux/arm64": "arm64", "linux/arm/v7": "armhf", "linux/riscv64": "riscv64"}
_FIELDS = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)"
_SUITES = re.compile(r"[a-z]+(-security)?")  # bookworm, stable, stable-security: not bookworm-updates
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_FRESH_S = 3600.0  # for so long nobody asks the mirror again what there is
_MAGIC, _HEADER_BYTES = b"!<arch>\n", 60
_OFFLINE = "is this machine connected, and are its apt sources right? (sudo apt-get update tells)"
_NO_SUITE = "Debian has no such suite (--suite), or no such package in it"
_UNKNOWN = ("Unable to locate", "does not have a Release file")


class FetchError(SimulatorError):
    """What boards and images are made of cannot be fetched: a program is missing, or what it asks is out of reach."""


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


def fetch(suite: str, architecture: str, names: Sequence[str], cache: Path, *, alone: bool = False) -> list[Package]:
    """Return these packages and all they depend on, newest of the suite (security updates included), sorted by name; or
    them `alone`, as the suite was released: one archive fewer to be asked. Lists and package files stay in `cache`, so
    that only what is new is fetched the next time.

    Raises:
        FetchError: no apt, no mirror, no such package, or no way to it.
    """
    if shutil.which("apt-get") is None:
        raise FetchError("apt-get is not here: boards and images are made of Debian packages", hint="run it on Debian")
    root = (cache / "apt" / suite / architecture).absolute()
    (root / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    (root / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        options = _state(root, suite, architecture, security=not alone)
        fetched = _alone if alone else _whole
        updated = root / "updated"
        try:
            fresh = time.time() - updated.stat().st_mtime < _FRESH_S
        except OSError:
            fresh = False
        if fresh:  # packages that have left the mirror since make this fail
            with contextlib.suppress(SimulatorError):
                return fetched(root, options, names)
        _apt([*options, "update", "-qq"])
        updated.touch()
        return fetched(root, options, names)


def _whole(root: Path, options: Sequence[str], names: Sequence[str]) -> list[Package]:
    files = planned(_apt([*options, "install", "-qq", "--simulate", *names]))
    if not all((root / "archives" / name).exists() for name in files):
        _apt([*options, "install", "-qq", "-y", "--download-only", *names])
    return _read(root, files)


def _alone(root: Path, options: Sequence[str], names: Sequence[str]) -> list[Package]:
    said = _apt([*options, "download", "-qq", "--print-uris", *names])
    files = re.findall(r"^'\S+' (\S+\.deb) ", said, re.MULTILINE)
    if len(files) != len(names):
        raise FetchError("apt-get: not every package is known by one name", hint="has Debian changed? please report it")
    if not all((root / "archives" / name).exists() for name in files):
        _apt([*options, "download", "-qq", *names], root / "archives")
    return _read(root, files)


def _read(root: Path, files: Sequence[str]) -> list[Package]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return sorted(pool.map(read, (root / "archives" / name for name in files)), key=lambda each: each.name)


def planned(plan: str) -> list[str]:
    """Return the names of the package files that apt's simulation would install.

    >>> planned("Inst zlib1g (1:1.3-1 Debian:13.1/stable [arm64])\\nConf zlib1g (1:1.3-1 Debian:13.1/stable [arm64])")
    ['zlib1g_1%3a1.3-1_arm64.deb']
    """
    found = re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) .*\[(\w+)\]\)", plan, re.MULTILINE)
    return [f"{name.split(':')[0]}_{version.replace(':', '%3a')}_{arch}.deb" for name, version, arch in found]


def mirrors(said: str) -> list[tuple[str, str]]:
    """Return the addresses of Debian's archive and, each with the suffix of its suites ("" or "-security"), in lines of
    apt's index targets: address, release, component and origin.

    >>> mirrors("file:/m/debian/ bookworm main Debian\\nfile:/other/ apt main Other\\n")
    [('file:/m/debian/', '')]
    """
    found = []
    for line in said.splitlines():
        address, release, component, origin = (*line.split(), "", "", "", "")[:4]
        suite = _SUITES.fullmatch(release)
        # Before the first update apt does not know whose archive it is: then its path must say so.
        folder = f"/debian{suite[1] or ''}" if suite else ""
        is_debian = origin == "Debian" or (origin.startswith("$") and address.rstrip("/").endswith(folder))
        if suite and is_debian and component == "main":
            found.append((address, suite[1] or ""))
    return list(dict.fromkeys(found))


def _state(root: Path, suite: str, architecture: str, *, security: bool) -> list[str]:
    """Prepare a folder as apt's state for one suite and architecture; return the options that make apt use it."""
    found = mirrors(_apt(["indextargets", "--format", _FIELDS, "Created-By: Packages"]))
    archives = {suffix: address for address, suffix in reversed(found)}
    if "" not in archives:
        hint = "add a source for Debian's archive to apt (its suite does not matter)"
        raise FetchError("apt has no source of Debian packages", hint=hint)
    if not (root / "status").exists():  # as what apt keeps of it is by time
        (root / "status").touch()
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    lines = [f"deb {signed}{address} {suite}{suffix} main" for suffix, address in sorted(archives.items())]
    lines = lines if security else lines[:1]
    text, sources = "\n".join(lines) + "\n", root / "sources.list"
    if not sources.exists() or sources.read_text() != text:
        sources.write_text(text)
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
        "Dir::Cache::pkgcache": str(root / "pkgcache.bin"),  # where a machine keeps none, each command makes it anew
        "Dir::Cache::srcpkgcache": "",
        "Dir::Etc::sourcelist": str(root / "sources.list"),
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::Etc::preferences": "/dev/null",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _apt(words: Sequence[str], folder: Path | None = None) -> str:
    """Run apt-get, in a folder; return what it printed."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["apt-get", *words], capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, cwd=folder
    )
    # An update that reached only some of its sources warns, and ends as if it had reached all.
    if done.returncode or re.search(r"^[EW]: Failed", done.stderr, re.MULTILINE):
        said = [line[3:] for line in done.stderr.splitlines() if line.startswith(("E: ", "W: Failed"))]
        missing = any(words in line for line in said for words in _UNKNOWN)
        raise FetchError(f"apt-get: {(said or ['it gave no reason'])[0]:.300}", hint=_NO_SUITE if missing else _OFFLINE)
    return done.stdout
