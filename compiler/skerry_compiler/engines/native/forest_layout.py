"""Where the trees and nodes of a forest lie for the vector form, and how a node is packed into 32 bits."""

from __future__ import annotations

import dataclasses

import numpy as np

from skerry_compiler.engines.native import ir
from skerry_compiler.engines.native.forest_codes import Codes, codes

LANES, GROUPS = 16, 4  # trees of a group, groups that walk together
TOP, TOP_LEVELS = 7, 3  # nodes of the first three levels, which need no gather
MAX_COLUMNS = 1 << 12


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """How nodes are packed: bits of a rank, of a child's place and of a column; trees in table order, each group
    padded with -1 (a tree of one leaf worth nothing); `columns` is the output column of each group, where all its
    trees have one.
    """

    codes: Codes
    rank_bits: int
    next_bits: int
    order: tuple[int, ...]
    columns: tuple[int, ...] | None


def plan(op: ir.Forest) -> Layout | None:
    """Return the layout of a forest, or None where its nodes do not fit into 32 bits."""
    found = codes(op)
    rank_bits = max(1, found.most.bit_length())
    next_bits = max(1, max(len(tree.feature) for tree in op.trees).bit_length())
    column_bits = max(1, (len(found.columns) - 1).bit_length())
    if rank_bits + next_bits + column_bits > 32 or rank_bits > 16 or len(found.columns) > MAX_COLUMNS:
        return None
    depths = [tree.depth for tree in op.trees]
    order = _padded(sorted(range(len(op.trees)), key=lambda index: (depths[index], index)))
    columns: tuple[int, ...] | None = None
    if op.target is not None:
        grouped, apart = _by_column(op, order, depths)
        extra = len(order) // LANES  # one more gather a group, for sums over trees in any place
        if _gathers(grouped, depths) <= _gathers(order, depths) + extra:
            order, columns = grouped, apart
    elif op.output.width == 1:
        columns = (0,) * (len(order) // LANES)
    return Layout(found, rank_bits, next_bits, tuple(order), columns)


def _by_column(op: ir.Forest, order: list[int], depths: list[int]) -> tuple[list[int], tuple[int, ...]]:
    """Return an order whose groups have one output column each, shallow groups first, and the columns."""
    assert op.target is not None
    groups = []
    for column in range(op.output.width):
        part = _padded([each for each in order if each >= 0 and op.target[each] == column])
        groups += [(part[at : at + LANES], column) for at in range(0, len(part), LANES)]
    groups.sort(key=lambda each: max(depths[index] for index in each[0] if index >= 0))
    return [index for group, _ in groups for index in group], tuple(column for _, column in groups)


def _gathers(order: list[int], depths: list[int]) -> int:
    """Return how many times sixteen nodes or leaves are fetched: what walking in this order costs."""
    groups = [order[at : at + LANES] for at in range(0, len(order), LANES)]
    deep = [max(depths[index] for index in group if index >= 0) for group in groups]
    batches = [deep[at : at + GROUPS] for at in range(0, len(deep), GROUPS)]
    return sum(len(batch) * (1 + max(0, max(batch) - TOP_LEVELS)) for batch in batches)


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
