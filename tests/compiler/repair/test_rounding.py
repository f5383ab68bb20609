"""GPTQ changes what layers give less than rounding to nearest does; corrected biases take the mean away."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler.network.conftest import random, reference
from tests.compiler.repair.nets import network, rows

from skerry_compiler.engines.network.calibrate import values
from skerry_compiler.repair import rounding
from skerry_compiler.repair.layers import Model, plain
from skerry_compiler.repair.rounding import Moments, round_rows
from skerry_compiler.repair.simulate import rounded_weight


def correlated(count: int, terms: int, seed: int) -> np.ndarray:
    """Return inputs that live near a few directions, as the channels of real layers do."""
    return random(count, 4, seed=seed) @ random(4, terms, seed=seed + 1) + 0.05 * random(count, terms, seed=seed + 2)


@settings(derandomize=True, max_examples=20, deadline=None)
@given(st.integers(16, 80), st.integers(1, 6), st.integers(0, 50))
def test_less_output_error_than_nearest(terms: int, outputs: int, seed: int) -> None:
    inputs = correlated(200, terms, seed).astype(np.float64)
    weight = random(outputs, terms, seed=seed + 3).astype(np.float64)
    whole, scale = rounded_weight(weight.astype(np.float32), 0)
    nearest = whole * scale[:, None].astype(np.float64)
    made = round_rows(weight, inputs.T @ inputs)
    before, after = ((((each - weight) @ inputs.T) ** 2).sum(1) for each in (nearest, made))
    assert (after <= before * (1 + 1e-9)).all()
    again, same = rounded_weight(made.astype(np.float32), 0)
    np.testing.assert_array_equal(again, np.rint(made / scale[:, None]))
    np.testing.assert_allclose(same, scale, rtol=1e-6)


def test_much_less_output_error_where_inputs_are_correlated() -> None:
    inputs = correlated(300, 96, 0).astype(np.float64)
    weight = random(32, 96, seed=9).astype(np.float64)
    whole, scale = rounded_weight(weight.astype(np.float32), 0)
    made = round_rows(weight, inputs.T @ inputs)
    before, after = ((((each - weight) @ inputs.T) ** 2).sum() for each in (whole * scale[:, None], made))
    assert after < before / 4


def test_a_row_of_zeros_and_dead_inputs() -> None:
    second = np.zeros((5, 5))
    made = round_rows(np.vstack([np.zeros(5), np.arange(5.0)]), second)
    assert np.isfinite(made).all() and not made[0].any() and made[1, 4] == pytest.approx(4.0)


def test_moments_see_what_convolutions_multiply() -> None:
    """The layers' own products, said by the gathered columns: strides, pads and groups included."""
    for parts in (["separable"], ["prelu", "norm"]):
        model = Model(plain(network(parts, "gemm", 2)))
        layers = list(model.layers())
        names = [each for layer in layers for each in (layer.data, layer.out)]
        (found,) = values(model.proto, names, rows(1, 4))
        for layer in layers:
            columns = rounding.columns(model, layer, found[layer.data])
            assert columns is not None
            weight = np.moveaxis(model.array(layer.weight), layer.axis, 0)
            parts_ = np.split(weight.reshape(len(weight), -1), len(columns))
            made = np.concatenate([each @ part.T for each, part in zip(columns, parts_, strict=True)], 1)
            out = found[layer.out].reshape(1, len(weight), -1)[0].T - (model.array(layer.bias) if layer.bias else 0)
            np.testing.assert_allclose(made, out, atol=1e-4 * float(np.abs(out).max()))


def test_corrected_biases_take_away_what_rounding_adds_on_average() -> None:
    form = plain(network(["prelu"], "", 7))
    model = Model(form)
    moments = Moments(model)
    feeds = rows(8, 3)
    for found in values(form, moments.names, feeds):
        moments.add(found)
    (layer,) = model.layers()
    whole, scale = rounded_weight(model.array(layer.weight), layer.axis)
    coarse = Model(form)
    steps = np.rint(model.array(layer.weight) / (scale * 40).reshape(-1, 1, 1, 1)) * (scale * 40).reshape(-1, 1, 1, 1)
    coarse.put(layer.weight, steps.astype(np.float32))
    rough = coarse.written()
    fixed = rounding.correct_biases(rough, form, moments, frozenset([layer.out]))
    off = []
    for proto in (rough, fixed):
        pairs = [(next(values(p, [layer.out], [feed]))[layer.out]) for feed in feeds for p in (form, proto)]
        gaps = [(b - a).mean((0, 2, 3)) for a, b in zip(pairs[::2], pairs[1::2], strict=True)]
        off.append(float(np.abs(np.mean(gaps, 0)).max()))
    assert off[1] < off[0] / 3
    assert whole.dtype == np.int8 and len(reference(fixed, feeds[0])) == 1
