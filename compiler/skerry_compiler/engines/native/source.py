"""A lowered graph to one C file: prelude, tables, one function an operation, and `skerry_run`, which calls them in
order.

The text depends on nothing but the graph and the machine: the same model gives the same file everywhere.
"""

from __future__ import annotations

import dataclasses
import textwrap

from skerry_compiler.engines.native import emit_couple, emit_dense, emit_forest, emit_kernel, emit_rows, emit_search, ir
from skerry_compiler.engines.native.machine import Machine
from skerry_compiler.engines.native.plan import Plan, plan
from skerry_compiler.engines.native.text import Source, comment

ABI = 1

PRELUDE = r"""
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define INLINE static inline __attribute__((always_inline, unused))
#define LANES @LANES@

@VECTORS@

// Plain loops: a call of memcpy would need a C library.
INLINE void copy(void *restrict to, const void *restrict from, int bytes)
{
    for (int i = 0; i < bytes; i++) ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
}

// exp(x) to 2 units in the last place; no branches, so loops over it become vectors (Cephes expf; Moshier 1992).
INLINE float skerry_exp(float x)
{
    x = x < -87.3365f ? -87.3365f : x;
    x = x > 88.3762f ? 88.3762f : x;
    const float n = (x * 1.44269504088896341f + 12582912.0f) - 12582912.0f;
    const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    union { int32_t i; float f; } scale = { .i = ((int32_t)n + 127) << 23 };
    return (p * r * r + r + 1.0f) * scale.f;
}

// The greatest whole number that is at most x; larger ones than 2^23 are whole.
INLINE float skerry_floor(float x)
{
    const int small = x > -8388608.0f && x < 8388608.0f;
    const float whole = (float)(int32_t)(small ? x : 0.0f);
    return small ? whole - (whole > x ? 1.0f : 0.0f) : x;
}

// log(x) to 2 units in the last place (Cephes logf); -infinity of 0, no number below.
INLINE float skerry_log(float x)
{
    const int tiny = x < 1.17549435e-38f;
    union { float f; int32_t i; } bits = { .f = tiny ? x * 8388608.0f : x };
    int32_t e = (bits.i >> 23) - 126 - (tiny ? 23 : 0);
    bits.i = (bits.i & 0x007fffff) | 0x3f000000;
    const int low = bits.f < 0.707106781186547524f;
    const float m = low ? bits.f + bits.f - 1.0f : bits.f - 1.0f, n = (float)(e - low), s = m * m;
    float p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    const float y = p * m * s + n * -2.12194440e-4f - 0.5f * s;
    const float found = m + y + n * 0.693359375f;
    return x > 0.0f ? (x > 3.4028235e38f ? x : found) : x == 0.0f ? -__builtin_inff() : __builtin_nanf("");
}

INLINE float skerry_sigmoid(float x)
{
    return 1.0f / (1.0f + skerry_exp(-x));
}

// tanh(x) as a rational function (the one Eigen and ONNX Runtime use), to a few units in the last place.
INLINE float skerry_tanh(float x)
{
    const float c = x < -7.99881172f ? -7.99881172f : x > 7.99881172f ? 7.99881172f : x;
    const float s = c * c;
    float p = -2.76076847742355e-16f;
    p = p * s + 2.00018790482477e-13f;
    p = p * s + -8.60467152213735e-11f;
    p = p * s + 5.12229709037114e-08f;
    p = p * s + 1.48572235717979e-05f;
    p = p * s + 6.37261928875436e-04f;
    p = p * s + 4.89352455891786e-03f;
    float q = 1.19825839466702e-06f;
    q = q * s + 1.18534705686654e-04f;
    q = q * s + 2.26843463243900e-03f;
    q = q * s + 4.89352518554385e-03f;
    return c * p / q;
}
"""

VECTORS = r"""
typedef float vf __attribute__((vector_size(LANES * 4)));
typedef int32_t vi __attribute__((vector_size(LANES * 4)));
typedef vf uf __attribute__((aligned(4), may_alias));

INLINE vf load(const float *p) { return *(const uf *)p; }
INLINE void store(float *p, vf v) { *(uf *)p = v; }
INLINE vf splat(float s) { return s - (vf){0}; }
INLINE vf vrelu(vf v) { return (vf)((vi)v & (vi)(v > 0)); }
INLINE vf vabs(vf v) { return (vf)((vi)v & 0x7fffffff); }
INLINE vf vmax(vf a, vf b) { const vi more = b > a; return (vf)(((vi)b & more) | ((vi)a & ~more)); }
INLINE void store_some(float *p, vf v, int count) { for (int i = 0; i < count; i++) p[i] = v[i]; }
INLINE float vsum(vf v)
{
    float sum = 0.0f;
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}
"""

