"""Does a variant fit a device? Used by the agent before it installs and by the fleet before it offers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from skerry_contracts.bundle import Predicates, Variant
from skerry_contracts.device import Hardware
from skerry_targets.profile import Profile


def missing(requires: Predicates, hardware: Hardware) -> tuple[str, ...]:
    """Return what a device lacks for these predicates, in words for a person; empty where it lacks nothing."""
    lacks = []
    if requires.os != hardware.os:
        lacks.append(f"needs {requires.os}, this is {hardware.os}")
    if requires.machine != hardware.machine:
        lacks.append(f"made for {requires.machine}, this is {hardware.machine}")
    absent = sorted(set(requires.cpu_features) - set(hardware.cpu_features))
    if absent:
        lacks.append(f"the processor lacks {', '.join(absent)}")
    if requires.libc is not None and requires.libc != hardware.libc:
        lacks.append(f"needs {requires.libc}, this has {hardware.libc}")
    if requires.libc_min is not None and older(hardware.libc_version, requires.libc_min):
        lacks.append(f"needs {requires.libc or 'libc'} {requires.libc_min}, this has {hardware.libc_version}")
    return tuple(lacks)


def missing_for(variant: Variant, hardware: Hardware) -> tuple[str, ...]:
    """Return what a device lacks to run a variant: its predicates, the engine and its version, memory."""
    lacks = list(missing(variant.requires, hardware))
    version = hardware.engines.get(variant.engine)
    least = variant.requires.engine_min
    if version is None:
        lacks.append(f"the engine {variant.engine} is not there")
    elif least is not None and older(version, least):
        lacks.append(f"needs {variant.engine} {least}, this has {version}")
    if variant.memory_bytes > hardware.memory_bytes:
        lacks.append(f"needs {variant.memory_bytes >> 20} MB of memory, this has {hardware.memory_bytes >> 20}")
    return tuple(lacks)


def fitting(variants: Iterable[Variant], hardware: Hardware) -> tuple[Variant, ...]:
    """Return the variants that this device can run, in their order (best first)."""
    return tuple(variant for variant in variants if not missing_for(variant, hardware))


def why_not(variants: Iterable[Variant], hardware: Hardware) -> str:
    """Return in words why a device runs none of these variants; "" where there are none or it runs one."""
    lacks = {each.id: missing_for(each, hardware) for each in variants}
    return "" if not all(lacks.values()) else "; ".join(f"{name}: {', '.join(words)}" for name, words in lacks.items())


def instead(hardware: Hardware) -> str:
    """Return what to compile for a device, in words: its own profile, where it knows one."""
    own = hardware.profile
    return f"compile for {own}" if own not in ("", "unknown") else "compile for its own board: skerry targets list"


def predicates(profile: Profile) -> Predicates:
    """Return what a program compiled for a profile asks of a device, where it needs no C library."""
    return Predicates(profile.abi.os, profile.abi.machine, tuple(sorted(profile.cpu.features)))


def older(version: str, least: str) -> bool:
    """Return whether a dotted version is older than another, number by number; missing numbers count as 0."""
    one, two = ([int(number) for number in re.findall(r"\d+", each)] for each in (version, least))
    length = max(len(one), len(two))
    return one + [0] * (length - len(one)) < two + [0] * (length - len(two))
