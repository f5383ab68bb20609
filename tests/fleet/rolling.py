"""What the tests of rollouts share: one bench of devices, and how to start, order and look at a rollout on it."""

from __future__ import annotations

from typing import Any

from tests.fleet.conftest import ACTOR, Bench

from skerry_fleet import rollout_rows
from skerry_fleet.audit import Actor
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.rollout_words import Order

SECOND = Actor("default", "second")
DEVICES = tuple(f"d{i}" for i in range(6))


def start(bench: Bench, bundle: str, **plan: Any) -> str:
    request = RolloutRequest(model="digits", bundle=bundle, **{"soak_s": 0.0, **plan})
    with bench.fleet.rollouts.open() as session:
        return str(bench.fleet.rollouts.create(session, ACTOR, bench.clock(), request)["id"])


def order(bench: Bench, rollout: str, verb: Order) -> dict[str, Any]:
    with bench.fleet.rollouts.open() as session:
        return bench.fleet.rollouts.order(session, SECOND, bench.clock(), rollout, verb)


def show(bench: Bench, rollout: str) -> dict[str, Any]:
    with bench.fleet.database.read() as session:
        return rollout_rows.view(rollout_rows.get(session, "default", rollout))


def assigned(bench: Bench) -> dict[str, str]:
    """Return the bundle that each device is to run, where there is one."""
    found = {}
    for device in DEVICES:
        assignment = bench.assignment(device)
        if assignment is not None and assignment.models:
            found[device] = assignment.models[0].bundle
    return found
