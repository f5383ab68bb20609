"""What a board is: one TOML file each, read strictly into one frozen record.

Strictly means: an unknown field, a wrong type, an unknown processor feature or an impossible budget is refused with
the field's path and a hint, because a typing slip in a profile would otherwise become a wrong artifact on a thousand
devices.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from skerry_contracts import codec, names
from skerry_contracts.errors import ContractError
from skerry_targets import features
from skerry_targets.errors import ProfileError, TargetError

MIN_MEMORY_BYTES = 1 << 20
MIN_BARE_MEMORY_BYTES = 1 << 10  # where no system and no process stands between
MAX_BYTES = 1 << 40
SYSTEMS = ("linux", "android", "windows", "macos", "ios", "none", "wasi", "browser")
EMULATORS = ("native", "qemu-user", "qemu-system", "wasmtime", "node", "chromium", "none")
GPU_ARCH = re.compile(r"sm_\d{2,3}")
VECTOR_BITS = (0, 128, 256, 512)


@dataclasses.dataclass(frozen=True, slots=True)
class Abi:
    """What programs for the board look like. `libc_min` is the oldest C library the board may have; `os` is none for
    a microcontroller without a system.
    """

    os: str
    machine: str
    elf_class: int
    libc: str
    libc_min: str
    float_abi: str


@dataclasses.dataclass(frozen=True, slots=True)
class Cpu:
    """The processor. `features` by Linux's names; `compiler` is LLVM's `-mcpu`; `cpuinfo` identifies it in
    /proc/cpuinfo, `compatible` the board in its device tree (Devicetree Specification 0.4, section 2.3.1).

    `vector_bits` and `vector_registers` are what the native engine generates for; 0 means no vector unit.
    """

    name: str
    features: tuple[str, ...]
    compiler: str
    vector_bits: int
    vector_registers: int
    cores: int
    qemu_cpu: str | None = None
    cpuinfo: dict[str, str] = dataclasses.field(default_factory=dict)
    compatible: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Gpu:
    """A graphics processor to compile for: `arch` is NVIDIA's compute capability (sm_87)."""

    name: str
    arch: str


@dataclasses.dataclass(frozen=True, slots=True)
class EngineSupport:
    """One engine on this board: the oldest version to expect, the newest ONNX it reads, the precisions worth trying.

    One that is `opt_in` competes only where a person names it: it is large on the device, or slow to compile for.
    """

    version_min: str
    precisions: tuple[str, ...]
    opset_max: int | None = None
    ir_max: int | None = None
    opt_in: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Toolchain:
    """How to compile for the board: a target triple of the pinned compiler."""

    triple: str


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """What a model may take on this board: bytes of its files, bytes of memory of its process."""

    artifact_bytes: int
    memory_bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Emulator:
    """How to run the board's programs elsewhere: `native` (on a machine like it), `qemu-user`, `qemu-system` with a
    `machine`, `wasmtime`, `node`, `chromium` or `none`.
    """

    kind: str
    command: str = ""
    machine: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Profile:
    """A board. `family` groups boards that run the same programs (linux-x86-64, linux-arm64).

    `aliases` are names that other services give it; `note` is what a person should know before choosing it.
    """

    id: str
    title: str
    family: str
    abi: Abi
    cpu: Cpu
    engines: dict[str, EngineSupport]
    toolchain: Toolchain
    budget: Budget
    emulator: Emulator
    gpu: Gpu | None = None
    aliases: tuple[str, ...] = ()
    note: str = ""


def parse(content: bytes, origin: str, base: Callable[[str], Mapping[str, Any]] | None = None) -> Profile:
    """Return the profile in a TOML file's bytes. `origin` names the file in errors; `base` gives the plain data of the
    profile that the file `extends`, which may stand for every table and key that the file leaves out.

    Raises:
        ProfileError: not TOML, or not a sound profile.
    """
    return from_plain(whole(content, origin, base), origin)


