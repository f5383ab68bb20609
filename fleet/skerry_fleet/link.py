"""The fleet's end of the MQTT link: messages in, batches committed, acknowledgements and assignments out.

Everything that waits for the disk runs in a thread. An acknowledgement leaves only after its commit; an assignment is
published from its row, and every row is published again after each new connection, because a broker may have forgotten
what it retained.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable

from sqlalchemy import update
from sqlmodel import col, select

from skerry_contracts import topics
from skerry_fleet.config import Clock
from skerry_fleet.database import Database
from skerry_fleet.ingest import Committed, IngestCore
from skerry_fleet.metrics import Metrics
from skerry_fleet.mqtt.client import Client, tls_context
from skerry_fleet.mqtt.errors import MqttError
from skerry_fleet.mqtt.packets import Publish
from skerry_fleet.rollouts import Rollouts
from skerry_fleet.tables import SignedAssignment
from skerry_fleet.trust.credentials import Credentials

CLIENT_ID = "fleet"
UP = f"{topics.ROOT}/+/+/up/#"
RETRY_S = (0.1, 5.0)
OUTBOX_PAGE = 500
OUTBOX_LOOK_S = 5.0

log = logging.getLogger(__name__)


class Link:
    """One connection to one broker. Run `connect_forever`, `ingest_forever` and `publish_forever` side by side."""

    def __init__(
        self,
        database: Database,
        core: IngestCore,
        rollouts: Rollouts,
        metrics: Metrics,
        clock: Clock,
        queue: int,
        batch: int,
    ) -> None:
        self._database = database
        self._core = core
        self._rollouts = rollouts
        self._metrics = metrics
        self._clock = clock
        self._queue_limit = queue
        self._batch = batch
        self._waiting: deque[Publish] = deque()
        self._arrived = asyncio.Event()
        self._outgoing = asyncio.Event()
        self._connected = asyncio.Event()
        self._client: Client | None = None

    @property
    def connected(self) -> bool:
        """Whether the broker has us."""
        return self._client is not None and self._client.connected

    def wake(self) -> None:
        """Look at the outbox now."""
        self._outgoing.set()

    async def connect_forever(self, host: str, port: int, credentials: Credentials) -> None:
        """Keep the connection: connect, subscribe, wait for its end, again with a growing pause."""
        pause_s = RETRY_S[0]
        while True:
            try:
                context = tls_context(str(credentials.ca), str(credentials.certificate), str(credentials.key))
                client = await Client.connect(host, port, client_id=CLIENT_ID, on_message=self._take, tls=context)
                await client.subscribe(UP)
                await asyncio.to_thread(self._unpublish)
                self._client, pause_s = client, RETRY_S[0]
                self._connected.set()
                self._outgoing.set()
                log.warning("the broker at %s:%d is lost: %s", host, port, await client.wait_closed())
            except MqttError as error:
                log.info("no broker at %s:%d: %s", host, port, error)
            finally:
                self._connected.clear()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_S[1])

    async def ingest_forever(self) -> None:
        """Commit what arrives: as much at a time as has come while the last batch was written."""
        while True:
            await self._arrived.wait()
            taken = [self._waiting.popleft() for _ in range(min(self._batch, len(self._waiting)))]
            if not self._waiting:
                self._arrived.clear()
            if self._client is not None and len(self._waiting) < self._queue_limit // 2:
                self._client.resume()
            committed = await asyncio.to_thread(self._commit, taken)
            if committed is not None:
                await self._send((topic, payload, False) for topic, payload in committed.acks)
                self._metrics.acked.inc(len(committed.acks))

    async def publish_forever(self) -> None:
        """Publish assignments that the broker does not have yet."""
        while True:
            try:
                async with asyncio.timeout(OUTBOX_LOOK_S):
                    await self._outgoing.wait()
            except TimeoutError:
                pass
            self._outgoing.clear()
            await self._connected.wait()
            while rows := await asyncio.to_thread(self._unsent):
                messages = [
                    (topics.topic(tenant, name, "assignment"), text.encode(), True) for tenant, name, _, text in rows
                ]
                if not await self._send(messages):
                    break
                await asyncio.to_thread(self._sent, [(tenant, name, sequence) for tenant, name, sequence, _ in rows])
                self._metrics.issued.inc(len(rows))

    async def close(self) -> None:
        """Leave the broker."""
        if self._client is not None:
            await self._client.disconnect()

    def _take(self, message: Publish) -> None:
        self._waiting.append(message)
        self._arrived.set()
        if len(self._waiting) >= self._queue_limit and self._client is not None:
            self._client.pause()

    async def _send(self, messages: Iterable[tuple[str, bytes, bool]]) -> bool:
        """Publish with QoS 1; False where the connection ended: devices send again, assignments stay in the outbox."""
        client = self._client
        if client is None:
            return False
        sent = [client.publish(topic, payload, qos=1, retain=retain) for topic, payload, retain in messages]
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, MqttError):
                raise outcome
        return not any(isinstance(outcome, MqttError) for outcome in outcomes)

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

    def _unpublish(self) -> None:
        with self._database.write() as session:
            session.exec(update(SignedAssignment).values(published=False))

    def _unsent(self) -> list[tuple[str, str, int, str]]:
        query = select(
            SignedAssignment.tenant, SignedAssignment.device, SignedAssignment.sequence, SignedAssignment.envelope
        ).where(col(SignedAssignment.published).is_(False))
        with self._database.read() as session:
            return [(a, b, c, d) for a, b, c, d in session.exec(query.limit(OUTBOX_PAGE))]

    def _sent(self, rows: list[tuple[str, str, int]]) -> None:
        with self._database.write() as session:
            for tenant, device, sequence in rows:
                row = session.get(SignedAssignment, (tenant, device))
                # A newer one may have been signed meanwhile: that stays in the outbox.
                if row is not None and row.sequence == sequence:
                    row.published = True
                    session.add(row)
