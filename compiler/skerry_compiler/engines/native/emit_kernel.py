"""Kernels of support vectors: as many vectors at once as the machine has lanes, stored side by side, so that no sum
crosses lanes. Distances are summed as differences, which do not cancel.
"""

from __future__ import annotations

import numpy as np

from skerry_compiler.engines.native import ir
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.engines.native.text import Source, number

BLOCK = 4  # vectors of sums at once
MAX_ON_STACK = 1 << 13


def emit(op: ir.Kernel, name: str, source: Source, machine: Machine) -> None:
    """Add the function of one kernel. Signature: (const float *x, float *y)."""
    count, features = op.support.shape
    lanes = machine.lanes
    blocks = min(BLOCK, -(-count // lanes))
    step = blocks * lanes
    padded = np.zeros((-(-count // step) * step, features), np.float32)
    padded[:count] = op.support
    source.table(f"{name}_support", padded.reshape(-1, step, features).transpose(0, 2, 1))
    kept = "static " if len(padded) > MAX_ON_STACK else ""
    lines = [f"{kept}float sums[{len(padded)}] __attribute__((aligned(64)));", f"const float *w = {name}_support;"]
    lines.append(f"for (int s = 0; s < {len(padded)}; s += {step}) {{")
    lines.append(f"    vf {', '.join(f'a{b} = splat(0)' for b in range(blocks))};")
    lines.append(f"    for (int k = 0; k < {features}; k++, w += {step}) {{")
    lines.append("        const vf v = splat(x[k]);")
    for b in range(blocks):
        if op.kind in ("rbf", "distance"):
            lines.append(f"        const vf d{b} = v - load(w + {b * lanes});")
            lines.append(f"        a{b} += d{b} * d{b};")
        elif op.kind in ("absolute", "greatest"):
            lines.append(f"        const vf d{b} = vabs(v - load(w + {b * lanes}));")
            lines.append(f"        a{b} = vmax(a{b}, d{b});" if op.kind == "greatest" else f"        a{b} += d{b};")
        else:
            lines.append(f"        a{b} += v * load(w + {b * lanes});")
    lines.append("    }")
    lines += [f"    store(sums + s + {b * lanes}, a{b});" for b in range(blocks)]
    lines.append("}")
    lines.append(f"for (int s = 0; s < {count}; s++) {{")
    lines += [f"    {each}" for each in _finish(op)]
    lines.append("}")
    body = "\n".join(lines)
    if op.inputs[0].rows > 1:
        head = f"for (int row = 0; row < {op.inputs[0].rows}; row++, x += {features}, y += {count}) {{"
        body = f"{head}\n{body}\n}}"
    about = f"{op.output.name}: {op.kind} kernel of {count} vectors of {features}"
    source.function(name, "const float *restrict x, float *restrict y", body, about)


def _finish(op: ir.Kernel) -> list[str]:
    """Return the statements that make y[s] of sums[s]."""
    gamma, coef = number(op.gamma), number(op.coef)
    if op.kind in ("linear", "distance", "absolute", "greatest"):
        return ["y[s] = sums[s];"]
    if op.kind == "rbf":
        return [f"y[s] = skerry_exp(-{gamma} * sums[s]);"]
    if op.kind == "sigmoid":
        return [f"y[s] = skerry_tanh({gamma} * sums[s] + {coef});"]
    product = " * ".join(["v"] * op.degree) if op.degree else "1.0f"
    return [f"const float v = {gamma} * sums[s] + {coef};", f"y[s] = {product};"]
