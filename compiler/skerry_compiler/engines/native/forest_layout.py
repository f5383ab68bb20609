"""Where the trees and nodes of a forest lie for the vector form, and how a node is packed into 32 bits."""

from __future__ import annotations

import dataclasses

import numpy as np

from skerry_compiler.engines.native import ir
from skerry_compiler.engines.native.forest_codes import Codes, codes

LANES = 16
TOP = 7  # nodes of the first three levels
MAX_COLUMNS = 1 << 12


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """How nodes are packed: bits of a rank, of a child's place and of a column; trees in table order, each group
    padded with -1 (a tree of one leaf worth nothing); `ranges` are the groups of each output column, or None.
    """

    codes: Codes
    rank_bits: int
    next_bits: int
    order: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...] | None


def plan(op: ir.Forest) -> Layout | None:
    """Return the layout of a forest, or None where its nodes do not fit into 32 bits."""
    found = codes(op)
    rank_bits = max(1, found.most.bit_length())
    next_bits = max(1, max(len(tree.feature) for tree in op.trees).bit_length())
    column_bits = max(1, (len(found.columns) - 1).bit_length())
    if rank_bits + next_bits + column_bits > 32 or rank_bits > 16 or len(found.columns) > MAX_COLUMNS:
        return None
    depths = [tree.depth for tree in op.trees]
    by_depth = sorted(range(len(op.trees)), key=lambda index: (depths[index], index))
    order, ranges = _padded(by_depth), None
    if op.target is not None:
        parts = [_padded([each for each in by_depth if op.target[each] == c]) for c in range(op.output.width)]
        if sum(map(len, parts)) * 3 <= len(order) * 4:
            ends = np.cumsum([len(part) for part in parts]).tolist()
            ranges = tuple(zip([0, *ends[:-1]], ends, strict=True))
            order = [each for part in parts for each in part]
    elif op.output.width == 1:
        ranges = ((0, len(order)),)
    return Layout(found, rank_bits, next_bits, tuple(order), ranges)


def _padded(order: list[int]) -> list[int]:
    return order + [-1] * (-len(order) % LANES)


def tables(op: ir.Forest, layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return all trees' nodes, the first three levels by group, each tree's first node, and each node's row of
    values.
    """
    words: list[np.ndarray] = []
    rows: list[np.ndarray] = []
    tops = np.zeros((len(layout.order) // LANES, TOP, LANES), np.uint32)
    bases = np.zeros(len(layout.order), np.uint32)
    free = 0
    for place, index in enumerate(layout.order):
        packed, row, top = _tree(op, layout, index)
        words.append(packed)
        rows.append(row)
        tops[place // LANES, :, place % LANES] = packed[top]
        bases[place] = free
        free += len(packed)
    return np.concatenate(words), tops, bases, np.concatenate(rows)


def _tree(op: ir.Forest, layout: Layout, index: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return one tree's packed nodes, their rows of values (-1 for a tree worth nothing), and the places of its first
    three levels.
    """
    most = (1 << layout.rank_bits) - 1
    if index < 0:
        return np.array([most], np.uint32), np.array([-1]), [0] * TOP
    tree, found = op.trees[index], layout.codes
    size = len(tree.feature)
    words, rows = np.zeros(size, np.uint32), np.zeros(size, np.int64)
    waiting, free = [(0, 0)], 1
    children = [(0, 0)] * size
    while waiting:
        node, place = waiting.pop()
        if tree.feature[node] < 0:
            words[place], rows[place] = most | place << layout.rank_bits, tree.row[node]
            children[place] = (place, place)
            continue
        column = found.place[int(tree.feature[node]), bool(tree.missing[node])]
        rank = found.threshold(column, tree.threshold[node])
        words[place] = rank | free << layout.rank_bits | column << (layout.rank_bits + layout.next_bits)
        children[place] = (free, free + 1)
        waiting += [(int(tree.no[node]), free + 1), (int(tree.yes[node]), free)]
        free += 2
    one, two = children[0]
    return words, rows, [0, one, two, *children[one], *children[two]]
