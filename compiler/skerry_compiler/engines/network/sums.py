"""The sums of a convolution's blocks: how they begin and how they become outputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from skerry_compiler.engines.network.code import Code, Tables, number
from skerry_compiler.engines.network.nest import Nest
from skerry_compiler.engines.network.quantised import Requantised
from skerry_compiler.engines.network.store import store, stores
from skerry_compiler.engines.network.tail import Place, Result, Tail


class Sums:
    """Writes both. `co`: output channels of a group."""

    def __init__(self, nest: Nest, tables: Tables, tail: Tail, packed: Requantised | None, co: int) -> None:
        self.nest, self.tail, self.packed, self.co = nest, tail, packed, co
        self.tables = tables
        if packed:
            tail.prove(packed.reach)
            self.start = self._table(packed.start, "int32")
            self.factor = self._table(packed.factor, "float32")
            self.term = self._table(packed.term, "float32")
        else:
            self.start = self._table(nest.op.bias / tail.unit, "float32")

    def _table(self, row: NDArray[np.generic], dtype: str) -> str:
        """Store one value for each output channel, each group padded to whole vectors; returns where a group's are."""
        n, groups = self.nest.n, self.nest.op.groups
        wide = -(-self.co // n) * n
        padded = np.zeros(groups * wide + 4 * n, np.float64)
        padded[: groups * wide].reshape(groups, wide)[:, : self.co] = row.reshape(groups, self.co)
        pointer = self.tables.add(padded, dtype)
        return pointer if groups == 1 else f"{pointer} + group * {wide}"

    def begin(self, code: Code, pixels: list[tuple[int, int]]) -> None:
        """Write the declarations of the accumulators."""
        n = self.nest.n
        for m in range(len(pixels)):
            for j in range(self.nest.block.vectors):
                for q in range(self.nest.chains):
                    if self.packed:
                        value = f"loadi{n}({self.start} + c + {j * n})" if q == 0 else f"(i32x{n}){{}}"
                        code.line(f"i32x{n} a{m}_{j}_{q} = {value};")
                    else:
                        value = (
                            f"load{n}({self.start} + c + {j * n})"
                            if q == 0 and self.tail.unit == 1.0
                            else f"(f32x{n}){{}}"
                        )
                        code.line(f"f32x{n} a{m}_{j}_{q} = {value};")

    def finish(self, code: Code, pixels: list[tuple[int, int]]) -> None:
        """Write what follows the last multiply-add."""
        n, nr, y = self.nest.n, self.nest.block.vectors, self.nest.op.y
        results = []
        for m, (row, column) in enumerate(pixels):
            for j in range(nr):
                for q in range(1, self.nest.chains):
                    code.line(f"a{m}_{j}_0 += a{m}_{j}_{q};")
                channel = "c" if j == 0 else f"c + {j * n}"
                place = Place(_plus("row", row), _plus("column", column), channel)
                lanes = f"{self.co} - ({channel})" if self.co % n and j == nr - 1 else ""
                results.append(Result(f"a{m}_{j}_0", place, lanes))
        if self.packed and self.packed.fast:
            self._bytes(code, results)
            return
        finished = []
        for r in results:
            v = f"v{r.name[1:]}"
            channel = r.place.channel
            if self.packed:
                term = f"load{n}({self.term} + {channel})"
                real = self.packed.real(n, r.name)
                code.line(f"f32x{n} {v} = madd{n}({real}, load{n}({self.factor} + {channel}), {term});")
            elif self.tail.unit != 1.0:
                scale = f"all{n}({number(1 / self.tail.unit)})"
                code.line(f"f32x{n} {v} = {r.name} * {scale} + load{n}({self.start} + {channel});")
            else:
                v = r.name
            whole = channel if self.nest.op.groups == 1 else f"{channel} + group * {self.co}"
            place = Place(r.place.row, r.place.column, whole)
            self.tail.steps(code, v, place, n, r.lanes)
            finished.append(Result(v, r.place, r.lanes))
        store(code, y, finished, n, self.tail.bounded)

    def _bytes(self, code: Code, results: list[Result]) -> None:
        """Write the short way to bytes: one multiply-add for each vector leaves the rounded byte in the low bits."""
        n, y = self.nest.n, self.nest.op.y
        assert self.packed is not None
        low, high = self.tail.clamps() or (0, 255)
        for start in range(0, len(results), 4):
            group = results[start : start + 4]
            names = []
            for r in group:
                names.append(f"b{r.name[1:]}")
                term = f"load{n}({self.term} + {r.place.channel})"
                value = f"madd{n}(as_real{n}({r.name}), load{n}({self.factor} + {r.place.channel}), {term})"
                code.line(f"const i32x{n} {names[-1]} = as_int{n}({value});")
            packed = f"packlow{n}({', '.join(names + [names[-1]] * (4 - len(names)))})"
            packed = f"most{4 * n}({packed}, {low})" if low > 0 else packed
            packed = f"least{4 * n}({packed}, {high})" if high < 255 else packed
            stores(code, packed, y, group, n)


def _plus(base: str, offset: int) -> str:
    return f"{base} + {offset}" if offset else base
