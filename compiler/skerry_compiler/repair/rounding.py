"""Rounding weights with the inputs in view: GPTQ, and the correction of biases.

GPTQ rounds one input channel after the other and lets the channels that are still to come make up for the error, as
the inputs' second moments say. Frantar et al. 2022, "GPTQ", arXiv:2210.17323 (without its act-order and grouping).
The correction takes from a bias what rounded weights add on average: Nagel et al. 2019, arXiv:1906.04721, section 4.2,
with measured means of inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper

from skerry_compiler.engines.network.calibrate import rounded
from skerry_compiler.repair.layers import Layer, Model
from skerry_compiler.repair.simulate import rounded_weight

DAMPING = 0.01  # of the mean of the diagonal
MAX_TERMS = 2304  # weights of one output channel: the cost grows with the cube
SAMPLES = 256  # positions taken of one input
BLOCK = 64


class Moments:
    """Second moments and means of what each layer multiplies, gathered input by input.

    `second[name]`: f64[groups, k, k] with k weights of one output channel; `mean[name]`: f64[groups, k].
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.layers = list(model.layers())
        self.second: dict[str, NDArray[np.float64]] = {}
        self._sum: dict[str, NDArray[np.float64]] = {}
        self._count: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """The values that `add` needs."""
        return [layer.data for layer in self.layers]

    def add(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Take one input's values."""
        for layer in self.layers:
            if layer.data not in values:
                continue
            found = columns(self.model, layer, values[layer.data])
            if found is None or found.shape[2] > MAX_TERMS:
                continue
            patches = found.astype(np.float64)
            second, total = patches.transpose(0, 2, 1) @ patches, patches.sum(1)
            name = layer.out
            self.second[name] = self.second[name] + second if name in self.second else second
            self._sum[name] = self._sum[name] + total if name in self._sum else total
            self._count[name] = self._count.get(name, 0) + patches.shape[1]

    def mean(self, name: str) -> NDArray[np.float64]:
        """Return the mean of each term."""
        return self._sum[name] / self._count[name]


def columns(model: Model, layer: Layer, value: NDArray[Any]) -> NDArray[np.float32] | None:
    """Return what a layer multiplies at some positions: f32[groups, positions, k]."""
    weight = model.array(layer.weight)
    if layer.kind != "Conv":
        given = {a.name: helper.get_attribute_value(a) for a in layer.node.attribute}
        value = value.T if given.get("transA", 0) else value
        rows = value.reshape(-1, value.shape[-1])
        return np.asarray(rows[:: max(1, len(rows) // SAMPLES)][None], np.float32)
    given = {a.name: helper.get_attribute_value(a) for a in layer.node.attribute}
    axes = weight.ndim - 2
    if given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return None
    pads = list(given.get("pads", [0] * 2 * axes))
    strides, dilations = given.get("strides", [1] * axes), given.get("dilations", [1] * axes)
    padded = np.pad(value, [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)])
    reach = [d * (k - 1) + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(2, 2 + axes)))
    windows = windows[
        (slice(None), slice(None), *(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilations))
    ]
    count = int(np.prod(windows.shape[2 : 2 + axes]))
    moved = np.moveaxis(windows, 1, 1 + axes)  # [1, positions..., c, kernel...]
    flat_places = np.arange(0, count, max(1, count // SAMPLES))
    places = np.unravel_index(flat_places, windows.shape[2 : 2 + axes])
    picked = moved[(0, *places)]  # [positions, c, kernel...]
    grouped = picked.reshape(len(flat_places), layer.groups, -1)
    return np.asarray(grouped.transpose(1, 0, 2), np.float32)


def gptq(plain: ModelProto, moments: Moments, chosen: frozenset[str]) -> ModelProto:
    """Return the model with the weights of some layers rounded; each is a whole multiple of its channel's scale."""
    model = Model(plain)
    for layer in model.layers():
        if layer.out not in chosen or layer.out not in moments.second:
            continue
        weight = model.array(layer.weight)
        rows = np.moveaxis(weight, layer.axis, 0)
        flat = rows.reshape(len(rows), -1).astype(np.float64)
        second = moments.second[layer.out]
        if not np.isfinite(second).all():
            continue
        groups = np.split(flat, len(second))
        made = np.concatenate([round_rows(part, each) for part, each in zip(groups, second, strict=True)])
        model.put(layer.weight, np.moveaxis(made.reshape(rows.shape), 0, layer.axis).astype(np.float32))
    return model.written()


def round_rows(rows: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rows[n, k] rounded to bytes so that their products with inputs of moments second[k, k] change least.

    The largest weight of each row keeps its byte, 127: the scale can be read off the result again. GPTQ is greedy; a
    row that it makes worse is rounded to nearest.
    """
    count = rows.shape[1]
    scale = np.maximum(np.abs(rows).max(1), 1e-12) / 127
    largest = np.abs(rows).argmax(1)
    sign = np.sign(rows[np.arange(len(rows)), largest])
    diagonal = np.diag(second).copy()
    damped = second + np.eye(count) * (DAMPING * max(float(diagonal.mean()), 1e-12))
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    work, made = rows.copy(), np.zeros_like(rows)
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        errors = np.zeros((len(rows), stop - start))
        for i in range(start, stop):
            whole = np.clip(np.rint(work[:, i] / scale), -127, 127)
            whole = np.where(largest == i, sign * 127, whole)
            made[:, i] = whole * scale
            errors[:, i - start] = (work[:, i] - made[:, i]) / upper[i, i]
            work[:, i:stop] -= errors[:, i - start, None] * upper[i, i:stop]
        work[:, stop:] -= errors @ upper[start:stop, stop:]
    nearest = np.clip(np.rint(rows / scale[:, None]), -127, 127) * scale[:, None]
    lost = [np.einsum("nk,kl,nl->n", each, second, each, optimize=True) for each in (made - rows, nearest - rows)]
    return np.where((lost[0] < lost[1])[:, None], made, nearest)


def correct_biases(plain: ModelProto, before: ModelProto, moments: Moments, chosen: frozenset[str]) -> ModelProto:
    """Return `plain` with biases that make up for the mean change of rounded weights against those of `before`."""
    model, exact = Model(plain), Model(before)
    for layer in model.layers():
        if layer.out not in chosen or layer.out not in moments.second or not layer.bias or not model.known(layer.bias):
            continue
        weight = model.array(layer.weight)
        whole, scale = rounded_weight(weight, layer.axis)
        shape = [1] * weight.ndim
        shape[layer.axis] = -1
        change = exact.array(layer.weight) - whole * scale.astype(np.float64).reshape(shape)
        rows = np.moveaxis(change, layer.axis, 0)
        mean = moments.mean(layer.out)
        groups = np.split(rows.reshape(len(rows), -1), len(mean))
        shift = np.concatenate([part @ each for part, each in zip(groups, mean, strict=True)])
        bias = model.array(layer.bias)
        if bias.shape == shift.shape:
            model.put(layer.bias, (bias + np.array([rounded(float(s)) for s in shift])).astype(np.float32))
    return model.written()
