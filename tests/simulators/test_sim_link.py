"""The link loses, doubles and delays as it is told, keeps what a broker keeps, and is the same for the same seed."""

from __future__ import annotations

import dataclasses
import random

from skerry_simulators import faults
from skerry_simulators.clock import TrueClock
from skerry_simulators.faults import Faults
from skerry_simulators.heap import Heap
from skerry_simulators.link import Link


class Bench:
    """Both ends of one link, writing down what they hear."""

    def __init__(self, weather: Faults = faults.NONE, seed: int = 1) -> None:
        self.heap = Heap(TrueClock())
        self.up: list[tuple[str, bytes]] = []
        self.down: list[tuple[str, bytes]] = []
        self.sessions: list[str] = []
        self.link = Link("d", self.heap, random.Random(seed), self.hear, lambda _, payload: payload + b"!")
        self.link.faults = weather
        self.link.switch_on(self)

    def hear(self, device: str, channel: str, payload: bytes) -> None:
        self.up.append((channel, payload))

    def on_connected(self) -> None:
        self.sessions.append("on")

    def on_disconnected(self, unconfirmed: list[int]) -> None:
        self.sessions.append(f"off {len(unconfirmed)}")

    def on_message(self, channel: str, payload: bytes) -> None:
        self.down.append((channel, payload))

    def run(self, seconds: float) -> None:
        end_s = self.heap.clock.now_s + seconds
        while self.heap.step(end_s):
            pass


def test_a_quiet_link_carries_everything_once() -> None:
    bench = Bench()
    bench.run(10)
    for i in range(20):
        bench.link.publish("sample", b"%d" % i)
        bench.link.send_down("ack", b"%d" % i)
    bench.run(10)
    assert sorted(bench.up) == sorted(("sample", b"%d" % i) for i in range(20))
    assert len(bench.down) == 20 and bench.sessions == ["on"]


def test_loss_and_doubles_come_as_often_as_asked() -> None:
    bench = Bench(dataclasses.replace(faults.NONE, loss=0.2, duplicate=0.1, delay_s=5))
    bench.run(10)
    for i in range(2000):
        bench.link.publish("sample", b"%d" % i)
    bench.run(200)
    assert 1700 < len(bench.up) < 1900
    assert 1500 < len(set(bench.up)) < 1700
    assert [each for _, each in bench.up] != sorted((each for _, each in bench.up), key=int)


def test_the_assignment_is_kept_by_the_broker_and_an_ack_is_not() -> None:
    bench = Bench()
    bench.link.send_down("assignment", b"old")
    bench.link.send_down("assignment", b"new")
    bench.link.send_down("ack", b"gone")
    bench.run(10)
    assert bench.down == [("assignment", b"new")]
    bench.link.drop()
    bench.run(10)
    assert bench.down == [("assignment", b"new")] * 2 and bench.sessions == ["on", "off 0", "on"]


def test_what_was_on_its_way_down_dies_with_the_session() -> None:
    bench = Bench(dataclasses.replace(faults.NONE, delay_s=60))
    bench.run(10)
    for _ in range(50):
        bench.link.publish("progress", b"p")
        bench.link.send_down("ack", b"a")
    bench.link.drop()
    assert bench.sessions == ["on", "off 50"]
    bench.run(1000)
    assert bench.down == [] and len(bench.up) == 50


def test_a_partition_keeps_the_device_away_and_its_will_comes_late() -> None:
    bench = Bench()
    bench.run(10)
    bench.link.will = b"will"
    bench.link.partition(600)
    bench.run(590)
    assert bench.sessions == ["on", "off 0"] and bench.up == [("presence", b"will")]
    bench.run(100)
    assert bench.sessions == ["on", "off 0", "on"]


def test_somebody_rewrites_assignments_and_nothing_else() -> None:
    bench = Bench(dataclasses.replace(faults.NONE, hostile=0.999999))
    bench.run(10)
    bench.link.send_down("assignment", b"a")
    bench.link.send_down("ack", b"b")
    bench.run(10)
    assert sorted(bench.down) == [("ack", b"b"), ("assignment", b"a!")]


def test_a_device_that_is_off_hears_nothing() -> None:
    bench = Bench()
    bench.run(10)
    bench.link.switch_off()
    bench.link.send_down("assignment", b"a")
    bench.run(100)
    assert bench.down == [] and bench.sessions == ["on"]
    bench.link.switch_on(bench)
    bench.run(10)
    assert bench.down == [("assignment", b"a")]


def test_the_same_seed_gives_the_same_fates() -> None:
    def heard(seed: int) -> list[tuple[str, bytes]]:
        bench = Bench(Faults(), seed)
        bench.run(10)
        for i in range(200):
            bench.link.publish("sample", b"%d" % i)
        bench.run(100)
        return bench.up

    assert heard(3) == heard(3) != heard(4)
