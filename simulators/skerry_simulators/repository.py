"""What the update repository and the blob store of the fleet tell a device, with the outcomes of TUF but not its files.

The signature work of TUF is proven elsewhere against its own conformance suite; here counts what the device makes of
its answers: listed or not, metadata expired by the device's own clock, versions lower than what it has believed
before.
"""

from __future__ import annotations

import dataclasses

from skerry_contracts import codec, delta
from skerry_contracts.assignment import target_path
from skerry_contracts.delta import Delta, DeltaOffer
from skerry_contracts.device import Reason
from skerry_fleet.deltas import EARLIER, LEAST_BYTES, USEFUL_SHARE, pairs
from skerry_simulators.catalogue import MODEL, MadeBundle

EXPIRY_S = 30 * 86400.0


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A listed manifest and the versions of the roles that listed it, or the reason why there is none."""

    manifest: bytes | None
    versions: dict[str, int]
    reason: Reason = Reason.OK
    detail: str = ""


class Repository:
    """Every published bundle, and the versions of the roles."""

    def __init__(self) -> None:
        self.bundles: dict[str, MadeBundle] = {}
        self.blobs: dict[str, bytes] = {}
        self.published: set[str] = set()
        self._offers: dict[str, list[DeltaOffer]] = {}
        self._newest: list[MadeBundle] = []
        self._targets: dict[str, MadeBundle] = {}
        self._versions = {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1, MODEL: 1}

    def add(self, bundle: MadeBundle) -> None:
        """Know a bundle without listing it: the device's maker put it there."""
        self.bundles[bundle.id] = bundle
        self.blobs.update(bundle.blobs)

    def publish(self, bundle: MadeBundle) -> None:
        """List a bundle."""
        self.add(bundle)
        self._make_deltas(bundle)
        self.published.add(bundle.id)
        self._targets[target_path(MODEL, bundle.id)] = bundle
        for role in ("timestamp", "snapshot", MODEL):
            self._versions[role] += 1

    def offer(self, target: str, bases: set[str]) -> DeltaOffer | None:
        """Return a delta to a blob from one of these."""
        return next((each for each in self._offers.get(target, []) if each.base in bases), None)

    def _make_deltas(self, bundle: MadeBundle) -> None:
        """Make what the fleet makes, by the method that needs no library of the system: a history must not differ."""
        for target, bases in pairs(bundle.manifest, [each.manifest for each in reversed(self._newest)]).items():
            for base in bases:
                old, new = self.blobs[base], bundle.blobs[target]
                if len(new) < LEAST_BYTES or len(old) != len(new):
                    continue
                body = delta.difference(memoryview(old), memoryview(new), 1)
                packed = delta.join(Delta(base, target, len(new), delta.TENSOR, 1), body)
                if len(packed) <= USEFUL_SHARE * len(new):
                    sha256 = codec.digest(packed)
                    self.blobs[sha256] = packed
                    offer = DeltaOffer(base, sha256, len(packed), delta.TENSOR)
                    self._offers.setdefault(target, []).append(offer)
        self._newest = [*self._newest[1 - EARLIER :], bundle]

    def ask(self, path: str, *, believed_s: float, true_s: float, floors: dict[str, int], stale: bool) -> Answer:
        """Return what a client that believes it is `believed_s` makes of the repository; `stale`: a mirror serves the
        past.
        """
        versions = {role: max(1, version - 1) if stale else version for role, version in self._versions.items()}
        lower = sorted(role for role, version in versions.items() if version < floors.get(role, 0))
        if lower:
            return Answer(None, {}, Reason.NETWORK, f"{lower[0]} is older than what was believed before")
        if believed_s > true_s + EXPIRY_S:
            return Answer(None, {}, Reason.EXPIRED, "timestamp has expired")
        bundle = self._targets.get(path)
        if bundle is None:
            return Answer(None, versions, Reason.NOT_LISTED, path)
        return Answer(bundle.manifest_bytes, versions)
