"""Prove a board: compile the reference models for it, look at the artifacts, run them, compare, and try what must not
work. The outcome is evidence, from which `skerry_targets.levels` computes the level.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import platform
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from skerry_compiler import pack
from skerry_compiler.emulators import catalogue as emulators
from skerry_compiler.engines.native import build
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.engines.network.calibrate import calibrate
from skerry_compiler.engines.network.cost import machine_of
from skerry_compiler.engines.network.generate import generate, network_of
from skerry_compiler.engines.network.quantise import Precision
from skerry_compiler.errors import CompileError, LimitError
from skerry_compiler.proof import headers
from skerry_compiler.proof.references import Reference, references
from skerry_targets import profile as profiles
from skerry_targets import shelf
from skerry_targets.levels import Check, Evidence, Kind
from skerry_targets.profile import Profile

Floats = NDArray[np.float32]
Say = Callable[[str], None]

FLOAT_LIMIT = 1e-5  # of float answers, between processors
PLAIN_BOARD = "x86-64-v2"
ORIGINAL_LIMIT = 0.05  # of answers in bytes, from the original's
# By machine: a feature, the model whose code uses it, and an emulated processor that lacks it and must refuse it.
WEAKER = {
    "aarch64": ("asimddp", "convolutions-int8", "cortex-a53"),
    "x86_64": ("avx2", "convolutions", "Nehalem"),
    "armv7l": ("neon", "convolutions", "arm1176"),
}


def prove(profile: Profile, say: Say) -> Evidence:
    """Return the evidence for a board, as far as this machine can make it. `say` hears of each step.

    Raises:
        CompileError: the board is a graphics processor.
    """
    if profile.family == "cuda":
        raise CompileError(f"{profile.id} is a graphics processor, which runs no programs of its own")
    checks: list[Check] = []
    runs = emulators.available(profile)
    for reference in references():
        say(f"{profile.id}: {reference.name}")
        try:
            artifact = compiled(reference, profile)
        except CompileError as error:
            checks.append(Check(Kind.HEADER, reference.name, False, f"not compiled: {error}"))
            continue
        checks += _looked_at(reference, profile, artifact)
        if runs:
            checks += _run(reference, profile, artifact)
    if runs:
        checks += _refusals(profile)
    digest = profiles.digest(profile)
    today = datetime.now(UTC).date().isoformat()
    return Evidence(profile.id, digest, today, _tools(profile, runs), tuple(checks))


def compiled(reference: Reference, profile: Profile) -> bytes:
    """Return a reference model's artifact for a board.

    Raises:
        CompileError: the generator or the C compiler refuses it.
    """
    machine = machine_of(profile)
    if reference.in_bytes:
        network = network_of(reference.model)
        ranges = calibrate(network, reference.model, [{"x": row[None]} for row in reference.rows], "minmax")
        source = generate(reference.model, machine, ranges=ranges, precision=Precision())
    else:
        source = generate(reference.model, machine)
    return build.artifact(source.c, Machine.of(profile), source.weights)


def _looked_at(reference: Reference, profile: Profile, artifact: bytes) -> list[Check]:
    found, size = headers.read(artifact), len(artifact)
    wrong = headers.wrong(found, profile)
    digest = hashlib.sha256(artifact).hexdigest()
    seen = wrong or str(found)
    most = profile.budget.artifact_bytes
    return [
        Check(Kind.HEADER, reference.name, not wrong, seen, digest, size),
        Check(Kind.BUDGET, reference.name, size <= most, f"{size} bytes, at most {most}", digest, size),
    ]


def _run(reference: Reference, profile: Profile, artifact: bytes) -> list[Check]:
    """Return whether an artifact loads, runs, and answers as the original does."""
    about = reference.name
    try:
        emulators.outputs(artifact, profile, reference.signature, b"")
    except LimitError:
        return []  # the emulated board is smaller than the real one
    except CompileError as error:
        return [Check(Kind.LOAD, about, False, str(error))]
    checks = [Check(Kind.LOAD, about, True, f"loaded by {emulators.tool(profile)[0]}")]
    try:
        found = answers(reference, profile, artifact)
    except CompileError as error:
        return [*checks, Check(Kind.RUN, about, False, str(error))]
    checks.append(Check(Kind.RUN, about, True, f"answered {len(found)} rows"))
    right = originals(reference.name)
    far, equal = float(np.abs(found - right).max()), int((found.argmax(1) == right.argmax(1)).sum())
    held = far <= (ORIGINAL_LIMIT if reference.in_bytes else FLOAT_LIMIT)
    held = held and (reference.in_bytes or equal == len(found))
    seen = f"largest difference from the original {far:.2g}, {equal} of {len(found)} classes equal"
    if reference.in_bytes:
        plain = _plain_answers(reference.name)
        differing = int((found.view(np.uint32) != plain.view(np.uint32)).sum())
        held = held and not differing
        seen += f"; {differing} of {found.size} numbers differ in a bit from those on {PLAIN_BOARD}"
    return [*checks, Check(Kind.PARITY, about, held, seen)]


def answers(reference: Reference, profile: Profile, artifact: bytes) -> Floats:
    """Return a board's answers to a reference model's rows.

    Raises:
        CompileError: it does not run, or answers too little.
    """
    content = emulators.outputs(artifact, profile, reference.signature, reference.rows.tobytes())
    found = np.frombuffer(content, np.float32)
    if found.size != len(reference.rows) * 10:
        raise CompileError(f"{found.size} numbers came back for {len(reference.rows)} rows")
    return found.reshape(len(reference.rows), -1)


@functools.cache
def originals(name: str) -> Floats:
    """Return the answers of a reference model in its default runtime."""
    reference = next(each for each in references() if each.name == name)
    session = onnxruntime.InferenceSession(reference.model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": row[None]})[0] for row in reference.rows])


@functools.cache
def _plain_answers(name: str) -> Floats:
    """Return the answers of a reference model in bytes on the plainest board."""
    reference, board = next(each for each in references() if each.name == name), shelf.get(PLAIN_BOARD)
    return answers(reference, board, compiled(reference, board))


def _refusals(profile: Profile) -> list[Check]:
    """Return whether the board refuses what is not for it: another machine's artifact, and, where it promises a feature
    that a weaker processor lacks, that processor.
    """
    alien = shelf.get("raspberry-pi-5" if profile.abi.machine != "aarch64" else PLAIN_BOARD)
    plain = references()[0]
    checks = [_refused(profile, plain, compiled(plain, alien), f"an artifact for {alien.id}")]
    feature, name, weaker = WEAKER.get(profile.abi.machine, ("", "", ""))
    if feature in profile.cpu.features and profile.abi.os == "linux":
        reference = next(each for each in references() if each.name == name)
        lesser = dataclasses.replace(
            profile,
            cpu=dataclasses.replace(profile.cpu, qemu_cpu=weaker),
            emulator=dataclasses.replace(
                profile.emulator, kind="qemu-user", command=emulators.PROGRAMS[profile.abi.machine]
            ),
        )
        if emulators.available(lesser):
            what = f"{weaker}, which lacks {feature}"
            checks.append(_refused(lesser, reference, compiled(reference, profile), what))
    if profile.emulator.kind in ("node", "chromium") and platform.machine() == "x86_64":
        kept = tuple(each for each in profile.cpu.features if each != "simd128")
        lesser = dataclasses.replace(profile, cpu=dataclasses.replace(profile.cpu, features=kept))
        checks.append(_refused(lesser, plain, compiled(plain, profile), "an engine without SIMD"))
    return checks


def _refused(profile: Profile, reference: Reference, artifact: bytes, what: str) -> Check:
    try:
        emulators.outputs(artifact, profile, reference.signature, reference.rows[:1].tobytes())
    except CompileError as error:
        return Check(Kind.REFUSAL, reference.name, True, f"{what}: {error}")
    return Check(Kind.REFUSAL, reference.name, False, f"{what}: ran")


def _tools(profile: Profile, runs: bool) -> dict[str, str]:
    tools = {name: pack.version(name) for name in ("skerry", "ziglang", "onnxruntime", "onnxruntime-gpu")}
    tools = {name: each for name, each in tools.items() if each != "0"}
    if runs:
        name, version = emulators.tool(profile)
        tools[name] = version
    return tools
