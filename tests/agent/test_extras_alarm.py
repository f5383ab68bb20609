"""What a policy asks of sketches, and the alarm: on devices, through the core, as the fleet is told."""

from __future__ import annotations

import dataclasses
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.world import World, make_bundle

from skerry_agent.alarm import ModelAlarm
from skerry_agent.hooks import Prediction
from skerry_agent.sketcher import Sketcher
from skerry_agent.watch import Watch
from skerry_contracts import codec
from skerry_contracts.assignment import DriftAlarm, SamplingPolicy
from skerry_contracts.bundle import Baseline, Manifest
from skerry_contracts.device import Heartbeat, SpoolHealth
from skerry_contracts.quantiles import rank_error
from skerry_contracts.sketch import Sketch, merge_moments
from skerry_contracts.tensor import DType, Tensor, TensorSpec

SPOOL = SpoolHealth(0, 0, 0, 0, 0)


def image(*values: float) -> Tensor:
    return Tensor("image", DType.FP32, (1, 4), struct.pack("<4f", *values))


def with_features(width: int = 64) -> Manifest:
    manifest = make_bundle().manifest
    outputs = (*manifest.signature.outputs, TensorSpec("features", DType.FP32, (1, width)))
    return dataclasses.replace(manifest, signature=dataclasses.replace(manifest.signature, outputs=outputs))


def test_quantiles_of_what_was_asked_agree_with_numpy() -> None:
    sources = ("confidence", "latency_ms", "input:image:mean", "input:image:std", "input:image:2", "input:none:1", "x")
    sketcher = Sketcher(make_bundle().manifest, SamplingPolicy(quantiles=sources))
    rng = np.random.default_rng(1)
    rows = rng.normal(0, 1, (4000, 4)).astype(np.float32)
    for row in rows:
        sketcher.add([image(*row)], confidence=float(row[0]), label=None, latency_ms=float(row[1] + 9))
    found = {each.source: each for each in sketcher.extras.quantiles() or ()}
    wide = rows.astype(np.float64)
    truth = {
        "confidence": wide[:, 0],
        "latency_ms": wide[:, 1] + 9,
        "input:image:mean": wide.mean(1),
        "input:image:std": wide.std(1),
        "input:image:2": wide[:, 2],
    }
    assert found.keys() == truth.keys()
    for source, values in truth.items():
        for share in (0.05, 0.5, 0.95):
            low, high = np.quantile(values, [share - rank_error(), share + rank_error()], method="nearest")
            assert low - 1e-6 <= found[source].quantile(share) <= high + 1e-6


def test_labels_are_counted_by_name() -> None:
    sketcher = Sketcher(make_bundle().manifest, SamplingPolicy(top_labels=4))
    for label in (0.0, 1.0, 1.0):
        sketcher.add([], confidence=0.5, label=label, latency_ms=1.0, named="ab"[int(label)])
    (found,) = sketcher.extras.frequent() or ()
    assert found.counters == {"a": 1, "b": 2} and found.source == "label"


def test_an_embedding_is_told_by_moments_that_add_up_over_devices() -> None:
    manifest, rng = with_features(), np.random.default_rng(2)
    rows = rng.normal(0, 1, (300, 64)).astype(np.float32)
    whole, parts = Sketcher(manifest, SamplingPolicy(embedding="features")), []
    for part in (rows[:100], rows[100:]):
        sketcher = Sketcher(manifest, SamplingPolicy(embedding="features"))
        for row in part:
            output = Tensor("features", DType.FP32, (1, 64), row.tobytes())
            for each in (sketcher, whole):
                each.add([], [output], confidence=None, label=None, latency_ms=1.0)
        parts.append({each.source: each for each in sketcher.moments()})
    every = {each.source: each for each in whole.moments()}
    assert [f"embedding:features:{i}" for i in range(8)] == [each for each in every if each.startswith("embedding")]
    for source, moments in every.items():
        merged = merge_moments(parts[0][source], parts[1][source])
        assert merged.count == 300 and merged.mean == pytest.approx(moments.mean)
        if source.startswith("embedding"):  # 64 numbers of variance 1 over 8: a projection of variance about 1
            assert 0.4 < merged.variance < 2.5


def test_the_alarm_names_what_changed_and_ends() -> None:
    alarm = ModelAlarm(make_bundle().manifest, "a" * 64, DriftAlarm(3.0, 600), lambda source: True)
    rng, now_s = random.Random(1), 0.0
    for i in range(3000):
        now_s += 0.1
        level = 0.3 if i < 2000 else 0.6
        alarm.add([image(*[rng.gauss(level, 0.05) for _ in range(4)])], rng.gauss(0.8, 0.05), now_s)
        assert alarm.raised(now_s) == 1.0 or i >= 2000
    found = {each.source: each for each in alarm.tell(now_s)}
    assert set(found) == {"input:image:0", "input:image:mean"} and alarm.raised(now_s) == 3.0
    drift = found["input:image:mean"]
    assert drift.before == pytest.approx(0.3, abs=0.03) and drift.after == pytest.approx(0.6, abs=0.05)
    assert 0 < drift.age_s < 100 and 16 <= drift.predictions < 1000
    assert alarm.raised(now_s + 600) == 1.0 and alarm.tell(now_s + 600) == ()


