"""The device's credentials on its connections: two slots, so that a renewal can never lock the device out.

While a renewed slot waits to be proven, sessions try it and the old one in turn. The first session that stands with the
renewed one puts it in the old one's place.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

from skerry_agent import identity
from skerry_agent.clock import Rng
from skerry_agent.disk import RealDisk
from skerry_agent.errors import AgentError, StorageError
from skerry_agent.helper import TrustHelper
from skerry_agent.link import tls_context

LOG = logging.getLogger("skerry.agent.credentials")
RETRY_S = 3600.0
LEAST_WAIT_S = 1.0


class Credentials:
    """Chooses the slot of each session."""

    def __init__(self, disk: RealDisk) -> None:
        self._disk = disk
        self._trying_next = False

    def context(self) -> ssl.SSLContext:
        """Return the context of the next session.

        Raises:
            NetworkError: the files cannot be read; the slots take turns, so the next session may fare better.
        """
        self._trying_next = not self._trying_next and self._disk.size(identity.NEXT) is not None
        root = self._disk.root
        slot = identity.NEXT if self._trying_next else identity.CREDENTIALS
        return tls_context(root / identity.AUTHORITY, root / slot)

    def stood(self) -> None:
        """A session stands with the slot that was chosen last: a renewed one is proven."""
        if self._trying_next:
            try:
                identity.promote(self._disk)
            except StorageError as error:
                LOG.warning("the renewed certificate stays in its own slot: %s", error)
        self._trying_next = False


class Renewer:
    """Asks the child now and then whether a renewal is due, and does it."""

    def __init__(self, helper: TrustHelper, wall_s: Callable[[], float], check_s: float, rng: Rng) -> None:
        self._helper, self._wall_s, self._check_s, self._rng = helper, wall_s, check_s, rng
        self.expires_s: float | None = None

    async def run(self, stop: asyncio.Event, renewed: Callable[[], None]) -> None:
        """Renew whenever it is due, until stopped; `renewed` is called after each renewal."""
        wait_s = min(600.0, self._check_s)  # not with the start: a fleet that comes back asks for everything at once
        while not stop.is_set():
            try:
                await asyncio.wait_for(stop.wait(), wait_s * (0.75 + 0.5 * self._rng.random()))
            except TimeoutError:
                wait_s = await self._once(renewed)

    async def _once(self, renewed: Callable[[], None]) -> float:
        """Return after how many seconds to look again."""
        now_s = self._wall_s()
        try:
            answer = await self._helper.call("renew", {"now_s": now_s})
        except AgentError as error:
            LOG.warning("certificate: %s", error)
            return min(RETRY_S, self._check_s)
        self.expires_s = float(answer["expires_s"])
        if answer["renewed"]:
            LOG.info("the certificate was renewed")
            renewed()
        # By a clock that is decades ahead the next one is due at once, too.
        least_s = min(RETRY_S, self._check_s) if answer["renewed"] else LEAST_WAIT_S
        return max(least_s, min(float(answer["due_s"]) - now_s, self._check_s))
