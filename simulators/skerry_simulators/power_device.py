"""A simulated device whose trust is real: assignments, update repository, downloads, receipts and renewals go through
the agent's own trust child, in this process, on a real folder.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry_agent import carried, effects
from skerry_agent.config import AgentConfig
from skerry_agent.disk import RealDisk
from skerry_agent.trust import __main__ as trust_child
from skerry_agent.trust import fetch, listing, renew, signing
from skerry_contracts import codec
from skerry_contracts.assignment import Envelope
from skerry_contracts.device import Reason
from skerry_simulators.body import Body
from skerry_simulators.device import SimDevice, Surroundings
from skerry_simulators.errors import SimulatorError
from skerry_simulators.link import Link
from skerry_simulators.power_fleet import PaperFleet
from skerry_simulators.storage import Storage

LOADED = (fetch, listing, renew, signing)
"""What the trust child imports with the first request that needs it: loaded once here, before anybody forks."""


class TrustingDevice(SimDevice):
    """A device on a real folder with the agent's trust child in it."""

    def __init__(
        self,
        name: str,
        around: Surroundings,
        link: Link,
        rng: random.Random,
        storage: Storage,
        config: AgentConfig,
        fleet: PaperFleet,
    ) -> None:
        super().__init__(name, around, link, rng, storage, config)
        if not isinstance(self.disk, RealDisk):
            raise SimulatorError("a trusting device needs a real folder", hint="this is a mistake of the simulator")
        self.root: Path = self.disk.root
        self._real, self._fleet = self.disk, fleet

    def child(self, verb: str, **request: Any) -> tuple[dict[str, Any], Reason, str]:
        """Ask the trust child; returns its answer, or why there is none."""
        line = json.dumps({"verb": verb, **request}).encode()
        reply = trust_child.answer(self._real, line, lambda _: self._fleet)
        if "ok" in reply:
            return reply["ok"], Reason.OK, ""
        return {}, Reason(reply["error"]["reason"]), reply["error"]["detail"]

    def make_body(self) -> Body:
        """Return hands that know the trust child."""
        return _TrustingBody(self, self.child)

    def boot(self) -> None:
        """Switch on, and take up what came by file."""
        super().boot()
        if self.core is not None:
            envelope = carried.assignment(self.root, self._real, self.core.memory)
            if envelope is not None:
                self.on_message("assignment", envelope)

    def sign(self, effect: effects.Sign) -> None:
        """Sign a receipt with the device's own key, and tell the core."""
        said, _, words = self.child("sign", receipt=codec.to_plain(effect.receipt))
        if words:
            raise SimulatorError(f"no receipt: {words}", hint="look at the device's identity/")
        envelope = codec.from_plain(Envelope, said["envelope"])
        self.later(self.rng.uniform(0.05, 0.4), self.ask, "signed", effect.receipt.model, envelope)


class _TrustingBody(Body):
    """Asks the trust child where the plain body makes something up."""

    def __init__(self, host: TrustingDevice, child: Callable[..., tuple[dict[str, Any], Reason, str]]) -> None:
        super().__init__(host)
        self._child = child

    def _verified(self, effect_envelope: bytes) -> None:
        said, reason, words = self._child("verify", envelope=base64.b64encode(effect_envelope).decode())
        if words:
            self.host.ask("unverified", effect_envelope, reason, words)
        else:
            self.host.ask("verified", effect_envelope, base64.b64decode(said["payload"]))

    def _manifest(self, effect: effects.FetchManifest) -> None:
        if self.fetching.get(effect.model) != effect.ticket:
            return
        said, reason, words = self._child(
            "manifest",
            target_path=effect.target_path,
            bundle=effect.bundle,
            size_bytes=effect.size_bytes,
            floors=dict(effect.floors),
            clock_floor_s=effect.clock_floor_s,
        )
        if words:
            self.host.ask("fetch_failed", effect.model, effect.ticket, reason, words)
        else:
            data = base64.b64decode(said["manifest"])
            self.host.ask("manifest", effect.model, effect.ticket, data, said["floors"])

    def _next_pieces(self, effect: effects.FetchBlobs) -> None:
        """Fetch everything, as the child does."""
        if self.fetching.get(effect.model) != effect.ticket or self.host.core is None:
            return
        manifest = base64.b64encode(effect.manifest).decode()
        _, reason, words = self._child(
            "blobs", manifest=manifest, blobs=[codec.to_plain(blob) for blob in effect.blobs]
        )
        if words:
            self.host.ask("fetch_failed", effect.model, effect.ticket, reason, words)
        else:
            self.host.ask("fetched", effect.model, effect.ticket)
