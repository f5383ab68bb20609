"""What a board's userland is made of, by what its programs are made for: Debian packages, wheels, an emulator.

ARMv7 and RISC-V have no wheels of the compiled libraries, so there those come from Debian too, as on a real board that
runs it.
"""

from __future__ import annotations

import dataclasses
import difflib

from skerry_simulators.errors import SimulatorError
from skerry_targets import catalogue, fit, host
from skerry_targets.profile import Profile

SUITE, PYTHON, GLIBC = "trixie", "3.13", (2, 41)  # the oldest Debian that has all three architectures
LAYOUT = 2  # counts the ways in which a userland was laid out: an older one in the cache is not this one

_BASE = (
    *("libc6", "libgcc-s1", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5", "libzstd1"),
    *("libuuid1", "libssl3t64", "libsqlite3-0"),
    *(f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", f"python{PYTHON}-minimal"),
)
_COMPILED = ("cryptography", "cffi", "pycparser")  # as distributions
_COMPILED_BY_DEBIAN = ("python3-cryptography", "python3-cffi-backend", "openssl-provider-legacy")


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """A userland: Debian's word for the architecture, QEMU's program, the packages, and the distributions that are not
    taken from wheels.
    """

    architecture: str
    emulator: str
    packages: tuple[str, ...]
    not_wheels: tuple[str, ...]


RECIPES = {
    "aarch64": Recipe("arm64", "qemu-aarch64-static", _BASE, ()),
    "armv7l": Recipe("armhf", "qemu-arm-static", (*_BASE, *_COMPILED_BY_DEBIAN), _COMPILED),
    "riscv64": Recipe("riscv64", "qemu-riscv64-static", (*_BASE, *_COMPILED_BY_DEBIAN), _COMPILED),
}


def of(profile: Profile) -> Recipe:
    """Return how a board's userland is made.

    Raises:
        SimulatorError: no agent of it can be run here, with the reason and what can be done instead.
    """
    abi = profile.abi
    if not runs(profile):
        raise SimulatorError(
            f"no agent of {profile.id} runs in emulation ({abi.os}, {abi.machine})",
            hint=f"Linux boards of {', '.join(RECIPES)} do",
        )
    return RECIPES[abi.machine]


def runs(profile: Profile) -> bool:
    """Return whether there is a userland for a board, and an emulator for its processor."""
    linux = profile.abi.os == "linux" and profile.emulator.kind == "qemu-user" and profile.family != "cuda"
    return linux and profile.abi.machine in RECIPES


def sibling(profile: Profile) -> Profile | None:
    """Return the board most like this one whose programs it cannot run for want of processor features; None where every
    board of its kind fits it.
    """
    facts = dataclasses.replace(
        host.hardware({}, ""), os=profile.abi.os, machine=profile.abi.machine, cpu_features=profile.cpu.features
    )
    others = [
        each
        for each in catalogue.load_all()
        if (each.abi.os, each.abi.machine) == (profile.abi.os, profile.abi.machine)
        and each.family == profile.family
        and fit.missing(fit.predicates(each), facts)
    ]
    return max(others, key=lambda each: (_alike(each.id, profile.id), each.id), default=None)


def plain_board(profile: Profile) -> Profile | None:
    """Return the plainest board of the catalogue that this machine is; None where it runs the board's own programs, or
    is none of them.
    """
    facts = host.hardware({}, "")
    if facts.machine == profile.abi.machine:
        return None
    own = [each for each in catalogue.load_all() if (each.abi.os, each.abi.machine) == (facts.os, facts.machine)]
    fitting = [each for each in own if not each.gpu and not fit.missing(fit.predicates(each), facts)]
    return min(fitting, key=lambda each: (len(each.cpu.features), each.id), default=None)


def _alike(one: str, two: str) -> float:
    return difflib.SequenceMatcher(None, one, two).ratio()