SCALARS = r"""
typedef float vf;

INLINE vf load(const float *p) { return *p; }
INLINE void store(float *p, vf v) { *p = v; }
INLINE vf splat(float s) { return s; }
INLINE vf vrelu(vf v) { return v > 0 ? v : 0; }
INLINE vf vabs(vf v) { return v < 0 ? -v : v; }
INLINE vf vmax(vf a, vf b) { return b > a ? b : a; }
INLINE void store_some(float *p, vf v, int count) { *p = v; (void)count; }
INLINE float vsum(vf v) { return v; }
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Generated:
    """The C text, and what it takes at run time."""

    text: str
    arena_bytes: int
    constant_bytes: int


def generate(graph: ir.Graph, machine: Machine, form: str) -> Generated:
    """Return the C file of a graph.

    Args:
        graph: lowered and fused.
        machine: vector width and registers to write for.
        form: of tree ensembles: one of those named in `emit_forest`.
    """
    source = Source()
    placed = plan(graph, machine.lanes * 4)
    calls = [_call(op, step, source, machine, form, placed) for step, op in enumerate(graph.ops)]
    for index, value in placed.copies:
        calls.append(f"copy(out[{index}], {placed.place[value.name]}, {value.size_bytes});")
    sizes = [len(graph.inputs), len(graph.outputs), *(value.size_bytes for value in graph.inputs + graph.outputs)]
    exports = [f"EXPORT const uint32_t skerry_abi = {ABI};"]
    exports.append(f"EXPORT const uint64_t skerry_sizes[{len(sizes)}] = {{{', '.join(map(str, sizes))}}};")
    if placed.arena_bytes:
        exports.append(f"static uint8_t arena[{placed.arena_bytes}] __attribute__((aligned(64)));")
    body = "\n".join(f"    {call}" for call in calls if call)
    run = f"EXPORT int32_t skerry_run(const void *const *in, void *const *out)\n{{\n{body}\n    return 0;\n}}"
    about = [f"// in[{index}]: {_about(value)}" for index, value in enumerate(graph.inputs)]
    about += [f"// out[{index}]: {_about(value)}" for index, value in enumerate(graph.outputs)]
    vectors = VECTORS if machine.lanes > 1 else SCALARS
    prelude = PRELUDE.replace("@LANES@", str(machine.lanes)).replace("@VECTORS@", vectors.strip())
    parts = [_HEAD, *about, prelude, *source.tables, *exports, *source.functions, run]
    return Generated("\n\n".join(parts) + "\n", placed.arena_bytes, source.constant_bytes)


_HEAD = "// Generated by Skerry from a model. Needs nothing but a C compiler; no heap, no C library."


def _about(value: ir.Value) -> str:
    return comment(f"{value.name} {value.dtype.value}{list(value.shape)}")


def _call(op: ir.Op, step: int, source: Source, machine: Machine, form: str, placed: Plan) -> str:
    """Add what one operation needs and return the statement that runs it ("" for none)."""
    name = f"op{step}"
    if isinstance(op, ir.View):
        return ""
    if isinstance(op, ir.Constant):
        source.table(f"constant{step}", op.content, op.output.c_type)
        return ""
    if isinstance(op, ir.Dense):
        emit_dense.emit(op, name, source, machine)
    elif isinstance(op, ir.Kernel):
        emit_kernel.emit(op, name, source, machine)
    elif isinstance(op, ir.Forest):
        emit_forest.emit(op, name, source, machine, form)
    elif isinstance(op, ir.Couple):
        emit_couple.emit(op, name, source)
    elif isinstance(op, (ir.First, ir.Pick)):
        emit_search.emit(op, name, source)
    else:
        emit_rows.emit(op, name, source)
    arguments = [f"(const {value.c_type} *)({placed.place[value.name]})" for value in op.inputs]
    arguments.append(f"({op.output.c_type} *)({placed.place[op.output.name]})")
    return textwrap.shorten(f"{name}({', '.join(arguments)});", 10_000)
