"""One model's record with the history of its effects, for the tests of the update machine."""

from __future__ import annotations

from skerry_agent import records
from skerry_agent.machine import advance
from skerry_agent.records import Effect, Event, Limits, Measured, Order, Record, Report
from skerry_contracts.assignment import AssignedModel, Window, target_path
from skerry_contracts.device import Phase, Reason

LIMITS = Limits(
    download_s=600,
    window_s=3600,
    trial_s=60,
    observe_s=10,
    observe_predictions=20,
    retry_first_s=2,
    retry_max_s=60,
    retry_failed_s=900,
)
FAR_S = 2_000_000_000


def order(
    release: int, sequence: int, *, downgrade: bool = False, window: Window | None = None, expires_s: int = FAR_S
) -> Order:
    bundle = f"{release:064x}"
    assigned = AssignedModel(
        "digits", f"v{release}", release, bundle, target_path("digits", bundle), 10, "r", downgrade, window
    )
    return Order(sequence, expires_s, assigned)


def phases(effects: list[Effect]) -> list[tuple[Phase, Reason]]:
    return [(effect.phase, effect.reason) for effect in effects if isinstance(effect, Report)]


class Device:
    """A record with the history of its effects."""

    def __init__(self) -> None:
        self.record = Record("digits")
        self.now_s = 0.0
        self.effects: list[Effect] = []

    def see(self, event: Event) -> list[Effect]:
        self.record, effects = advance(self.record, event, self.now_s, LIMITS)
        self.effects += effects
        return effects

    def tick(self, after_s: float = 0.0, *, open_: bool = True, wall_s: float = 1000.0) -> list[Effect]:
        self.now_s += after_s
        return self.see(records.Tick(wall_s, open_))

    def install(self, release: int, sequence: int) -> None:
        self.see(records.Offered(order(release, sequence)))
        self.to_observing()
        self.tick(LIMITS.observe_s)

    def to_observing(self) -> None:
        self.see(records.Listed(self.record.ticket))
        self.see(records.Fetched(self.record.ticket))
        self.see(records.TrialPassed(self.record.ticket, Measured("native", 8)))
