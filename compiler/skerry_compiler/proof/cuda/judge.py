"""What the figures of a graphics processor mean: pure decisions on what a driver, a profile and a clock have said."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from skerry_compiler.errors import ToolError
from skerry_targets.profile import Profile

PROVIDER = "CUDAExecutionProvider"
# What ONNX Runtime computes on the processor on purpose: they give shapes, which it needs there.
ON_PROCESSOR = frozenset({"Shape", "Size"})
SMI_FIELDS = ("name", "driver_version", "compute_cap", "clocks.sm", "clocks.max.sm")


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """What nvidia-smi says of the first device; clocks in MHz."""

    name: str
    driver: str
    capability: str
    clock_mhz: str
    clock_max_mhz: str


def arch(capability: Sequence[int]) -> str:
    """Return a compute capability as compilers write it: (9, 0) is sm_90, (12, 1) is sm_121."""
    major, minor = capability
    return f"sm_{major}{minor}"


def parse_smi(text: str) -> Device | None:
    """Return the first device of `nvidia-smi --query-gpu=… --format=csv,noheader,nounits`, None where it says none."""
    fields = [each.strip() for each in next(iter(text.splitlines()), "").split(",")]
    return Device(*fields) if len(fields) == len(SMI_FIELDS) and re.fullmatch(r"\d+\.\d", fields[2]) else None


def refuse_other(profile: Profile, found: str, device: Device | None, near: Iterable[Profile]) -> None:
    """Refuse a device that is not the profile's.

    Args:
        profile: whose proof is wanted.
        found: the capability that the driver says.
        device: what nvidia-smi says, where it is here.
        near: profiles to name instead.

    Raises:
        ToolError: it is another, or driver and nvidia-smi do not agree.
    """
    if device is not None and arch([int(each) for each in device.capability.split(".")]) != found:
        raise ToolError(
            f"the driver says {found}, nvidia-smi {device.capability}: not the same device",
            hint="let CUDA_VISIBLE_DEVICES name the first one",
        )
    wanted = None if profile.gpu is None else profile.gpu.arch
    if wanted != found:
        others = ", ".join(each.id for each in near if each.gpu is not None and each.gpu.arch == found)
        hint = f"of this kind: {others}" if others else "no profile is of this kind yet"
        raise ToolError(f"{profile.id} is {wanted or 'no graphics processor'}, the device here is {found}", hint=hint)


def foreign(found: str) -> str:
    """Return a capability whose machine code a device must refuse: of another major version (CUDA C++ Programming
    Guide, binary compatibility), and old enough for every driver to know it.
    """
    return "sm_75" if not found.startswith("sm_7") else "sm_90"


def nodes(profile: bytes) -> dict[str, Counter[str]]:
    """Return how many operators ran on each execution provider, from ONNX Runtime's profile (Chrome's trace format).

    Raises:
        ToolError: it is no such profile.
    """
    try:
        events = json.loads(profile)
        assert isinstance(events, list)
    except (ValueError, AssertionError) as error:
        raise ToolError("ONNX Runtime's profile is no list of events") from error
    found: dict[str, Counter[str]] = {}
    for event in events:
        about: Any = event.get("args") if isinstance(event, dict) and event.get("cat") == "Node" else None
        if isinstance(about, dict) and "provider" in about and str(event.get("name")).endswith("_kernel_time"):
            found.setdefault(str(about["provider"]), Counter())[str(about.get("op_name"))] += 1
    return found


def strays(found: dict[str, Counter[str]]) -> str:
    """Return what ran elsewhere than on the graphics processor and should not have, "" where all ran there."""
    if not found.get(PROVIDER):
        return f"nothing ran on {PROVIDER}"
    others = [
        f"{count} {operator} on {provider}"
        for provider, counts in sorted(found.items())
        if provider != PROVIDER
        for operator, count in sorted(counts.items())
        if operator not in ON_PROCESSOR
    ]
    return ", ".join(others)


def percentile(times: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile of at least one time."""
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
