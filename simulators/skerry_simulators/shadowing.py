"""Shadows of a world: every few hours another candidate, good or bad, beside what serves on some of its devices."""

from __future__ import annotations

import random

from skerry_fleet import shadow_orders as orders
from skerry_fleet.shadow_orders import ShadowRequest
from skerry_simulators.catalogue import MODEL, Kind, make_bundle
from skerry_simulators.faults import HOUR_S
from skerry_simulators.fleet import PERSON, SimFleet
from skerry_simulators.repository import Repository
from skerry_simulators.weather import Weather

EVERY_S = 2 * HOUR_S
RELEASES = 1_000_000  # apart from those that the world rolls out


class Shadowing:
    """Somebody who keeps trying candidates."""

    def __init__(self, fleet: SimFleet, repository: Repository, weather: Weather, rng: random.Random) -> None:
        self.fleet, self.repository, self.weather, self.rng = fleet, repository, weather, rng
        self.started: list[str] = []

    def begin(self) -> None:
        """Start the first soon."""
        self.fleet.heap.after(self.rng.uniform(900, 2 * HOUR_S), self._start)

    def _start(self) -> None:
        fleet, rng = self.fleet, self.rng
        if self.weather.calmed:
            return
        fleet.heap.after(EVERY_S * rng.uniform(0.7, 1.3), self._start)
        if self.started and rng.random() < 0.4:
            over = self.started.pop()
            fleet.act(lambda session, pen, now: orders.end(session, pen, PERSON, now, over).id)
        number = RELEASES + len(self.started) + int(rng.random() * 1e6)
        bundle = make_bundle(str(number), number, rng.choice((Kind.GOOD, Kind.GOOD, *Kind)), rng)
        self.repository.publish(bundle)
        fleet.publish_bundle(bundle)
        names = sorted(fleet.links)
        chosen = tuple(rng.sample(names, max(1, len(names) // 2))) if rng.random() < 0.3 else None
        days = rng.uniform(0.05, 0.5)
        request = ShadowRequest(MODEL, bundle.id, devices=chosen, days=days, share=1.0)
        shadow = fleet.act(
            lambda session, pen, now: orders.create(session, pen, PERSON, now, request, rng.randbytes).id
        )
        if shadow is not None:
            fleet.history.add("fleet", "shadow", f"{shadow} {bundle.id[:8]}")
            self.started.append(shadow)
