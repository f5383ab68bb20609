"""Dense layers: named accumulators in registers, several independent chains, weights packed in the order in which
they are read.

Two forms. Wide layers keep vectors of outputs and broadcast the input; layers of fewer outputs than half a vector
keep one vector of partial sums an output and add it up at the end.
"""

from __future__ import annotations

import numpy as np

from skerry_compiler.engines.native import ir
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.engines.native.text import Source

SPARE_REGISTERS = 4  # the broadcast input, a weight, and two for the compiler
CHAINS = 8  # additions in flight that hide the latency of one
MAX_CHAINS = 4


def emit(op: ir.Dense, name: str, source: Source, machine: Machine) -> str:
    """Add the function of one layer; return the call's name. Signature: (const float *x, float *y)."""
    outputs = op.weight.shape[1]
    body = _narrow(op, name, source, machine) if outputs * 2 < machine.lanes else _wide(op, name, source, machine)
    rows, inputs = op.inputs[0].rows, op.inputs[0].width
    if rows > 1:
        body = f"for (int row = 0; row < {rows}; row++, x += {inputs}, y += {outputs}) {{\n{body}\n}}"
    about = f"{op.output.name}: dense {inputs} to {outputs} {op.activation}"
    source.function(name, "const float *restrict x, float *restrict y", body, about)
    return name


def _wide(op: ir.Dense, name: str, source: Source, machine: Machine) -> str:
    inputs, outputs = op.weight.shape
    lanes = machine.lanes
    vectors = -(-outputs // lanes)
    most = max(1, machine.vector_registers - SPARE_REGISTERS)
    padded = np.zeros((inputs, vectors * lanes), np.float32)
    padded[:, :outputs] = op.weight
    bias = np.zeros(vectors * lanes, np.float32)
    bias[:outputs] = op.bias
    parts, lines, start = [], [], 0
    bias_name = source.table(f"{name}_bias", bias)
    while start < vectors:
        block = min(most, vectors - start)
        chains = max(1, min(MAX_CHAINS, most // block, -(-CHAINS // block), inputs))
        parts.append(padded[:, start * lanes : (start + block) * lanes].reshape(-1))
        offset = sum(len(part) for part in parts[:-1])
        lines.append(_block(name, bias_name, block, chains, start, offset, inputs, outputs, op.activation, lanes))
        start += block
    source.table(f"{name}_weight", np.concatenate(parts))
    return "\n".join(lines)


def _block(
    name: str,
    bias: str,
    block: int,
    chains: int,
    first: int,
    offset: int,
    inputs: int,
    outputs: int,
    activation: str,
    lanes: int,
) -> str:
    """Return the code for `block` vectors of outputs, from vector `first` on, with weights from `offset` on."""
    lines = [f"{{ // outputs {first * lanes} to {min(outputs, (first + block) * lanes) - 1}"]
    for vector in range(block):
        start = f"load({bias} + {(first + vector) * lanes})"
        sums = [f"a{chain}_{vector} = {start if chain == 0 else 'splat(0)'}" for chain in range(chains)]
        lines.append(f"    vf {', '.join(sums)};")
    lines.append(f"    const float *w = {name}_weight + {offset};")
    step = block * lanes
    whole = inputs - inputs % chains

    def add(chain: int, k: str, base: int) -> list[str]:
        said = [f"        const vf s{chain} = splat(x[{k}]);"]
        return said + [
            f"        a{chain}_{vector} += s{chain} * load(w + {base + vector * lanes});" for vector in range(block)
        ]

    lines.append(f"    for (int k = 0; k < {whole}; k += {chains}, w += {chains * step}) {{")
    for chain in range(chains):
        lines += add(chain, f"k + {chain}" if chain else "k", chain * step)
    lines.append("    }")
    if whole < inputs:
        lines.append("    {")
        for chain in range(inputs - whole):
            lines += add(chain, str(whole + chain), chain * step)
        lines.append("    }")
    for vector in range(block):
        total = " + ".join(f"a{chain}_{vector}" for chain in range(chains))
        value = f"vrelu({total})" if activation == "relu" else total
        at = (first + vector) * lanes
        room = min(lanes, outputs - at)
        call = f"store(y + {at}, {value})" if room == lanes else f"store_some(y + {at}, {value}, {room})"
        lines.append(f"    {call};")
    lines.append("}")
    return "\n".join(lines)


def _narrow(op: ir.Dense, name: str, source: Source, machine: Machine) -> str:
    inputs, outputs = op.weight.shape
    lanes = machine.lanes
    source.table(f"{name}_weight", np.ascontiguousarray(op.weight.T))
    source.table(f"{name}_bias", op.bias)
    whole = inputs - inputs % lanes
    chains = max(1, min(MAX_CHAINS, whole // lanes, -(-CHAINS // outputs)))
    block = lanes * chains
    body = [f"for (int n = 0; n < {outputs}; n++) {{", f"    const float *w = {name}_weight + n * {inputs};"]
    body.append(f"    vf {', '.join(f'a{chain} = splat(0)' for chain in range(chains))};")
    body.append("    int k = 0;")
    body.append(f"    for (; k + {block} <= {inputs}; k += {block}) {{")
    body += [f"        a{c} += load(x + k + {c * lanes}) * load(w + k + {c * lanes});" for c in range(chains)]
    body.append("    }")
    body.append(f"    for (; k + {lanes} <= {inputs}; k += {lanes}) a0 += load(x + k) * load(w + k);")
    body.append(f"    float sum = {name}_bias[n] + vsum({' + '.join(f'a{chain}' for chain in range(chains))});")
    body.append(f"    for (; k < {inputs}; k++) sum += x[k] * w[k];")
    body.append(f"    y[n] = {'sum > 0 ? sum : 0' if op.activation == 'relu' else 'sum'};")
    body.append("}")
    return "\n".join(body)
