"""Captures: predictions a program asks to keep by its own id, from the request to the fleet's acknowledgement."""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import Any

import pytest
from tests.agent.world import NOW_S, World, make_bundle

from skerry_agent import captures
from skerry_agent.config import AgentConfig
from skerry_agent.errors import RequestError
from skerry_agent.hooks import CaptureOrder, Prediction
from skerry_agent.ledger import SqliteLedger
from skerry_contracts import codec
from skerry_contracts.assignment import SamplingPolicy
from skerry_contracts.sample import Kept, Sample
from skerry_contracts.tensor import DType, Tensor

NEVER = SamplingPolicy(random_share=0.0, uncertain_margin=0.0)


def image(seed: float = 0.5) -> Tensor:
    return Tensor("image", DType.FP32, (1, 4), struct.pack("<4f", seed, 0.3, 0.6, 1.0))


def scores(*values: float) -> Tensor:
    return Tensor("scores", DType.FP32, (1, 2), struct.pack("<2f", *values))


def make(tmp_path: Path, policy: SamplingPolicy = NEVER, **more: Any) -> World:
    world = World(tmp_path, **more)
    world.connect()
    world.assign(make_bundle(), sampling=policy)
    world.settle()
    return world


def predict(world: World, **more: Any) -> str:
    name = world.core.next_prediction("digits")
    world.do(world.core.on_prediction(Prediction(name, "digits", (image(),), (scores(0.9, 0.1),), 0.1, **more)))
    return name


def ask(world: World, name: str, **more: Any) -> None:
    world.do(world.core.capture(CaptureOrder(name, "digits", **more)))


def state(world: World, name: str) -> str:
    found = world.core.capture_status(name)
    return "unknown" if found is None else str(found["state"])


def samples(world: World) -> list[Sample]:
    return [codec.decode(Sample, each.payload) for each in world.published if each.channel == "sample"]


def refused(world: World, name: str, **more: Any) -> int:
    with pytest.raises(RequestError) as caught:
        ask(world, name, **more)
    return caught.value.status


def test_a_prediction_is_kept_whatever_the_policy_says(tmp_path: Path) -> None:
    world = make(tmp_path)
    wanted, _ = predict(world), predict(world)
    ask(world, "mine", prediction=wanted)
    assert world.core.capture_status("mine") == {
        "id": "mine", "model": "digits", "prediction": wanted, "state": "buffered"
    }  # fmt: skip
    world.pass_s(1)
    assert state(world, "mine") == "sent"
    [sample] = samples(world)
    assert (sample.prediction, sample.capture, sample.kept) == (wanted, "mine", Kept.REQUESTED)
    assert sample.inputs[0].data == image().data and sample.confidence == pytest.approx(0.9)
    world.core.disconnected()
    assert state(world, "mine") == "kept"
    world.connect()
    world.ack_all()
    world.pass_s(1)
    assert state(world, "mine") == "acknowledged"
    health = world.core.spool.health
    assert health.made == health.acked + health.waiting + health.dropped


def test_an_inference_may_be_captured_as_it_is_asked(tmp_path: Path) -> None:
    world = make(tmp_path)
    predict(world, wanted=Kept.REQUESTED, capture="one")
    predict(world)
    world.pass_s(1)
    assert [(each.capture, each.kept) for each in samples(world)] == [("one", Kept.REQUESTED)]
    always = make(tmp_path / "always", SamplingPolicy(random_share=1.0))
    predict(always, wanted=Kept.REQUESTED, capture="two")
    always.pass_s(1)
    assert [(each.capture, each.kept) for each in samples(always)] == [("two", Kept.RANDOM)], "kept once, and it counts"


def test_a_sample_that_is_asked_for_afterwards_is_sent_once_with_both_reasons(tmp_path: Path) -> None:
    world = make(tmp_path, SamplingPolicy(random_share=1.0))
    wanted = predict(world)
    ask(world, "mine", prediction=wanted)
    assert state(world, "mine") == "buffered"
    world.pass_s(1)
    assert [(each.prediction, each.capture, each.kept) for each in samples(world)] == [(wanted, "mine", Kept.RANDOM)]
    assert state(world, "mine") == "sent"
    ask(world, "again", prediction=wanted)
    world.pass_s(1)
    told = [(each.prediction, each.capture, each.kept) for each in samples(world)]
    assert told[1:] == [(wanted, "again", Kept.REQUESTED)], "what has left already is told of again; the lake makes one"


def test_tensors_may_come_from_elsewhere(tmp_path: Path) -> None:
    world = make(tmp_path)
    ask(world, "theirs", inputs=(image(),), outputs=(scores(0.2, 0.8),), time_s=NOW_S - 100.0)
    ask(world, "unlabelled", inputs=(image(),))
    world.pass_s(1)
    found = samples(world)
    assert [each.capture for each in found] == ["theirs", "unlabelled"]
    assert found[0].time_s == NOW_S - 100 and found[0].outputs[0].data == scores(0.2, 0.8).data
    assert found[0].prediction != found[1].prediction
    world.do(world.core.stopping())
    assert not [each for each in world.published if each.channel == "sketch"], "nothing was predicted here"


