"""The candidates of the network engine: float32, and bytes under several ways of choosing ranges and exceptions.

Which of them is accurate enough and fastest is for the tournament to measure; here they are only made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from skerry_compiler.engines.candidate import Draft, Failure, megabytes
from skerry_compiler.engines.network.calibrate import calibrate
from skerry_compiler.engines.network.cost import machine_of
from skerry_compiler.engines.network.emit import Source
from skerry_compiler.engines.network.generate import generate, network_of
from skerry_compiler.engines.network.graph import Conv
from skerry_compiler.engines.network.quantise import Precision
from skerry_compiler.errors import UnsupportedError
from skerry_targets import fit
from skerry_targets.profile import Profile

ENGINE = "native"
CODE_BYTES = 512 << 10  # code and the pages around it, estimated
MAX_CALIBRATION_ROWS = 32
# Clipping outliers helps some networks and ruins others; the first layers are often the sensitive ones, and cheap in
# float32; the last one decides a regression. reference: post-training study, no single recipe wins.
RECIPES: tuple[tuple[str, Precision], ...] = (
    ("p99.999", Precision()),
    ("p99.99", Precision()),
    ("minmax", Precision()),
    ("mse", Precision()),
    ("p99.999", Precision(skip=2)),
    ("minmax", Precision(skip=2, keep=1)),
)


def candidates(model: ModelProto, profile: Profile, feeds: Mapping[str, NDArray[Any]]) -> list[Draft | Failure]:
    """Return the generated candidates of a network, or why there is none; none at all for other kinds of models.

    Args:
        model: with fixed shapes.
        profile: the board.
        feeds: calibration rows by input name, stacked; empty where there are none: then there are no byte candidates.
    """
    if any(node.domain not in ("", "ai.onnx") for node in model.graph.node):
        return []
    machine = machine_of(profile)
    try:
        drafts = [_draft("native-network", "fp32", generate(model, machine), profile, 1)]
    except UnsupportedError as error:
        return [Failure("native-network", ENGINE, "fp32", str(error))]
    if feeds:
        drafts += _bytes(model, profile, feeds)
    return list(drafts)


def _bytes(model: ModelProto, profile: Profile, feeds: Mapping[str, NDArray[Any]]) -> list[Draft]:
    """Return the byte candidates, without those that come out the same as another."""
    machine = machine_of(profile)
    network = network_of(model)
    convolutions = sum(isinstance(op, Conv) for op in network.ops)
    count = min(MAX_CALIBRATION_ROWS, *(len(rows) for rows in feeds.values()))
    rows = [{name: each[i : i + 1].astype(np.float32) for name, each in feeds.items()} for i in range(count)]
    known: set[tuple[str, bytes]] = set()
    made = []
    for order, (method, precision) in enumerate(RECIPES):
        if precision.skip + precision.keep >= convolutions:
            continue
        source = generate(model, machine, ranges=calibrate(network, model, rows, method), precision=precision)
        if (source.c, source.weights) in known:
            continue
        known.add((source.c, source.weights))
        name = f"native-int8-{method.replace('.', '-')}" + (
            f"-skip{precision.skip}-keep{precision.keep}" if precision.skip else ""
        )
        made.append(_draft(name, "int8", source, profile, 2 + order))
    return made


def _draft(name: str, precision: str, source: Source, profile: Profile, order: int) -> Draft:
    memory = megabytes(source.arena_bytes + len(source.weights) + CODE_BYTES)
    files = {"weights": source.weights}
    return Draft(name, ENGINE, precision, fit.predicates(profile), memory, order, files, c_text=source.c)
