"""What is kept besides random ones: novel inputs, rare classes, what somebody asked for; none silences another."""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tests.agent.world import World, make_bundle

from skerry_agent.novelty import WARM_UP, Novelty
from skerry_agent.projection import MOST_ELEMENTS, Projection
from skerry_agent.sampler import RARE_FIRST, Sampler, Traits
from skerry_contracts import codec
from skerry_contracts.assignment import SamplingPolicy
from skerry_contracts.errors import MismatchError
from skerry_contracts.sample import Kept, Sample
from skerry_contracts.tensor import DType, Tensor, TensorSpec

SPEC = TensorSpec("x", DType.FP32, (1, 8))
PHOTO = TensorSpec("photo", DType.UINT8, (1, 112, 112, 3))


def row(values: Sequence[float], name: str = "x") -> Tensor:
    return Tensor(name, DType.FP32, (1, len(values)), struct.pack(f"<{len(values)}f", *values))


def gauss(rng: random.Random, shift: float = 0.0) -> Tensor:
    return row([rng.gauss(i + (shift if i == 3 else 0.0), 1 + i) for i in range(8)])


def test_in_the_long_run_the_asked_share_is_novel() -> None:
    rng, novelty = random.Random(1), Novelty([SPEC])
    novel = sum(novelty.is_novel([gauss(rng)], 0.05) for _ in range(20_000))
    assert 0.045 < novel / 20_000 < 0.055


def test_a_new_kind_of_input_is_novel_at_first_and_then_no_more() -> None:
    rng, novelty = random.Random(2), Novelty([SPEC])
    for _ in range(2000):
        novelty.is_novel([gauss(rng)], 0.01)
    strange = [novelty.is_novel([gauss(rng, 40.0)], 0.01) for _ in range(2000)]
    assert all(strange[:5]) and sum(strange[1000:]) < 50


def test_photographs_are_compared_by_what_is_on_them() -> None:
    rng, novelty = np.random.default_rng(3), Novelty([PHOTO])

    def photo(level: float) -> Tensor:
        pixels = np.clip(rng.normal(level, 30, PHOTO.shape), 0, 255).astype(np.uint8)
        return Tensor("photo", DType.UINT8, PHOTO.shape, pixels.tobytes())

    day = [novelty.is_novel([photo(rng.normal(140, 10))], 0.02) for _ in range(300)]
    assert sum(day) < 30
    assert sum(novelty.is_novel([photo(15.0)], 0.02) for _ in range(5)) >= 4


def test_nothing_is_novel_before_something_was_seen_nor_where_numbers_are_missing() -> None:
    rng, novelty = random.Random(4), Novelty([SPEC])
    assert not any(novelty.is_novel([gauss(rng, 1000.0 * i)], 1.0) for i in range(WARM_UP))
    assert not novelty.is_novel([row([float("nan")] * 8)], 1.0)
    assert not novelty.is_novel([Tensor("x", DType.FP32, (1, 8), None, "a" * 64)], 1.0)
    assert not novelty.is_novel([], 1.0) and not Novelty([]).is_novel([gauss(rng)], 1.0)


def test_what_never_changes_has_no_distance_until_it_does() -> None:
    novelty = Novelty([SPEC])
    assert not any(novelty.is_novel([row([0.1] * 8)], 0.001) for _ in range(500))
    assert novelty.is_novel([row([0.1] * 7 + [0.2])], 0.001)


def test_a_projection_is_the_same_for_ever_and_keeps_distances() -> None:
    spec = TensorSpec("x", DType.FP32, (1, 100))
    projection = Projection(spec, 16)
    found = projection.apply(row([float(i) for i in range(100)]))
    assert found is not None
    assert [round(each, 3) for each in found[:4]] == [-6.0, 18.0, -140.8, -116.4]
    rng = random.Random(5)
    ratios = []
    for _ in range(300):
        values = [rng.gauss(0, 1) for _ in range(100)]
        shadow = Projection(spec, 16).apply(row(values))
        assert shadow is not None
        ratios.append(sum(each**2 for each in shadow) * 100 / 16 / sum(each**2 for each in values))
    assert sum(ratios) / 300 == pytest.approx(1, rel=0.1)


