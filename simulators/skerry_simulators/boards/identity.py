"""What a board says of itself: /proc/cpuinfo, the device tree, the list of processors.

Programs that look must not see this machine's: ONNX Runtime ends where an ARM program meets an x86 `cpuinfo`, and the
agent would report a processor that is not there. QEMU opens what lies below its prefix first.
"""

from __future__ import annotations

import os
from pathlib import Path

from skerry_targets.profile import Profile

# What every processor of a machine says beyond the features that a profile names (Linux, arch/*/kernel/cpuinfo).
_USUAL = {
    "aarch64": {"BogoMIPS": "108.00", "CPU architecture": "8", "CPU variant": "0x0", "CPU revision": "0"},
    "armv7l": {"BogoMIPS": "38.40", "CPU architecture": "7", "CPU variant": "0x0", "CPU revision": "5"},
    "riscv64": {"mmu": "sv39"},
}
_SINGLE = "imafdqcvh"  # RISC-V's extensions of one letter, in the order in which they are written


def write(profile: Profile, folder: Path) -> None:
    """Write `proc` and `sys` of a board below a folder."""
    cores = min(profile.cpu.cores, len(os.sched_getaffinity(0)))
    (folder / "proc" / "device-tree").mkdir(parents=True)
    (folder / "proc" / "cpuinfo").write_text(cpuinfo(profile, cores))
    if profile.cpu.compatible:
        tree = "".join(f"{each}\0" for each in profile.cpu.compatible)
        (folder / "proc" / "device-tree" / "compatible").write_text(tree)
    processors = folder / "sys" / "devices" / "system" / "cpu"
    processors.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (processors / name).write_text(f"0-{cores - 1}\n" if cores > 1 else "0\n")


def cpuinfo(profile: Profile, cores: int) -> str:
    """Return /proc/cpuinfo of a board as Linux would write it: a block for each core."""
    machine, features = profile.abi.machine, profile.cpu.features
    fields = dict(_USUAL.get(machine, {}))
    if machine == "x86_64":
        fields |= {"vendor_id": "GenuineIntel", "model name": profile.cpu.name, "flags": " ".join(sorted(features))}
    elif machine == "riscv64":
        fields |= {"isa": isa(features), "uarch": profile.cpu.name}
    else:
        fields["Features"] = " ".join(sorted({*features, *(("half", "thumb", "vfp") if machine == "armv7l" else ())}))
        fields |= {"CPU implementer": "0x41", "CPU part": "0xd03" if machine == "aarch64" else "0xc07"}
    fields |= profile.cpu.cpuinfo
    block = "".join(f"{key}\t: {value}\n" for key, value in fields.items())
    return "\n".join(f"processor\t: {number}\n{block}" for number in range(cores))


def isa(features: tuple[str, ...]) -> str:
    """Return RISC-V's `isa` line for features by name.

    >>> isa(("a", "c", "d", "f", "m", "zba", "zbb"))
    'rv64imafdc_zba_zbb'
    """
    letters = "".join(each for each in _SINGLE if each == "i" or each in features)
    return "_".join([f"rv64{letters}", *(each for each in features if len(each) > 1)])
