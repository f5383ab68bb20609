"""What simulated devices do: answer assignments, keep samples until they are acknowledged, report, without any I/O.

One `Mind` for all devices of a process; a device is a handful of slots. `say` is given every packet to send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from skerry_contracts import topics
from skerry_contracts.device import Phase
from skerry_simulators.catalogue import MODEL, TENANT
from skerry_simulators.swarm import wire, words
from skerry_simulators.swarm.words import Behaviour

AWAY, OPENING, ASKING, GREETED, READY = range(5)
"""No socket; a socket on its way; CONNECT is sent; the broker said yes; the subscription stands."""
RESEND_S = 10.0

Say = Callable[["Device", bytes], None]


class Device:
    """One simulated device. `pending` maps the numbers of messages that are kept to what makes them again."""

    __slots__ = (
        "adopted",
        "bundle",
        "drifts",
        "fd",
        "number",
        "out",
        "packet",
        "pending",
        "rest",
        "seq",
        "session",
        "silent",
        "state",
        "waited",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.fd = -1
        self.state = AWAY
        self.rest = b""
        self.out = b""  # what the socket did not take yet
        self.session = 0
        self.seq = 0
        self.packet = 0
        self.adopted = 0
        self.bundle = ""
        self.waited = 0  # messages up to this number have had their time to be acknowledged
        self.silent = False
        self.drifts = False
        self.pending: dict[int, tuple[Any, ...]] | None = None

    @property
    def name(self) -> bytes:
        """The device's name."""
        return b"swarm-%06d" % self.number


class Watched:
    """The truth about one bundle, as only the devices know it: how many ever tried it, when the first failed with it,
    and when the last one left it.
    """

    def __init__(self, bundle: str) -> None:
        self.bundle = bundle
        self.exposed: set[int] = set()
        self.first_failed_s = 0.0
        self.last_back_s = 0.0

    def turns(self, device: Device, bundle: str, now_s: float) -> None:
        """Note that a device turns to a bundle, from the one it runs."""
        if bundle == self.bundle:
            self.exposed.add(device.number)
        elif device.bundle == self.bundle:
            self.last_back_s = now_s

    def failed(self, bundle: str, now_s: float) -> None:
        """Note that a device does badly with a bundle."""
        if bundle == self.bundle and not self.first_failed_s:
            self.first_failed_s = now_s


