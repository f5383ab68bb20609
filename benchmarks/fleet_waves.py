"""Rollouts to very many devices (benchmarks/fleet.py)."""

from __future__ import annotations

from benchmarks.fleet_load import stage
from benchmarks.fleet_options import Options

from skerry_simulators.swarm import exposing, releases, scenarios
from skerry_simulators.swarm.scenarios import Wish

EXPOSED_DEVICES = 1000


def wave(options: Options) -> dict[str, float]:
    """Return how long one wave to all devices takes, and a canary with four waves after it."""
    with stage(Wish(options.devices, limit_s=options.limit_s)) as on:
        scenarios.connect(on)
        before = _processor_us(on)
        once = releases.roll_out(on, releases.release(on, told="last"), canary=1, waves=[{"percent": 100}])
        between = _processor_us(on)
        waves = releases.rollout(on, told="last")
        after = _processor_us(on)
    return {
        "wave_50k_s": once["seconds"],
        "rollout_50k_s": waves["rollout_s"],
        **{f"wave_{name}_cpu_us": between[name] - us for name, us in before.items()},
        **{f"rollout_{name}_cpu_us": after[name] - us for name, us in between.items()},
    }


def _processor_us(on: scenarios.Stage) -> dict[str, float]:
    """Return the processor time of everybody so far, for each device."""
    manager_s, brokers_s = on.ground.processor_s()
    taken = {"manager": manager_s, "brokers": brokers_s, "swarm": float(on.team.look()["cpu_s"])}
    return {name: seconds / on.wish.devices * 1e6 for name, seconds in taken.items()}


def exposure(options: Options) -> dict[str, float]:
    """Return how many devices ever tried a bad model, at most, and how long it took at most until all were back."""
    with stage(Wish(EXPOSED_DEVICES, shards=1, processes=1, limit_s=options.limit_s)) as on:
        scenarios.connect(on)
        return exposing.exposure(on, options.seeds)
