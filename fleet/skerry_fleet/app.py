"""The fleet manager as one application: routes, and beside them broker, link and ticker for as long as it runs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import anyio.to_thread
from fastapi import FastAPI

from skerry_fleet import frontdoor, oidc_people
from skerry_fleet.broker import shards
from skerry_fleet.broker.errors import BrokerError
from skerry_fleet.broker.external import ExternalBroker, ExternalBrokers
from skerry_fleet.broker.launch import BrokerProcess, BrokerSettings
from skerry_fleet.broker.shards import Brokers
from skerry_fleet.config import EXTERNAL, Clock, FleetConfig, RandomBytes, addresses
from skerry_fleet.dashboard import routes as dashboard
from skerry_fleet.database import Event
from skerry_fleet.delivery import Deliverer
from skerry_fleet.errors import UnavailableError
from skerry_fleet.events import Hub
from skerry_fleet.fleet import Fleet, broker_port, open_fleet
from skerry_fleet.limits import Limits
from skerry_fleet.link import Link
from skerry_fleet.openapi import document
from skerry_fleet.routes import (
    access,
    device,
    devices,
    groups,
    incidents,
    joining,
    measuring,
    models,
    people,
    rollouts,
    shadows,
    system,
)

log = logging.getLogger(__name__)
RESTART_S = 1.0
OFFER_LOOK_S = 0.05
THREADS = 10
"""That serve requests. The interpreter runs one at a time and gives each its turn: more of them make all of them late,
ingest first.
"""


def create_app(config: FleetConfig, clock: Clock, random: RandomBytes, *, with_broker: bool = True) -> FastAPI:
    """Return the application; the fleet in `config.root` is open already, broker and link start with the server.

    Without a broker the API works alone: a fleet whose broker is another machine's, and tests of the API.

    Raises:
        ConflictError, UnavailableError: see `open_fleet`.
    """
    oidc_people.settings(config)  # wrong ones are told before anything is opened
    fleet = open_fleet(config, clock, random)
    broker = make_broker(fleet) if with_broker else None

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        hub = app.state.hub = Hub(asyncio.get_running_loop())
        fleet.database.listeners.append(hub.publish)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(fleet.close)
            stack.callback(hub.close)
            stack.callback(fleet.database.listeners.remove, hub.publish)
            deliverer = Deliverer(fleet.database, fleet.clock, config.tick_s, config.webhook_reach)
            stack.callback(deliverer.close)
            await stack.enter_async_context(_running(deliverer.run_forever))
            await stack.enter_async_context(_running(_ticking(fleet)))
            await stack.enter_async_context(_running(_offering(fleet)))
            if broker is not None:
                await stack.enter_async_context(_linked(app, fleet, broker))
            yield

    app = FastAPI(title="Skerry fleet", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.fleet = fleet
    app.state.broker = broker
    app.state.connected = lambda: False
    frontdoor.install(app, config, Limits(config), fleet.metrics)
    for room in (
        system,
        device,
        joining,
        devices,
        groups,
        access,
        people,
        models,
        rollouts,
        shadows,
        measuring,
        incidents,
    ):
        app.include_router(room.router)
    document.install(app)
    dashboard.install(app, fleet)
    return app


def make_broker(fleet: Fleet) -> Brokers | ExternalBrokers:
    """Return the fleet's brokers, not started; their ports are the same for ever.

    Raises:
        UnavailableError: no such broker on this machine.
    """
    config = fleet.config
    if config.broker == EXTERNAL:
        fleet.brokers = addresses(config.broker_urls)
        inner = addresses(config.broker_inner_urls) or fleet.brokers
        others = ExternalBrokers(config.root / "broker", inner, fleet.office.authority, fleet.clock)
        fleet.broker = fleet.brokers[0]
        fleet.shut_out = lambda identity: others.revoke(fleet.revoked(), [identity])
        return others
    ports = [broker_port(config, shard) for shard in range(config.shards)]
    first = BrokerSettings(
        config.root / "broker",
        config.broker_host,
        kind=config.broker,
        names=(config.broker_name,) if config.broker_name else (),
        swarm_port=config.swarm_port,
        tenant=config.tenant,
    )
    try:
        broker = Brokers(shards.settings(first, ports), fleet.office.authority, fleet.clock)
    except BrokerError as error:
        raise UnavailableError(str(error), hint=error.hint) from error
    # The files beside the brokers may be older than the database: a crash, a restored copy, a folder that is new.
    broker.revoke(fleet.revoked(), ())
    for shard, process in enumerate(broker.processes):
        broker_port(config, shard, process.port)
    fleet.brokers = tuple((config.broker_name or config.broker_host, process.port) for process in broker.processes)
    fleet.broker = fleet.brokers[0]
    fleet.shut_out = lambda identity: broker.revoke(fleet.revoked(), [identity])
    return broker


@contextlib.asynccontextmanager
async def _linked(app: FastAPI, fleet: Fleet, brokers: Brokers | ExternalBrokers) -> AsyncIterator[None]:
    """Run the brokers and the link to them."""
    config, loop = fleet.config, asyncio.get_running_loop()
    link = Link(
        fleet.database,
        fleet.core,
        fleet.rollouts,
        fleet.metrics,
        fleet.clock,
        config.ingest_queue,
        config.ingest_batch,
        config.shards,
    )
    app.state.connected = fleet.metrics.connected = lambda: link.connected
    fleet.metrics.waiting = lambda: link.waiting
    fleet.reached = lambda: link.reached

    def wake(events: list[Event]) -> None:
        if any(event.kind in ("assignment", "device") for event in events) and not loop.is_closed():
            loop.call_soon_threadsafe(link.wake)

    await asyncio.to_thread(brokers.start)
    fleet.database.listeners.append(wake)
    credentials = await asyncio.to_thread(brokers.fleet)
    try:
        async with contextlib.AsyncExitStack() as stack:
            processes: Sequence[BrokerProcess | ExternalBroker] = brokers.processes
            for shard, broker in enumerate(processes):
                connect = functools.partial(link.connect_forever, shard, broker.host, broker.port, credentials)
                await stack.enter_async_context(_running(functools.partial(_keep_alive, broker)))
                await stack.enter_async_context(_running(connect))
                await stack.enter_async_context(_running(functools.partial(link.publish_forever, shard)))
            await stack.enter_async_context(_running(link.ingest_forever))
            stack.push_async_callback(link.drain)  # first, when it is to end
            yield
    finally:
        fleet.reached = lambda: ()
        fleet.database.listeners.remove(wake)
        await link.close()
        await asyncio.to_thread(brokers.stop)


@contextlib.asynccontextmanager
async def _running(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Run a coroutine that never ends; where it fails, say so and run it again."""

    async def supervise() -> None:
        while True:
            try:
                await work()
            except Exception:  # the supervisor: nothing one part does may end the others
                log.exception("started again after an error")
            await asyncio.sleep(RESTART_S)

    task = asyncio.create_task(supervise())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _ticking(fleet: Fleet) -> Callable[[], Awaitable[None]]:
    async def tick_forever() -> None:
        while True:
            await asyncio.to_thread(fleet.tick)
            await asyncio.sleep(fleet.config.tick_s)

    return tick_forever


def _offering(fleet: Fleet) -> Callable[[], Awaitable[None]]:
    async def offer_forever() -> None:
        while True:
            if fleet.rollouts.more:
                await asyncio.to_thread(fleet.offer)
            else:
                await asyncio.sleep(OFFER_LOOK_S)

    return offer_forever


async def _keep_alive(broker: BrokerProcess | ExternalBroker) -> None:
    while True:
        if not await asyncio.to_thread(broker.alive):
            log.warning("the broker has ended and is started again")
            await asyncio.to_thread(broker.start)
        await asyncio.sleep(RESTART_S)
