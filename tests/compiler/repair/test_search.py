"""The search: the same every time, never judged by rows that it learned from, and better than doing nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from tests.compiler.repair.nets import network, rows, signature, workshop

from skerry_compiler.engines.network.cost import AVX2
from skerry_compiler.gates import Judgement
from skerry_compiler.repair.recipe import Recipe, parse
from skerry_compiler.repair.search import MOST, PROMISING, Search, Speeds, Trial, chosen, placed
from skerry_compiler.repair.workshop import LEAST_ROWS, Workshop

FAST = Speeds(3.0, {0: 1.0})


def hard(seed: int = 3) -> onnx.ModelProto:
    """Return a network whose first layer is ruined by bytes: one channel of its input is a hundred times larger."""
    proto = network(["separable", "prelu", "hswish", "residual"], "gemm", seed)
    weight = next(each for each in proto.graph.initializer if each.name == "c0")
    array = onnx.numpy_helper.to_array(weight).copy()
    array[0] *= 400
    weight.CopyFrom(onnx.numpy_helper.from_array(array, "c0"))
    return proto


def search(proto: onnx.ModelProto, count: int = 10, until: float = 1e9) -> Search:
    return Search(workshop(proto, count), signature(proto), FAST, lambda: until, lambda _: None)


def test_it_is_the_same_every_time() -> None:
    one, two = search(hard()), search(hard())
    assert [t.recipe for t in one.run()] == [t.recipe for t in two.run()]
    assert one.trials == two.trials and len(one.trials) > 8


def test_no_recipe_is_judged_on_rows_that_it_was_made_from(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    plain = Workshop.answers

    def watched(self: Workshop, recipe: Recipe, learned: Sequence[int], asked: Sequence[int]) -> object:
        seen.append((frozenset(learned), frozenset(asked)))
        return plain(self, recipe, tuple(learned), tuple(asked))

    monkeypatch.setattr(Workshop, "answers", watched)
    search(hard()).run()
    assert len(seen) > 16 and all(learned and not learned & asked for learned, asked in seen)


def test_what_is_made_depends_on_the_learned_rows_alone() -> None:
    """Other rows in the places that are only asked change nothing in the candidate."""
    proto = hard()
    feeds, others = rows(8, 1), rows(8, 2)
    recipe = Recipe("p99.99", skip=1, other=(2,), cle=True, gptq=True, bias=True)
    one = Workshop(proto, feeds)
    two = Workshop(proto, [each if i % 2 == 0 else others[i] for i, each in enumerate(feeds)])
    made = [shop.made(recipe, (0, 2, 4, 6)) for shop in (one, two)]
    assert made[0][0].SerializeToString(deterministic=True) == made[1][0].SerializeToString(deterministic=True)
    assert made[0][1:] == made[1][1:]


def test_a_repaired_network_uses_less_of_its_tolerance() -> None:
    found = search(hard())
    picked = found.run()
    first = found.trials[0].judgement
    assert first.used > 1  # all bytes, min-max: refused
    assert picked[0].judgement.used <= PROMISING < first.used / 3
    assert all(t.cost < FAST.float_ns for t in picked)


def test_the_harm_is_found_where_it_is() -> None:
    found = search(hard())
    harm = found.harm(Recipe("minmax"), found.workshop.everything)
    assert set(harm) == set(range(len(found.workshop.order)))
    easy = search(network(["separable", "prelu", "hswish", "residual"], "gemm", 3))
    assert harm[1] > 10 * easy.harm(Recipe("minmax"), found.workshop.everything)[1]  # it reads the large channel
    late = search(hard(), until=0.0)
    assert late.harm(Recipe("minmax"), (0, 1)) == {} and len(late.harm(Recipe("minmax"), (0, 1), patient=True)) == len(
        harm
    )


def test_without_time_one_recipe_is_tried() -> None:
    found = search(hard(), until=0.0)
    assert [t.recipe for t in found.run()] == [Recipe("minmax")] and len(found.trials) == 1


def test_nothing_in_bytes_is_no_candidate() -> None:
    found = search(network(["separable"], "", 1))
    count = len(found.workshop.order)
    assert found.score(Recipe(skip=count)) is None and found.score(Recipe(skip=1, keep=count - 1)) is None
    assert found.score(Recipe("mse")) is not None and found.score(Recipe("mse")) is None


def trial(used: float, cost: float, name: str) -> Trial:
    recipe = parse(name)
    assert recipe is not None
    return Trial(recipe, Judgement(1 - used / 100, 0.0), 1.0, cost)


def test_the_fastest_that_may_pass_and_clearly_better_ones_are_chosen() -> None:
    trials = [
        trial(9.0, 1.0, "native-int8-minmax"),
        trial(1.2, 1.1, "native-int8-mse-skip1"),
        trial(1.1, 1.2, "native-int8-mse-skip2"),
        trial(0.6, 1.3, "native-int8-mse-skip3"),
        trial(0.2, 1.5, "native-int8-mse-skip4"),
        trial(0.1, 1.9, "native-int8-mse-skip6"),
    ]
    assert [t.recipe.skip for t in chosen(trials)] == [1, 3, 4]
    assert [t.recipe.skip for t in chosen(trials[:1])] == [0]  # nothing may pass: the nearest shows how far it is off
    assert chosen([]) == [] and len(chosen(trials)) <= MOST


def test_speeds_between_measured_ones_follow_the_multiplications() -> None:
    speeds = Speeds(10.0, {0: 2.0, 2: 4.0})
    work = (10, 10, 20, 60)
    assert speeds.predicted((2, 0, ()), work) == 4.0
    assert speeds.predicted((0, 0, (3,)), work) == pytest.approx(2 + 8 * 0.6)
    assert speeds.predicted((3, 0, ()), work) == pytest.approx(4 + 6 * 0.25)
    assert speeds.predicted((4, 0, ()), work) == pytest.approx(10)


def test_leading_layers_are_counted_and_others_named() -> None:
    base = Recipe("mse", keep=2)
    assert placed(base, [0, 1, 4]) == Recipe("mse", skip=2, leave=(4,))
    assert placed(base, [5, 3]) == Recipe("mse", leave=(3, 5))
    assert placed(base, []) == Recipe("mse")


def test_drafted_again_from_the_name_gives_the_same_bytes() -> None:
    recipe = Recipe("p99.99", skip=1, leave=(3,), other=(2,), cle=True, gptq=True, bias=True)
    again = parse(recipe.name)
    assert again is not None
    one, two = workshop(hard(), 9).source(recipe, AVX2), workshop(hard(), 9).source(again, AVX2)
    assert (one.c, one.weights) == (two.c, two.weights)
    other = workshop(hard(), 9).source(dataclasses.replace(recipe, gptq=False), AVX2)
    assert other.weights != one.weights


def test_large_networks_are_looked_at_on_fewer_rows() -> None:
    proto = network(["residual"], "", 1)
    assert len(Workshop(proto, rows(40)).rows) == 32
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 900
    proto.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 900
    assert len(Workshop(proto, rows(LEAST_ROWS + 1, shape=(3, 900, 900))).rows) == LEAST_ROWS


def test_noise_moves_an_ill_conditioned_network() -> None:
    found = search(network(["separable"], "gemm", 1))
    assert np.isfinite(found.noisy[0]).all() and len(found.noisy[0]) == 10