def test_what_cannot_be_captured_is_refused_with_its_status(tmp_path: Path) -> None:
    world = make(tmp_path)
    kept = predict(world)
    forbidden = predict(world, keep=False)
    assert refused(world, "a", prediction="d1/00000001-00000000/99") == 404
    assert refused(world, "a", prediction=forbidden) == 404
    with pytest.raises(RequestError) as caught:
        world.core.capture(CaptureOrder("a", "nobody", prediction=kept))
    assert caught.value.status == 404
    assert refused(world, "a", inputs=(image(),), time_s=NOW_S + 1e6) == 400
    assert refused(world, "a", inputs=(image(),), outputs=(scores(float("nan"), 0),)) == 400
    for name in ("", "../a", "a b", "a" * 129, "ä", "a\n", "-a"):
        assert refused(world, name, prediction=kept) == 400
    large = Tensor("image", DType.FP32, (1, 50_000), bytes(200_000))
    assert refused(world, "a", inputs=(large,)) == 413
    assert state(world, "a") == "unknown"
    ask(world, "a", prediction=kept)
    assert refused(world, "a", prediction=kept) == 409
    world.pass_s(1)
    assert len(samples(world)) == 1
    world.assign(make_bundle(2), sequence=2, sampling=NEVER)
    world.settle()
    assert refused(world, "b", prediction=predict(world, bundle=make_bundle(1).id)) == 404, "another release said it"


def test_the_budget_bounds_captures_too_and_says_so(tmp_path: Path) -> None:
    world = make(tmp_path, SamplingPolicy(random_share=0.0, uncertain_margin=0.0, bytes_per_hour=10_000))
    statuses = []
    for number in range(10):
        try:
            ask(world, f"c{number}", inputs=(image(),))
            statuses.append(200)
        except RequestError as error:
            statuses.append(error.status)
    assert statuses[0] == 200 and statuses[-1] == 429
    predict(world, wanted=Kept.REQUESTED, capture="late")
    found = world.core.capture_status("late")
    assert found is not None and found["state"] == "dropped" and "budget" in found["reason"]
    world.pass_s(1)
    assert len(samples(world)) == statuses.count(200)
    world.pass_s(3700)
    ask(world, "again", inputs=(image(),))


def test_captures_survive_a_power_cut_once_they_are_kept(tmp_path: Path) -> None:
    ledger = SqliteLedger(Path(":memory:"))
    world = make(tmp_path, ledger=ledger)
    world.core.disconnected()
    ask(world, "kept", prediction=predict(world))
    world.pass_s(1)
    ask(world, "lost", prediction=predict(world))
    predict(world, wanted=Kept.REQUESTED, capture="other")
    assert (state(world, "kept"), state(world, "lost")) == ("kept", "buffered")
    world.boot()
    assert (state(world, "kept"), state(world, "lost")) == ("kept", "unknown"), "never said to be kept"
    assert refused(world, "kept", inputs=(image(),)) == 409
    world.connect()
    assert state(world, "kept") == "sent"
    world.ack_all()
    world.pass_s(1)
    assert state(world, "kept") == "acknowledged"
    world.boot()
    assert state(world, "kept") == "acknowledged"


def test_a_full_spool_drops_captures_with_a_reason(tmp_path: Path) -> None:
    config = AgentConfig(root=tmp_path, reserve_free_bytes=0, spool_quota_bytes=6000)
    world = make(tmp_path, SamplingPolicy(random_share=0.0, uncertain_margin=0.0), config=config)
    world.core.disconnected()
    for number in range(20):
        ask(world, f"c{number}", inputs=(image(),))
        world.pass_s(1)
    states = [state(world, f"c{number}") for number in range(20)]
    assert states[0] == "dropped" and states[-1] == "kept"
    found = world.core.capture_status("c0")
    assert found is not None and found["reason"] == captures.FULL
    assert states.count("kept") <= world.core.spool.health.waiting
    world.boot()
    assert [state(world, f"c{number}") for number in range(20)] == states


def test_old_ids_are_forgotten_and_waiting_ones_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "MOST", 5)
    ledger = SqliteLedger(Path(":memory:"))
    world = make(tmp_path, ledger=ledger)
    for number in range(8):
        ask(world, f"old{number}", inputs=(image(),))
        world.pass_s(1)
        world.ack_all()
        world.pass_s(1)
    world.core.disconnected()
    for number in range(8):
        ask(world, f"new{number}", inputs=(image(),))
        world.pass_s(1)
    assert {state(world, f"new{number}") for number in range(8)} == {"kept"}
    stored = [key for key in ledger.load() if key.startswith(captures.KIND)]
    assert len(stored) <= 8 + 1
    assert state(world, "old0") == "unknown"


def test_the_last_predictions_are_held_in_a_bounded_memory() -> None:
    recent = captures.Recent(limit_bytes=10_000)
    for number in range(100):
        recent.add(Prediction(f"d/b/{number}", "m", (image(),), (), 0.1))
    assert recent.find("d/b/99").id == "d/b/99"
    with pytest.raises(RequestError):
        recent.find("d/b/0")
    recent.add(Prediction("large", "m", (Tensor("x", DType.UINT8, (20_000,), bytes(20_000)),), (), 0.1))
    with pytest.raises(RequestError):
        recent.find("large")


def test_a_flood_of_refused_captures_does_not_pile_up(tmp_path: Path) -> None:
    world = make(tmp_path, SamplingPolicy(random_share=0.0, uncertain_margin=0.0, bytes_per_hour=1))
    begin_s = time.process_time()
    for number in range(3 * captures.MOST):
        predict(world, wanted=Kept.REQUESTED, capture=f"c{number}")
        if number % 100 == 0:
            world.pass_s(1)
    world.pass_s(1)
    world.pass_s(1)
    known = [number for number in range(3 * captures.MOST) if state(world, f"c{number}") != "unknown"]
    assert len(known) <= captures.MOST + 100 and known[-1] == 3 * captures.MOST - 1
    assert time.process_time() - begin_s < 60
