"""The broker's brain, without I/O: bytes of sessions in, bytes for sessions out.

No message that was acknowledged to its publisher is dropped in silence. A device that does not read loses its
connection; where the fleet itself does not read, publishers are held back until it does. What a right does not cover is
acknowledged and not passed on, as MQTT 3.1.1 asks and mosquitto does.
"""

from __future__ import annotations

from collections.abc import Callable

from skerry_fleet.broker import access, tree
from skerry_fleet.broker.config import BrokerConfig
from skerry_fleet.broker.journal import Journal, Kept
from skerry_fleet.broker.session import Session
from skerry_fleet.mqtt import codec, packets
from skerry_fleet.mqtt.errors import VersionError
from skerry_fleet.mqtt.packets import Packet, Publish

Log = Callable[[str], None]


class Hub:
    """All sessions, their subscriptions, and the retained messages."""

    def __init__(self, config: BrokerConfig, journal: Journal, log: Log) -> None:
        self._config = config
        self._journal = journal
        self._log = log
        self._subscriptions: tree.Subscriptions[Session] = tree.Subscriptions(_may_read)
        self._retained: tree.Retained[Kept] = tree.Retained()
        self._by_identity: dict[str, Session] = {}
        self.dirty: set[Session] = set()  # have something to send, or are to be closed
        self.changed_readers: set[Session] = set()  # began or ceased to be held back
        self.published = 0
        for kept in journal.load().values():
            self._retained.put(kept.topic, kept)

    def open(self, identity: str, now_s: float) -> Session | None:
        """Return a session for a certificate's name; None if that name may not connect."""
        rights = access.rights_of(identity, self._config.administrators)
        if rights is None:
            return None
        limit = self._config.fleet_buffer_bytes if rights.administrator else self._config.device_buffer_bytes
        return Session(identity, rights, self._config.max_packet_bytes, limit, now_s)

    def receive(self, session: Session, data: bytes) -> None:
        """Take bytes from a client. Look at `dirty` afterwards."""
        for packet in session.decoder.feed(data):
            if session.ending:
                return
            if type(packet) is Publish and session.greeted:
                self._take(session, packet)
            else:
                self._handle(session, packet)
        if (fault := session.decoder.fault) is not None and not session.ending:
            if isinstance(fault, VersionError) and not session.greeted:
                session.send(codec.encode(packets.Connack(packets.BAD_VERSION)))
            self._end(session, str(fault))

    def lost(self, session: Session) -> None:
        """Note that a connection is over; its will is said unless it ended in an orderly way."""
        for topic_filter in session.subscriptions:
            self._subscriptions.remove(topic_filter, session)
        session.subscriptions.clear()
        self.dirty.discard(session)
        self._release(session)
        session.out.clear()
        if self._by_identity.get(session.identity) is session:
            del self._by_identity[session.identity]
        if (will := session.will) is not None:
            session.will = None
            self._take(session, Publish(will.topic, will.payload, 0, will.retain), own_qos=will.qos)

    def drained(self, session: Session) -> None:
        """Note that a client has read: publishers that waited for it may go on."""
        if session.held_back and session.out_bytes * 2 < session.buffer_limit_bytes:
            self._release(session)

    def end(self, identity: str, reason: str) -> None:
        """End a client's connection, if there is one."""
        if (session := self._by_identity.get(identity)) is not None:
            self._end(session, reason)

    def settle(self) -> None:
        """Write down what was retained since the last call. Called before acknowledgements leave."""
        try:
            self._journal.flush()
            if self._journal.overgrown:
                self._journal.compact(self._retained.every())
        except OSError as error:
            self._log(f"retained messages cannot be written: {error.strerror}")

    def _handle(self, session: Session, packet: Packet) -> None:
        if isinstance(packet, packets.Connect):
            self._greet(session, packet)
        elif not session.greeted:
            self._end(session, f"{type(packet).__name__} before CONNECT")
        elif isinstance(packet, packets.Puback):
            session.in_flight.discard(packet.packet_id)
        elif isinstance(packet, packets.Pingreq):
            self._send(session, codec.PINGRESP_BYTES)
        elif isinstance(packet, packets.Subscribe):
            self._subscribe(session, packet)
        elif isinstance(packet, packets.Unsubscribe):
            for topic_filter in packet.filters:
                self._subscriptions.remove(topic_filter, session)
                session.subscriptions.discard(topic_filter)
            self._send(session, codec.encode(packets.Unsuback(packet.packet_id)))
        elif isinstance(packet, packets.Disconnect):
            session.will = None
            self._end(session, "it said goodbye")

    def _greet(self, session: Session, hello: packets.Connect) -> None:
        if session.greeted:
            self._end(session, "a second CONNECT")
            return
        if not hello.client_id and not hello.clean_session:
            session.send(codec.encode(packets.Connack(packets.BAD_CLIENT_ID)))
            self._end(session, "no client id for a lasting session")
            return
        # The certificate's name is the client id, whatever the client calls itself: nobody ends another's connection.
        older = self._by_identity.get(session.identity)
        if older is not None:
            self._end(older, "the same client has connected again")
            self.lost(older)
            self.dirty.add(older)
        self._by_identity[session.identity] = session
        session.greeted = True
        session.will = hello.will
        longest_s = self._config.max_keepalive_s
        session.keepalive_s = min(hello.keepalive_s or longest_s, longest_s)
        self._send(session, codec.encode(packets.Connack()))

    def _subscribe(self, session: Session, packet: packets.Subscribe) -> None:
        codes: list[int] = []
        for topic_filter, qos in packet.filters:
            known = topic_filter in session.subscriptions
            if topic_filter.count("/") >= tree.MAX_LEVELS or (
                not known and len(session.subscriptions) >= self._config.max_filters
            ):
                codes.append(packets.SUBSCRIPTION_FAILED)
                continue
            self._subscriptions.add(topic_filter, session, min(qos, 1))
            session.subscriptions.add(topic_filter)
            codes.append(min(qos, 1))
        self._send(session, codec.encode(packets.Suback(packet.packet_id, tuple(codes))))
        for (topic_filter, _), code in zip(packet.filters, codes, strict=True):
            if code != packets.SUBSCRIPTION_FAILED:
                for kept in self._retained.meet(topic_filter):
                    if session.rights.may_read(kept.topic):
                        self._deliver(session, Publish(kept.topic, kept.payload, 0, retain=True), min(code, kept.qos))

    def _take(self, session: Session, message: Publish, own_qos: int | None = None) -> None:
        """Pass a message on. `own_qos` is a will's: it has no packet id and wants no acknowledgement."""
        qos = message.qos
        if qos:
            session.send(b"\x40\x02" + message.packet_id.to_bytes(2, "big"))
            self.dirty.add(session)
        elif own_qos is not None:
            qos = own_qos
        topic, payload = message.topic, message.payload
        if not session.rights.may_write(topic):
            self._log(f"{session.identity} may not write to {topic!r:.120}")
            return
        self.published += 1
        if message.retain and session.rights.administrator:  # a device's retained flag would fill the disk
            self._retain(topic, payload, qos)
        head = whole = b""  # written once, when the first reader wants it
        for reader, wanted in self._subscriptions.route(topic):
            if wanted and qos:
                head = head or codec.publish_head(topic, len(payload), 1)
                if not (packet_id := reader.new_id()):
                    self._end(reader, "65 535 messages are not acknowledged")
                    continue
                data = head + packet_id.to_bytes(2, "big") + payload
            else:
                data = whole = whole or codec.publish_head(topic, len(payload), 0) + payload
            reader.out.append(data)
            reader.out_bytes += len(data)
            self.dirty.add(reader)
            if reader.out_bytes > reader.buffer_limit_bytes:
                self._congested(reader, session)

    def _deliver(self, reader: Session, message: Publish, qos: int) -> None:
        packet_id = reader.new_id() if qos else 0
        if qos and not packet_id:
            self._end(reader, "65 535 messages are not acknowledged")
            return
        self._send(reader, codec.encode_publish(message._replace(qos=qos, packet_id=packet_id)))

    def _retain(self, topic: str, payload: bytes, qos: int) -> None:
        kept = Kept(topic, payload, qos)
        if payload:
            self._retained.put(topic, kept)
            self._journal.append(kept)
        elif self._retained.remove(topic):
            self._journal.append(kept)

    def _congested(self, reader: Session, publisher: Session) -> None:
        """Too much waits for a reader: hold the publisher back if the reader is the fleet, else let the reader go."""
        far_beyond = reader.out_bytes > 4 * reader.buffer_limit_bytes
        if not reader.rights.administrator or publisher.rights.administrator or far_beyond:
            if not reader.ending:
                self._end(reader, f"it does not read: {reader.out_bytes} bytes wait for it")
        elif publisher not in reader.held_back:
            reader.held_back.add(publisher)
            publisher.waits_for += 1
            self.changed_readers.add(publisher)

    def _release(self, reader: Session) -> None:
        for publisher in reader.held_back:
            publisher.waits_for -= 1
            self.changed_readers.add(publisher)
        reader.held_back.clear()

    def _send(self, session: Session, data: bytes) -> None:
        session.send(data)
        self.dirty.add(session)

    def _end(self, session: Session, reason: str) -> None:
        session.ending = session.ending or reason
        self.dirty.add(session)


def _may_read(session: Session, topic: str) -> bool:
    return session.rights.may_read(topic)
