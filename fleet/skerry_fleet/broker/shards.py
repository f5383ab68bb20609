"""The brokers of one fleet, started, watched and stopped together: one process a shard.

The first lives in `<folder>`, as a fleet with a single broker always did; the others in `<folder>-1`, `<folder>-2` and
so on, each with its own certificate, configuration, log and retained messages.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Sequence

from skerry_fleet.broker.errors import BrokerError
from skerry_fleet.broker.launch import BrokerProcess, BrokerSettings
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.credentials import Credentials


class Brokers:
    """All shards. Methods block, and raise as those of `BrokerProcess` do."""

    def __init__(
        self, settings: Sequence[BrokerSettings], authority: Authority, wall: Callable[[], float] = time.time
    ) -> None:
        self.processes = tuple(BrokerProcess(each, authority, wall) for each in settings)

    @property
    def kind(self) -> str:
        """`mosquitto` or `embedded`; all shards are of one kind."""
        return self.processes[0].kind

    def fleet(self) -> Credentials:
        """Return the certificate with which the fleet connects to every shard."""
        return self.processes[0].fleet()

    def start(self) -> None:
        """Start every shard that does not run; if one cannot be started, none of them goes on."""
        try:
            for process in self.processes:
                process.start()
        except BrokerError:
            self.stop()
            raise

    def stop(self) -> None:
        """End every shard."""
        for process in self.processes:
            process.stop()

    def revoke(self, serials: Collection[int], identities: Collection[str]) -> None:
        """Shut certificates out of every shard: nothing but their own manners keeps devices on the one they were told
        of.
        """
        for process in self.processes:
            process.revoke(serials, identities)


def settings(first: BrokerSettings, ports: Sequence[int]) -> list[BrokerSettings]:
    """Return the settings of as many shards as there are ports (0: any that is free), made from the first one's."""
    made = []
    for shard, port in enumerate(ports):
        folder = first.folder if shard == 0 else first.folder.with_name(f"{first.folder.name}-{shard}")
        swarm_port = first.swarm_port + shard if first.swarm_port else 0
        made.append(dataclasses.replace(first, folder=folder, port=port, swarm_port=swarm_port))
    return made
