"""What this machine is: facts for the fleet, and a profile to compile for it.

The profile holds nothing but what the processor can do, so two machines with the same processor compile the same bytes.
"""

from __future__ import annotations

import dataclasses
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path

from skerry_contracts.device import Hardware
from skerry_targets import features, fit, shelf
from skerry_targets.errors import TargetError
from skerry_targets.profile import Profile

PROC = Path("/proc")
UNKNOWN = "unknown"
# Beyond its level, what generated code uses where it is there.
_EXTRAS = {
    "x86_64": ("avx512_vnni", "avx512_bf16", "avx_vnni"),
    "aarch64": ("asimddp", "asimdhp", "i8mm", "bf16"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class CpuInfo:
    """What /proc/cpuinfo says of the first processor: a name, its features by Linux's names, and every field; and what
    the device tree says it is compatible with, the board itself first.
    """

    name: str
    features: tuple[str, ...]
    fields: Mapping[str, str]
    compatible: tuple[str, ...] = ()


def cpu_info(proc: Path = PROC) -> CpuInfo:
    """Return what /proc/cpuinfo says. An unreadable file makes a processor without features."""
    try:
        text = (proc / "cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return CpuInfo(UNKNOWN, (), {}, _compatible(proc))
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = fields.get("flags") or fields.get("Features") or " ".join(_extensions(fields.get("isa", "")))
    name = fields.get("model name") or " ".join(
        f"{key} {fields[key]}" for key in ("CPU implementer", "CPU part") if key in fields
    )
    return CpuInfo(name or UNKNOWN, tuple(sorted(set(flags.split()))), fields, _compatible(proc))


def _compatible(proc: Path) -> tuple[str, ...]:
    try:
        content = (proc / "device-tree/compatible").read_bytes()
    except OSError:
        return ()
    return tuple(each.decode("utf-8", "replace") for each in content.split(b"\0") if each)


def _extensions(isa: str) -> list[str]:
    """Return the extensions in a RISC-V `isa` line: rv64imafdc_zicsr_zba gives i m a f d c zicsr zba."""
    found = re.fullmatch(r"rv(?:32|64)([a-z]+)((?:_[a-z0-9]+)*)", isa)
    return [*found[1].replace("g", "imafd"), *found[2].split("_")[1:]] if found else []


def machine() -> str:
    """Return what programs are made for, by uname's names: a 32-bit system on a 64-bit processor runs 32-bit ones."""
    found = os.uname().machine
    narrow = {"aarch64": "armv7l", "armv8l": "armv7l", "x86_64": "i686"}
    return narrow.get(found, found) if struct.calcsize("P") == 4 else found


def _features(cpu: CpuInfo, machine: str) -> tuple[str, ...]:
    """Return a processor's features by the names of what its programs are made for. Every ARMv8 has these of ARMv7."""
    own = set(cpu.features)
    if machine == "armv7l" and "asimd" in own:
        own |= {"edsp", "idiva", "idivt", "neon", "thumb", "vfp", "vfpd32", "vfpv3", "vfpv4"}
    return tuple(sorted(own & set(features.LLVM_NAMES.get(machine, {}))))


def memory_bytes(proc: Path = PROC) -> int:
    """Return the machine's memory, 0 if it cannot be told."""
    try:
        for line in (proc / "meminfo").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return 0
    return 0


def libc() -> tuple[str, str]:
    """Return the C library's name and version; ("unknown", "0") where it does not say."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return UNKNOWN, "0"
    return (name, version) if version else (UNKNOWN, "0")


def hardware(engines: Mapping[str, str], agent_version: str, proc: Path = PROC) -> Hardware:
    """Return the facts about this machine that a device reports to its fleet.

    Args:
        engines: the engines that can run here and their versions (the agent's `catalogue.available()`).
        agent_version: the version of the agent that reports.
        proc: where /proc is; emulated boards bring their own.
    """
    cpu, (libc_name, libc_version), made_for = cpu_info(proc), libc(), machine()
    facts = Hardware(
        os=os.uname().sysname.lower(),
        machine=made_for,
        cpu=cpu.name[:120],
        cpu_features=_features(cpu, made_for),
        cores=os.cpu_count() or 1,
        memory_bytes=memory_bytes(proc),
        libc=libc_name,
        libc_version=libc_version,
        profile=UNKNOWN,
        agent_version=agent_version,
        engines=dict(engines),
    )
    best = nearest(facts, cpu)
    return facts if best is None else dataclasses.replace(facts, profile=best.id)


def nearest(facts: Hardware, cpu: CpuInfo) -> Profile | None:
    """Return the catalogue's profile that fits this machine and asks most of it; None where none fits.

    A profile of one board (with `compatible`) fits only what its device tree calls so, one of a processor (with
    `cpuinfo`) only that. Of two that fit, the board goes before the processor, and the processor before the family.
    """
    fitting = [
        profile
        for profile in shelf.load_all(facts.machine)
        if not fit.missing(fit.predicates(profile), facts)
        and (not profile.cpu.compatible or set(profile.cpu.compatible) & set(cpu.compatible))
        and all(cpu.fields.get(key) == value for key, value in profile.cpu.cpuinfo.items())
        and profile.family != "cuda"
    ]
    return max(fitting, key=_specific, default=None)


def _specific(profile: Profile) -> tuple[bool, bool, int, str]:
    return bool(profile.cpu.compatible), bool(profile.cpu.cpuinfo), len(profile.cpu.features), profile.id


def host_profile(proc: Path = PROC) -> Profile:
    """Return this machine's own profile: the nearest of the catalogue and what its processor has beyond.

    Raises:
        TargetError: no profile of the catalogue fits this machine.
    """
    cpu, facts = cpu_info(proc), hardware({}, "", proc)
    base = nearest(facts, cpu)
    if base is None:
        raise TargetError(f"no profile fits this machine ({facts.machine})", hint="name one: skerry targets list")
    extras = [
        each for each in _EXTRAS.get(facts.machine, ()) if each in facts.cpu_features and each not in base.cpu.features
    ]
    llvm = features.LLVM_NAMES[facts.machine]
    compiler = "+".join([base.cpu.compiler, *(llvm[each] for each in extras)])
    chosen = dataclasses.replace(
        base.cpu, features=tuple(sorted({*base.cpu.features, *extras})), compiler=compiler, qemu_cpu=None
    )
    emulator = dataclasses.replace(base.emulator, kind="native", command="")
    return dataclasses.replace(
        base, id=f"host-{base.id}", title=f"this machine ({base.title})", cpu=chosen, emulator=emulator
    )
