"""From a planned network to one C file and one blob of weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from skerry_compiler.engines.network import (
    emit_affine,
    emit_conv,
    emit_depthwise,
    emit_loops,
    emit_map,
    emit_move,
    emit_permute,
    emit_pool,
    emit_recurrent,
    emit_winograd,
    graph,
    loops,
    recurrent,
    threads,
)
from skerry_compiler.engines.network.alike import together
from skerry_compiler.engines.network.code import Code, Tables, literal
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.functions import FAULT, TYPES, used
from skerry_compiler.engines.network.halves import Halves
from skerry_compiler.engines.network.readable import GUIDE, MACROS, readable
from skerry_compiler.engines.network.tensors import BORDER
from skerry_compiler.engines.network.vectors import prelude
from skerry_compiler.engines.network.winograd import Winograd

ABI = 1
Emitter = Callable[[Any, str, Tables, Machine], Code | None]
EMITTERS: dict[type[graph.Op], Emitter] = {
    graph.Input: emit_move.emit_input,
    graph.Output: emit_move.emit_output,
    graph.Constant: emit_move.emit_constant,
    graph.Conv: emit_conv.emit,
    graph.Depthwise: emit_depthwise.emit,
    Halves: emit_conv.emit,
    Winograd: emit_winograd.emit,
    graph.Pool: emit_pool.emit_pool,
    graph.Resize: emit_pool.emit_resize,
    graph.Map: emit_affine.emit,
    graph.Softmax: emit_map.emit_softmax,
    graph.Normalise: emit_map.emit_normalise,
    graph.Reduce: emit_map.emit_reduce,
    graph.Reshape: emit_move.emit_reshape,
    graph.Permute: emit_permute.emit_permute,
    graph.Move: emit_move.emit_move,
    graph.Matmul: emit_move.emit_matmul,
    loops.Loops: emit_loops.emit_loops,
    loops.Cumulate: emit_loops.emit_cumulate,
    loops.Select: emit_loops.emit_select,
    loops.Mix: emit_loops.emit_mix,
    recurrent.Recurrent: emit_recurrent.emit_recurrent,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """Generated code: the C text, the bytes of its weights (symbol `skerry_weights`), the arena's size, and how many
    threads may share an inference.
    """

    c: str
    weights: bytes
    arena_bytes: int
    threads: int = 1


def emit(network: graph.Network, arena_bytes: int, machine: Machine) -> Source:
    """Return the source of a planned network."""
    tables = Tables()
    tables.exact = _exact(network)
    functions: dict[str, str] = {}
    calls: list[str] = []
    shared: list[str] = []
    plain: list[str] = []
    for number, op in enumerate(network.ops):
        name = f"op_{number}"
        tables.threads = threads.wanted(op, machine)
        code = EMITTERS[type(op)](op, name, tables, machine)
        if code is None:
            continue
        functions[name] = readable("\n".join(code.lines))
        argument = ""
        if isinstance(op, graph.Input):
            argument = f"(const {BORDER[op.given]} *)inputs[{op.index}]"
        elif isinstance(op, graph.Output):
            argument = f"({BORDER[op.taken]} *)outputs[{op.index}]"
        if not argument and code.stages in ([], [(name, 1)]):
            plain.append(name)
        for stage, parts in code.stages or [(name, 1)]:
            if parts > 1:
                shared.append(stage)
                calls.append(f"  share({len(shared)}, {parts});")
            else:
                calls.append(f"  {stage}({argument});")
    if machine.compact:
        alike, instead = together({name: functions[name] for name in plain})
        functions = {name: text for name, text in functions.items() if name not in plain} | alike
        calls = [f"  {instead.get(each.strip().removesuffix('();'), each.strip())}" for each in calls]
    sizes = _sizes(network)
    counts = [len(network.inputs), len(network.outputs), *sizes]
    memory = _memory(arena_bytes, tables, machine)
    crew = [threads.text(shared, machine.threads)] if shared else []
    if crew:
        calls = [threads.BEGIN, *calls, threads.END]
    text = "\n\n".join(
        [
            GUIDE.format(title=f"A network for {machine.name}.", about=_about(network, arena_bytes, tables)),
            prelude(machine, tables.exact),
            TYPES + FAULT + used("\n".join(functions.values())),
            '#define PUBLIC __attribute__((visibility("default"), used))\n'
            f"PUBLIC const uint32_t skerry_abi = {ABI};\n"
            f"PUBLIC const uint64_t skerry_sizes[] = {{{', '.join(map(str, counts))}}};\n"
            'extern const uint8_t skerry_weights[] __attribute__((visibility("hidden")));\n'
            "#define weights skerry_weights\n"
            f"static uint8_t arena[{memory}] __attribute__((aligned(64)));\n"
            f"#define scratch (arena + {arena_bytes})\n{MACROS}" + _own(arena_bytes, tables),
            *(readable(each) for each in tables.helpers),
            *functions.values(),
            *crew,
            "PUBLIC int32_t skerry_run(const void *const *inputs, void *const *outputs) {\n"
            + "\n".join(["  fault = 0;", *calls])
            + "\n  return fault;\n}\n",
        ]
    )
    return Source(text, bytes(tables.blob) + bytes(128), memory, machine.threads if shared else 1)


def _exact(network: graph.Network) -> bool:
    """Return whether all sums of products are of bytes. What is left in floats then costs little, and is computed with
    one rounding for each operation and in one order, so that every processor gives the same bits.
    """
    sums = [op for op in network.ops if isinstance(op, (graph.Conv, graph.Matmul, recurrent.Recurrent))]
    return bool(sums) and all(isinstance(op, graph.Conv) and op.x.quant is not None for op in sums)


def _own(arena_bytes: int, tables: Tables) -> str:
    """Return the C by which a part finds its thread's memory."""
    if not tables.own_bytes:
        return ""
    return "\n" + threads.HEAD.format(own=arena_bytes, own_bytes=tables.own_bytes)


def _memory(arena_bytes: int, tables: Tables, machine: Machine) -> int:
    """Return the bytes of tensors and of scratch memory, which lies behind them: one for all threads, or one each."""
    return arena_bytes + max(tables.scratch_bytes, tables.own_bytes * machine.threads)


def _about(network: graph.Network, arena_bytes: int, tables: Tables) -> str:
    """Return what goes in and out, and how much memory there is, for the head of the file."""
    lines = []
    for what, each in (("inputs", network.inputs), ("outputs", network.outputs)):
        lines += [f"   {what}[{i}] {literal(name)}: {list(shape)}" for i, (name, shape) in enumerate(each)]
    return "\n".join([*lines, f"   {len(tables.blob)} bytes of constants, {arena_bytes} of tensors"])


def _sizes(network: graph.Network) -> list[int]:
    """Return the bytes of each input and output."""
    given = {op.index: op.given for op in network.ops if isinstance(op, graph.Input)}
    taken = {op.index: op.taken for op in network.ops if isinstance(op, graph.Output)}
    kinds = [given[i] for i in range(len(given))] + [taken[i] for i in range(len(taken))]
    shapes = [shape for _, shape in network.inputs + network.outputs]
    return [np.dtype(k).itemsize * math.prod(s) for k, s in zip(kinds, shapes, strict=True)]