def whole(content: bytes, origin: str, base: Callable[[str], Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """Return the plain data of a TOML file over that of the profile it extends: tables key by key, all else replaced.

    Raises:
        ProfileError: not TOML, or it extends what is not there.
    """
    try:
        plain = tomllib.loads(content.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProfileError(f"{origin}: not TOML: {error}") from error
    if "extends" not in plain:
        return plain
    name = plain.pop("extends")
    if base is None or not isinstance(name, str):
        raise ProfileError(f"{origin}: extends: {name!r:.40} is no profile on file")
    tables = {key: value for key, value in base(name).items() if isinstance(value, Mapping) or key == "family"}
    return _over(tables, plain)


def _over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in changes.items():
        below = both.get(key)
        both[key] = _over(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return both


def from_plain(plain: Mapping[str, Any], origin: str) -> Profile:
    """Return the profile that plain data describes (from TOML, or from a bundle's recipe).

    Raises:
        ProfileError: see `parse`.
    """
    _no_unknown(Profile, plain, "", origin)
    try:
        profile = codec.from_plain(Profile, dict(plain))
        names.name(profile.id, "id")
    except ContractError as error:
        raise ProfileError(f"{origin}: {error}", hint="see docs/targets.md for the fields") from error
    problems = check(profile)
    if problems:
        raise ProfileError(f"{origin}: {problems[0]}", hint="see docs/targets.md for the fields")
    return profile


def digest(profile: Profile) -> str:
    """Return the SHA-256 of the profile's canonical JSON: what a recipe names it by."""
    return codec.digest(codec.encode(profile))


def chosen_engines(profile: Profile, names: Iterable[str] | None) -> tuple[str, ...]:
    """Return the engines that may compete for a board, in its order: those named, or all that need not be named.

    Raises:
        TargetError: the board has no such engine.
    """
    if names is None:
        return tuple(name for name, support in profile.engines.items() if not support.opt_in)
    wanted = set(names)
    unknown = sorted(wanted - set(profile.engines))
    if unknown or not wanted:
        what = f"no engine {unknown[0]!r:.40}" if unknown else "no engine is named"
        raise TargetError(f"{profile.id}: {what}", hint=f"it has {', '.join(profile.engines)}")
    return tuple(name for name in profile.engines if name in wanted)


def check(profile: Profile) -> list[str]:
    """Return what cannot be true of this profile, in words."""
    abi, cpu, budget = profile.abi, profile.cpu, profile.budget
    least = MIN_BARE_MEMORY_BYTES if abi.os == "none" else MIN_MEMORY_BYTES
    problems = [f"cpu.features: {sentence}" for sentence in features.unknown(abi.machine, cpu.features)]
    if abi.machine not in features.LLVM_NAMES:
        problems.insert(0, f"abi.machine: {abi.machine!r:.40} is none of {', '.join(features.LLVM_NAMES)}")
    if abi.os not in SYSTEMS:
        problems.append(f"abi.os: {abi.os!r:.40} is none of {', '.join(SYSTEMS)}")
    if abi.elf_class not in (32, 64):
        problems.append(f"abi.elf_class: {abi.elf_class} is neither 32 nor 64")
    if cpu.vector_bits not in VECTOR_BITS:
        problems.append(f"cpu.vector_bits: {cpu.vector_bits} is none of {', '.join(map(str, VECTOR_BITS))}")
    if cpu.vector_bits and not 8 <= cpu.vector_registers <= 64:
        problems.append(f"cpu.vector_registers: {cpu.vector_registers} is not from 8 to 64")
    if not 1 <= cpu.cores <= 4096:
        problems.append(f"cpu.cores: {cpu.cores} is not from 1 to 4096")
    if not least <= budget.memory_bytes <= MAX_BYTES:
        problems.append(f"budget.memory_bytes: {budget.memory_bytes} is not from {least} to {MAX_BYTES}")
    if not 1 <= budget.artifact_bytes <= MAX_BYTES:
        problems.append(f"budget.artifact_bytes: {budget.artifact_bytes} is not from 1 to {MAX_BYTES}")
    if abi.elf_class == 32:
        problems += [
            f"budget.{name}: {size} is more than 32 bits reach"
            for name, size in (("artifact_bytes", budget.artifact_bytes), ("memory_bytes", budget.memory_bytes))
            if 1 << 32 < size <= MAX_BYTES
        ]
    if not profile.engines:
        problems.append("engines: a board without engines runs nothing")
    if profile.emulator.kind not in EMULATORS:
        problems.append(f"emulator.kind: {profile.emulator.kind!r:.40} is none of {', '.join(EMULATORS)}")
    if profile.gpu is not None and not GPU_ARCH.fullmatch(profile.gpu.arch):
        problems.append(f"gpu.arch: {profile.gpu.arch!r:.40} is no compute capability such as sm_87")
    return problems


def _no_unknown(kind: type, plain: Any, path: str, origin: str) -> None:
    """Refuse fields that the record does not have; contracts ignore them on the wire, a profile must not."""
    if not isinstance(plain, Mapping) or not dataclasses.is_dataclass(kind):
        return
    hints = typing.get_type_hints(kind)
    known = {field.name for field in dataclasses.fields(kind)}
    for key, value in plain.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1, 0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known fields: {', '.join(sorted(known))}"
            raise ProfileError(f"{origin}: unknown field {where!r:.80}", hint=hint)
        if typing.get_origin(hints[key]) is dict and isinstance(value, Mapping):
            for name, each in value.items():
                _no_unknown(typing.get_args(hints[key])[1], each, f"{where}.{name}", origin)
        else:
            inner = next((each for each in typing.get_args(hints[key]) if each is not type(None)), hints[key])
            if isinstance(inner, type):
                _no_unknown(inner, value, where, origin)
