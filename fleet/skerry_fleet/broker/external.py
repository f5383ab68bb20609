"""Brokers that others run: the fleet connects to them, keeps the list of revoked certificates, and ends connections.

They are told apart from `Brokers` by nothing else: the same link, outbox and placement work with both. What such a
broker must do is `profile.py`'s to check.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from skerry_fleet.broker.config import FLEET
from skerry_fleet.broker.hello import say_hello
from skerry_fleet.mqtt.errors import MqttError
from skerry_fleet.trust import credentials
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.credentials import Credentials

TAKE_OVER_S = (0.0, 8.0, 30.0)
"""After so many seconds a revoked device's connection is ended, again and again: brokers read the list of revoked
certificates a few seconds later, and until then it is back at once."""

log = logging.getLogger(__name__)


class ExternalBroker:
    """One shard that is not ours to start: where it is."""

    pid: int | None = None

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port

    def alive(self) -> bool:
        """Say that it is not for us to look after it."""
        return True

    def start(self) -> None:
        """Do nothing: others start it."""

    def stop(self) -> None:
        """Do nothing: others stop it."""


class ExternalBrokers:
    """All shards of others."""

    kind = "external"

    def __init__(
        self,
        folder: Path,
        addresses: Sequence[tuple[str, int]],
        authority: Authority,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.processes = tuple(ExternalBroker(*each) for each in addresses)
        self._folder, self._authority, self._wall = folder, authority, wall
        self._ended = threading.Event()

    def fleet(self) -> Credentials:
        """Return the certificate with which the fleet connects to every shard."""
        return credentials.fleet_client(self._authority, self._folder, FLEET, self._wall())

    def start(self) -> None:
        """Do nothing: the link connects as soon as they are there."""

    def stop(self) -> None:
        """Give up what is left to end."""
        self._ended.set()

    def revoke(self, serials: Collection[int], identities: Collection[str]) -> None:
        """End these devices' connections, now and when the brokers have had the time to read the list of `serials`."""
        if identities:
            threading.Thread(target=self._take_over, args=(tuple(identities),), name="revoke", daemon=True).start()

    def _take_over(self, identities: Sequence[str]) -> None:
        folder = self._folder / f"takeover-{threading.get_ident()}"
        before = 0.0
        try:
            for at in TAKE_OVER_S:
                if self._ended.wait(at - before):
                    return
                before = at
                for identity in identities:
                    visitor = credentials.visitor(self._authority, folder, identity, self._wall())
                    for shard in self.processes:
                        with contextlib.suppress(MqttError):
                            say_hello(shard.host, shard.port, visitor, identity, timeout_s=5.0)
        except OSError as error:
            log.error("the connections of revoked devices cannot be ended: %s", error.strerror)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
