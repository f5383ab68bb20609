"""Where every value lives: the caller's buffers, tables, or one static arena whose bytes are used again when a value
is dead.
"""

from __future__ import annotations

import dataclasses

from skerry_compiler.engines.native import ir

ALIGN_BYTES = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """`place` maps a value's name to a C expression for its first byte; `copies` are (output number, value) to copy
    at the end.
    """

    place: dict[str, str]
    arena_bytes: int
    copies: tuple[tuple[int, ir.Value], ...]


def plan(graph: ir.Graph, padding_bytes: int) -> Plan:
    """Return where the values of a graph live.

    Args:
        graph: fused.
        padding_bytes: room behind each value in the arena, so that the last vector may be stored whole.
    """
    root = _roots(graph)
    place = {value.name: f"in[{index}]" for index, value in enumerate(graph.inputs)}
    copies: list[tuple[int, ir.Value]] = []
    taken = set(place)
    made = {op.output.name: op for op in graph.ops}
    for index, value in enumerate(graph.outputs):
        origin = root[value.name]
        if origin in taken or isinstance(made.get(origin), ir.Constant):
            copies.append((index, value))
        else:
            place[origin] = f"out[{index}]"
            taken.add(origin)
    last = _last_reads(graph, root)
    live: list[tuple[int, int, int]] = []  # start, end, last read
    arena = 0
    for step, op in enumerate(graph.ops):
        name = op.output.name
        if isinstance(op, ir.Constant):
            place[name] = f"constant{step}"
        if root[name] != name or name in place:
            continue
        live = [each for each in live if each[2] >= step]
        size = _aligned(op.output.size_bytes + padding_bytes)
        start = _gap(sorted(live), size)
        live.append((start, start + size, last.get(name, step)))
        arena = max(arena, start + size)
        place[name] = f"arena + {start}"
    for name, origin in root.items():
        place[name] = place[origin]
    return Plan(place, arena, tuple(copies))


def _roots(graph: ir.Graph) -> dict[str, str]:
    """Return for every value the value whose bytes it shares; views share, everything else has its own."""
    root = {value.name: value.name for value in graph.inputs}
    for op in graph.ops:
        root[op.output.name] = root[op.inputs[0].name] if isinstance(op, ir.View) else op.output.name
    return root


def _last_reads(graph: ir.Graph, root: dict[str, str]) -> dict[str, int]:
    last: dict[str, int] = {}
    for step, op in enumerate(graph.ops):
        for value in op.inputs:
            last[root[value.name]] = step
    for value in graph.outputs:
        last[root[value.name]] = len(graph.ops)
    return last


def _gap(live: list[tuple[int, int, int]], size: int) -> int:
    """Return the first offset with room for `size` bytes between live values."""
    start = 0
    for begin, end, _ in live:
        if begin - start >= size:
            break
        start = max(start, end)
    return start


def _aligned(size: int) -> int:
    return -(-size // ALIGN_BYTES) * ALIGN_BYTES