def test_an_alarm_that_nobody_heard_is_told_later() -> None:
    alarm = ModelAlarm(make_bundle().manifest, "a" * 64, DriftAlarm(3.0, 60), lambda source: True)
    for i in range(1000):
        alarm.add([], 0.9 if i < 500 else 0.2, float(i))
    assert alarm.raised(5000.0) == 1.0
    assert len(alarm.tell(5000.0, heard=False)) == 1
    assert len(alarm.tell(6000.0)) == 1 and alarm.tell(6001.0) == ()


def test_odd_baselines_and_inputs_stop_nothing() -> None:
    manifest = make_bundle().manifest
    odd = tuple(Baseline(f"input:image:{i % 4}", (5.0,), (0, 0)) for i in range(40))
    strange = (Baseline("input:image:99", (1.0,), (0, 0)), Baseline("input:other:mean", (1.0,), (0, 0)))
    alarm = ModelAlarm(
        dataclasses.replace(manifest, baseline=strange + odd), "a" * 64, DriftAlarm(), lambda source: True
    )
    nan = float("nan")
    alarm.add([image(nan, 1e30, -1e30, 0.0), Tensor("image", DType.FP32, (1, 4), None, "a" * 64)], nan, 1.0)
    assert alarm.tell(1.0) == ()


@given(st.lists(st.lists(st.floats(), min_size=4, max_size=4), min_size=1, max_size=8))
def test_no_number_is_too_odd_to_be_counted(rows: list[list[float]]) -> None:
    """An input with infinities, or numbers whose squares are none, must not stop the agent or spoil the sketch."""
    manifest = make_bundle().manifest
    spec = TensorSpec("image", DType.FP64, (1, 4))
    manifest = dataclasses.replace(manifest, signature=dataclasses.replace(manifest.signature, inputs=(spec,)))
    sources = ("input:image:mean", "input:image:std", "input:image:1", "confidence")
    policy = SamplingPolicy(1.0, novel_rate=0.5, quantiles=sources, top_labels=4, alarm=DriftAlarm())
    watch = Watch(manifest, "a" * 64, "v", policy, random.Random(1), 0.0, 0.0)
    for row in rows * 20:
        inputs = (Tensor("image", DType.FP64, (1, 4), struct.pack("<4d", *row)),)
        outputs = (Tensor("scores", DType.FP32, (1, 2), struct.pack("<2f", 0.9, 0.1)),)
        watch.see(Prediction("d1/00000001-00000000/1", "digits", inputs, outputs, 0.1), 1.0, 1.0)
    sketch = watch.take_sketch(boot_id="00000001-00000000", seq=1, wall_s=2.0, now_s=2.0)
    assert codec.decode(Sketch, codec.encode(sketch)) == sketch and sketch.predictions == len(rows) * 20
    codec.encode(Heartbeat("00000001-00000000", 1, 0.0, 1.0, 0, (), SPOOL, 1, 1, drift=watch.drift(2.0, heard=True)))


def test_a_drifting_device_keeps_more_and_tells_the_fleet(tmp_path: Path) -> None:
    world = World(tmp_path)
    policy = SamplingPolicy(0.02, 0.0, 10**9, 900, quantiles=("confidence",), top_labels=8, alarm=DriftAlarm(20.0, 500))
    world.assign(make_bundle(), sampling=policy)
    world.settle()
    world.connect()
    kept = []
    for phase in range(2):
        before = sum(each.channel == "sample" for each in world.published)
        for _ in range(500):
            world.clock.pass_s(0.1)
            world.predict(scores=(0.95, 0.05) if phase == 0 else (0.55, 0.45))
        world.pass_s(1.0)
        kept.append(sum(each.channel == "sample" for each in world.published) - before)
    assert kept[0] < 30 and kept[1] > 60
    assert world.core.status()["drift"][0]["source"] == "confidence"
    world.do(world.core.health((), rss_bytes=1))
    beat = codec.decode(Heartbeat, [each.payload for each in world.published if each.channel == "heartbeat"][-1])
    assert [each.source for each in beat.drift or ()] == ["confidence"]
    world.pass_s(900)
    world.do(world.core.health((), rss_bytes=1))
    beat = codec.decode(Heartbeat, [each.payload for each in world.published if each.channel == "heartbeat"][-1])
    assert beat.drift is None and world.core.status()["drift"] == []
    for _ in range(5):  # samples fill the window of what may be on its way
        world.ack_all()
        world.pass_s(1.0)
    sketches = [codec.decode(Sketch, each.payload) for each in world.published if each.channel == "sketch"]
    assert sketches and all(each.quantiles and each.frequent for each in sketches)
    assert sum(each.predictions for each in sketches) == 1000
