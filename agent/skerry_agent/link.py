"""The link to the fleet's broker: the only place that knows paho-mqtt. MQTT 3.1.1, mutual TLS, clean sessions, a will.

One client a session: what paho still held of a broken session is thrown away with it, because the spool sends again
what the fleet has not acknowledged. (Measured: one message too large for the broker, held by a reused client, blocks
every later one for ever.)
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from skerry_agent.clock import Rng
from skerry_agent.errors import NetworkError
from skerry_agent.ledger import Key
from skerry_contracts import topics
from skerry_contracts.topics import CHANNELS, MAX_PAYLOAD_BYTES, Direction

LOG = logging.getLogger("skerry.agent.link")
FIRST_RETRY_S = 0.5
STILL_S = 60.0  # on top of what is bounded here: names are resolved by the system, in its own time
STABLE_S = 30.0  # a session this long starts the backoff afresh
CONNECT_TIMEOUT_S = 10.0


Credentials = Callable[[], ssl.SSLContext | None]


class Listener(Protocol):
    """Whom the link tells; all called on the event loop."""

    def will(self) -> bytes:
        """Return the Presence that the broker is to publish if this session breaks."""

    def connected(self) -> None:
        """The session stands and is subscribed."""

    def message(self, channel: str, payload: bytes) -> None:
        """A message came down."""

    def disconnected(self, unconfirmed: tuple[Key, ...]) -> None:
        """The session is over; these messages were not confirmed by the broker."""


class Link:
    """Keeps one session to the broker alive for as long as `run` runs."""

    def __init__(
        self, *, host: str, port: int, tenant: str, device: str, keepalive_s: int, retry_max_s: float, rng: Rng
    ) -> None:
        self._host, self._port = host, port
        self._tenant, self._device = tenant, device
        self._keepalive_s, self._retry_max_s = keepalive_s, retry_max_s
        self._rng = rng
        self._client: paho.Client | None = None
        self._mids: dict[int, Key] = {}
        self._soon = asyncio.Event()
        self.sessions = 0
        self.trouble = ""
        # For the watchdog: when something last moved here (monotonic), and the longest that this may take.
        self.beat_s = time.monotonic()
        self.still_s = 2.0 * keepalive_s + retry_max_s + CONNECT_TIMEOUT_S + STILL_S

    async def run(self, credentials: Credentials, listener: Listener) -> None:
        """Connect, and connect again after every break, with growing, jittered waits; ends only by cancellation.

        `credentials` is asked for the TLS context of each session anew; None connects without TLS.
        """
        wait_s = FIRST_RETRY_S
        loop = asyncio.get_running_loop()
        while True:
            begun_s = self.beat_s = loop.time()
            try:
                await self._session(credentials(), listener)
            except NetworkError as error:
                self.trouble = str(error)
                LOG.info("%s", error)
            if loop.time() - begun_s > STABLE_S:
                wait_s = FIRST_RETRY_S
            hurried = await self._rest(wait_s * (0.5 + 0.5 * self._rng.random()))
            wait_s = FIRST_RETRY_S if hurried else min(self._retry_max_s, wait_s * 2)

    async def _rest(self, wait_s: float) -> bool:
        """Wait; return whether it was cut short."""
        try:
            async with asyncio.timeout(wait_s):  # not wait_for: in Python 3.11 it may swallow a cancellation
                await self._soon.wait()
        except TimeoutError:
            return False
        self._soon.clear()
        return True

    def hurry(self) -> None:
        """Try the next session at once: what kept the last ones from standing may be over."""
        self._soon.set()

    def reconnect(self) -> None:
        """End the session that stands, if any; the next one begins at once, with newer credentials."""
        if self._client is not None:
            self._client.disconnect()

    def publish(self, channel: str, payload: bytes, key: Key | None = None) -> bool:
        """Hand a message to the session; without one it is dropped (the spool keeps what must not be).

        Returns False where the message is too large for any broker: then it must never be offered again.
        """
        if len(payload) > MAX_PAYLOAD_BYTES:
            return False
        client = self._client
        if client is not None:
            row = CHANNELS[channel]
            info = client.publish(topics.topic(self._tenant, self._device, channel), payload, row.qos, row.retained)
            if key is not None:
                self._mids[info.mid] = key
        return True

    async def _session(self, tls: ssl.SSLContext | None, listener: Listener) -> None:
        """Run one session to its end.

        Raises:
            NetworkError: it could not be set up, or broke.
        """
        loop = asyncio.get_running_loop()
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{self._tenant}/{self._device}",
            clean_session=True,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        # With this set, `publish` only queues and wakes paho's thread. Without it (paho 2.1, `_packet_queue`) it writes
        # from this thread while paho's writes too: two halves of two packets may interleave.
        client.on_socket_register_write = lambda *_: None
        client.max_inflight_messages_set(0)  # the spool has a window of its own; paho's would be 20 a round trip
        if tls is not None:
            client.tls_set_context(tls)
        topic = topics.topic(self._tenant, self._device, "presence")
        client.will_set(topic, listener.will(), CHANNELS["presence"].qos, CHANNELS["presence"].retained)
        state = _Session(self, client, loop, listener)
        try:
            await asyncio.to_thread(state.live, self._host, self._port, self._keepalive_s)
        finally:
            self._client = None
            state.over = True
            client.disconnect()  # queued behind what was published last; ends the thread
            unconfirmed, self._mids = tuple(self._mids.values()), {}
            if state.stood:
                listener.disconnected(unconfirmed)
        raise NetworkError(f"{self._host}:{self._port}: {state.trouble or 'the session ended'}")


class _Session:
    """One client's callbacks, carried from paho's thread to the event loop."""

    def __init__(self, link: Link, client: paho.Client, loop: asyncio.AbstractEventLoop, listener: Listener) -> None:
        self.stood = False
        self.over = False
        self.trouble = ""
        self._link, self._client, self._loop, self._listener = link, client, loop, listener
        self._thread = 0
        client.on_log = self._on_log
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect

    def live(self, host: str, port: int, keepalive_s: int) -> None:
        """Connect and serve the session until it ends (in a thread of its own).

        Raises:
            NetworkError: no connection.
        """
        try:
            self._client.connect(host, port, keepalive_s)
        except (OSError, ValueError) as error:
            raise NetworkError(f"{host}:{port}: {error}", hint="is the broker up and reachable?") from error
        if self.over:  # cancelled while connecting
            self._client.disconnect()
        self._thread, self._link.beat_s = threading.get_ident(), time.monotonic()
        # Its first round makes what wakes it up; `loop_forever` alone makes none, and then what is published waits for
        # the end of a wait: a quarter of the keepalive.
        self._client.loop(timeout=0.0)
        self._client.loop_forever(timeout=keepalive_s / 4)

    def _on_log(self, *_: object) -> None:
        """Take note that paho's own thread moved: it logs each packet, and sends a ping where none comes or goes."""
        if threading.get_ident() == self._thread:
            self._link.beat_s = time.monotonic()

    def _tell(self, call: Callable[..., None], *values: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call, *values)

    def _on_connect(self, client: paho.Client, _: Any, __: Any, code: Any, ___: Any) -> None:
        if code.is_failure:
            self.trouble = f"refused: {code}"
            client.disconnect()
            return
        own = topics.topic(self._link._tenant, self._link._device, "ack").rpartition("/")[0]
        client.subscribe(f"{own}/#", 1)

    def _on_subscribe(self, client: paho.Client, _: Any, __: Any, codes: Any, ___: Any) -> None:
        if any(code.is_failure for code in codes):
            self.trouble = "the broker refused the subscription"
            client.disconnect()
            return
        self._tell(self._stand)

    def _stand(self) -> None:
        self.stood = True
        self._link._client = self._client
        self._link.sessions += 1
        self._link.trouble = ""
        self._listener.connected()

    def _on_message(self, _: paho.Client, __: Any, message: paho.MQTTMessage) -> None:
        try:
            found = topics.parse(message.topic)
        except ValueError:
            return  # a topic that is none of ours: the broker's access rules should have stopped it
        mine = (found.tenant, found.device) == (self._link._tenant, self._link._device)
        if mine and found.channel.direction == Direction.DOWN and len(message.payload) <= MAX_PAYLOAD_BYTES:
            self._tell(self._listener.message, found.channel.name, message.payload)

    def _on_publish(self, _: paho.Client, __: Any, mid: int, ___: Any, ____: Any) -> None:
        self._tell(self._confirm, mid)

    def _confirm(self, mid: int) -> None:
        if self._link._client is self._client:
            self._link._mids.pop(mid, None)

    def _on_disconnect(self, _: paho.Client, __: Any, ___: Any, code: Any, ____: Any) -> None:
        self.trouble = self.trouble or f"disconnected: {code}"


def tls_context(authority: Path, credentials: Path) -> ssl.SSLContext:
    """Return the context for mutual TLS with the fleet's broker; `credentials` holds key and certificate.

    Raises:
        NetworkError: a file cannot be read or is no certificate or key.
    """
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(str(credentials))
    except (OSError, ssl.SSLError) as error:
        raise NetworkError(f"the device's certificate: {error}", hint="enrol again with a new claim token") from error
    return context
