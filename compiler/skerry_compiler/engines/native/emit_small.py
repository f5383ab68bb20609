"""Tree ensembles in few bytes, for boards on which flash is dear: splits of two words, leaves of one.

A split's first child lies right behind it, so that only the distance to the second is stored. In words of 16 bits a
split holds its feature and the place of its threshold among the different ones; where that does not fit, words have 32
bits and hold the threshold itself. Of a leaf's row of values only those that are not zero are stored, as places among
the different ones: a forest's leaves know few of many classes. Sums are those of the other forms to the bit.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from skerry_compiler.engines.native import ir
from skerry_compiler.engines.native.text import Source, number

DISTANCE_BITS = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Words:
    """How a split is packed. `bits`: of a word, the highest of which marks a leaf; `levels`: the different thresholds
    (none where words hold them); `low`: bits beside the feature in the first word; `missing`: whether one of those says
    where a value goes that is no number.
    """

    bits: int
    levels: np.ndarray
    low: int
    missing: bool


def _words(op: ir.Forest) -> Words | None:
    """Return how the splits of a forest are packed, None where they do not fit into 32 bits."""
    splits = [tree.feature >= 0 for tree in op.trees]
    thresholds = np.concatenate([tree.threshold[at] for tree, at in zip(op.trees, splits, strict=True)])
    levels = np.unique(thresholds.astype(np.float32).view(np.uint32))
    features = max((int(tree.feature.max()) for tree in op.trees), default=0)
    missing = any(tree.missing[at].any() for tree, at in zip(op.trees, splits, strict=True))
    feature_bits, longest = max(features, 0).bit_length(), max(2 * len(tree.feature) for tree in op.trees)
    low = max(len(levels) - 1, 0).bit_length() + missing
    if feature_bits + low < 16 and longest < 1 << DISTANCE_BITS and _starts(op) < 1 << 15:
        return Words(16, levels, low, missing)
    low = longest.bit_length() + missing
    return Words(32, np.zeros(0, np.uint32), low, missing) if feature_bits + low < 32 else None


def _starts(op: ir.Forest) -> int:
    """Return how many places of leaves' values there can be."""
    return len(op.values) if _single(op) else int(np.maximum((op.values != 0).sum(axis=1), 1).sum())


def _single(op: ir.Forest) -> bool:
    return op.target is not None or op.output.width == 1


def fits(op: ir.Forest) -> bool:
    """Return whether the nodes fit into words of 32 bits."""
    return _words(op) is not None


def emit(op: ir.Forest, name: str, source: Source) -> str:
    """Add the tables and return the code for one row: from x to y.

    Raises:
        ValueError: the nodes do not fit.
    """
    words = _words(op)
    if words is None:
        raise ValueError("nodes that do not fit into 32 bits")
    columns = op.output.width
    start, add = _values(op, name, source)
    nodes: list[int] = []
    roots = []
    for tree in op.trees:
        roots.append(len(nodes))
        nodes += _nodes(tree, words, start)
    kind = f"uint{words.bits}_t"
    source.table(f"{name}_nodes", np.array(nodes, f"u{words.bits // 8}"), kind)
    wide = "uint16_t" if len(nodes) < 1 << 16 else "uint32_t"
    source.table(f"{name}_roots", np.array(roots, "u2" if wide == "uint16_t" else "u4"), wide)
    base = source.table(f"{name}_base", op.base)
    divide = f" / {number(op.divide_by)}" if op.divide_by != 1.0 else ""
    lines = [
        f"double sum[{columns}];",
        f"for (int c = 0; c < {columns}; c++) sum[c] = 0.0;",
        f"for (int t = 0; t < {len(op.trees)}; t++) {{",
        f"    const {kind} *n = {name}_nodes + {name}_roots[t];",
        f"    while (!(*n >> {words.bits - 1})) {{",
        f"        const float v = x[*n >> {words.low}];",
        f"        n += {_test(words, name, source)} ? 2 : {_distance(words)};",
        "    }",
        f"    uint32_t at = *n & {(1 << words.bits - 1) - 1:#x};",
        *(f"    {line}" for line in add),
        "}",
        f"for (int c = 0; c < {columns}; c++) y[c] = (float)(sum[c]{divide} + {base}[c]);",
    ]
    return "\n".join(lines)


