"""The fleet's end of the MQTT link: messages in, batches committed, acknowledgements and assignments out.

Everything that waits for the disk runs in a thread. An acknowledgement leaves only after its commit; an assignment is
published from its row, and every row is published again after each new connection, because a broker may have forgotten
what it retained.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

from skerry_contracts import topics
from skerry_fleet import outbox
from skerry_fleet.config import Clock
from skerry_fleet.database import Database
from skerry_fleet.ingest import Committed, IngestCore
from skerry_fleet.metrics import Metrics
from skerry_fleet.mqtt.client import Client, tls_context
from skerry_fleet.mqtt.errors import MqttError
from skerry_fleet.mqtt.packets import Publish
from skerry_fleet.rollouts import Rollouts
from skerry_fleet.trust.credentials import Credentials

CLIENT_ID = "fleet"
UP = f"{topics.ROOT}/+/+/up/#"
RETRY_S = (0.1, 5.0)
OUTBOX_LOOK_S = 5.0
DRAIN_S, DRAIN_LOOK_S = 20.0, 0.005

log = logging.getLogger(__name__)


class Shard:
    """The connection to one broker, while there is one."""

    def __init__(self) -> None:
        self.client: Client | None = None
        self.connected = asyncio.Event()
        self.outgoing = asyncio.Event()


class Link:
    """A connection to each broker, and one line of messages from all of them to the database.

    Run `ingest_forever`, and for each shard `connect_forever` and `publish_forever`, side by side.
    """

    def __init__(
        self,
        database: Database,
        core: IngestCore,
        rollouts: Rollouts,
        metrics: Metrics,
        clock: Clock,
        queue: int,
        batch: int,
        shards: int = 1,
    ) -> None:
        self._database = database
        self._core = core
        self._rollouts = rollouts
        self._metrics = metrics
        self._clock = clock
        self._queue_limit = queue
        self._batch = batch
        self._waiting: deque[tuple[Shard, Publish]] = deque()
        self._arrived = asyncio.Event()
        self._committing = self._ending = False
        self._shards = tuple(Shard() for _ in range(shards))

    @property
    def connected(self) -> bool:
        """Whether every broker has us."""
        return all(self.reached)

    @property
    def reached(self) -> list[bool]:
        """Which brokers have us, by shard."""
        return [shard.client is not None and shard.client.connected for shard in self._shards]

    @property
    def waiting(self) -> int:
        """How many messages are not committed yet."""
        return len(self._waiting)

    def wake(self) -> None:
        """Look at the outbox now."""
        for shard in self._shards:
            shard.outgoing.set()

    async def connect_forever(self, number: int, host: str, port: int, credentials: Credentials) -> None:
        """Keep a shard's connection: connect, subscribe, wait for its end, again with a growing pause."""
        shard, pause_s = self._shards[number], RETRY_S[0]
        take = functools.partial(self._take, shard)
        while True:
            try:
                context = tls_context(str(credentials.ca), str(credentials.certificate), str(credentials.key))
                client = await Client.connect(host, port, client_id=CLIENT_ID, on_message=take, tls=context)
                await client.subscribe(UP)
                await asyncio.to_thread(outbox.forget, self._database, number)
                shard.client, pause_s = client, RETRY_S[0]
                shard.connected.set()
                shard.outgoing.set()
                log.warning("the broker at %s:%d is lost: %s", host, port, await client.wait_closed())
            except MqttError as error:
                log.info("no broker at %s:%d: %s", host, port, error)
            finally:
                shard.connected.clear()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_S[1])

    async def ingest_forever(self) -> None:
        """Commit what arrives: as much at a time as has come while the last batch was written."""
        while True:
            await self._arrived.wait()
            taken = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            if not self._waiting:
                self._arrived.clear()
            if len(self._waiting) < self._queue_limit // 2 and not self._ending:
                self._each_client(Client.resume)
            self._committing = True
            try:
                committed = await asyncio.to_thread(self._commit, [message for _, message in taken])
                if committed is not None:
                    await self._acknowledge(taken, committed.acks)
            finally:
                self._committing = False

    async def drain(self, limit_s: float = DRAIN_S) -> None:
        """Take no more messages, and commit and acknowledge those that are here. What is not read stays with devices,
        which forget nothing that was not acknowledged.
        """
        self._ending = True
        self._each_client(Client.pause)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while self._waiting or self._committing:
                    await asyncio.sleep(DRAIN_LOOK_S)
        if self._waiting:
            log.warning(
                "%d messages were not committed in %g s: devices will send them again", len(self._waiting), limit_s
            )

    async def publish_forever(self, number: int) -> None:
        """Publish assignments that a shard's broker does not have yet."""
        shard = self._shards[number]
        while True:
            try:
                async with asyncio.timeout(OUTBOX_LOOK_S):
                    await shard.outgoing.wait()
            except TimeoutError:
                pass
            shard.outgoing.clear()
            await shard.connected.wait()
            while rows := await asyncio.to_thread(outbox.unsent, self._database, number):
                messages = [
                    (topics.topic(row.tenant, row.device, "assignment"), row.envelope.encode(), True) for row in rows
                ]
                if shard.client is None:
                    break
                try:
                    await shard.client.publish_all(messages)
                except MqttError:
                    break  # they stay in the outbox
                await asyncio.to_thread(outbox.sent, self._database, rows)
                self._metrics.issued.inc(len(rows))

    async def close(self) -> None:
        """Leave every broker."""
        for shard in self._shards:
            if shard.client is not None:
                await shard.client.disconnect()

    def _take(self, shard: Shard, message: Publish) -> None:
        if self._ending:
            return
        self._waiting.append((shard, message))
        self._arrived.set()
        if len(self._waiting) >= self._queue_limit:
            self._each_client(Client.pause)

    def _each_client(self, do: Callable[[Client], None]) -> None:
        for shard in self._shards:
            if shard.client is not None:
                do(shard.client)

    async def _acknowledge(self, taken: list[tuple[Shard, Publish]], acks: Sequence[tuple[str, bytes]]) -> None:
        """Tell devices what is committed, each where it was heard; who is away by now will send again."""
        heard = {message.topic.rsplit("/", 2)[0]: shard for shard, message in taken}
        by_shard: dict[Shard, list[tuple[str, bytes, bool]]] = {}
        for topic, payload in acks:
            by_shard.setdefault(heard[topic.rsplit("/", 2)[0]], []).append((topic, payload, False))
        for shard, messages in by_shard.items():
            with contextlib.suppress(MqttError):
                if shard.client is not None:
                    # Not waited for: while the line is full nothing is read, the brokers' answers neither.
                    await shard.client.send_all(messages)
        self._metrics.acked.inc(len(acks))

    def _commit(self, messages: list[Publish]) -> Committed | None:
        now, began = self._clock(), time.perf_counter()
        for message in messages:
            self._core.accept(message.topic, message.payload, now)
        try:
            committed = self._core.commit()
        except Exception:  # whatever is wrong with one batch, the next must have its chance: devices send again
            log.exception("a batch of %d messages was not committed", len(messages))
            self._metrics.failed.inc()
            return None
        self._metrics.commit_s.observe(time.perf_counter() - began)
        self._metrics.committed(committed)
        written = committed.written
        if written.beats or written.turned or "progress" in committed.channels:
            try:
                with self._rollouts.open() as session:
                    self._rollouts.observe(session, now, written.beats, written.turned)
            except Exception:  # committed is committed and will be acknowledged; progress is read again later
                log.exception("rollouts could not take in a batch")
        return committed
