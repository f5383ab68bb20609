"""Prove a board: compile the reference models for it, look at the artifacts, run them, compare, and try what must not
work. The outcome is evidence, from which `skerry_targets.levels` computes the level.
"""

from __future__ import annotations

import functools
import hashlib
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
from skerry_compiler.firmware import emulated, footprint
from skerry_compiler.proof import browser, headers, on_core, refusals
from skerry_compiler.proof.references import Reference, references
from skerry_compiler.proof.refusals import PLAIN_BOARD
from skerry_compiler.web import package
from skerry_targets import profile as profiles
from skerry_targets import shelf
from skerry_targets.levels import Check, Evidence, Kind
from skerry_targets.nearest import kilobytes
from skerry_targets.profile import Profile

Floats = NDArray[np.float32]
Say = Callable[[str], None]

FLOAT_LIMIT = 1e-5  # of float answers, between processors
ORIGINAL_LIMIT = 0.05  # of answers in bytes, from the original's


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
    on_runtime = runs and profile.abi.os == "browser" and browser.available()
    if on_runtime:
        for reference in (each for each in references() if not each.in_bytes):
            checks += browser.checks(profile, reference, originals(reference.name), FLOAT_LIMIT)
    checks.append(refusals.looked_at(profile, compiled))
    if runs:
        checks += refusals.emulated(profile, compiled) + refusals.admission(profile)
    if emulated.available(profile):
        dense = [each for each in references() if each.name.startswith("dense")]
        made = [(each, compiled(each, profile), originals(each.name), _limit(each)) for each in dense]
        checks += on_core.checks(profile, made, compiled)
    digest = profiles.digest(profile)
    today = datetime.now(UTC).date().isoformat()
    tools = _tools(profile, runs) | ({package.PACKAGE: package.runtime_version()} if on_runtime else {})
    return Evidence(profile.id, digest, today, tools, tuple(checks))


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
    return [
        Check(Kind.HEADER, reference.name, not wrong, seen, digest, size),
        _fits(reference, profile, artifact, digest),
    ]


def _fits(reference: Reference, profile: Profile, artifact: bytes, digest: str) -> Check:
    """Return whether an artifact keeps to the board's budget; without a system: as it is linked."""
    size, budget = len(artifact), profile.budget
    if profile.abi.os != "none":
        seen = f"{size} bytes, at most {budget.artifact_bytes}"
        return Check(Kind.BUDGET, reference.name, size <= budget.artifact_bytes, seen, digest, size)
    found = footprint.footprint(artifact, profile, reference.signature)
    held = found.flash_bytes <= budget.artifact_bytes and found.ram_bytes <= budget.memory_bytes
    seen = f"{found}, at most {kilobytes(budget.artifact_bytes)} and {kilobytes(budget.memory_bytes)}"
    return Check(Kind.BUDGET, reference.name, held, seen, digest, size, found.flash_bytes, found.ram_bytes)


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
    held = far <= _limit(reference)
    held = held and (reference.in_bytes or equal == len(found))
    seen = f"largest difference from the original {far:.2g}, {equal} of {len(found)} classes equal"
    if reference.in_bytes:
        plain = _plain_answers(reference.name)
        differing = int((found.view(np.uint32) != plain.view(np.uint32)).sum())
        held = held and not differing
        seen += f"; {differing} of {found.size} numbers differ in a bit from those on {PLAIN_BOARD}"
    return [*checks, Check(Kind.PARITY, about, held, seen)]


def _limit(reference: Reference) -> float:
    return ORIGINAL_LIMIT if reference.in_bytes else FLOAT_LIMIT


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


def _tools(profile: Profile, runs: bool) -> dict[str, str]:
    tools = {name: pack.version(name) for name in ("skerry", "ziglang", "onnxruntime", "onnxruntime-gpu")}
    tools = {name: each for name, each in tools.items() if each != "0"}
    if runs:
        name, version = emulators.tool(profile)
        tools[name] = version
    return tools
