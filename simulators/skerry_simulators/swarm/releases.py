"""Scenarios in which a swarm is given models: a rollout that goes well, one that must not, and a model that drifts."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from skerry_contracts import codec
from skerry_contracts.bundle import Manifest
from skerry_contracts.device import Phase
from skerry_simulators.catalogue import MODEL
from skerry_simulators.errors import SimulatorError
from skerry_simulators.swarm.scenarios import Figures, Stage
from skerry_simulators.swarm.team import Team
from skerry_simulators.swarm.words import Behaviour

OVER = ("complete", "rolled-back", "aborted", "superseded")
LOOK_S = 0.1


def bundle_id(manifest: Manifest) -> str:
    """Return the id that a bundle has everywhere."""
    return codec.digest(codec.encode(manifest))


def behave(on: Stage, *behaviours: Behaviour, told: str = "all") -> None:
    """Tell devices how bundles will do on them, and which steps of updates they report."""
    plain = [{**dataclasses.asdict(each), "ends": each.ends.value, "reason": each.reason.value} for each in behaviours]
    on.team.order("behave", told=told, bundles=plain)


def release(on: Stage, *, error_share: float = 0.0, told: str = "all") -> str:
    """Publish the model's next release, made so that its predictions fail so often; return its id."""
    with on.ground.client() as client:
        manifest = on.ground.publish(client)
    bundle = bundle_id(manifest)
    behave(on, Behaviour(manifest.version, bundle, error_share, ends=Phase.COMMITTED), told=told)
    return bundle


def roll_out(on: Stage, bundle: str, **plan: Any) -> dict[str, Any]:
    """Start a rollout, watch it to its end, and return what the fleet says of it; `seconds` is how long it took."""
    devices = on.wish.devices
    asked = {"model": MODEL, "bundle": bundle, "soak_s": 0, "exposure_budget": devices, "failure_budget": 0, **plan}
    began_s = time.time()
    with on.ground.client() as client:
        made: dict[str, Any] = client.call("POST", "/api/v1/rollouts", json=asked)
        deadline_s = time.monotonic() + on.wish.limit_s
        while True:
            found: dict[str, Any] = client.call("GET", f"/api/v1/rollouts/{made['id']}")
            if found["status"] in OVER:
                return {**found, "seconds": time.time() - began_s}
            confirmed = found["counts"].get("confirmed", 0)
            on.say(f"{found['stage_name']}: {confirmed:,} of {devices:,} confirmed, {found['exposure']:,} exposed")
            if time.monotonic() > deadline_s:
                raise SimulatorError(f"rollout {made['id']} is {found['status']} after {on.wish.limit_s:g} s")
            time.sleep(LOOK_S)


def rollout(on: Stage, told: str = "all") -> Figures:
    """A canary and four waves, each as fast as devices confirm."""
    found = roll_out(
        on,
        release(on, told=told),
        canary=max(1, on.wish.devices // 1000),
        waves=[{"percent": percent} for percent in (10, 25, 50, 100)],
    )
    confirmed = found["counts"].get("confirmed", 0)
    return {"rollout_s": found["seconds"], "confirmed": confirmed, "complete": found["status"] == "complete"}


def bad_model(on: Stage) -> Figures:
    """A good release for everybody, then one that fails every third prediction after its activation: it must be taken
    back, and never be on more devices than its budget.
    """
    roll_out(on, release(on), canary=1, waves=[{"percent": 100}])
    budget = max(2, on.wish.devices // 20)
    on.beat(1.0)
    found = roll_out(
        on, release(on, error_share=1 / 3), canary=1, soak_s=3, exposure_budget=budget, waves=[{"percent": 100}]
    )
    on.beat()
    counts = found["counts"]
    exposed = sum(counts.get(place, 0) for place in ("failed", "returned", "returning", "confirmed"))
    return {
        "rolled_back": found["status"] == "rolled-back",
        "rollback_s": found["seconds"],
        "exposed": exposed,
        "budget": budget,
    }


def drift(on: Stage) -> Figures:
    """A tenth of the devices says that its stream has changed: one alert for the model, which closes by itself."""
    roll_out(on, release(on), canary=1, waves=[{"percent": 100}])
    on.beat(2.0)
    count = max(1, on.wish.devices // 10)
    on.team.share("drift", count, count=Team)
    began_s = time.time()
    alerts = "SELECT count(*) FROM alert WHERE kind = 'device-drift' AND state <> 'resolved'"
    seconds = on.wait("the alert", alerts, 1) - began_s
    raised = on.ground.count(alerts)
    on.team.order("drift", count=0)
    resolved = "SELECT count(*) FROM alert WHERE kind = 'device-drift' AND state = 'resolved'"
    on.wait("the alert is closed", resolved, 1)
    on.beat()
    return {"drifting": count, "alert_s": seconds, "alerts": raised}
