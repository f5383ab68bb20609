"""Prove graphics processors: cubins made and looked at, anywhere; loaded, run and compared, where one is.

The outcome is evidence like any board's. Without a device it says compiled, and nothing that was not tried.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from skerry_compiler import pack
from skerry_compiler.errors import CompileError, ToolError
from skerry_compiler.proof import headers
from skerry_compiler.proof.cuda import judge, models, nvcc, session
from skerry_compiler.proof.cuda.driver import NO_BINARY_FOR_GPU, Driver
from skerry_compiler.proof.references import Reference
from skerry_targets import catalogue, host
from skerry_targets import profile as profiles
from skerry_targets.levels import Check, Evidence, Kind
from skerry_targets.profile import Profile

Say = Callable[[str], None]

FLOAT_LIMIT, HALF_LIMIT = 1e-3, 1e-2  # largest difference from the processor's float32 answers, all below 1
TOOLS = ("skerry", "apache-tvm", "apache-tvm-ffi")


def compiled(profile: Profile, say: Say) -> Evidence:
    """Return the evidence that can be had anywhere: cubins for the board, and what they say of themselves.

    Raises:
        ToolError: TVM or nvcc is not installed, or makes nothing for this capability.
    """
    arch = models.arch_of(profile)
    models.require_tools()
    checks: list[Check] = []
    for reference in models.floats():
        say(f"{profile.id}: {reference.name}")
        checks += _looked_at(profile, reference, models.cubin(reference.model, profile, arch))
    return _evidence(profile, checks, {})


def on_device(targets: Sequence[Profile], say: Say, driver: Driver | None = None) -> list[Evidence]:
    """Return the evidence of boards whose graphics processor is in this machine; of none named, of all those.

    Raises:
        ToolError: no driver, no device, another one, or a tool is missing.
    """
    with driver or Driver() as device:
        found, smi = judge.arch(device.capability), _smi()
        known = [each for each in catalogue.load_all() if each.abi.machine == host.machine()]
        of_kind = [each for each in known if each.gpu is not None and each.gpu.arch == found]
        wanted = list(targets) or of_kind
        if not wanted:
            raise ToolError(f"{device.name} is {found}: no profile is of this kind yet", hint="docs/targets.md")
        for profile in wanted:
            judge.refuse_other(profile, found, smi, known)
        models.require_tools()
        return [_on_device(each, device, found, smi, say) for each in wanted]


def _on_device(profile: Profile, device: Driver, arch: str, smi: judge.Device | None, say: Say) -> Evidence:
    checks: list[Check] = []
    for reference in models.floats():
        say(f"{profile.id}: {reference.name}")
        cubin = models.cubin(reference.model, profile, arch)
        checks += _looked_at(profile, reference, cubin)
        code = device.load(cubin)
        seen = f"loaded by {device.name}" if not code else device.error(code)
        checks.append(Check(Kind.LOAD, reference.name, not code, seen))
        checks += _ran(profile, reference, smi)
    checks.append(_refusal(profile, device, arch))
    tools = {session.PACKAGE: pack.version(session.PACKAGE), "cuda-driver": f"{device.version} on {device.name}"}
    tools |= {} if smi is None else {"nvidia-driver": smi.driver}
    return _evidence(profile, checks, tools)


def _looked_at(profile: Profile, reference: Reference, cubin: bytes) -> list[Check]:
    header, size, most = headers.read(cubin), len(cubin), profile.budget.artifact_bytes
    wrong = headers.wrong_cubin(header, models.arch_of(profile))
    digest = hashlib.sha256(cubin).hexdigest()
    return [
        Check(Kind.HEADER, reference.name, not wrong, wrong or str(header), digest, size),
        Check(Kind.BUDGET, reference.name, size <= most, f"{size} bytes, at most {most}", digest, size),
    ]


def _refusal(profile: Profile, device: Driver, arch: str) -> Check:
    other, reference = judge.foreign(arch), models.floats()[0]
    code = device.load(models.cubin(reference.model, profile, other))
    return Check(Kind.REFUSAL, reference.name, code == NO_BINARY_FOR_GPU, f"a cubin for {other}: {device.error(code)}")


def _ran(profile: Profile, reference: Reference, smi: judge.Device | None) -> list[Check]:
    """Return whether ONNX Runtime, strictly, and TVM answer on the device as the processor does."""
    rows, name = reference.rows, reference.name
    right = session.plain(reference.model, rows)
    checks: list[Check] = []
    try:
        ours = session.strict(reference.model, rows)
        half = session.strict(models.half(reference.model), rows.astype(np.float16))
    except CompileError as error:
        return [Check(Kind.RUN, name, False, f"ONNX Runtime: {error}")]
    count = sum(ours.nodes[judge.PROVIDER].values())
    clock = "" if smi is None else f", {smi.clock_mhz} of {smi.clock_max_mhz} MHz before"
    speed = f"p50 {ours.p50_ms:.4f} ms, p99 {ours.p99_ms:.4f} ms; this machine's processor {right.p50_ms:.4f}"
    seen = f"ONNX Runtime, strict: {count} kernels, all on the device; {speed}, {right.p99_ms:.4f} ms{clock}"
    checks.append(Check(Kind.RUN, name, True, seen))
    checks.append(_parity(name, "ONNX Runtime, float32 without TF32", ours.answers, right.answers, FLOAT_LIMIT))
    checks.append(_parity(name, "ONNX Runtime, float16", half.answers, right.answers, HALF_LIMIT))
    try:
        found = models.answers(reference.model, profile, rows)
    except CompileError as error:
        return [*checks, Check(Kind.RUN, name, False, f"TVM: {error}")]
    checks.append(Check(Kind.RUN, name, True, f"TVM's virtual machine answered {len(found)} rows"))
    return [*checks, _parity(name, "TVM", found, right.answers, FLOAT_LIMIT)]


def _parity(name: str, what: str, found: NDArray[np.float32], right: NDArray[np.float32], limit: float) -> Check:
    if found.shape != right.shape:
        return Check(Kind.PARITY, name, False, f"{what}: answers of shape {found.shape}, not {right.shape}")
    far, equal = float(np.abs(found.astype(np.float32) - right).max()), int((found.argmax(1) == right.argmax(1)).sum())
    seen = f"{what}: largest difference from the processor {far:.2g}, {equal} of {len(found)} classes equal"
    return Check(Kind.PARITY, name, far <= limit and equal == len(found), seen)  # not a number is beyond any limit


def _smi() -> judge.Device | None:
    """Return what nvidia-smi says of the first device that may be used, None where it is not here."""
    if shutil.which("nvidia-smi") is None:
        return None
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    query = f"--query-gpu={','.join(judge.SMI_FIELDS)}"
    command = ["nvidia-smi", "-i", first or "0", query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return judge.parse_smi(done.stdout)


def _evidence(profile: Profile, checks: Sequence[Check], more: dict[str, str]) -> Evidence:
    tools = {name: pack.version(name) for name in TOOLS} | {"nvcc": nvcc.version()} | more
    tools = {name: each for name, each in tools.items() if each != "0"}
    today = datetime.now(UTC).date().isoformat()
    return Evidence(profile.id, profiles.digest(profile), today, tools, tuple(checks))