def _test(words: Words, name: str, source: Source) -> str:
    """Return the expression of whether a value v goes to the first child of split n."""
    if words.bits == 16:
        levels = source.table(f"{name}_levels", words.levels.view(np.float32))
        level = f"{levels}[(*n >> {int(words.missing)}) & {(1 << words.low - words.missing) - 1:#x}]"
    else:
        level = "(union { uint32_t i; float f; }){ .i = n[1] }.f"
    test = f"v <= {level}"
    return f"({test} || ((*n & 1) && v != v))" if words.missing else test


def _distance(words: Words) -> str:
    if words.bits == 16:
        return "n[1]"
    return f"((*n >> {int(words.missing)}) & {(1 << words.low - words.missing) - 1:#x})"


def _nodes(tree: ir.Tree, words: Words, start: np.ndarray) -> list[int]:
    """Return a tree's words: each split, its first child's, its second child's."""
    made: list[int] = []
    waiting: list[tuple[int, int]] = [(0, -1)]  # a node, and the split whose second child it is
    while waiting:
        node, parent = waiting.pop()
        if parent >= 0:
            distance = len(made) - parent
            if words.bits == 16:
                made[parent + 1] = distance
            else:
                made[parent] |= distance << words.missing
        if tree.feature[node] < 0:
            made.append(1 << words.bits - 1 | int(start[tree.row[node]]))
            continue
        bits = int(np.float32(tree.threshold[node]).view(np.uint32))
        level = int(np.searchsorted(words.levels, bits)) if words.bits == 16 else 0
        low = level << words.missing | int(words.missing and tree.missing[node] != 0)
        waiting += [(int(tree.no[node]), len(made)), (int(tree.yes[node]), -1)]
        made += [int(tree.feature[node]) << words.low | low, 0 if words.bits == 16 else bits]
    return made


def _values(op: ir.Forest, name: str, source: Source) -> tuple[np.ndarray, list[str]]:
    """Add the tables of the leaves' values; return where each row begins, and the code that adds the one at `at`."""
    count = len(op.values)
    if _single(op):
        values, column = source.table(f"{name}_values", op.values), "0"
        if op.target is not None:
            column = source.table(f"{name}_target", np.asarray(op.target, np.uint32), "uint32_t") + "[t]"
        return np.arange(count), [f"sum[{column}] += {values}[at];"]
    worth, place = np.unique(op.values.astype(np.float32).view(np.uint32), return_inverse=True)
    place = place.reshape(op.values.shape)
    shift = 1 + max(op.output.width - 1, 0).bit_length()
    pairs: list[int] = []
    start = np.zeros(count, np.int64)
    for row in range(count):
        start[row] = len(pairs)
        kept = np.nonzero(op.values[row])[0] if op.values[row].any() else np.zeros(1, np.int64)
        pairs += [int(place[row, c]) << shift | int(c) << 1 for c in kept]
        pairs[-1] |= 1
    kind = "uint16_t" if max(pairs) < 1 << 16 else "uint32_t"
    source.table(f"{name}_pairs", np.array(pairs, "u2" if kind == "uint16_t" else "u4"), kind)
    source.table(f"{name}_worth", worth.view(np.float32))
    return start, [
        f"{kind} pair;",
        "do {",
        f"    pair = {name}_pairs[at++];",
        f"    sum[(pair >> 1) & {(1 << shift - 1) - 1:#x}] += {name}_worth[pair >> {shift}];",
        "} while (!(pair & 1));",
    ]
