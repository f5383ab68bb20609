"""The ground that all images stand on: of Debian's packages, what a Python program needs and nothing else; a user who
is not root; no shell, no package manager.

What is in it can be found by scanners: `/var/lib/dpkg/status.d` holds each package's control file, as in other images
without dpkg, and every licence is where Debian has it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence
from pathlib import Path

from skerry_simulators.debian import packages
from skerry_simulators.debian.bytecode import Compiler
from skerry_simulators.debian.packages import ARCHITECTURES, Package
from skerry_simulators.debian.tree import MERGED, Tree
from skerry_simulators.errors import SimulatorError
from skerry_simulators.images.binfmt import native_platform

SUITE = "trixie"
USER, USER_ID = "skerry", 10001
# Of what apt brings with Python: the rest is for maintainer scripts, terminals and other languages.
PYTHON = (
    "base-files",
    "ca-certificates",
    "libbz2-1.0",
    "libc6",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3-stdlib",
    "libsqlite3-0",
    "libssl3t64",
    "libuuid1",
    "libzstd1",
    "netbase",
    "python3-minimal",
    "tzdata",
    "zlib1g",
)
_ALSO = re.compile(r"(lib)?python3\.\d+(-minimal|-stdlib)?|gcc-\d+-base|libssl3")
_UNWANTED = re.compile(
    r"usr/share/(man|info|locale|lintian|bug|doc-base|pixmaps|applications|binfmts|base-files|python3|perl5|debconf|menu)"
    r"|usr/share/doc/[^/]+/(?!copyright$).+"
    r"|usr/share/zoneinfo/(right|posix)"
    r"|usr/lib/[^/]+/(gconv|audit|perl.*|engines-3|ossl-modules/legacy\.so)"
    r"|usr/lib/python3[^/]*/(test|pydoc_data|idlelib|tkinter|turtledemo|turtle\.py|ensurepip|lib2to3|curses|_pyrepl"
    r"|xmlrpc|config-.*|_pyio\.py|_pydecimal\.py|_pydatetime\.py|lib-dynload/(_test.*|_ctypes_test.*|_xx.*|xx.*|_curses.*|readline.*|_dbm.*|_gdbm.*))"
    r"|usr/bin/(?!python3).*|usr/s?bin/(py3.*|pydoc.*|pygettext.*|pdb.*|2to3.*)|usr/sbin/.*"
    r"|etc/(cron.*|init\.d|logrotate\.d|update-motd\.d|profile.*|skel|debconf.*|opt|terminfo|default|dpkg|binfmt\.d|python3.*)"
    r"|boot|home|media|mnt|opt|srv|root|lib64|usr/(games|include|local|src)|var/(backups|cache|local|lock|mail|opt|spool|run)"
)
_CERTIFICATES = "usr/share/ca-certificates/mozilla/"
_PLACES = {"etc": 0o755, "tmp": 0o1777, "run": 0o755, "var/tmp": 0o1777, "root": 0o700}


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """A base tree, and what was learnt while it was made: the packages in it, the version of Python and of the C
    library, and the folder from which Python imports what is not its own.
    """

    tree: Tree
    packages: tuple[Package, ...]
    python: tuple[int, int]
    glibc: tuple[int, int]

    @property
    def site(self) -> str:
        """Where Debian's Python finds packages of others."""
        return "usr/lib/python3/dist-packages"


def make(platform: str, suite: str, cache: Path, extra: Sequence[str] = (), programs: Collection[str] = ()) -> Ground:
    """Return the ground for a platform (linux/arm64), without byte code. `extra` names further packages to put in, and
    `programs` the paths of those of their programs that stay.

    Raises:
        SimulatorError: an unknown suite, no apt, or no way to a mirror.
    """
    wanted = [*(name for name in PYTHON if not name.startswith("lib") or name == "libpython3-stdlib"), *extra]
    found = packages.fetch(suite, ARCHITECTURES[platform], wanted, cache)
    return assemble([each for each in found if _belongs(each.name, extra)], programs)


def _belongs(name: str, extra: Sequence[str]) -> bool:
    return name in PYTHON or name in extra or _ALSO.fullmatch(name) is not None


def assemble(found: Sequence[Package], programs: Collection[str] = ()) -> Ground:
    """Return the ground made of these packages; of programs, Python and those named stay.

    Raises:
        SimulatorError: no Python or C library among them.
    """
    tree = Tree()
    for each in found:
        tree.merge(each.unpack())
    _certificates(tree)
    tree.remove(lambda path: _UNWANTED.fullmatch(path) is not None and path not in programs)
    for name in MERGED:
        if f"usr/{name}" in tree:
            tree.link(name, f"usr/{name}")
    for path, mode in _PLACES.items():
        tree.directory(path, mode)
    _people(tree)
    for each in found:
        tree.file(f"var/lib/dpkg/status.d/{each.name}", each.control.encode())
    python = _version(found, r"libpython3\.\d+-stdlib", "Python")
    tree.link("usr/bin/python3", f"python{python[0]}.{python[1]}")
    return Ground(tree, tuple(found), python, _version(found, r"libc6", "C library"))


def _version(found: Sequence[Package], pattern: str, what: str) -> tuple[int, int]:
    version = next((each.version for each in found if re.fullmatch(pattern, each.name)), "")
    numbers = re.match(r"(?:\d+:)?(\d+)\.(\d+)", version)
    if numbers is None:
        raise SimulatorError(f"these packages have no {what}", hint="name a suite of Debian that has one")
    return int(numbers[1]), int(numbers[2])


def _certificates(tree: Tree) -> None:
    """Write the file of authorities that ca-certificates would write when it is installed."""
    authorities = [node.data for path, node in tree if path.startswith(_CERTIFICATES) and node.kind == "file"]
    if authorities:
        tree.remove(lambda path: path in ("usr/share/ca-certificates", "etc/ca-certificates", "etc/ssl/certs"))
        text = b"".join(each.rstrip(b"\n") + b"\n" for each in authorities)
        tree.file("etc/ssl/certs/ca-certificates.crt", text)
        for name, target in (("cert.pem", "/etc/ssl/certs/ca-certificates.crt"), ("certs", "/etc/ssl/certs")):
            tree.link(f"usr/lib/ssl/{name}", target)  # where Debian's OpenSSL looks


def _people(tree: Tree) -> None:
    tree.file(
        "etc/passwd", f"root:x:0:0:root:/root:/sbin/nologin\n{USER}:x:{USER_ID}:{USER_ID}::/:/sbin/nologin\n".encode()
    )
    tree.file("etc/group", f"root:x:0:\n{USER}:x:{USER_ID}:\n".encode())
    tree.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")


def native(suite: str, cache: Path, ground: Ground, platform: str) -> Compiler:
    """Return the suite's Python in its build for this machine, to compile sources with: that of the ground itself where
    that is of this machine's kind.

    Raises:
        SimulatorError: Debian has none for this machine, or there is no way to a mirror.
    """
    ours = native_platform()
    return Compiler(ground.tree if ours == platform else make(ours, suite, cache).tree)
