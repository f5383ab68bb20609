"""What is to stay on the device stays there, in samples and in statistics; what a rule does not fit is dropped."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.agent.world import World, make_bundle

from skerry_agent.config import AgentConfig, load
from skerry_agent.errors import ConfigError
from skerry_agent.redaction import Action, Redactor, RedactRule
from skerry_contracts import codec
from skerry_contracts.assignment import SamplingPolicy
from skerry_contracts.bundle import Signature
from skerry_contracts.sample import Sample
from skerry_contracts.sketch import Sketch
from skerry_contracts.tensor import DType, Tensor, TensorSpec

OUT = (TensorSpec("scores", DType.FP32, (1, 2)),)


def tensor(array: np.ndarray[Any, Any], dtype: DType, name: str = "image") -> Tensor:
    return Tensor(name, dtype, array.shape, array.tobytes())


def cleaned(array: np.ndarray[Any, Any], dtype: DType, rule: RedactRule) -> np.ndarray[Any, Any] | None:
    spec = TensorSpec("image", dtype, array.shape)
    found = Redactor([rule], "m", Signature((spec,), OUT)).clean([tensor(array, dtype)])
    return np.frombuffer(found[0].data or b"", array.dtype).reshape(array.shape) if found else None


@pytest.mark.parametrize(
    ("shape", "axes"),
    [((1, 3, 8, 10), (2, 3)), ((1, 8, 10, 3), (1, 2)), ((8, 10), (0, 1)), ((8, 10, 1), (0, 1)), ((5, 8, 10), (1, 2))],
)
def test_a_mask_covers_its_region_and_nothing_else(shape: tuple[int, ...], axes: tuple[int, int]) -> None:
    array = np.random.default_rng(1).integers(1, 255, shape).astype(np.uint8)
    found = cleaned(array, DType.UINT8, RedactRule("m", Action.MASK, "image", (2, 3, 6, 9)))
    region = [slice(None)] * len(shape)
    region[axes[0]], region[axes[1]] = slice(2, 6), slice(3, 9)
    expected = array.copy()
    expected[tuple(region)] = 0
    assert found is not None and np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("dtype", "kind"), [(DType.FP32, np.float32), (DType.UINT8, np.uint8), (DType.FP16, np.float16)]
)
@pytest.mark.parametrize("last", [True, False])
def test_a_blur_leaves_only_the_means_of_blocks(dtype: DType, kind: type[np.generic], last: bool) -> None:
    array = (np.random.default_rng(2).random((1, 10, 13, 3)) * 200).astype(kind)
    image = array if last else np.ascontiguousarray(np.moveaxis(array, 3, 1))
    found = cleaned(image, dtype, RedactRule("*", Action.BLUR, "", None, 4))
    assert found is not None
    got = found if last else np.moveaxis(found, 1, 3)
    for top in range(0, 10, 4):
        for left in range(0, 13, 4):
            mean = array[:, top : top + 4, left : left + 4].astype(np.float64).mean(axis=(1, 2), keepdims=True)
            block = got[:, top : top + 4, left : left + 4].astype(np.float64)
            assert np.allclose(block, mean, rtol=2e-3, atol=0.5 if kind is np.uint8 else 1e-2)
            assert (block == block[:, :1, :1]).all()


@pytest.mark.parametrize(
    "rule",
    [
        RedactRule("m", Action.DROP, "image"),
        RedactRule("m", Action.OUTPUTS_ONLY),
        RedactRule("m", Action.MASK, "image", (0, 0, 9, 5)),  # taller than the image
        RedactRule("m", Action.BLUR, "image", (0, 0, 4, 11)),
        RedactRule("m", Action.MASK, "imgae"),  # a typing error must not let pass what it was to hide
    ],
)
def test_what_a_rule_does_not_fit_is_dropped(rule: RedactRule) -> None:
    assert cleaned(np.ones((8, 10), np.uint8), DType.UINT8, rule) is None


def test_what_is_no_image_is_dropped_by_mask_and_blur() -> None:
    assert cleaned(np.ones(8, np.float32), DType.FP32, RedactRule("m", Action.BLUR)) is None
    elsewhere = Tensor("image", DType.UINT8, (8, 10), None, "a" * 64)
    signature = Signature((TensorSpec("image", DType.UINT8, (8, 10)),), OUT)
    assert Redactor([RedactRule("m", Action.MASK)], "m", signature).clean([elsewhere]) == ()


def test_rules_of_other_models_and_inputs_leave_alone() -> None:
    array = np.ones((8, 10), np.uint8)
    for rule in (RedactRule("other", Action.DROP), RedactRule("*", Action.DROP, "sound")):
        found = cleaned(array, DType.UINT8, rule)
        assert found is not None and np.array_equal(found, array)


def test_rules_are_applied_one_after_the_other() -> None:
    array = np.arange(80, dtype=np.float32).reshape(8, 10)
    signature = Signature((TensorSpec("image", DType.FP32, (8, 10)),), OUT)
    rules = [
        RedactRule("m", Action.MASK, "image", (0, 0, 8, 5)),
        RedactRule("m", Action.BLUR, "image", (0, 5, 8, 10), 8),
    ]
    (found,) = Redactor(rules, "m", signature).clean([tensor(array, DType.FP32)])
    assert set(np.unique(np.frombuffer(found.data or b"", np.float32))) == {0.0, array[:, 5:].mean()}


def test_statistics_obey_the_same_rules() -> None:
    spec, other = TensorSpec("image", DType.UINT8, (1, 8, 10)), TensorSpec("sound", DType.FP32, (1, 4))
    signature = Signature((spec, other), OUT)
    masked = Redactor([RedactRule("m", Action.MASK, "image", (2, 3, 6, 9))], "m", signature)
    for element in range(80):
        row, column = divmod(element, 10)
        assert masked.allows(f"input:image:{element}") != (2 <= row < 6 and 3 <= column < 9)
    assert not masked.allows("input:image:mean") and not masked.allows("input:image:std")
    assert masked.allows("input:sound:mean") and masked.allows("confidence") and masked.allows("label")
    quiet = Redactor([RedactRule("m", Action.OUTPUTS_ONLY)], "m", signature)
    assert not quiet.allows("input:sound:0") and quiet.allows("latency_ms")
    mistyped = Redactor([RedactRule("m", Action.DROP, "sond")], "m", signature)
    assert not mistyped.allows("input:image:0") and "sond" in mistyped.trouble


def test_neither_samples_nor_sketches_hold_what_was_dropped(tmp_path: Path) -> None:
    config = AgentConfig(root=tmp_path, reserve_free_bytes=0, redact=(RedactRule("digits", Action.DROP, "image"),))
    world = World(tmp_path, config=config)
    world.assign(
        make_bundle(), sampling=SamplingPolicy(1.0, sketch_seconds=60, quantiles=("input:image:mean", "confidence"))
    )
    world.settle()
    world.connect()
    for _ in range(5):
        world.predict()
    world.pass_s(61)
    samples = [codec.decode(Sample, each.payload) for each in world.published if each.channel == "sample"]
    assert len(samples) == 5 and all(not each.inputs and each.outputs for each in samples)
    (sketch,) = [codec.decode(Sketch, each.payload) for each in world.published if each.channel == "sketch"]
    counted = {each.source: sum(each.counts) for each in sketch.histograms}
    assert {source for source, count in counted.items() if count} == {"confidence", "label"}
    assert [each.source for each in sketch.quantiles or ()] == ["confidence"]
    assert {each.source for each in sketch.moments} == {"confidence", "latency_ms"}


def test_a_rule_for_an_input_that_is_not_there_is_told(tmp_path: Path) -> None:
    config = AgentConfig(root=tmp_path, reserve_free_bytes=0, redact=(RedactRule("digits", Action.MASK, "picture"),))
    world = World(tmp_path, config=config)
    world.assign(make_bundle())
    world.settle()
    assert "picture" in world.core.degraded["redact digits"]


def test_rules_are_read_from_the_configuration() -> None:
    text = """
    [[redact]]
    model = "doors"
    input = "image"
    action = "mask"
    region = [0, 0, 40, 64]
    [[redact]]
    model = "*"
    action = "blur"
    block = 8
    layout = "chw"
    """
    found = load(text, {}, {}).redact
    assert found == (
        RedactRule("doors", Action.MASK, "image", (0, 0, 40, 64)),
        RedactRule("*", Action.BLUR, "", None, 8, "chw"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "redact = 3",
        "redact = [3]",
        '[[redact]]\naction = "drop"',
        '[[redact]]\nmodel = "m"\naction = "hide"',
        '[[redact]]\nmodel = "m"\naction = "mask"\nregion = [4, 0, 2, 2]',
        '[[redact]]\nmodel = "m"\naction = "mask"\nregion = [0, 0, 2]',
        '[[redact]]\nmodel = "m"\naction = "mask"\nregion = [0, 0, 2, 2.5]',
        '[[redact]]\nmodel = "m"\naction = "blur"\nblock = 1',
        '[[redact]]\nmodel = "m"\naction = "blur"\nblocks = 2',
        '[[redact]]\nmodel = "m"\naction = "blur"\nlayout = "hw"',
        '[[redact]]\nmodel = "m"\ninput = 3\naction = "drop"',
    ],
)
def test_a_wrong_rule_stops_the_agent_with_a_hint(text: str) -> None:
    with pytest.raises(ConfigError, match="redact") as caught:
        load(text, {}, {})
    assert caught.value.hint


@given(st.integers(1, 9), st.integers(1, 9), st.integers(2, 5), st.data())
def test_no_region_within_an_image_is_too_odd(rows: int, columns: int, block: int, data: st.DataObject) -> None:
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    region = (top, left, data.draw(st.integers(top + 1, rows)), data.draw(st.integers(left + 1, columns)))
    array = np.arange(rows * columns, dtype=np.float64).reshape(rows, columns)
    rule = RedactRule("m", Action.BLUR, "image", region, block, "chw")
    found = cleaned(array, DType.FP64, rule)
    assert found is not None and found.mean() == pytest.approx(array.mean())
    masked = cleaned(array + 1, DType.FP64, dataclasses.replace(rule, action=Action.MASK))
    assert masked is not None and int((masked == 0).sum()) == (region[2] - top) * (region[3] - left)
