"""Ranges of tensors from calibration inputs: the values that appear, and how far outliers among them are clipped.

Every input is run once; what is kept of each tensor is its bounds under every method, so that ranges over any part of
the inputs cost nothing more. Ranges are rounded to a few digits: the last bits of float32 sums differ between
processors, and the bytes of a candidate must not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from skerry_compiler.engines.network.graph import Network

METHODS = ("minmax", "p99.999", "p99.99", "mse")
BINS = 2048
PARTS = np.linspace(0.4, 1.0, 25)  # of the range, tried by "mse"
FEW = 64  # values; below this there are no outliers to speak of
MANY = 1 << 17  # values of one tensor and input that are looked at for outliers; of more, every so many
RANGE_BITS = 10

Ranges = Mapping[str, tuple[float, float]]
Feed = Mapping[str, NDArray[Any]]
Bounds = dict[str, tuple[float, float]]


def session(model: onnx.ModelProto, names: Sequence[str] = ()) -> ort.InferenceSession:
    """Return a session of one thread that changes nothing in the model, with more outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    have = {o.name for o in copy.graph.output}
    copy.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in dict.fromkeys(names) if n not in have)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])


def values(model: onnx.ModelProto, names: Sequence[str], inputs: Sequence[Feed]) -> Iterator[dict[str, NDArray[Any]]]:
    """Return the named values of a model that it has, one input after the other."""
    made = {n for node in model.graph.node for n in node.output if n}
    fed = [n for n in dict.fromkeys(names) if n in {i.name for i in model.graph.input}]
    asked = [n for n in dict.fromkeys(names) if n in made]
    run = session(model, asked)
    for feed in inputs:
        out = dict(zip(asked, run.run(asked, dict(feed)) if asked else [], strict=True))
        yield {**out, **{n: feed[n] for n in fed}}


class Statistics:
    """Bounds of each tensor under every method, for each input by itself."""

    def __init__(self, rows: list[dict[str, Bounds]]) -> None:
        self.rows = rows

    @classmethod
    def of(
        cls,
        model: onnx.ModelProto,
        names: Sequence[str],
        inputs: Sequence[Feed],
        methods: Sequence[str] = METHODS,
        seen: Callable[[dict[str, NDArray[Any]]], None] | None = None,
    ) -> Statistics:
        """Run the inputs and return what the named tensors do; `seen` is shown the values of each input."""
        rows = []
        for results in values(model, names, inputs):
            if seen is not None:
                seen(results)
            floats = {n: np.asarray(v, np.float32) for n, v in results.items() if v.dtype.kind == "f" and v.size}
            rows.append({n: {method: _bounds(v, method) for method in methods} for n, v in floats.items()})
        return cls(rows)

    def ranges(self, method: str, places: Sequence[int] | None = None) -> Ranges:
        """Return the range of each tensor over all inputs, or over those at some places."""
        chosen = self.rows if places is None else [self.rows[i] for i in places]
        seen: dict[str, list[tuple[float, float]]] = {}
        for row in chosen:
            for name, bounds in row.items():
                seen.setdefault(name, []).append(bounds[method])
        return {
            name: (rounded(min(0.0, *(low for low, _ in each))), rounded(max(0.0, *(high for _, high in each))))
            for name, each in seen.items()
        }


def calibrate(network: Network, model: onnx.ModelProto, inputs: Sequence[Feed], method: str) -> Ranges:
    """Return the range of each tensor of a network over calibration inputs.

    Methods: "minmax"; "pN" keeps N percent of the values of each input; "mse" clips where the mean squared error is
    least.
    """
    return Statistics.of(model, tensor_names(network), inputs, (method,)).ranges(method)


def tensor_names(network: Network) -> list[str]:
    """Return the names of all tensors of a network."""
    return list(dict.fromkeys(t.name for op in network.ops for t in (op.y, *op.reads)))


def rounded(value: float, bits: int = RANGE_BITS) -> float:
    """Return a number rounded to some significant bits."""
    if value == 0.0 or not math.isfinite(value):
        return value
    part, exponent = math.frexp(value)
    return math.ldexp(round(math.ldexp(part, bits)), exponent - bits)


def _bounds(value: NDArray[np.float32], method: str) -> tuple[float, float]:
    low, high = float(value.min()), float(value.max())
    if method == "minmax" or value.size < FEW or not math.isfinite(high - low):
        return low, high
    if value.size > MANY:
        value = value.ravel()[:: value.size // MANY | 1]
    if method.startswith("p"):
        q = float(method[1:])
        a, b = np.percentile(value, [100 - q, q])
        return float(a), float(b)
    counts, edges = np.histogram(value, BINS, (min(low, 0.0), max(high, 1e-9)))
    centres = (edges[1:] + edges[:-1]) / 2
    lows, highs = low * PARTS[:, None], high * PARTS[:, None]
    step = np.maximum(highs - lows, 1e-12) / 255
    error = np.clip(np.rint((centres - lows) / step), 0, 255) * step + lows - centres
    part = float(PARTS[int(np.argmin((counts * error**2).sum(1)))])
    return low * part, high * part
