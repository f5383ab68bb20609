"""What devices see change in their own streams: one alert a model, counted once, closed when all is calm."""

from __future__ import annotations

import dataclasses

import pytest
from tests.fleet.conftest import Bench
from tests.fleet.test_ingest import BOOT, NEXT_BOOT, heartbeat, put, rows

from skerry_contracts.device import Drift
from skerry_fleet.records import Alert


@pytest.fixture
def ready(bench: Bench) -> tuple[Bench, str]:
    bench.enrol("d0", "d1")
    return bench, bench.publish()


def beat(bench: Bench, device: str, seq: int, *drift: Drift, boot: str = BOOT) -> None:
    put(bench, "heartbeat", dataclasses.replace(heartbeat(seq, boot), drift=drift or None), device=device)


def found(bench: Bench) -> list[tuple[str, str, str, int]]:
    return [(row.kind, row.subject, row.state, row.count) for row in rows(bench, Alert)]


def test_many_devices_and_many_heartbeats_are_one_alert(ready: tuple[Bench, str]) -> None:
    bench, bundle = ready
    drift = Drift("digits", bundle, "confidence", 0.9, 0.4, 96, 1.0)
    beat(bench, "d0", 1)
    assert found(bench) == []
    for seq in range(2, 6):
        beat(bench, "d0", seq, dataclasses.replace(drift, age_s=float(seq)))
    assert found(bench) == [("device-drift", "digits/on-device", "open", 1)]
    beat(bench, "d1", 1, drift)
    beat(bench, "d1", 2, drift, dataclasses.replace(drift, source="input:image:mean"))
    assert found(bench) == [("device-drift", "digits/on-device", "open", 3)]
    (alert,) = rows(bench, Alert)
    assert alert.text == "d1: the mean of input:image:mean went from 0.9 to 0.4 over its last 96 predictions"
    beat(bench, "d0", 6)
    assert found(bench)[0][2] == "open"
    beat(bench, "d1", 1, boot=NEXT_BOOT)
    assert found(bench) == [("device-drift", "digits/on-device", "resolved", 3)]
    beat(bench, "d0", 7, drift)
    assert [each[2:] for each in found(bench)] == [("resolved", 3), ("open", 1)]


def test_an_old_heartbeat_and_a_model_that_nobody_published_say_nothing(ready: tuple[Bench, str]) -> None:
    bench, bundle = ready
    drift = Drift("digits", bundle, "confidence", 0.9, 0.4, 96, 1.0)
    beat(bench, "d0", 5)
    beat(bench, "d0", 4, drift)
    beat(bench, "d0", 6, dataclasses.replace(drift, model="other"), dataclasses.replace(drift, bundle="a" * 64))
    assert found(bench) == []
    beat(bench, "d0", 7)
    assert found(bench) == []


def test_several_heartbeats_in_one_batch_count_in_their_order(ready: tuple[Bench, str]) -> None:
    bench, bundle = ready
    drift = Drift("digits", bundle, "confidence", 0.9, 0.4, 96, 1.0)
    with_drift = dataclasses.replace(heartbeat(2), drift=(drift,))
    put(bench, "heartbeat", heartbeat(3), with_drift, heartbeat(1))
    assert found(bench) == [("device-drift", "digits/on-device", "resolved", 1)]
