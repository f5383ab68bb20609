"""Tree ensembles in four forms, all timed by the tournament where a board can be timed. The vector form is in
emit_walk, the small one in emit_small.

Table: one node is 8 bytes, the two children of a node lie side by side, and a step is `node += node->next +
!(x[feature] <= threshold)` without a branch. Several trees walk at once to hide the latency of memory. A leaf steps
to itself: its `next` is 0, it looks at one more feature that is minus infinity, and its threshold, which is never
below that, holds the number of its row of values.

Branchy: nested if and else, which win where trees are small or inputs follow few ways.
"""

from __future__ import annotations

import numpy as np

from skerry_compiler.engines.native import emit_small, emit_walk, ir
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.engines.native.text import Source, number

TABLE, BRANCHY, VECTOR, SMALL = "table", "branchy", "vector", "small"
MAX_BRANCHY_SPLITS = 4_000  # the C compiler takes half a second for a thousand, and larger ones never won
MAX_EXACT_ROW = 1 << 24  # rows beyond are not exact in a float32


def splits(op: ir.Forest) -> int:
    """Return how many splits all trees have together."""
    return sum(int(np.count_nonzero(tree.feature >= 0)) for tree in op.trees)


def emit(op: ir.Forest, name: str, source: Source, machine: Machine, form: str) -> None:
    """Add the functions of one ensemble. Signature: (const float *x, float *y)."""
    features, count = op.inputs[0].width, len(op.trees)
    row_type = "uint16_t" if len(op.values) < 1 << 16 else "uint32_t"
    if form == VECTOR and emit_walk.fits(op, machine):
        body = emit_walk.emit(op, name, source)
    elif form == SMALL and emit_small.fits(op):
        body = emit_small.emit(op, name, source)
    else:
        walk = _branchy(op, name, source, row_type) if form == BRANCHY else _table(op, name, source, machine)
        body = "\n".join([f"{row_type} leaf[{count}];", walk, _sum(op, name, source)])
    if op.inputs[0].rows > 1:
        step = op.output.elements // op.inputs[0].rows
        body = f"for (int row = 0; row < {op.inputs[0].rows}; row++, x += {features}, y += {step}) {{\n{body}\n}}"
    about = f"{op.output.name}: {count} trees, {splits(op)} splits, {len(op.values)} rows of values, {form} form"
    source.function(name, "const float *restrict x, float *restrict y", body, about)


def _sum(op: ir.Forest, name: str, source: Source) -> str:
    """Return the code that adds the leaves' values, in double precision: so near ties fall as in the original."""
    count, columns = len(op.trees), op.output.width
    base = source.table(f"{name}_base", op.base)
    divide = f" / {number(op.divide_by)}" if op.divide_by != 1.0 else ""
    values = source.table(f"{name}_values", op.values)
    if op.target is not None:
        target = source.table(f"{name}_target", np.asarray(op.target, np.uint32), "uint32_t")
        add = f"sum[{target}[t]] += {values}[leaf[t]];"
    else:
        add = f"for (int c = 0; c < {columns}; c++) sum[c] += {values}[(uint32_t)leaf[t] * {columns} + c];"
    return (
        f"double sum[{columns}];\nfor (int c = 0; c < {columns}; c++) sum[c] = 0.0;\n"
        f"for (int t = 0; t < {count}; t++) {add}\n"
        f"for (int c = 0; c < {columns}; c++) y[c] = (float)(sum[c]{divide} + {base}[c]);"
    )


def _branchy(op: ir.Forest, name: str, source: Source, row_type: str) -> str:
    for index, tree in enumerate(op.trees):
        body = "\n".join(_branches(tree, 0, 1))
        source.functions.append(f"static {row_type} {name}_tree{index}(const float *restrict x)\n{{\n{body}\n}}")
    return "\n".join(f"leaf[{index}] = {name}_tree{index}(x);" for index in range(len(op.trees)))


def _branches(tree: ir.Tree, node: int, depth: int) -> list[str]:
    """Return the statements of a subtree; written with a stack, because trees may be deeper than Python's own."""
    lines: list[str] = []
    waiting: list[tuple[int, int] | str] = [(node, depth)]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            lines.append(item)
            continue
        at, level = item
        pad = "    " + " " * min(level, 40)
        if tree.feature[at] < 0:
            lines.append(f"{pad}return {int(tree.row[at])};")
            continue
        feature, threshold = int(tree.feature[at]), number(tree.threshold[at])
        test = f"!(x[{feature}] > {threshold})" if tree.missing[at] else f"x[{feature}] <= {threshold}"
        lines.append(f"{pad}if ({test}) {{")
        waiting += [(int(tree.no[at]), level + 1), f"{pad}}}", (int(tree.yes[at]), level + 1)]
    return lines


