"""The core against a real disk and ledger: what it accepts, refuses, keeps, and finds again after a boot."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.agent.world import NOW_S, World, assign, envelope, make_bundle

from skerry_agent import effects
from skerry_agent.config import AgentConfig
from skerry_agent.store import PARTIAL
from skerry_contracts import codec
from skerry_contracts.assignment import Envelope, Receipt, SamplingPolicy, Window
from skerry_contracts.device import Heartbeat, ModelHealth, ModelState, Reason
from skerry_contracts.sample import Kept, Sample
from skerry_contracts.sketch import Sketch


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    found.connect()
    return found


def test_an_update_from_offer_to_receipt(world: World) -> None:
    bundle = make_bundle()
    world.assign(bundle)
    assert world.serving == {"digits": bundle.id}
    world.settle()
    words = ["offered", "downloading", "verified", "trial", "committed"]
    assert world.progress() == [(word, "ok") for word in words]
    sent = [each for each in world.published if each.channel == "receipt"]
    receipt = codec.decode(Receipt, codec.decode(Envelope, sent[0].payload).payload)
    assert (receipt.bundle, receipt.variant, receipt.golden_passed) == (bundle.id, "native-fp32", 2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"device": "d2"}, "wrong-device"),
        ({"tenant": "other"}, "wrong-device"),
        ({"expires_s": NOW_S - 1}, "expired"),
        ({"sequence": 3}, "replayed"),
    ],
)
def test_an_assignment_that_is_not_for_now_and_here_changes_nothing(
    world: World, change: dict[str, object], reason: str
) -> None:
    first = make_bundle(1)
    world.assign(first, sequence=5)
    world.settle()
    before = len(world.progress())
    world.assign(make_bundle(2), **{"sequence": 6, **change})  # type: ignore[arg-type]
    assert world.progress()[before:] == [("failed", reason)]
    assert world.serving == {"digits": first.id} and world.core.memory.sequence == 5


def test_a_forged_assignment_is_reported_once_however_often_it_comes(world: World) -> None:
    world.signature = Reason.UNSIGNED
    for _ in range(5):
        world.assign(make_bundle())
    assert world.progress() == [("failed", "unsigned")] and world.serving == {}


@pytest.mark.parametrize("payload", [b"", b"not json", b"{}", b"[" * 1000, envelope(b"{}"), envelope(assign()[:-3])])
def test_rubbish_from_the_broker_is_refused(world: World, payload: bytes) -> None:
    world.down("assignment", payload)
    world.down("ack", payload)
    world.down("no-such-channel", payload)
    assert world.progress() == [("failed", "unsigned")]


def test_the_retained_assignment_is_heard_once(world: World) -> None:
    world.assign(make_bundle())
    world.done.clear()
    world.assign(make_bundle())
    assert world.done == []


def test_hardware_that_does_not_fit_refuses_before_the_download(world: World) -> None:
    world.assign(make_bundle(features=("avx512_vnni",)))
    assert world.progress()[-1] == ("failed", "unfit")
    assert not any(isinstance(each, effects.FetchBlobs) for each in world.done)


def test_an_assignment_that_promises_another_release_is_refused(world: World) -> None:
    bundle = make_bundle(1)
    world.add(bundle)
    forged = assign(bundle).replace(b'"release":1', b'"release":9')
    world.down("assignment", envelope(forged))
    assert world.progress()[-1] == ("failed", "not-listed")


def test_want_of_space_is_said_before_the_download(tmp_path: Path) -> None:
    world = World(tmp_path, config=AgentConfig(root=tmp_path, reserve_free_bytes=1 << 60))
    world.connect()
    world.assign(make_bundle())
    assert world.progress()[-1] == ("downloading", "no-space"), "said, and tried again: the cause may pass"
    assert world.serving == {}


def test_a_day_of_orders_none_of_which_is_done_fills_no_disk(tmp_path: Path) -> None:
    world = World(tmp_path, config=AgentConfig(root=tmp_path, reserve_free_bytes=1 << 60))
    world.connect()
    for sequence in range(1, 20):
        for number in range(3):  # what each of them left when it was replaced
            world.store.disk.write(f"{PARTIAL}/{codec.digest(bytes([sequence, number]))}", b"a part")
        world.assign(world.add(make_bundle(release=sequence)), sequence=sequence)
        assert len(world.store.disk.names(PARTIAL)) <= 8


def test_a_failed_trial_leaves_what_serves(world: World) -> None:
    first = make_bundle(1)
    world.assign(first)
    world.settle()
    world.trial = Reason.GOLDEN
    world.assign(make_bundle(2), sequence=2)
    assert world.progress()[-1] == ("failed", "golden")
    assert world.serving == {"digits": first.id}
    assert world.store.bundles() == [first.id], "what failed is garbage"


def test_nan_while_observed_rolls_back(world: World) -> None:
    first = make_bundle(1)
    world.assign(first)
    world.settle()
    world.assign(make_bundle(2), sequence=2)
    world.predict(scores=(float("nan"), 0.5))
    assert world.progress()[-1] == ("rolled-back", "unhealthy")
    assert world.serving == {"digits": first.id}


def test_enough_good_answers_end_the_observation(world: World) -> None:
    world.assign(make_bundle())
    for _ in range(20):
        world.predict()
    assert world.progress()[-1] == ("committed", "ok")


def test_a_boot_without_network_serves_what_served(world: World) -> None:
    bundle = make_bundle()
    world.assign(bundle)
    world.settle()
    world.boot()
    assert world.serving == {"digits": bundle.id}
    assert not world.core.online


def test_messages_wait_for_the_fleets_own_word(world: World) -> None:
    world.assign(make_bundle())
    world.settle()
    before = world.core.spool.health
    assert before.waiting == before.made == 6
    world.core.disconnected()
    world.published.clear()
    world.connect()
    assert len([each for each in world.published if each.key]) == 6, "all of it again on the next connection"
    world.ack_all()
    world.ack_all()
    world.pass_s(1)
    after = world.core.spool.health
    assert (after.made, after.acked, after.waiting, after.dropped) == (6, 6, 0, 0)


def test_a_policy_may_change_without_a_new_bundle(world: World) -> None:
    bundle = make_bundle()
    world.assign(bundle, sampling=SamplingPolicy(random_share=0.0, uncertain_margin=0.0))
    world.settle()
    world.predict()
    world.assign(bundle, sequence=2, sampling=SamplingPolicy(random_share=1.0))
    assert world.progress()[-1] == ("committed", "ok")
    world.predict()
    world.pass_s(1)
    samples = [codec.decode(Sample, each.payload) for each in world.published if each.channel == "sample"]
    assert [(each.kept, each.weight) for each in samples] == [(Kept.RANDOM, 1.0)]
    assert samples[0].prediction.startswith("d1/") and samples[0].bundle == bundle.id


def test_sample_false_keeps_and_counts_nothing(world: World) -> None:
    world.assign(make_bundle(), sampling=SamplingPolicy(random_share=1.0))
    world.settle()
    world.predict(keep=False)
    world.do(world.core.stopping())
    assert not [each for each in world.published if each.channel in ("sample", "sketch")]


def test_sketches_come_by_the_clock_and_at_the_end(world: World) -> None:
    world.assign(make_bundle(), sampling=SamplingPolicy(random_share=0.0, sketch_seconds=60))
    world.predict()
    world.predict()
    world.pass_s(61)
    world.predict()
    world.do(world.core.stopping())
    sketches = [codec.decode(Sketch, each.payload) for each in world.published if each.channel == "sketch"]
    assert [each.predictions for each in sketches] == [2, 1]
    assert {each.source: each.counts for each in sketches[0].histograms}["label"] == (2, 0)


def test_a_model_no_longer_named_goes(world: World) -> None:
    world.assign(make_bundle(1), make_bundle(1, model="other"))
    world.settle()
    world.assign(make_bundle(1), sequence=2)
    assert set(world.serving) == {"digits"}
    assert world.core.memory.records["other"].floor == 1


def test_downloads_pass_before_the_window_and_activation_waits_for_it(world: World) -> None:
    world.clock.minute = 600
    world.assign(make_bundle(), window=Window(720, 60))
    assert world.progress()[-1] == ("verified", "ok")
    world.clock.minute = 725
    world.pass_s(30)
    assert world.progress()[-1] == ("trial", "ok")


def test_a_clock_that_was_set_does_not_open_a_window_at_once(world: World) -> None:
    world.clock.minute = 600
    world.assign(make_bundle(), window=Window(720, 60))
    world.pass_s(30)
    world.clock.wall += 7200
    world.clock.minute = 725
    world.pass_s(1)
    assert world.progress()[-1] == ("verified", "ok")
    world.pass_s(61)
    assert world.progress()[-1] == ("trial", "ok")


def test_a_clock_in_1970_does_not_revive_an_expired_assignment(world: World) -> None:
    world.assign(make_bundle(1), sequence=1)
    world.settle()
    world.clock.wall = 100.0
    world.assign(make_bundle(2), sequence=2, expires_s=NOW_S - 3600)
    assert world.progress()[-1] == ("failed", "expired")


def test_an_offline_week_ends_with_the_update(world: World) -> None:
    world.network = Reason.NETWORK
    world.assign(make_bundle(), expires_s=NOW_S + 30 * 86400)
    world.core.disconnected()
    for _ in range(7 * 24 * 4):
        world.pass_s(900)
    world.network = Reason.OK
    world.connect()
    assert world.serving


def test_the_heartbeat_tells_hardware_once_a_connection(world: World) -> None:
    def beat() -> Heartbeat:
        world.published.clear()
        world.do(world.core.health((), rss_bytes=1000))
        return codec.decode(Heartbeat, world.published[0].payload)

    assert beat().hardware is not None
    assert beat().hardware is None
    world.core.disconnected()
    world.connect()
    assert beat().hardware is not None


def test_a_model_under_observation_is_not_told_as_serving(world: World) -> None:
    bundle = make_bundle()
    measured = ModelHealth("digits", "1.0", bundle.id, "native-fp32", ModelState.SERVING, 0, 0, 0, 0.0, 0.0, 0)

    def told() -> ModelState:
        world.published.clear()
        world.do(world.core.health([measured], rss_bytes=1000))
        return codec.decode(Heartbeat, world.published[0].payload).models[0].state

    world.assign(bundle)
    assert told() is ModelState.TRIAL  # or the fleet would confirm what may yet be taken back
    world.settle()
    assert told() is ModelState.SERVING
