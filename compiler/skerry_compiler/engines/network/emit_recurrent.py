"""Recurrent layers: for each step a product of a vector and a matrix, then the gates, both in whole vectors."""

from __future__ import annotations

from skerry_compiler.engines.network.code import Code, Tables, at, halo, literal
from skerry_compiler.engines.network.cost import Machine
from skerry_compiler.engines.network.recurrent import GATES, Recurrent
from skerry_compiler.engines.network.tensors import Tensor

ACTIVATIONS = {
    "Sigmoid": "sigmoid{n}({v})",
    "Tanh": "tanh{n}({v})",
    "Relu": "max{n}({v}, all{n}(0.f))",
    "HardSigmoid": "min{n}(max{n}({v} * 0.2f + 0.5f, all{n}(0.f)), all{n}(1.f))",
    "Softsign": "{v} / (1.f + abs{n}({v}))",
}


def lanes_for(hidden: int, machine: Machine) -> int:
    """Return the vector width that wastes little on this many hidden values."""
    n = machine.lanes
    while n > 4 and -(-hidden // n) * n > 1.25 * hidden:
        n //= 2
    return n


def emit_recurrent(op: Recurrent, name: str, tables: Tables, machine: Machine) -> Code:
    """Return the C function of a recurrent layer."""
    code, y = Code(), op.y
    steps, batch, hidden, padded = op.sizes
    n, gates, directions = lanes_for(hidden, machine), GATES[op.cell], len(op.reverse)
    code.line(f"/* {literal(op.label)}: {op.cell}, {steps} steps of {batch}x{hidden}, {directions} directions */")
    code.open(f"static void {name}(void)")
    halo(code, y)
    code.line(f"const float *const x = {at(op.x)} + {op.x.origin};")
    code.line(f"float *const y = {at(y)} + {y.origin};")
    code.line(f"float h[{padded}] __attribute__((aligned(64))), c[{padded}] __attribute__((aligned(64)));")
    code.line(f"float g[{gates * padded}] __attribute__((aligned(64)));")
    if min(op.lengths) < steps:
        code.line(f"fill_bytes(y, 0, {4 * steps * batch * directions * hidden});")
    for d in range(directions):
        for b in range(batch):
            _sequence(code, op, tables, n, d, b)
    code.close()
    return code


def _sequence(code: Code, op: Recurrent, tables: Tables, n: int, d: int, b: int) -> None:
    """Write one direction of one sequence."""
    steps, batch, hidden, padded = op.sizes
    gates, directions, length = GATES[op.cell], len(op.reverse), op.lengths[b]
    code.open("")
    width = _width(op, n) * n
    panels = op.weight[d].reshape(hidden, -1, width).transpose(1, 0, 2)  # read from first to last in each step
    code.line(f"const float *const w = {tables.add(panels, 'float32')};")
    for variable, source in (("h", op.first), ("c", op.first_cell)):
        code.line(f"fill_bytes({variable}, 0, {4 * padded});")
        if source is not None:
            pointer = f"{at(source)} + {source.origin}" if isinstance(source, Tensor) else tables.add(source, "float32")
            code.line(f"copy_bytes({variable}, {pointer} + {(d * batch + b) * hidden}, {4 * hidden});")
    code.open(f"for (int i = 0; i < {length}; i++)")
    code.line(f"const int t = {f'{length - 1} - i' if op.reverse[d] else 'i'};")
    code.line(f"const float *const p = x + ((t * {batch} + {b}) * {directions} + {d}) * {gates * padded};")
    {"lstm": _lstm, "gru": _gru, "rnn": _rnn}[op.cell](code, op, tables, n, d)
    code.line(f"copy_bytes(y + ((t * {batch} + {b}) * {directions} + {d}) * {hidden}, h, {4 * hidden});")
    code.close()
    end = steps * batch * directions * hidden
    code.line(f"copy_bytes(y + {end + (d * batch + b) * hidden}, h, {4 * hidden});")
    if op.cell == "lstm":
        code.line(f"copy_bytes(y + {end + (directions * batch + d * batch + b) * hidden}, c, {4 * hidden});")
    code.close()


def _width(op: Recurrent, n: int) -> int:
    """Return how many vectors of columns every product takes at once."""
    columns = op.sizes[3] * (4 if op.cell == "lstm" else 1) // n
    return next(v for v in (8, 6, 5, 4, 3, 2, 1) if columns % v == 0)


def _product(code: Code, op: Recurrent, n: int, vector: str, first: int, count: int, start: str) -> None:
    """Write g[first..] = start + vector times the weights' columns from `first`; `count` columns."""
    hidden, width = op.sizes[2], _width(op, n)
    code.loop("j", first + count, width * n, first)
    code.line(f"const float *r = w + j * {hidden};")
    for k in range(width):
        code.line(f"f32x{n} s{k} = load{n}({start} + j + {k * n});")
    code.open(f"for (int k = 0; k < {hidden}; k++, r += {width * n})")
    code.line(f"const float a = {vector}[k];")
    for k in range(width):
        code.line(f"s{k} += a * load{n}(r + {k * n});")
    code.close()
    for k in range(width):
        code.line(f"store{n}(g + j + {k * n}, s{k});")
    code.close()


def _act(op: Recurrent, d: int, index: int, n: int, value: str) -> str:
    return ACTIVATIONS[op.functions[d][index]].format(n=n, v=f"({value})")


def _lstm(code: Code, op: Recurrent, tables: Tables, n: int, d: int) -> None:
    padded = op.sizes[3]
    _product(code, op, n, "h", 0, 4 * padded, "p")
    code.loop("j", padded, n)
    code.line(f"const f32x{n} old = load{n}(c + j);")
    peep = ["", "", ""]
    if op.peepholes is not None:
        table = tables.add(op.peepholes[d], "float32")
        peep = [f" + load{n}({table} + j + {k * padded}) * " for k in range(3)]
    gate = [f"load{n}(g + j + {k * padded})" for k in range(4)]
    code.line(f"const f32x{n} i_ = {_act(op, d, 0, n, gate[0] + (peep[0] and peep[0] + 'old'))};")
    code.line(f"const f32x{n} f_ = {_act(op, d, 0, n, gate[2] + (peep[2] and peep[2] + 'old'))};")
    code.line(f"const f32x{n} now = f_ * old + i_ * {_act(op, d, 1, n, gate[3])};")
    code.line(f"const f32x{n} o_ = {_act(op, d, 0, n, gate[1] + (peep[1] and peep[1] + 'now'))};")
    code.line(f"store{n}(c + j, now);")
    code.line(f"store{n}(h + j, o_ * {_act(op, d, 2, n, 'now')});")
    code.close()


def _gru(code: Code, op: Recurrent, tables: Tables, n: int, d: int) -> None:
    padded = op.sizes[3]
    after = op.inner_bias is not None
    if op.inner_bias is not None:
        bias = tables.add(op.inner_bias[d], "float32")
        _product(code, op, n, "h", 0, 2 * padded, "p")
        _product(code, op, n, "h", 2 * padded, padded, f"{bias} - {2 * padded}")
    else:
        _product(code, op, n, "h", 0, 2 * padded, "p")
        code.loop("j", padded, n)  # c holds reset * h
        code.line(f"store{n}(c + j, {_act(op, d, 0, n, f'load{n}(g + j + {padded})')} * load{n}(h + j));")
        code.close()
        _product(code, op, n, "c", 2 * padded, padded, "p")
    code.loop("j", padded, n)
    code.line(f"const f32x{n} z = {_act(op, d, 0, n, f'load{n}(g + j)')};")
    inner = f"load{n}(g + j + {2 * padded})"
    if after:
        reset = _act(op, d, 0, n, f"load{n}(g + j + {padded})")
        inner = f"load{n}(p + j + {2 * padded}) + {reset} * {inner}"
    code.line(f"const f32x{n} v = {_act(op, d, 1, n, inner)};")
    code.line(f"store{n}(h + j, v + z * (load{n}(h + j) - v));")
    code.close()


def _rnn(code: Code, op: Recurrent, tables: Tables, n: int, d: int) -> None:
    padded = op.sizes[3]
    _product(code, op, n, "h", 0, padded, "p")
    code.loop("j", padded, n)
    code.line(f"store{n}(h + j, {_act(op, d, 0, n, f'load{n}(g + j)')});")
    code.close()
