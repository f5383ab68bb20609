"""Making byte candidates of one model: every step of a recipe, on all calibration rows or on a part of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from skerry_compiler import gates
from skerry_compiler.engines.network.calibrate import Feed, Ranges, Statistics, session, tensor_names
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.emit import Source
from skerry_compiler.engines.network.generate import generate, network_of
from skerry_compiler.engines.network.quantise import Precision
from skerry_compiler.repair import layers, rounding, simulate
from skerry_compiler.repair.equalise import Link, factors, links, peak, rescaled
from skerry_compiler.repair.layers import Array, Model
from skerry_compiler.repair.recipe import Recipe

MAX_ROWS, LEAST_ROWS = 32, 8
MAX_VALUES = 1 << 26  # numbers that are looked at: of large networks fewer rows, which hold as many numbers
Part = tuple[int, ...]


class Workshop:
    """One model and its calibration rows. What several recipes need is made once."""

    def __init__(self, model: ModelProto, rows: Sequence[Feed]) -> None:
        """Run the calibration rows.

        Raises:
            UnsupportedError: the network engine cannot generate the model.
        """
        self.plain = layers.plain(model)
        network = network_of(self.plain)
        order = simulate.layer_order(network)
        self.order, self.work, self.reads = order.names, order.work, order.reads
        known = {layer.out for layer in Model(self.plain).layers()}
        self.fixed = frozenset(i for i, name in enumerate(self.order) if name not in known)
        self.rows = list(rows[: max(LEAST_ROWS, min(MAX_ROWS, MAX_VALUES // max(1, order.values)))])
        self.outputs = [value.name for value in model.graph.output]
        self.expected: list[list[NDArray[Any]]] = []
        self._names = tensor_names(network)
        self._links: list[Link] = links(Model(self.plain))
        self._peaks: list[dict[str, Array]] = []
        wanted = [*self._names, *(link.value for link in self._links), *self.outputs]
        self._base = Statistics.of(self.plain, wanted, self.rows, seen=self._see)
        self._equal: dict[Part, tuple[ModelProto, Statistics]] = {}
        self._moments: dict[tuple[bool, Part], rounding.Moments] = {}

    @property
    def everything(self) -> Part:
        """The places of all rows."""
        return tuple(range(len(self.rows)))

    def precision(self, recipe: Recipe) -> Precision:
        """Return which layers stay in float32: those of the recipe, and those that are part of another operator, as a
        recurrent layer's products are, and that `simulate` says nothing of.
        """
        return dataclasses.replace(recipe.precision, leave=recipe.precision.leave | self.fixed)

    @property
    def equalisable(self) -> bool:
        """Whether there is anything that equalisation could change."""
        return bool(self._links)

    def clipped(self, recipe: Recipe) -> list[float]:
        """Return how many times wider the range of what each layer reads is when clipped the one way than the other.

        From all rows: it says what is to be tried first, and is no score.
        """
        _, statistics, places = self._form(recipe.cle, self.everything)
        one, two = (statistics.ranges(clip, places) for clip in (recipe.clip, recipe.other_clip))
        return [
            max((_ratio(one[name], two[name]) for name in names if name in one), default=1.0) for names in self.reads
        ]

    def _see(self, values: dict[str, NDArray[Any]]) -> None:
        self._peaks.append({link.value: peak(values[link.value], link.axis) for link in self._links})
        self.expected.append([values[name] for name in self.outputs])

    def made(self, recipe: Recipe, part: Part) -> tuple[ModelProto, Ranges, simulate.Placement]:
        """Return the model that a recipe makes from some rows, its ranges, and where bytes are."""
        proto, statistics, places = self._form(recipe.cle, part)
        ranges = dict(statistics.ranges(recipe.clip, places))
        if recipe.other:
            other = statistics.ranges(recipe.other_clip, places)
            names = [name for i in recipe.other if i < len(self.reads) for name in self.reads[i]]
            ranges |= {name: other[name] for name in names if name in other}
        place = simulate.placement(proto, ranges, self.precision(recipe))
        if recipe.gptq or recipe.bias:
            moments = self._second(recipe.cle, part, proto)
            done = rounding.gptq(proto, moments, place.layers) if recipe.gptq else proto
            proto = rounding.correct_biases(done, proto, moments, place.layers) if recipe.bias else done
        return proto, ranges, place

    def source(self, recipe: Recipe, machine: Machine) -> Source:
        """Return the generated code of a recipe, from all rows."""
        proto, ranges, _ = self.made(recipe, self.everything)
        return generate(proto, machine, ranges=ranges, precision=self.precision(recipe))

    def answers(self, recipe: Recipe, learned: Part, asked: Part) -> list[list[NDArray[Any]]]:
        """Return the outputs of a recipe made from some rows on others, as its integer arithmetic gives them."""
        proto, _, place = self.made(recipe, learned)
        run = session(simulate.simulated(proto, place))
        return [run.run(self.outputs, dict(self.rows[i])) for i in asked]

    def noisy(self) -> tuple[NDArray[Any], ...]:
        """Return the float32 outputs where the inputs are moved by one byte's step, all rows stacked."""
        names = list(self.rows[0])
        moved = gates.noise(tuple(np.stack([row[name] for row in self.rows]) for name in names))
        run = session(self.plain)
        feeds = [dict(zip(names, (each[i] for each in moved), strict=True)) for i in range(len(self.rows))]
        return self.stacked([run.run(self.outputs, feed) for feed in feeds])

    @staticmethod
    def stacked(answers: Sequence[Sequence[NDArray[Any]]]) -> tuple[NDArray[Any], ...]:
        """Return the outputs of several rows as the gates take them: the first extent counts rows."""
        return tuple(np.stack(list(each)) for each in zip(*answers, strict=True))

    def exported(self, recipe: Recipe) -> tuple[ModelProto, simulate.Placement]:
        """Return a recipe as QDQ ONNX, and where its bytes are."""
        proto, _, place = self.made(recipe, self.everything)
        return simulate.exported(proto, place), place

    def _form(self, cle: bool, part: Part) -> tuple[ModelProto, Statistics, Sequence[int] | None]:
        if not cle:
            return self.plain, self._base, part
        if part not in self._equal:
            proto = rescaled(self.plain, self.factors(part))
            self._equal[part] = proto, Statistics.of(proto, self._names, [self.rows[i] for i in part])
        return *self._equal[part], None

    def factors(self, part: Part) -> dict[str, NDArray[np.float64]]:
        """Return what equalisation divides channels by, from some rows."""
        names = [link.value for link in self._links]
        peaks = {name: np.max([self._peaks[i][name] for i in part], axis=0) for name in names}
        return factors(self.plain, peaks)

    def _second(self, cle: bool, part: Part, proto: ModelProto) -> rounding.Moments:
        key = (cle, part)
        if key not in self._moments:
            moments = rounding.Moments(Model(proto))
            Statistics.of(proto, moments.names, [self.rows[i] for i in part], (), moments.add)
            self._moments[key] = moments
        return self._moments[key]


def _ratio(one: tuple[float, float], two: tuple[float, float]) -> float:
    widths = sorted((one[1] - one[0], two[1] - two[0]))
    return widths[1] / max(widths[0], 1e-12)
