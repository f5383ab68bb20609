"""What the parts of benchmarks/agent.py are told: each field is a flag of that command (`--cycles N` for `cycles`).

A new part adds its counts here, and itself to the tables of agent.py.
"""

from __future__ import annotations

import dataclasses


def count(default: int, words: str) -> int:
    """Return a field that is a number on the command line."""
    field: int = dataclasses.field(default=default, metadata={"help": words})
    return field


@dataclasses.dataclass(frozen=True)
class Options:
    """Counts and seeds."""

    rounds: int = count(3, "throughput: how often each number of clients is measured")
    cycles: int = count(1000, "unload: how often a model is unloaded")
    images: int = count(10_000, "powercut: how many block images")
    cuts: int = count(500, "vmcuts: how often a virtual machine is killed")
    seed: int = count(1, "faults, clock, powercut, vmcuts, samples: the first seed")
    updates: int = count(10_000, "faults: how many updates that something hit")
    deltas: int = count(2, "delta: how many seeds of each network")
    jobs: int = count(2, "faults, clock, powercut, vmcuts: how many processes")
    samples: int = count(1_000_000, "samples: how many")