def test_of_a_large_tensor_few_elements_are_looked_at() -> None:
    spec = TensorSpec("x", DType.FP32, (1, 3, 224, 224))
    values = np.arange(spec.elements, dtype=np.float32)
    projection = Projection(spec, 1)
    found = projection.apply(Tensor("x", DType.FP32, spec.shape, values.tobytes()))
    assert found is not None and -(-spec.elements // (-(-spec.elements // MOST_ELEMENTS))) <= MOST_ELEMENTS


def test_the_first_of_a_rare_class_are_kept_and_no_flood_of_them() -> None:
    sampler = Sampler(SamplingPolicy(0.0, 0.0, 10**9, rare_below=0.02), random.Random(1))
    kept: Counter[str] = Counter()
    for i in range(10_000):
        label = "fault" if i % 100 == 99 else "scratch" if i % 5 == 0 else "good"
        choice = sampler.choose(Traits(0.9, label), 100, i * 0.1)
        kept[label] += choice is not None
        assert choice is None or (choice.kept, choice.weight) == (Kept.RARE, 1.0)
    assert kept == {"fault": RARE_FIRST, "scratch": 0, "good": 0}
    assert sum(sampler.choose(Traits(0.9, "fault"), 100, 5000.0) is not None for _ in range(20)) == RARE_FIRST


@pytest.mark.parametrize(
    ("traits", "kept", "share"),
    [
        (lambda _: Traits(0.0), Kept.UNCERTAIN, 0.35),
        (lambda _: Traits(0.9, novel=True), Kept.NOVEL, 0.25),
        (lambda i: Traits(0.9, f"class {i}"), Kept.RARE, 0.25),
        (lambda _: Traits(0.9, wanted=Kept.DISAGREEING), Kept.DISAGREEING, 0.5),
        (lambda _: Traits(0.9, wanted=Kept.REQUESTED), Kept.REQUESTED, 0.5),
    ],
)
def test_every_kind_has_its_own_cap(traits: Callable[[int], Traits], kept: Kept, share: float) -> None:
    policy = SamplingPolicy(0.0, 0.1, 100_000, novel_rate=0.1, rare_below=0.5)
    sampler = Sampler(policy, random.Random(1))
    found = [sampler.choose(traits(i), 100, 0.0) for i in range(2000)]
    assert {each.kept for each in found if each is not None} == {kept}
    expected = min(share * 1000, 256 if kept == Kept.RARE else 1000)
    assert sum(each is not None for each in found) == expected


def test_all_together_leave_a_quarter_and_random_ones_stay_unbiased() -> None:
    policy = SamplingPolicy(0.2, 0.5, 40_000, novel_rate=0.5, rare_below=0.9)
    sampler, rng, weight, bytes_of = Sampler(policy, random.Random(7)), random.Random(8), 0.0, Counter[Kept]()
    for i in range(50_000):
        sampler.raised = 4.0 if 20_000 <= i < 30_000 else 1.0
        wanted = rng.choice([None, Kept.DISAGREEING, Kept.REQUESTED])
        traits = Traits(rng.random(), f"c{rng.randrange(5)}", rng.random() < 0.5, wanted)
        choice = sampler.choose(traits, 100, i * 0.72)
        if choice is not None:
            bytes_of[choice.kept] += 100
            weight += choice.weight if choice.kept == Kept.RANDOM else 0
    assert weight == pytest.approx(50_000, rel=0.1)
    assert bytes_of[Kept.RANDOM] >= 10 * 9_000 and bytes_of.total() <= 11 * 40_000


def test_the_fleet_may_set_every_cap_and_an_unknown_kind_is_none_of_this_version() -> None:
    policy = SamplingPolicy(0.0, 0.1, 100_000, caps={"uncertain": 0.02, "from-the-future": 0.5})
    sampler = Sampler(policy, random.Random(1))
    assert sum(sampler.choose(Traits(0.0), 100, 0.0) is not None for _ in range(500)) == 20
    for wrong in ({"caps": {"rare": 1.5}}, {"novel_rate": -0.1}, {"top_labels": 10_000}, {"quantiles": ("x",) * 9}):
        with pytest.raises(MismatchError):
            codec.from_plain(SamplingPolicy, codec.to_plain(wrong))


def test_what_a_program_asks_for_is_kept_with_its_reason(tmp_path: Path) -> None:
    bundle = make_bundle()
    world = World(tmp_path)
    world.assign(bundle, sampling=SamplingPolicy(0.0, 0.0))
    world.settle()
    world.connect()
    world.predict()
    world.predict(wanted=Kept.REQUESTED)
    world.predict(wanted=Kept.DISAGREEING)
    world.pass_s(1.0)
    found = [codec.decode(Sample, each.payload).kept for each in world.published if each.channel == "sample"]
    assert found == [Kept.REQUESTED, Kept.DISAGREEING]


def test_the_fleet_may_order_all_predictions_for_a_while(tmp_path: Path) -> None:
    world = World(tmp_path)
    until_s = int(world.clock.wall) + 3600
    policy = SamplingPolicy(0.0, 0.0, 20_000, caps={"requested": 0.5}, requested_until_s=until_s)
    world.assign(make_bundle(), sampling=policy)
    world.settle()
    world.connect()
    for _ in range(100):
        world.predict()
    world.clock.pass_s(7200)
    for _ in range(100):
        world.predict()
    world.pass_s(1.0)
    found = [codec.decode(Sample, each.payload).kept for each in world.published if each.channel == "sample"]
    assert set(found) == {Kept.REQUESTED} and 5 <= len(found) <= 15
