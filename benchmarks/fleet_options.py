"""What benchmarks/fleet.py can be told."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """Settings of all parts; each has a flag of its name."""

    devices: int = dataclasses.field(default=50_000, metadata={"help": "devices in connect and wave"})
    messages: int = dataclasses.field(default=200_000, metadata={"help": "messages in ingest; a quarter in samples"})
    seeds: int = dataclasses.field(
        default=100, metadata={"help": "bad models in exposure, each with a plan of its own"}
    )
    limit_s: int = dataclasses.field(default=300, metadata={"help": "seconds to wait for anything"})
    rollouts: int = dataclasses.field(default=2000, metadata={"help": "harmless rollouts in gate; a tenth harmful"})
    api_examples: int = dataclasses.field(default=50, metadata={"help": "requests of each kind in api"})
