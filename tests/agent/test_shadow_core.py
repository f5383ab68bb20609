"""Shadows as the core decides them: fetched and checked like an update, serving nobody, gone when they end."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import pytest
from tests.agent.world import NOW_S, Bundle, World, assign, envelope, make_bundle

from skerry_agent import effects
from skerry_agent import shadow_machine as machine
from skerry_agent.config import AgentConfig
from skerry_agent.hooks import Prediction
from skerry_agent.ledger import SqliteLedger
from skerry_agent.shadow_records import Stage
from skerry_agent.shadowing import SUFFIX
from skerry_contracts import codec
from skerry_contracts.assignment import AssignedModel, Assignment, SamplingPolicy, target_path
from skerry_contracts.device import Reason
from skerry_contracts.sample import Kept, Sample
from skerry_contracts.shadow import Shadow, ShadowAnswer, ShadowReport, ShadowState
from skerry_contracts.tensor import DType, Tensor

LIVE, CANDIDATE, OTHER = make_bundle(1), make_bundle(2), make_bundle(3)


def terms(bundle: Bundle = CANDIDATE, number: int = 1, **more: object) -> Shadow:
    manifest = bundle.manifest
    path = target_path(manifest.model, bundle.id)
    found = Shadow(
        f"s{number}-0000000a", manifest.version, manifest.release, bundle.id, path, len(bundle.data), NOW_S + 7000
    )
    return dataclasses.replace(found, **more)  # type: ignore[arg-type]  # passed through


def order(world: World, sequence: int, shadow: Shadow | None, live: Bundle = LIVE, **more: object) -> None:
    """Assign a bundle, and a candidate beside it."""
    plain = codec.decode(Assignment, assign(live, sequence=sequence, **more))  # type: ignore[arg-type]
    models = tuple(dataclasses.replace(each, shadow=shadow) for each in plain.models)
    world.down("assignment", envelope(codec.encode(dataclasses.replace(plain, models=models))))


def world_of(tmp_path: Path, **more: object) -> World:
    """Return a device that serves LIVE and stands at rest."""
    world = World(tmp_path, bundles=(LIVE, CANDIDATE, OTHER), **more)  # type: ignore[arg-type]
    world.connect()
    world.assign(LIVE, sequence=1)
    world.settle()
    return world


def told(world: World) -> list[tuple[str, str]]:
    found = [codec.decode(ShadowReport, each.payload) for each in world.published if each.channel == "shadow"]
    return [(each.state.value, each.reason.value) for each in found]


def wished(world: World, kind: type) -> list[effects.Effect]:
    return [each for each in world.done if isinstance(each, kind)]


def stage(world: World) -> Stage:
    return world.core.memory.shadows["digits"].stage


def test_a_candidate_is_fetched_and_ready_and_serves_nobody(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    order(world, 2, terms())
    assert stage(world) is Stage.READY and told(world) == [("fetching", "ok"), ("waiting", "ok")]
    assert world.store.manifest(CANDIDATE.id) == CANDIDATE.manifest
    record = world.core.memory.records["digits"]
    assert record.active is not None and record.active.bundle == LIVE.id and record.floor == 1
    assert record.previous is None and world.serving == {"digits": LIVE.id}
    world.do(world.core.shadow_loading("digits"))
    [load] = wished(world, effects.ShadowLoad)
    assert load == effects.ShadowLoad("digits", CANDIDATE.id, "native-fp32")
    assert b'"starting":true' in world.ledger.load()["shadow:digits"], "durable before its bytes are mapped"
    world.do(world.core.shadow_proven("digits"))
    assert b'"starting":false' in world.ledger.load()["shadow:digits"]


def test_it_is_removed_when_it_ends_and_the_live_model_is_untouched(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    order(world, 2, terms())
    order(world, 3, None)
    assert told(world)[-1] == ("ended", "ordered") and wished(world, effects.ShadowStop)
    assert world.store.manifest(CANDIDATE.id) is None and "shadow:digits" not in world.ledger.load()
    assert world.serving == {"digits": LIVE.id}
    assert not any(world.disk.size(f"store/blobs/{digest}") for digest in set(CANDIDATE.blobs) - set(LIVE.blobs))


def test_another_shadow_takes_its_place(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    order(world, 2, terms())
    order(world, 3, terms(OTHER, 2))
    assert world.core.memory.shadows["digits"].terms.bundle == OTHER.id and stage(world) is Stage.READY
    assert world.store.manifest(CANDIDATE.id) is None
    reports = [codec.decode(ShadowReport, each.payload) for each in world.published if each.channel == "shadow"]
    assert [(each.bundle, each.state) for each in reports if each.state is ShadowState.ENDED] == [
        (CANDIDATE.id, ShadowState.ENDED)
    ]


def test_a_release_of_the_same_bundle_keeps_its_blobs_and_ends_the_shadow(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    order(world, 2, terms())
    before = len(wished(world, effects.FetchBlobs))
    order(world, 3, None, CANDIDATE)
    assert world.serving == {"digits": CANDIDATE.id} and "digits" not in world.core.memory.shadows
    blobs = wished(world, effects.FetchBlobs)[before:]
    assert [each.blobs for each in blobs if isinstance(each, effects.FetchBlobs)] == [()], "nothing travels twice"


def test_a_shadow_of_what_serves_now_is_over(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    order(world, 2, terms())
    order(world, 3, terms(), CANDIDATE)
    world.settle()
    assert stage(world) is Stage.OVER and told(world)[-1] == ("ended", "ok")
    assert world.store.manifest(CANDIDATE.id) is not None, "it serves"


def test_its_time_is_over_without_the_fleet(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    order(world, 2, terms())
    world.do(world.core.disconnected())
    world.pass_s(7001)
    assert stage(world) is Stage.OVER and world.store.manifest(CANDIDATE.id) is None


@pytest.mark.parametrize("again", [True, False])
def test_network_trouble_is_tried_again_until_the_deadline(tmp_path: Path, again: bool) -> None:
    config = AgentConfig(root=tmp_path, reserve_free_bytes=0, download_deadline_s=600)
    world = world_of(tmp_path, config=config)
    world.network = Reason.NETWORK
    order(world, 2, terms())
    assert stage(world) is Stage.FETCHING
    if again:
        world.network = Reason.OK
        world.pass_s(5)
        assert stage(world) is Stage.READY
    else:
        world.pass_s(601)
        assert stage(world) is Stage.FAILED and told(world)[-1] == ("failed", "network")


def test_what_is_not_listed_does_not_fit_or_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    wrong = make_bundle(4, features=("no-such-feature",))
    signature = dataclasses.replace(LIVE.manifest.signature, inputs=())
    manifest = dataclasses.replace(OTHER.manifest, signature=signature)
    unlike = Bundle(manifest, codec.encode(manifest), OTHER.blobs)
    lying = dataclasses.replace(terms(), version="v9")
    world.add(wrong)
    world.add(unlike)
    for number, (each, why) in enumerate(
        [(terms(wrong), "unfit"), (terms(unlike), "unfit"), (lying, "not-listed")], start=2
    ):
        order(world, number, dataclasses.replace(each, id=f"s{number}-0000000a"))
        assert stage(world) is Stage.FAILED and told(world)[-1] == ("failed", why)
    order(world, 9, dataclasses.replace(lying, id="s4-0000000a"))
    assert stage(world) is Stage.FAILED, "ordered again with the next assignment, it stays refused"
    assert world.serving == {"digits": LIVE.id}


def test_a_shadow_gives_way_to_an_update_that_finds_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large, beside = make_bundle(5, library_bytes=9000), make_bundle(6, library_bytes=9000)
    world = world_of(tmp_path)
    world.add(large), world.add(beside)
    order(world, 2, terms(beside))

    def free_bytes() -> int:
        blobs = world.disk.names("store/blobs")
        return 18_000 - sum(world.disk.size(f"store/blobs/{name}") or 0 for name in blobs)

    monkeypatch.setattr(world.disk, "free_bytes", free_bytes)
    order(world, 3, terms(beside), large)
    assert world.serving == {"digits": large.id} and stage(world) is Stage.FAILED
    assert ("failed", "no-space") in told(world)
    later = dataclasses.replace(terms(beside), id="s2-0000000a")
    order(world, 4, later, large)
    assert told(world)[-1] == ("failed", "no-space"), "and itself it never takes what is not there"
    assert world.serving == {"digits": large.id}


def test_a_restart_at_any_point_resumes(tmp_path: Path) -> None:
    ledger = SqliteLedger(Path(":memory:"))
    world = world_of(tmp_path, ledger=ledger)
    world.hold = {effects.FetchBlobs}
    order(world, 2, terms())
    assert stage(world) is Stage.FETCHING
    world.boot()
    assert stage(world) is Stage.FETCHING and world.serving == {"digits": LIVE.id}
    world.hold = set()
    world.boot()
    assert stage(world) is Stage.READY
    for number in range(5):
        world.boot()
        assert stage(world) is Stage.READY, f"restart {number} while nothing of it ran is nobody's fault"
    world.store.remove(CANDIDATE.id)
    world.boot()
    assert stage(world) is Stage.READY and world.store.manifest(CANDIDATE.id) is not None, "what is gone comes again"


def test_a_candidate_that_takes_the_device_down_is_tried_three_times(tmp_path: Path) -> None:
    world = world_of(tmp_path, ledger=SqliteLedger(Path(":memory:")))
    order(world, 2, terms())
    loads = 0
    for _ in range(6):
        if stage(world) is Stage.READY:
            world.do(world.core.shadow_loading("digits"))
            loads += 1
        world.boot()
        world.connect()
        world.pass_s(130)
    assert loads == machine.STRIKES and stage(world) is Stage.FAILED
    assert ("failed", "power-cut") in told(world) and world.store.manifest(CANDIDATE.id) is None


def test_strikes_wait_and_end_it_and_proof_forgives(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    order(world, 2, terms())
    for _ in range(2):
        world.do(world.core.shadow_loading("digits"))
        world.do(world.core.shadow_struck("digits", Reason.CRASHED, "SIGSEGV"))
        count = len(wished(world, effects.ShadowLoad))
        world.do(world.core.shadow_loading("digits"))
        assert len(wished(world, effects.ShadowLoad)) == count, "not at once"
        world.pass_s(61)
    world.do(world.core.shadow_loading("digits"))
    world.do(world.core.shadow_proven("digits"))
    for _ in range(3):
        assert stage(world) is Stage.READY
        world.do(world.core.shadow_struck("digits", Reason.CRASHED, "SIGSEGV"))
    assert stage(world) is Stage.FAILED and told(world)[-1] == ("failed", "crashed")
    assert world.core.status()["shadows"]["digits"]["trouble"]["detail"] == "SIGSEGV (3 times)"


def disagree(world: World, *, keep: int = 1, size: int = 2) -> None:
    image = Tensor("image", DType.FP32, (1, 4), struct.pack("<4f", 0.1, 0.3, 0.6, 1.0))
    said = Tensor("scores", DType.FP32, (1, 2), struct.pack("<2f", 0.9, 0.1))
    other = Tensor("scores", DType.FP32, (1, size), struct.pack(f"<{size}f", *[0.5] * size))
    for _ in range(keep):
        found = Prediction(world.core.next_prediction("digits"), "digits", (image,), (said,), 0.1, True, LIVE.id)
        world.do(world.core.disagreed(found, ShadowAnswer("s1-0000000a", CANDIDATE.id, "v2", (other,))))
    world.pass_s(1)


def samples(world: World) -> list[Sample]:
    return [codec.decode(Sample, each.payload) for each in world.published if each.channel == "sample"]


def test_disagreeing_samples_hold_both_answers_within_their_budget(tmp_path: Path) -> None:
    world = world_of(tmp_path)
    order(world, 2, terms(), sampling=SamplingPolicy(0.0, 0.0, 20_000))
    disagree(world, keep=30)
    found = samples(world)
    assert found and all(each.kept is Kept.DISAGREEING and each.bundle == LIVE.id for each in found)
    assert len(found) < 30 and sum(len(codec.encode(each)) for each in found) <= 0.5 * 20_000
    assert found[0].shadow is not None and found[0].shadow.outputs[0].data == struct.pack("<2f", 0.5, 0.5)
    count = len(found)
    disagree(world, size=50_000)
    assert len(samples(world)) == count and world.core.spool.health.dropped == 0, "too large: counted, not kept"


def test_the_name_of_a_fetch_is_no_models(tmp_path: Path) -> None:
    """No model can be called so: an update and a shadow never take each other's answers."""
    with pytest.raises(ValueError, match="refused"):
        AssignedModel(f"digits{SUFFIX}", "v1", 1, LIVE.id, target_path(f"digits{SUFFIX}", LIVE.id), 1, "r")
