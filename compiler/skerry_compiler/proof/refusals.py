"""What must not work on a board, tried: another machine's artifact, a processor that lacks what the code uses, and what
a device's own admission says of both before anything is loaded.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Callable

from skerry_compiler.emulators import catalogue as emulators
from skerry_compiler.errors import CompileError
from skerry_compiler.proof import headers
from skerry_compiler.proof.references import Reference, references
from skerry_contracts.device import Hardware
from skerry_targets import fit, shelf
from skerry_targets.levels import Check, Kind
from skerry_targets.profile import Profile

Compile = Callable[[Reference, Profile], bytes]
PLAIN_BOARD, OTHER_BOARD = "x86-64-v2", "raspberry-pi-5"


@dataclasses.dataclass(frozen=True, slots=True)
class Weaker:
    """A processor's feature, the reference model whose code uses it, and an emulated processor that lacks it: QEMU's
    name of the processor, or of the board where there is no system.
    """

    machine: str
    feature: str
    model: str
    processor: str


# The next lower one first: the first whose feature a board promises must refuse its code.
WEAKER = (
    Weaker("aarch64", "i8mm", "convolutions-int8", "cortex-a76"),
    Weaker("aarch64", "asimddp", "convolutions-int8", "cortex-a53"),
    Weaker("x86_64", "avx2", "convolutions", "SandyBridge"),
    Weaker("x86_64", "sse4_1", "convolutions", "qemu64"),
    Weaker("i686", "sse2", "convolutions", "pentium"),
    Weaker("armv7l", "neon", "convolutions", "arm1176"),
    Weaker("riscv64", "d", "convolutions", "rv64,d=false,v=false"),
    Weaker("thumb", "mve.fp", "dense", "mps2-an386"),
    Weaker("thumb", "fpv5-dp", "dense", "mps2-an385"),
    Weaker("thumb", "fpv5-sp", "dense", "mps2-an385"),
    Weaker("thumb", "fpv4-sp", "dense", "mps2-an385"),
)


def looked_at(profile: Profile, compiled: Compile) -> Check:
    """Return whether another machine's artifact is told from the board's own by its header."""
    alien, plain = _alien(profile), references()[0]
    wrong = headers.wrong(headers.read(compiled(plain, alien)), profile)
    return Check(
        Kind.REFUSAL, plain.name, bool(wrong), f"by the header of an artifact for {alien.id}: {wrong or 'none'}"
    )


def emulated(profile: Profile, compiled: Compile) -> list[Check]:
    """Return whether the emulated board refuses another machine's artifact, and a weaker one the board's own."""
    alien, plain = _alien(profile), references()[0]
    checks = [_refused(profile, plain, compiled(plain, alien), f"an artifact for {alien.id}")]
    for each in WEAKER:
        if each.machine == profile.abi.machine and each.feature in profile.cpu.features:
            reference = next(one for one in references() if one.name == each.model)
            lesser = _lesser(profile, each.processor)
            if emulators.available(lesser):
                what = f"{each.processor}, which lacks {each.feature}"
                checks.append(_refused(lesser, reference, compiled(reference, profile), what))
            break
    if profile.emulator.kind in ("node", "chromium") and platform.machine() == "x86_64":
        kept = tuple(each for each in profile.cpu.features if each != "simd128")
        lesser = dataclasses.replace(profile, cpu=dataclasses.replace(profile.cpu, features=kept))
        checks.append(_refused(lesser, plain, compiled(plain, profile), "an engine without SIMD"))
    return checks


def admission(profile: Profile) -> list[Check]:
    """Return what the agent's own check, before it activates anything, says to a device of this board that is offered
    another machine's variant, and to the nearest board with less that is offered this board's.
    """
    if profile.abi.os != "linux":
        return []
    alien = _alien(profile)
    offers = [(alien, profile)]
    weaker = [
        each
        for each in shelf.load_all(profile.abi.machine)
        if each.abi.os == "linux" and set(each.cpu.features) < set(profile.cpu.features)
    ]
    if weaker:
        offers.append((profile, max(weaker, key=lambda each: (len(each.cpu.features), each.id))))
    checks = []
    for made_for, device in offers:
        lacks = fit.missing(fit.predicates(made_for), hardware(device))
        said = ", ".join(lacks) or "taken"
        checks.append(Check(Kind.REFUSAL, "any", bool(lacks), f"{device.id}, offered {made_for.id}'s: {said}"))
    return checks


def hardware(profile: Profile) -> Hardware:
    """Return the least that a device of a board may be, as it tells its fleet."""
    abi, cpu = profile.abi, profile.cpu
    return Hardware(
        os=abi.os,
        machine=abi.machine,
        cpu=cpu.name,
        cpu_features=tuple(sorted(cpu.features)),
        cores=cpu.cores,
        memory_bytes=profile.budget.memory_bytes,
        libc=abi.libc,
        libc_version=abi.libc_min,
        profile=profile.id,
        agent_version="0",
        engines={name: each.version_min for name, each in profile.engines.items()},
    )


def _alien(profile: Profile) -> Profile:
    return shelf.get(OTHER_BOARD if profile.abi.machine != "aarch64" else PLAIN_BOARD)


def _lesser(profile: Profile, processor: str) -> Profile:
    """Return a board like this one with a weaker emulated processor."""
    if profile.abi.os == "none":
        return dataclasses.replace(profile, emulator=dataclasses.replace(profile.emulator, machine=processor))
    command = emulators.PROGRAMS[profile.abi.machine]
    emulator = dataclasses.replace(profile.emulator, kind="qemu-user", command=command)
    return dataclasses.replace(profile, cpu=dataclasses.replace(profile.cpu, qemu_cpu=processor), emulator=emulator)


def _refused(profile: Profile, reference: Reference, artifact: bytes, what: str) -> Check:
    try:
        emulators.outputs(artifact, profile, reference.signature, reference.rows[:1].tobytes())
    except CompileError as error:
        return Check(Kind.REFUSAL, reference.name, True, f"{what}: {error}")
    return Check(Kind.REFUSAL, reference.name, False, f"{what}: ran")
