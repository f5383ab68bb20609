"""Ranges of tensors from calibration inputs: the values that appear, and how far outliers among them are clipped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from skerry_compiler.engines.network.graph import Network

METHODS = ("minmax", "p99.999", "p99.99", "mse")
BINS = 2048

Ranges = Mapping[str, tuple[float, float]]


def values(
    model: onnx.ModelProto, names: Sequence[str], inputs: Sequence[Mapping[str, NDArray[Any]]]
) -> list[dict[str, NDArray[Any]]]:
    """Return the named intermediate values of a model for each input."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    have = {o.name for o in copy.graph.output}
    made = {n for node in copy.graph.node for n in node.output} | {i.name for i in copy.graph.input}
    wanted = [n for n in dict.fromkeys(names) if n in made]
    fed = {i.name for i in copy.graph.input}
    copy.graph.output.extend(helper.make_empty_tensor_value_info(n) for n in wanted if n not in have and n not in fed)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    asked = [n for n in wanted if n not in fed]
    results = []
    for feed in inputs:
        out = dict(zip(asked, session.run(asked, dict(feed)), strict=True))
        results.append({**out, **{n: feed[n] for n in wanted if n in fed}})
    return results


def calibrate(
    network: Network, model: onnx.ModelProto, inputs: Sequence[Mapping[str, NDArray[Any]]], method: str
) -> Ranges:
    """Return the range of each tensor of a network over calibration inputs.

    Methods: "minmax"; "pN" keeps N percent of the values of each input; "mse" clips where the mean squared error is
    least.
    """
    names = [t.name for op in network.ops for t in (op.y, *op.reads)]
    seen: dict[str, list[tuple[float, float]]] = {}
    for results in (
        (values(model, names, [feed])[0] for feed in inputs) if len(inputs) < 2 else values(model, names, inputs)
    ):
        for name, value in results.items():
            seen.setdefault(name, []).append(_bounds(np.asarray(value, np.float32), method))
    return {n: (min(0.0, min(lo for lo, _ in b)), max(0.0, max(hi for _, hi in b))) for n, b in seen.items()}


def _bounds(value: NDArray[np.float32], method: str) -> tuple[float, float]:
    low, high = float(value.min()), float(value.max())
    if method == "minmax" or value.size < 64:
        return low, high
    if method.startswith("p"):
        q = float(method[1:])
        a, b = np.percentile(value, [100 - q, q])
        return float(a), float(b)
    counts, edges = np.histogram(value, BINS, (min(low, 0.0), max(high, 1e-9)))
    centres = (edges[1:] + edges[:-1]) / 2
    best = (np.inf, low, high)
    for part in np.linspace(0.4, 1.0, 25):
        a, b = low * part, high * part
        step = max(b - a, 1e-12) / 255
        error = np.clip(np.rint((centres - a) / step), 0, 255) * step + a - centres
        total = float((counts * error**2).sum())
        if total < best[0]:
            best = (total, a, b)
    return best[1], best[2]
