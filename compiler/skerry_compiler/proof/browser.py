"""What a browser proves beside generated code: the reference models on onnxruntime-web, where npm has installed it."""

from __future__ import annotations

import numpy as np

from skerry_compiler.engines.onnxruntime import rewritten
from skerry_compiler.errors import CompileError, ToolError
from skerry_compiler.golden import blob
from skerry_compiler.proof.references import Floats, Reference
from skerry_compiler.web import check, package, runtime, standalone
from skerry_contracts.bundle import Predicates, Variant
from skerry_targets.levels import Check, Kind
from skerry_targets.profile import Profile


def available() -> bool:
    """Return whether the pinned onnxruntime-web is here, whole, and a browser."""
    try:
        runtime.served()
    except ToolError:
        return False
    return check.browser() is not None


def checks(profile: Profile, reference: Reference, right: Floats, limit: float) -> list[Check]:
    """Return whether a reference model runs on onnxruntime-web, and answers as the original does.

    Args:
        profile: the browser's.
        reference: in float.
        right: the original's answers.
        limit: largest difference.
    """
    model = rewritten(reference.model)
    needs = Predicates(profile.abi.os, profile.abi.machine)
    variant = Variant("ort", package.RUNTIME, "fp32", {"model": blob(model)}, needs, 1)
    about = (reference.rows[:1].tobytes(), right[:1].tobytes())
    try:
        made = standalone.made(profile.id, reference.signature, variant, {"model": model}, *about)
        seen = check.check(made, reference.rows.tobytes(), demo=False)
    except CompileError as error:
        return [Check(Kind.RUN, reference.name, False, f"{package.PACKAGE}: {error}")]
    found = np.frombuffer(seen.answers, np.float32)
    if found.size != right.size:
        return [Check(Kind.RUN, reference.name, False, f"{package.PACKAGE}: {found.size} numbers, not {right.size}")]
    found = found.reshape(right.shape)
    far, equal = float(np.abs(found - right).max()), int((found.argmax(1) == right.argmax(1)).sum())
    said = f"{package.PACKAGE}: largest difference from the original {far:.2g}, {equal} of {len(found)} classes equal"
    ran = Check(Kind.RUN, reference.name, True, f"{package.PACKAGE} in {seen.browser} answered {len(found)} rows")
    return [ran, Check(Kind.PARITY, reference.name, far <= limit and equal == len(found), said)]
