"""Comparisons of a forest as ranks: x <= t holds exactly when the number of the feature's thresholds below x is at
most the number of those below t.

So one search for each feature and row replaces the floats, and a node holds a few bits instead of a float. A feature
whose missing values go one way in some nodes and the other way in others becomes two columns.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from skerry_compiler.engines.native import ir

FANOUT = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A feature with its thresholds, ascending, f32[t]; `missing` is the code of a value that is no number."""

    feature: int
    thresholds: np.ndarray
    missing: int

    @property
    def levels(self) -> int:
        """Steps of the search among them."""
        count, levels = len(self.thresholds), 1
        while count > FANOUT**levels - 1:
            levels += 1
        return levels

    def tables(self) -> list[np.ndarray]:
        """Return the search tree, one f32 array a level, root first: every 16^k-th threshold, filled with infinity.

        A step from block b of a level leads to block 16 b + (how many of the block's 16 are below x) of the next; at
        the last level that number is the code.
        """
        found = []
        for level in range(1, self.levels + 1):
            stride = FANOUT ** (self.levels - level)
            kept = self.thresholds[stride - 1 :: stride]
            size = -(-(len(self.thresholds) // stride + 1) // FANOUT) * FANOUT
            table = np.full(size, np.inf, np.float32)
            table[: len(kept)] = kept
            found.append(table)
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class Codes:
    """All columns of a forest, those of equally deep search side by side."""

    columns: tuple[Column, ...]
    place: dict[tuple[int, bool], int]

    @property
    def most(self) -> int:
        """The greatest code that a column can have."""
        return max((len(each.thresholds) for each in self.columns), default=0)

    def threshold(self, column: int, value: float) -> int:
        """Return a threshold's code: x <= value exactly when the code of x is at most this."""
        return int(np.searchsorted(self.columns[column].thresholds, np.float32(value)))


def codes(op: ir.Forest) -> Codes:
    """Return the columns that a forest compares."""
    splits = [tree.feature >= 0 for tree in op.trees]
    features = np.concatenate([tree.feature[at] for tree, at in zip(op.trees, splits, strict=True)])
    thresholds = np.concatenate([tree.threshold[at] for tree, at in zip(op.trees, splits, strict=True)])
    missing = np.concatenate([tree.missing[at] for tree, at in zip(op.trees, splits, strict=True)]).astype(bool)
    columns = []
    for feature in np.unique(features):
        for yes in np.unique(missing[features == feature]):
            kept = np.unique(thresholds[(features == feature) & (missing == yes)]).astype(np.float32)
            columns.append((bool(yes), Column(int(feature), kept, 0 if yes else len(kept))))
    columns.sort(key=lambda each: (each[1].levels, each[1].feature, each[0]))
    place = {(each.feature, yes): index for index, (yes, each) in enumerate(columns)}
    return Codes(tuple(each for _, each in columns), place)
