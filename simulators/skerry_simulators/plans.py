"""How the simulated fleet's rollouts go: with care, as people would, or to everybody at once."""

from __future__ import annotations

from skerry_contracts.assignment import DriftAlarm, SamplingPolicy
from skerry_fleet.rollout_plan import Wave
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_simulators.catalogue import MODEL
from skerry_simulators.faults import HOUR_S

SAMPLING = SamplingPolicy(
    0.03,
    0.02,
    200_000,
    3600,
    novel_rate=0.01,
    rare_below=0.05,
    quantiles=("confidence",),
    top_labels=8,
    alarm=DriftAlarm(),
)


def careful(bundle: str, devices: int) -> RolloutRequest:
    """Return a rollout with canaries, waves and small budgets."""
    return RolloutRequest(
        MODEL,
        bundle,
        canary=min(2, devices),
        waves=(Wave(25), Wave(100, max(4, devices // 4))),
        soak_s=300.0,
        failure_budget=1,
        exposure_budget=max(3, devices // 20),
        timeout_s=2 * HOUR_S,
        sampling=SAMPLING,
    )


def brisk(bundle: str, devices: int) -> RolloutRequest:
    """Return a rollout to everybody at once that no failure stops."""
    return RolloutRequest(
        MODEL,
        bundle,
        canary=devices,
        waves=(Wave(100, devices),),
        soak_s=60.0,
        failure_budget=devices,
        exposure_budget=devices + 1,
        timeout_s=2 * HOUR_S,
        sampling=SAMPLING,
    )