class Mind:
    """The behaviour of all devices of one process. `boot` is their boot id, `wall` the time of day."""

    def __init__(self, boot: bytes, say: Say, wall: Callable[[], float], behaviours: dict[str, Behaviour]) -> None:
        self.boot = boot
        self._say = say
        self._wall = wall
        self.began_s = wall()
        self.told = "all"
        self.behaviours = behaviours
        self._templates: dict[Any, Callable[..., bytes]] = {}
        self.counts = dict.fromkeys(("made", "acked", "beats", "sent", "again", "adopted"), 0)
        self.last_acked_s = 0.0
        self.last_adopted_s = 0.0
        self.watched = Watched("")

    # What devices say.

    def will(self, device: Device) -> bytes:
        """Return the will of a device's next session."""
        return self._template("offline", words.presence, False)(self.boot, device.session)

    def greet(self, device: Device) -> None:
        """Say that a device is there, what it runs, and what it has kept."""
        self._publish(device, b"presence", self._template("online", words.presence, True)(self.boot, device.session))
        self.beat(device)
        self.resend(device)

    def beat(self, device: Device, qos: int = 0) -> None:
        """Report a device's health."""
        known = self.behaviours.get(device.bundle)
        make = self._template(("beat", device.bundle, device.drifts), words.heartbeat, known, device.drifts)
        device.seq += 1
        now_s = self._wall()
        if known is not None and known.error_share and not device.silent:
            self.watched.failed(device.bundle, now_s)
        text = make(self.boot, device.seq, now_s, now_s - self.began_s, device.adopted)
        self.counts["beats"] += 1
        self._publish(device, b"heartbeat", text, qos)

    def keep(self, device: Device) -> None:
        """Make one sample, send it, and keep it until the fleet has it."""
        device.seq += 1
        self._keep(device, device.seq, ("sample", device.bundle))

    def resend(self, device: Device) -> None:
        """Send again whatever the fleet has not acknowledged."""
        for seq, kept in (device.pending or {}).items():
            self.counts["again"] += 1
            self._send(device, seq, kept)

    def resend_old(self, device: Device) -> None:
        """Send again what a device kept before it was last asked this: the fleet has had its time."""
        if device.waited and min(device.pending or (0,)) <= device.waited:
            self.resend(device)
        device.waited = device.seq

    # What devices hear.

    def hear(self, device: Device, topic: bytes, payload: bytes) -> None:
        """Take in a message of the fleet's."""
        if topic.endswith(b"/ack"):
            self._acknowledged(device, payload)
        elif topic.endswith(b"/assignment"):
            self._ordered(device, payload)

    def _acknowledged(self, device: Device, payload: bytes) -> None:
        pending = device.pending
        if pending is None:
            return
        for received in words.read_ack(payload).received:
            if received.boot_id.encode() == self.boot:
                for seq in received.seqs:
                    if pending.pop(seq, None) is not None:
                        self.counts["acked"] += 1
        self.last_acked_s = self._wall()
        if not pending:
            device.pending = None

    def _ordered(self, device: Device, payload: bytes) -> None:
        order = words.read_order(payload)
        if (order.tenant.encode(), order.device.encode()) != (TENANT.encode(), device.name):
            raise ValueError(f"{device.name.decode()} was given the assignment of {order.device}")
        if order.sequence <= device.adopted:
            return
        device.adopted = order.sequence
        wanted = next((each for each in order.models if each.model == MODEL), None)
        if wanted is not None and wanted.bundle != device.bundle:
            known = self.behaviours.setdefault(wanted.bundle, Behaviour(wanted.version, wanted.bundle))
            self.watched.turns(device, wanted.bundle, self._wall())
            for phase in words.steps(known, self.told):
                device.seq += 1
                self._keep(
                    device, device.seq, ("progress", wanted.bundle, phase, order.sequence, wanted.rollout.encode())
                )
            if known.ends is Phase.COMMITTED:
                device.bundle, device.silent = wanted.bundle, known.silences
            if known.ends is not Phase.COMMITTED or known.silences:
                self.watched.failed(wanted.bundle, self._wall())
        self.counts["adopted"] += 1
        self.last_adopted_s = self._wall()
        self.beat(device)

    def _keep(self, device: Device, seq: int, kept: tuple[Any, ...]) -> None:
        if device.pending is None:
            device.pending = {}
        device.pending[seq] = kept
        self.counts["made"] += 1
        self._send(device, seq, kept)

    def _send(self, device: Device, seq: int, kept: tuple[Any, ...]) -> None:
        """Send a kept message: the same bytes each time."""
        time_s = int(self.began_s) + seq / 10
        if kept[0] == "sample":
            known = self.behaviours.get(kept[1], NOTHING)
            text = self._template(kept, words.sample, known)(self.boot, seq, time_s, device.name)
            self._publish(device, b"sample", text)
            return
        _, bundle, phase, sequence, rollout = kept
        make = self._template(("progress", bundle, phase), words.progress, self.behaviours[bundle], phase)
        self._publish(device, b"progress", make(self.boot, seq, time_s, sequence, rollout))

    def _publish(self, device: Device, channel: bytes, payload: bytes, qos: int = 1) -> None:
        if device.silent or device.state != READY:
            return
        device.packet = device.packet % 65535 + 1
        self.counts["sent"] += 1
        self._say(device, wire.publish(_UP % (device.number, channel), payload, device.packet if qos else 0))

    def _template(self, key: Any, make: Callable[..., Callable[..., bytes]], *parts: Any) -> Callable[..., bytes]:
        found = self._templates.get(key)
        if found is None:
            found = self._templates[key] = make(*parts)
        return found


_UP = f"{topics.ROOT}/{TENANT}/swarm-%06d/up/%b".encode()
NOTHING = Behaviour("0", "0" * 64)
"""What a device samples that runs nothing yet."""
