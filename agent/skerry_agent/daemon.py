"""The device daemon: one table of what runs and when, and a small loop that keeps it so.

Everything the agent depends on from outside is made here and passed down: clock, chance, disk, link, workers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections.abc import Callable
from typing import Any

from skerry_agent import api_token, carried, health, identity
from skerry_agent.api import LocalApi
from skerry_agent.api_hooks import ApiHooks
from skerry_agent.clock import SystemClock, system_rng
from skerry_agent.config import AgentConfig
from skerry_agent.core import DeviceCore
from skerry_agent.credentials import Credentials, Renewer
from skerry_agent.degrading import Degrader
from skerry_agent.disk import RealDisk, replace_file
from skerry_agent.doors import open_to_group
from skerry_agent.errors import ConfigError, StorageError
from skerry_agent.fronting import Front
from skerry_agent.guard import Guard, watchdog_s
from skerry_agent.helper import TrustHelper
from skerry_agent.ledger import Key, Ledger, open_ledger
from skerry_agent.link import Link
from skerry_agent.performer import Performer
from skerry_agent.runtime import TRIAL, Runtime
from skerry_agent.services import Service, reconcile
from skerry_agent.store import Store
from skerry_agent.supervision import ModelConfig, RuntimeConfig, SlotEvent
from skerry_agent.this_device import lock, this_hardware
from skerry_contracts.device import ModelState, Reason

LOG = logging.getLogger("skerry.agent")
TRIM_S = 3.0  # after the start: by then the link stands
SOCKET = "run/api.sock"
TOKEN = "run/api.token"
STATUS = "run/status.json"
Wrap = Callable[[Ledger], Ledger]  # what a simulator puts around the ledger, to listen


class Agent(ApiHooks):
    """The parts of one device and the services that run them."""

    def __init__(self, config: AgentConfig, found: identity.Identity, disk: RealDisk, wrap: Wrap | None = None) -> None:
        self.config, self.disk = config, disk
        enrolment = found.enrolment
        store = Store(disk)
        ledger, trouble = open_ledger(config.root / "state.db", disk)
        self.ledger = ledger
        self.core = DeviceCore(
            tenant=enrolment.tenant,
            device=enrolment.device,
            config=config,
            ledger=wrap(ledger) if wrap else ledger,
            store=store,
            clock=SystemClock(),
            rng=system_rng(),
            hardware=this_hardware(),
        )
        if trouble is not None:
            self.core.degraded["ledger"] = trouble
        self.runtime = Runtime(runtime_config(config), self.slot_event)
        self.helper = TrustHelper(config.root, idle_s=config.trust_idle_s)
        self.link = Link(
            host=enrolment.broker_host,
            port=enrolment.broker_port,
            tenant=enrolment.tenant,
            device=enrolment.device,
            keepalive_s=config.keepalive_s,
            retry_max_s=config.link_retry_max_s,
            rng=system_rng(),
        )
        self.core.unloaded, self.core.clock_was_set = self.runtime.unloaded, self.link.hurry
        self.performer = Performer(self.core, config.root, self.runtime, self.helper, self.link)
        self.api = LocalApi(self.runtime, self)
        self.front = Front(config, self.core.degraded, self.api.behalf.secret)
        self.stop = asyncio.Event()
        self._beat = asyncio.Event()
        self.credentials = Credentials(disk)
        memory, clock = self.core.memory, self.core.clock
        self.degrader = Degrader(self.core, self.runtime, self.performer.serve, config.hot_c)
        self.guard = Guard(
            config,
            self.core,
            self.runtime,
            self.link,
            self.degrader,
            address=os.environ.get("NOTIFY_SOCKET"),
            period_s=watchdog_s(os.environ.get("WATCHDOG_USEC")),
        )
        trusted_s = lambda: memory.trusted_s(clock.wall_s())  # noqa: E731  # one line of one use
        self._renewer = Renewer(self.helper, trusted_s, config.renewal_check_s, system_rng())

    def services(self) -> list[Service]:
        """Return the table: name, what runs, and when it should."""
        return [
            ("link", self._run_link, lambda: not self.stop.is_set()),
            ("time", self._run_time, lambda: not self.stop.is_set()),
            ("grpc", lambda: self.front.run(self.stop), lambda: self.front.wanted and not self.stop.is_set()),
            ("guard", lambda: self.guard.run(self.stop), lambda: not self.stop.is_set()),
            ("shadow", lambda: self.performer.shadows.run(self.stop), lambda: not self.stop.is_set()),
            ("heartbeat", self._run_heartbeat, lambda: not self.stop.is_set()),
            ("renewal", lambda: self._renewer.run(self.stop, self.link.reconnect), lambda: not self.stop.is_set()),
        ]

    def halt(self) -> None:
        """Stop soon: whoever waits for time to pass waits no longer."""
        for event in (self.stop, self._beat, self.performer.changed):
            event.set()

    async def run(self) -> None:
        """Serve until stopped. Models are up before the network is tried.

        Raises:
            ConfigError: the local API's port or socket is taken.
        """
        try:
            self.core.store.prepare()
        except StorageError as error:
            self.core.degraded["storage"] = str(error)
        try:
            self.performer.decide(self.core.boot)
            if (envelope := carried.assignment(self.config.root, self.disk, self.core.memory)) is not None:
                self.performer.decide(self.core.message, "assignment", envelope)
            await self._open_api()
            health.notify(os.environ.get("NOTIFY_SOCKET"), "READY=1")
            asyncio.get_running_loop().call_later(TRIM_S, health.trim)
            await reconcile(self.services(), self.stop)
        finally:
            health.notify(os.environ.get("NOTIFY_SOCKET"), "STOPPING=1")
            await self.api.close()
            await self.performer.close()
            await self.helper.close()
            await self.runtime.close()
            self.ledger.close()

    # What the local API asks (hooks.Hooks), besides what ApiHooks answers.

    def status(self) -> dict[str, Any]:
        """Return what `skerry agent status` shows."""
        trouble = {"link": self.link.trouble} if self.link.trouble else {}
        more = {"rss_bytes": health.rss_bytes(), "sessions": self.link.sessions, **self.runtime.status()}
        more |= self.front.status() | {"shadows": self.performer.shadows.status()}
        more |= {"measuring": self.performer.measuring.status()}
        return {**self.core.status(), **more, **({"trouble": trouble} if trouble else {})}

    # What the link tells (link.Listener).

    def will(self) -> bytes:
        """Return the will of the next session."""
        return self.core.session()

    def connected(self) -> None:
        """The session stands: heartbeat at once, so that the fleet knows what it talks to."""
        self.credentials.stood()
        self.performer.decide(self.core.connected)
        self._beat.set()

    def message(self, channel: str, payload: bytes) -> None:
        """A message came down."""
        self.performer.decide(self.core.message, channel, payload)

    def disconnected(self, unconfirmed: tuple[Key, ...]) -> None:
        """The session is over."""
        self.performer.decide(self.core.disconnected, unconfirmed)

    # What the workers tell.

    def slot_event(self, event: SlotEvent) -> None:
        """A worker died or failed; a candidate's own failures are the trial's business."""
        if event.reason != Reason.OK and TRIAL not in event.slot and not health.blameless(event.reason):
            self.degrader.fell(event.slot, event.bundle, asyncio.get_running_loop().time())
            self.performer.decide(self.core.unhealthy, event.slot, event.bundle, event.reason, event.detail)

    # The services.

    async def _run_link(self) -> None:
        link = asyncio.ensure_future(self.link.run(self.credentials.context, self))
        stop = asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait((link, stop), return_when=asyncio.FIRST_COMPLETED)
            if self.stop.is_set():
                self.performer.decide(self.core.stopping)
        finally:
            link.cancel()
            stop.cancel()
            await asyncio.gather(link, stop, return_exceptions=True)

    async def _run_time(self) -> None:
        changed = self.performer.changed
        while not self.stop.is_set():
            changed.clear()
            wait_s = self.core.next_wake_s() - self.core.clock.monotonic_s()
            try:
                await asyncio.wait_for(changed.wait(), max(wait_s, 0.01))
            except TimeoutError:
                self.performer.decide(self.core.tick)

    async def _run_heartbeat(self) -> None:
        while not self.stop.is_set():
            self._beat.clear()
            models = self.runtime.health(reset=True) if self.core.online else ()
            self._tell_health(tuple(each for each in models if each.state != ModelState.TRIAL))
            try:
                await asyncio.wait_for(self._beat.wait(), self.config.heartbeat_s)
            except TimeoutError:
                continue

    def _tell_health(self, models: tuple[Any, ...]) -> None:
        told = self.core.health(models, rss_bytes=health.rss_bytes(), temperature_c=health.temperature_c())
        for effect in told:
            self.performer.perform(effect)

    async def _open_api(self) -> None:
        path = self.config.root / SOCKET
        try:
            self.disk.mkdir("run")
            open_to_group(self.config.root, path.parent)
            token = api_token.ensure(self.config.root / TOKEN) if self.config.api_token else None
            await self.api.start(path, self.config.api_port, token)
            self.front.token = token
        except OSError as error:
            hint = "choose another --api-port, and a --root with a short path"
            raise ConfigError(f"the local API cannot listen: {error.strerror or error}", hint=hint) from error
        said = {"pid": os.getpid(), "device": self.core.device, "socket": str(path), "api_port": self.api.port}
        replace_file(self.disk, STATUS, json.dumps(said).encode())


def runtime_config(config: AgentConfig) -> RuntimeConfig:
    """Return how workers are run, according to the settings."""
    usual = {"instances": config.instances, "queue": config.queue}
    return RuntimeConfig(
        threads=config.threads,
        memory_budget_bytes=budget_bytes(config),
        every=ModelConfig(**usual),
        models={name: ModelConfig(**{**usual, **table}) for name, table in config.model.items()},
    )


def budget_bytes(config: AgentConfig) -> int:
    """Return what models may take together: as set, else half of the memory there is."""
    set_bytes = config.memory_budget_bytes
    return int(health.MODELS_SHARE * health.memory_bytes()) if set_bytes is None else set_bytes


async def serve(config: AgentConfig) -> None:
    """Run the agent of a root folder until SIGTERM or SIGINT.

    Raises:
        AgentError: not enrolled, already running, or a port is taken.
    """
    os.umask(0o077)  # what the agent writes is its own; the sockets set their own mode
    disk = RealDisk(config.root)
    found = identity.load(disk)
    held = lock(config.root)
    try:
        agent = Agent(config, found, disk)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, agent.halt)
        await agent.run()
    finally:
        os.close(held)
