"""Writing the blocks of newer families than the dense networks: gates, upsampling, attention, recurrent layers."""

from __future__ import annotations

import numpy as np
from benchmarks.dense_networks import Builder


class Wide(Builder):
    """A builder with what newer families need."""

    def kernel(self, x: str, out: int, size: tuple[int, int], stride: tuple[int, int] = (1, 1), groups: int = 1) -> str:
        """Convolution with bias and any kernel, padded to the same size."""
        inside = self.channels[x] // groups
        weight = self.random.normal(0.0, np.sqrt(2.0 / (inside * size[0] * size[1])), (out, inside, *size))
        inputs = [x, self.constant(f"w{len(self.nodes)}", weight.astype(np.float32))]
        inputs.append(self.constant(f"b{len(self.nodes)}", self.random.normal(0.0, 0.05, out).astype(np.float32)))
        before, after = [k // 2 for k in size], [(k - 1) // 2 for k in size]
        y = self.node("Conv", inputs, kernel_shape=size, pads=before + after, strides=stride, group=groups)
        self.channels[y] = out
        return y

    def up(self, x: str, out: int) -> str:
        """Transposed convolution by two."""
        weight = self.random.normal(0.0, np.sqrt(2.0 / self.channels[x]), (self.channels[x], out, 2, 2))
        inputs = [x, self.constant(f"w{len(self.nodes)}", weight.astype(np.float32))]
        y = self.node("ConvTranspose", inputs, kernel_shape=[2, 2], strides=[2, 2])
        self.channels[y] = out
        return y

    def resize(self, x: str, mode: str = "nearest") -> str:
        """Twice the size."""
        scales = self.constant(f"s{len(self.nodes)}", np.array([1, 1, 2, 2], np.float32))
        how = "half_pixel" if mode == "linear" else "asymmetric"
        return self.node("Resize", [x, "", scales], mode=mode, coordinate_transformation_mode=how, nearest_mode="floor")

    def silu(self, x: str) -> str:
        """x sigmoid(x)."""
        return self.node("Mul", [x, self.node("Sigmoid", [x])])

    def excite(self, x: str, inside: int, gate: str = "Sigmoid") -> str:
        """Squeeze and excitation, Hu et al. 2018."""
        y = self.relu(self.kernel(self.node("GlobalAveragePool", [x]), inside, (1, 1)))
        return self.node("Mul", [x, self.node(gate, [self.kernel(y, self.channels[x], (1, 1))])])

    def shape(self, x: str, *sizes: int) -> str:
        """Reshape."""
        return self.node("Reshape", [x, self.constant(f"t{len(self.nodes)}", np.array(sizes, np.int64))])

    def order(self, x: str, *axes: int) -> str:
        """Transpose."""
        return self.node("Transpose", [x], perm=axes)

    def dense(self, x: str, inside: int, out: int) -> str:
        """MatMul and Add over the last axis."""
        weight = self.random.normal(0.0, np.sqrt(1.0 / inside), (inside, out)).astype(np.float32)
        y = self.node("MatMul", [x, self.constant(f"w{len(self.nodes)}", weight)])
        shift = self.random.normal(0.0, 0.05, out).astype(np.float32)
        return self.node("Add", [y, self.constant(f"b{len(self.nodes)}", shift)])

    def layer_norm(self, x: str, width: int) -> str:
        """LayerNormalization over the last axis."""
        scale = self.random.uniform(0.8, 1.2, width).astype(np.float32)
        shift = self.random.normal(0.0, 0.1, width).astype(np.float32)
        inputs = [x, self.constant(f"g{len(self.nodes)}", scale), self.constant(f"h{len(self.nodes)}", shift)]
        return self.node("LayerNormalization", inputs, axis=-1, epsilon=1e-5)

    def gelu(self, x: str) -> str:
        """x / 2 (1 + erf(x / sqrt 2)) as PyTorch writes it."""
        half, one, root = (
            self.constant(f"{k}{len(self.nodes)}", np.array(v, np.float32))
            for k, v in (("half", 0.5), ("one", 1.0), ("root", 2**0.5))
        )
        inner = self.node("Add", [self.node("Erf", [self.node("Div", [x, root])]), one])
        return self.node("Mul", [self.node("Mul", [x, inner]), half])

    def recurrent(self, kind: str, x: str, inside: int, hidden: int) -> str:
        """LSTM or GRU over [steps, batch, features]; returns [steps, batch, hidden]."""
        gates = {"LSTM": 4, "GRU": 3}[kind]
        draw = self.random
        w = draw.normal(0.0, np.sqrt(1 / inside), (1, gates * hidden, inside)).astype(np.float32)
        r = draw.normal(0.0, np.sqrt(1 / hidden), (1, gates * hidden, hidden)).astype(np.float32)
        b = draw.normal(0.0, 0.1, (1, 2 * gates * hidden)).astype(np.float32)
        inputs = [x, *(self.constant(f"{k}{len(self.nodes)}", v) for k, v in (("w", w), ("r", r), ("b", b)))]
        more = {"linear_before_reset": 1} if kind == "GRU" else {}
        y = self.node(kind, inputs, hidden_size=hidden, **more)
        return self.node("Squeeze", [y, self.constant(f"a{len(self.nodes)}", np.array([1], np.int64))])
