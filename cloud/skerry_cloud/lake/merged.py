"""What a bundle's sketches say together, over all devices and windows: everything that can be added up."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from skerry_cloud.lake.lake import Lake
from skerry_contracts.errors import MismatchError
from skerry_contracts.frequent import Frequent, merge_frequent
from skerry_contracts.quantiles import Quantiles, merge_quantiles
from skerry_contracts.sketch import Moments, merge_moments

Part = TypeVar("Part", Quantiles, Frequent)


@dataclasses.dataclass(frozen=True, slots=True)
class MergedSketch:
    """By source; `upto` is the last sketch's id. Parts of another size than most (a policy that changed) are left out:
    they cannot be added up.
    """

    predictions: int
    upto: int
    moments: dict[str, Moments]
    quantiles: dict[str, Quantiles]
    frequent: dict[str, Frequent]


def merged_sketch(lake: Lake, bundle: str, after: int = 0) -> MergedSketch:
    """Return the sum of a bundle's sketches after an id; histograms are in `Lake.merged_histograms`.

    Raises:
        DataError: a segment cannot be read.
    """
    rows, predictions, upto = lake.sketch_rows(bundle, after)
    moments: dict[str, Moments] = {}
    quantiles: list[Quantiles] = []
    frequent: list[Frequent] = []
    for row in rows:
        for each in row["moments"] or ():
            part = Moments(**each)
            moments[part.source] = merge_moments(moments[part.source], part) if part.source in moments else part
        quantiles += _read(_quantiles, row.get("quantiles"))
        frequent += _read(_frequent, row.get("frequent"))
    return MergedSketch(
        predictions,
        upto,
        moments,
        _summed(quantiles, lambda each: each.k, merge_quantiles),
        _summed(frequent, lambda each: each.capacity, merge_frequent),
    )


def _read(make: Callable[[dict[str, Any]], Part], plain: Iterable[dict[str, Any]] | None) -> list[Part]:
    found = []
    for each in plain or ():
        try:
            found.append(make(each))
        except MismatchError:  # one device that sends nonsense must not blind the view of all the others
            continue
    return found


def _quantiles(plain: dict[str, Any]) -> Quantiles:
    return Quantiles(**{**plain, "levels": tuple(tuple(level) for level in plain["levels"])})


def _frequent(plain: dict[str, Any]) -> Frequent:
    return Frequent(**{**plain, "counters": dict(plain["counters"])})


def _summed(parts: list[Part], size: Callable[[Part], int], merge: Callable[[list[Part]], Part]) -> dict[str, Part]:
    groups: defaultdict[str, defaultdict[int, list[Part]]] = defaultdict(lambda: defaultdict(list))
    for part in parts:
        groups[part.source][size(part)].append(part)
    return {source: merge(max(sizes.values(), key=len)) for source, sizes in groups.items()}
