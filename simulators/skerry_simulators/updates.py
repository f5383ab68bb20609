"""Updates, counted from outside: what the fleet signed, what hit the device meanwhile, and what it ended on.

An update is one signed assignment of a good bundle to one device. It is faulted where something went wrong for that
device between the offer and the outcome. It succeeded if the device committed it, was superseded if the fleet signed
another for the device before that (and the device had not given it up), and failed otherwise.
"""

from __future__ import annotations

import dataclasses
from collections import Counter


@dataclasses.dataclass(slots=True)
class Update:
    """One that has no outcome yet."""

    bundle: str
    kinds: set[str]
    given_up: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Tally:
    """What the updates of a world came to. `kinds`: updates that each kind of fault hit; `lost`: what failed, in
    words.
    """

    updates: int
    faulted: int
    succeeded: int
    superseded: int
    failed: int
    unfaulted: int
    kinds: dict[str, int]
    lost: tuple[str, ...]


class Updates:
    """The books of all devices."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.lost: list[str] = []
        self._open: dict[str, dict[str, Update]] = {}  # device, model
        self._lasting: dict[str, Counter[str]] = {}

    def offered(self, device: str, model: str, bundle: str | None) -> None:
        """The fleet signed a good bundle (None: another, or none) for a model of a device."""
        mine = self._open.setdefault(device, {})
        before = mine.get(model)
        if before is not None:
            if before.bundle == bundle:
                return
            self._close(device, model, "failed" if before.given_up else "superseded")
        if bundle is not None:
            lasting = self._lasting.get(device, Counter())
            mine[model] = Update(bundle, {kind for kind, count in lasting.items() if count})

    def hit(self, device: str, kind: str) -> None:
        """Something went wrong for a device."""
        for update in self._open.get(device, {}).values():
            update.kinds.add(kind)

    def hit_all(self, kind: str) -> None:
        """Something went wrong for everybody."""
        for device in self._open:
            self.hit(device, kind)

    def lasts(self, device: str, kind: str, *, begins: bool) -> None:
        """Something begins, or ceases, to be wrong for a device."""
        self._lasting.setdefault(device, Counter())[kind] += 1 if begins else -1
        if begins:
            self.hit(device, kind)

    def over(self, device: str) -> None:
        """Nothing is wrong for a device any more."""
        self._lasting.pop(device, None)

    def wanted(self, device: str, model: str) -> str | None:
        """Return the bundle of the update that is open."""
        found = self._open.get(device, {}).get(model)
        return None if found is None else found.bundle

    def committed(self, device: str, model: str) -> None:
        """The device serves the bundle for good."""
        self._close(device, model, "succeeded")

    def gave_up(self, device: str, model: str, why: str) -> None:
        """The device told the fleet that it failed (empty: it tries again, after all)."""
        self._open[device][model].given_up = why

    def tally(self) -> Tally:
        """Return the sums; what is open counts as failed."""
        left = [(f"{device} {name}", each) for device, mine in self._open.items() for name, each in mine.items()]
        lost = [*self.lost, *(self._words(where, each) for where, each in left)]
        stuck = Counter("faulted failed" if each.kinds else "failed" for _, each in left)
        found = self.outcomes + stuck
        faulted = {name: found[f"faulted {name}"] for name in ("succeeded", "superseded", "failed")}
        plain = sum(found[name] for name in ("succeeded", "superseded", "failed"))
        failed = faulted["failed"] + found["failed"]
        return Tally(
            plain + sum(faulted.values()),
            faulted["succeeded"] + failed,
            faulted["succeeded"],
            faulted["superseded"],
            failed,
            plain,
            dict(sorted(self.kinds.items())),
            tuple(lost[:20]),
        )

    def _close(self, device: str, model: str, outcome: str) -> None:
        update = self._open[device].pop(model)
        self.outcomes[f"faulted {outcome}" if update.kinds else outcome] += 1
        if outcome != "superseded":
            self.kinds.update(update.kinds)
        if outcome == "failed":
            self.lost.append(self._words(f"{device} {model}", update))

    @staticmethod
    def _words(where: str, update: Update) -> str:
        why, kinds = update.given_up or "not done", ", ".join(sorted(update.kinds))
        return f"{where} {update.bundle[:8]}: {why} ({kinds})"