def _table(op: ir.Forest, name: str, source: Source, machine: Machine) -> str:
    """Add the node table and return the walk over it."""
    features, count = op.inputs[0].width, len(op.trees)
    if len(op.values) >= MAX_EXACT_ROW:
        raise ValueError("too many distinct leaves for the table form")
    depths = [tree.depth for tree in op.trees]
    order = sorted(range(count), key=lambda index: (depths[index], index))
    threshold, feature, following, missing, roots = _nodes(op, order, features)
    any_missing = bool(np.any(missing))
    narrow = features < 1 << 16 and int(following.max(initial=0)) < 1 << 16
    kind = "uint16_t" if narrow else "uint32_t"
    fields = ["float threshold;", f"{kind} feature;", f"{kind} next;"]
    items = [f"{number(t)}, {f}, {n}" for t, f, n in zip(threshold, feature, following, strict=True)]
    if any_missing:
        fields.append("uint32_t missing;")
        items = [f"{item}, {int(each)}" for item, each in zip(items, missing, strict=True)]
    rows = "\n".join(f"    {{{item}}}," for item in items)
    source.constant_bytes += len(items) * (16 if any_missing else 8 if narrow else 12)
    source.tables.append(
        f"struct {name}_node {{\n    " + "\n    ".join(fields) + "\n};\n"
        f"static const struct {name}_node {name}_nodes[{len(items)}] __attribute__((aligned(64))) = {{\n{rows}\n}};"
    )
    source.table(f"{name}_roots", np.asarray(roots, np.uint32), "uint32_t")
    source.table(f"{name}_order", np.asarray(order, np.uint32), "uint32_t")
    together = max(1, min(count, 16 if machine.general_registers > 16 else 8))
    step = "n->next + !(xs[n->feature] <= n->threshold)"
    if any_missing:
        step = "n->next + !(xs[n->feature] <= n->threshold || (n->missing && xs[n->feature] != xs[n->feature]))"
    lines = [f"float xs[{features + 1}];", f"copy(xs, x, {features * 4});"]
    lines.append(f"xs[{features}] = -__builtin_inff(); // what leaves look at")
    groups = [order[start : start + together] for start in range(0, count, together)]
    whole = [group for group in groups if len(group) == together]
    if whole:
        levels = source.table(
            f"{name}_depth", np.asarray([max(depths[index] for index in group) for group in whole]), "uint16_t"
        )
        lines += _walk(name, "int g = 0", f"g < {len(whole)}", "g++", f"g * {together}", f"{levels}[g]", together, step)
    if len(groups) > len(whole):
        rest = groups[-1]
        at = len(whole) * together
        lines += _walk(name, "", "", "", str(at), str(max(depths[index] for index in rest)), len(rest), step)
    return "\n".join(lines)


def _walk(name: str, start: str, test: str, after: str, first: str, depth: str, together: int, step: str) -> list[str]:
    """Return the code that walks `together` trees side by side, from place `first` of the order on."""
    head = f"for ({start}; {test}; {after}) {{" if start else "{"
    lines = [head, f"    const uint32_t *root = {name}_roots + {first}, *tree = {name}_order + {first};"]
    lines += [f"    const struct {name}_node *n{i} = {name}_nodes + root[{i}];" for i in range(together)]
    lines.append(f"    for (int level = {depth}; level > 0; level--) {{")
    lines += [f"        n{i} += {step.replace('n->', f'n{i}->')};" for i in range(together)]
    lines.append("    }")
    lines += [f"    leaf[tree[{i}]] = (uint32_t)n{i}->threshold;" for i in range(together)]
    return [*lines, "}"]


def _nodes(
    op: ir.Forest, order: list[int], features: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Return thresholds, features, distances to the first child, missing flags, and each tree's root, in table
    order.
    """
    total = sum(len(tree.feature) for tree in op.trees)
    threshold, feature = np.zeros(total, np.float32), np.full(total, features, np.int64)
    following, missing = np.zeros(total, np.int64), np.zeros(total, np.int64)
    roots, free = [], 0
    for index in order:
        tree = op.trees[index]
        roots.append(free)
        waiting = [(0, free)]
        free += 1
        while waiting:
            node, place = waiting.pop()
            if tree.feature[node] < 0:
                threshold[place] = tree.row[node]
                continue
            threshold[place], feature[place] = tree.threshold[node], tree.feature[node]
            following[place], missing[place] = free - place, tree.missing[node]
            waiting += [(int(tree.no[node]), free + 1), (int(tree.yes[node]), free)]
            free += 2
    return threshold, feature, following, missing, roots
