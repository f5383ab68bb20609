"""One device of the chaos as a process: the real daemon with its worker, link, spool and ledger, and a feed in it.

`python -m skerry_simulators.chaos.device ROOT COUNT SEED` makes predictions until COUNT more samples are kept. It tells
its history (history.py) on its standard output, a pipe: what was written there outlives a kill -9, and needs no disk.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from skerry_agent import config, identity, journal
from skerry_agent.daemon import Agent
from skerry_agent.disk import RealDisk
from skerry_agent.errors import AgentError
from skerry_agent.hooks import Prediction
from skerry_agent.ledger import Ledger
from skerry_agent.services import Service
from skerry_agent.this_device import lock
from skerry_contracts.errors import ContractError
from skerry_contracts.tensor import Tensor, TensorSpec
from skerry_simulators.chaos.history import ToldLedger

MODEL = "chaos"
BURST = 32
MOST_WAITING = 20_000  # beyond it the feed waits
PAUSE_S = 0.02


def say(line: str) -> None:
    """Write a line to the one who listens."""
    data = f"{line}\n".encode()
    while data:
        data = data[os.write(1, data) :]


class FedAgent(Agent):
    """The daemon, with a program inside that asks the model as fast as answers come."""

    def __init__(
        self, settings: config.AgentConfig, found: identity.Identity, disk: RealDisk, want: int, seed: int
    ) -> None:
        self._told: ToldLedger | None = None
        super().__init__(settings, found, disk, wrap=self._listen)
        self._want, self._random = want, random.Random(seed)
        self._quota_bytes = settings.spool_quota_bytes
        self._small = settings.spool_quota_bytes < config.AgentConfig().spool_quota_bytes

    def services(self) -> list[Service]:
        """Return the daemon's table, and the feed."""
        return [*super().services(), ("feed", self._feed, lambda: not self.stop.is_set())]

    def _listen(self, ledger: Ledger) -> Ledger:
        self._told = ToldLedger(ledger, say)
        return self._told

    async def _feed(self) -> None:
        while not self.stop.is_set():
            todo, slot = self._todo(), self.runtime.slot(MODEL)
            if todo <= 0 or slot is None or MODEL not in self.core.serving.watches:
                await asyncio.sleep(PAUSE_S)
                continue
            try:
                for _ in range(min(BURST, todo)):
                    await self._predict(slot.manifest.signature.inputs)
            except AgentError:  # the worker is not there for a moment
                await asyncio.sleep(PAUSE_S)
            crowded = self.core.spool.health.waiting_bytes > 0.7 * self._quota_bytes
            await asyncio.sleep(PAUSE_S if crowded or "storage" in self.core.degraded else 0)

    def _todo(self) -> int:
        """Return how many predictions to make now."""
        health = self.core.spool.health
        if health.waiting > MOST_WAITING:
            return 0
        if self._small and self.core.online and health.waiting_bytes > 0.7 * self._quota_bytes:
            return 0  # it floods its spool only while nothing leaves it
        return self._want - (self._told.net if self._told is not None else 0) - len(self.core.memory.buffered)

    async def _predict(self, specs: Sequence[TensorSpec]) -> None:
        inputs = tuple(Tensor(spec.name, spec.dtype, spec.shape, self._values(spec)) for spec in specs)
        result = await self.runtime.infer(MODEL, inputs)
        name = self.next_prediction(MODEL)
        self.on_prediction(Prediction(name, MODEL, inputs, result.outputs, result.latency_ms, bundle=result.bundle))

    def _values(self, spec: TensorSpec) -> bytes:
        return struct.pack(f"<{spec.elements}f", *(self._random.random() for _ in range(spec.elements)))


async def run(root: Path, want: int, seed: int) -> None:
    """Run the device until SIGTERM.

    Raises:
        AgentError: not enrolled, or already running.
    """
    settings = config.load((root / "config.toml").read_text("utf-8"), {}, {"root": root})
    journal.begin(settings.log_level, None)
    disk = RealDisk(root)
    held = lock(root)
    try:
        agent = FedAgent(settings, identity.load(disk), disk, want, seed)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, agent.stop.set)
        await agent.run()
    finally:
        os.close(held)


if __name__ == "__main__":
    try:
        asyncio.run(run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
    except (AgentError, ContractError) as error:
        sys.exit(f"{error}")
