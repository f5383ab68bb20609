"""Probabilities of several classes from those of all pairs: Wu, Lin and Weng, "Probability Estimates for Multi-class
Classification by Pairwise Coupling" (2004), algorithm 2, with the bounds and the stop of libsvm.
"""

from __future__ import annotations

from skerry_compiler.engines.native import ir
from skerry_compiler.engines.native.text import Source

LEAST = 1e-7  # a pair's probability stays this far from 0 and 1


def emit(op: ir.Couple, name: str, source: Source) -> None:
    """Add the function of one operation. Signature: (const float *x, float *y)."""
    classes, pairs = op.output.width, op.inputs[0].width
    a, b = source.table(f"{name}_a", op.a, "double"), source.table(f"{name}_b", op.b, "double")
    body = f"""
for (int row = 0; row < {op.inputs[0].rows}; row++, x += {pairs}, y += {classes}) {{
    double r[{classes}][{classes}], q[{classes}][{classes}], p[{classes}], qp[{classes}];
    for (int i = 0, pair = 0; i < {classes}; i++)
        for (int j = i + 1; j < {classes}; j++, pair++) {{
            const double score = -(x[pair] * {a}[pair] + {b}[pair]), v = skerry_sigmoid((float)score);
            r[i][j] = v < {LEAST} ? {LEAST} : v > 1. - {LEAST} ? 1. - {LEAST} : v;
            r[j][i] = 1. - r[i][j];
        }}
    for (int t = 0; t < {classes}; t++) {{
        p[t] = 1. / {classes}.;
        q[t][t] = 0.;
        for (int j = 0; j < {classes}; j++)
            if (j != t) q[t][t] += r[j][t] * r[j][t], q[t][j] = -r[j][t] * r[t][j];
    }}
    for (int round = 0; round < {max(100, classes)}; round++) {{
        double pqp = 0., worst = 0.;
        for (int t = 0; t < {classes}; t++) {{
            qp[t] = 0.;
            for (int j = 0; j < {classes}; j++) qp[t] += q[t][j] * p[j];
            pqp += p[t] * qp[t];
        }}
        for (int t = 0; t < {classes}; t++) {{
            const double off = qp[t] > pqp ? qp[t] - pqp : pqp - qp[t];
            worst = off > worst ? off : worst;
        }}
        if (worst < {0.005 / classes!r}) break;
        for (int t = 0; t < {classes}; t++) {{
            const double step = (pqp - qp[t]) / q[t][t], share = 1. / (1. + step);
            p[t] += step;
            pqp = (pqp + step * (step * q[t][t] + 2. * qp[t])) * share * share;
            for (int j = 0; j < {classes}; j++) qp[j] = (qp[j] + step * q[t][j]) * share, p[j] *= share;
        }}
    }}
    for (int t = 0; t < {classes}; t++) y[t] = (float)p[t];
}}
"""
    about = f"{op.output.name}: {classes} classes of {pairs} pairs"
    source.function(name, "const float *restrict x, float *restrict y", body, about)
