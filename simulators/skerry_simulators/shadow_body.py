"""A simulated device's candidates in the shadow: loaded, compared and struck as the daemon's runner would."""

from __future__ import annotations

from typing import Any

from skerry_agent import effects
from skerry_agent.errors import AgentError
from skerry_agent.records import Stage
from skerry_agent.shadow_tally import Tally
from skerry_contracts.device import Reason
from skerry_contracts.shadow import ShadowState
from skerry_simulators.catalogue import Kind
from skerry_simulators.host import Host, Worker

WINDOW_S = 900.0


class ShadowBody:
    """The candidates of one boot."""

    host: Host
    shadows: dict[str, effects.ShadowReady]
    loaded: dict[str, Worker]

    def _load(self, bundle: str, variant: str) -> Worker:
        raise NotImplementedError

    def _shadow_ready(self, effect: effects.ShadowReady) -> None:
        self.shadows[effect.model] = effect
        self.host.later(self.host.rng.uniform(1, 60), self._shadow_room, effect)

    def _shadow_room(self, effect: effects.ShadowReady) -> None:
        """There is room for it, unless an update is tried."""
        core = self.host.core
        if self.shadows.get(effect.model) is not effect or effect.model in self.loaded or core is None:
            return
        if core.memory.records[effect.model].stage in (Stage.TRIAL, Stage.OBSERVING):
            self.host.later(60.0, self._shadow_room, effect)
        else:
            self.host.ask("shadow_loading", effect.model)

    def _shadow_load(self, effect: effects.ShadowLoad) -> None:
        self.host.later(self.host.rng.uniform(0.5, 3.0), self._shadow_loaded, effect)

    def _shadow_loaded(self, effect: effects.ShadowLoad) -> None:
        ready = self.shadows.get(effect.model)
        if ready is None or ready.bundle != effect.bundle or effect.model in self.loaded:
            return
        try:
            worker = self._load(effect.bundle, effect.variant)
        except AgentError:
            self.host.ask("shadow_lost", effect.model)
            return
        self.host.note("shadow", effect.bundle[:8])
        if worker.kind is Kind.GOLDEN:
            self.host.ask("shadow_struck", effect.model, Reason.GOLDEN, "3 of 8 golden vectors", True)
            return
        self.loaded[effect.model] = worker
        self.host.later(self.host.rng.uniform(30, WINDOW_S), self._shadow_window, effect.model, worker)

    def _shadow_window(self, model: str, worker: Worker) -> None:
        """A window is over: what behaves is told, what does not is struck."""
        ready, core = self.shadows.get(model), self.host.core
        if ready is None or self.loaded.get(model) is not worker or core is None:
            return
        active = core.memory.records[model].active
        tally = Tally(ready.terms.id, model, worker.bundle, core.clock.wall_s(), active.bundle if active else "")
        if worker.kind is Kind.GOOD:
            tally.chosen = 3
            for _ in range(3):
                tally.compare(disagrees=self.host.rng.random() < 0.1, live_ms=0.25, own_ms=0.3)
            self.host.ask("shadow_told", tally, ShadowState.RUNNING, Reason.OK, "", 9 << 20)
            self.host.ask("shadow_proven", model)
            self.host.later(WINDOW_S, self._shadow_window, model, worker)
            return
        del self.loaded[model]
        tally.chosen = tally.failed = 1
        self.host.ask("shadow_told", tally, ShadowState.WAITING, Reason.OK, "", 0)
        nan = worker.kind is Kind.NAN
        self.host.ask("shadow_struck", model, Reason.UNHEALTHY if nan else Reason.CRASHED, "it fell", nan)

    def _shadow_stop(self, effect: effects.ShadowStop) -> None:
        self.shadows.pop(effect.model, None)
        self.loaded.pop(effect.model, None)

    _shadow_handlers: dict[type, Any] = {
        effects.ShadowReady: _shadow_ready,
        effects.ShadowLoad: _shadow_load,
        effects.ShadowStop: _shadow_stop,
    }
