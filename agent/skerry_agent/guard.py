"""The agent's rounds: every few seconds each part is asked for a sign of life, and each worker is looked at.

systemd's watchdog (sd_notify(3), WATCHDOG=1) is fed after a round in which the core, the link and every worker
answered, and only then: an agent that hangs in any of them is started again. A worker that merely hangs or leaks is no
matter for systemd: it is ended and started again here.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol
from weakref import WeakKeyDictionary

from skerry_agent import health
from skerry_agent.config import AgentConfig
from skerry_agent.core import DeviceCore
from skerry_agent.degrading import Degrader
from skerry_agent.instance import Instance
from skerry_agent.leaks import ENOUGH, LeakWatch, SlowWatch
from skerry_agent.runtime import Runtime
from skerry_agent.slot import Slot

LOG = logging.getLogger("skerry.agent.guard")
CORE_GRACE_S = 30.0  # the core's time may come this late: a slow disk is no hang
WORKER_GRACE_S = 5.0  # a worker is ended at its deadline; one that lives on this much longer was not


class Pulse(Protocol):
    """Something that says when it last moved, and how long it may be still (link.Link)."""

    beat_s: float
    still_s: float


def watchdog_s(environment: str | None) -> float | None:
    """Return how often systemd wants to hear from us (`environment`: WATCHDOG_USEC); None: it does not.

    >>> watchdog_s("60000000"), watchdog_s(None), watchdog_s("soon")
    (60.0, None, None)
    """
    return int(environment) / 1e6 if environment and environment.isascii() and environment.isdigit() else None


class Guard:
    """Makes the rounds. `address` is NOTIFY_SOCKET, `period_s` what `watchdog_s` said (None: nobody listens)."""

    def __init__(
        self,
        config: AgentConfig,
        core: DeviceCore,
        runtime: Runtime,
        link: Pulse,
        degrader: Degrader,
        *,
        address: str | None = None,
        period_s: float | None = None,
    ) -> None:
        self._config, self._core, self._runtime, self._link = config, core, runtime, link
        self._degrader = degrader
        self._address = address
        self._every_s = min(config.watch_s, period_s / 3) if period_s else config.watch_s
        self._leaks: WeakKeyDictionary[Instance, LeakWatch] = WeakKeyDictionary()
        self._slow: dict[str, SlowWatch] = {}
        self._bundles: dict[str, str] = {}
        self._said = ""

    async def run(self, stop: asyncio.Event) -> None:
        """Make rounds until stopped."""
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            silent = self.round(loop.time())
            if not silent:
                health.notify(self._address, "WATCHDOG=1")
            elif silent != self._said:
                LOG.error("the watchdog is not fed: %s", silent)
            self._said = silent
            await self._degrader.round(loop.time())
            try:
                await asyncio.wait_for(stop.wait(), self._every_s)
            except TimeoutError:
                continue

    def round(self, now_s: float) -> str:
        """Look at everything once; returns who gives no sign of life, in words (empty: all do)."""
        live = {name: slot for name in self._runtime.models() if (slot := self._runtime.slot(name)) is not None}
        for name, slot in live.items():
            for instance in slot.instances:
                instance.ping()
            self._look(name, slot, now_s)
        for name in set(self._bundles) - set(live):
            self._forget(name)
        return self._silent(live, now_s)

    def _silent(self, live: dict[str, Slot], now_s: float) -> str:
        late_s = self._core.clock.monotonic_s() - self._core.next_wake_s()
        if late_s > CORE_GRACE_S:
            return f"the core is {late_s:.0f} s late"
        if now_s - self._link.beat_s > self._link.still_s:
            return f"the link has not moved for {now_s - self._link.beat_s:.0f} s"
        overdue = [name for name, slot in live.items() if slot.overdue(now_s - WORKER_GRACE_S)]
        return f"the worker of {overdue[0]} should have been ended, and lives" if overdue else ""

    def _look(self, name: str, slot: Slot, now_s: float) -> None:
        if self._bundles.get(name) != slot.bundle:
            self._forget(name)
            self._bundles[name] = slot.bundle
            self._slow[name] = SlowWatch()
        for instance in slot.instances:
            self._weigh(name, slot, instance)
        promised_ms = slot.manifest.contract.latency_p95_ms
        if promised_ms is None or slot.recent.count < ENOUGH:
            return
        p95_ms = slot.recent.percentile_ms(0.95)
        slow_s = self._slow[name].see(p95_ms, promised_ms, now_s)
        slot.recent.clear()
        if slow_s >= self._config.slow_s:
            words = f"p95 {p95_ms:.3g} ms for {slow_s:.0f} s, promised {promised_ms:.3g} ms"
            self._core.degraded[f"slow {name}"] = words
        elif slow_s == 0.0:
            self._core.degraded.pop(f"slow {name}", None)

    def _weigh(self, name: str, slot: Slot, instance: Instance) -> None:
        watch = self._leaks.setdefault(instance, LeakWatch(self._config.leak_bytes))
        grown = watch.see(instance.pid or -1, instance.predictions, instance.rss_bytes())
        if not grown:
            return
        instance.renew(f"it grew by {grown / 1e6:.0f} MB while it served: started again")
        times = slot.counters.leaks + 1
        words = f"its worker grew by {grown / 1e6:.0f} MB and was started again, {times} times so far"
        self._core.degraded[f"leak {name}"] = words
        LOG.warning("%s: %s", name, words, extra={"skerry_model": name})

    def _forget(self, name: str) -> None:
        for table in (self._slow, self._bundles):
            table.pop(name, None)
        for kind in ("leak", "slow"):
            self._core.degraded.pop(f"{kind} {name}", None)
