"""How depthwise convolutions walk over channels, rows and columns, whatever they compute on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from skerry_compiler.engines.network.code import Code
from skerry_compiler.engines.network.cost import LINE_BYTES, Machine
from skerry_compiler.engines.network.graph import Depthwise


@dataclasses.dataclass(frozen=True, slots=True)
class Strip:
    """Channels handled by vectors of one width: `elements` values a vector, `pixels` of them side by side."""

    first: int
    end: int
    elements: int
    pixels: int


def strips(c: int, widest: int, narrowest: int, packs: bool) -> list[Strip]:
    """Cut channels into vectors, widest first; few channels share a vector between neighbouring pixels."""
    if packs and c < widest and widest % c == 0:
        return [Strip(0, c, widest, widest // c)]
    out, first, width = [], 0, widest
    while first < c:
        while width > narrowest and c - first <= width // 2:
            width //= 2
        count = max(1, (c - first) // width)
        end = min(c, first + count * width)
        out.append(Strip(first, end, width, 1))
        first = end
    return out


def write(code: Code, walks: Sequence[Walk], machine: Machine) -> None:
    """Write the loops over channels, rows and columns. Rows come first where the source is much larger than the first
    cache and vectors of channels share its lines, which then are still there for the next vector. Otherwise the weights
    stay there. Rows also come first where the output lies over the source.
    """
    op = walks[0].op
    x, rows = op.x, walks[0].rows
    shared = x.c * x.item % LINE_BYTES > 0
    large = shared and (x.h + x.halo[0] + x.halo[2]) * x.row * x.item > 2 * machine.l1_bytes
    full, rest = divmod(op.y.h, rows)
    spans = code.spans((0, full * rows, rows), (full * rows, op.y.h, rest))
    if large or op.way:
        for start, end, count in spans:
            code.split("row", end, count, start)
            for walk in walks:
                walk.channels(code)
                walk.row(code, count)
                code.close()
            code.close()
        return
    for walk in walks:
        walk.channels(code)
        for start, end, count in spans:
            code.split("row", end, count, start)
            walk.row(code, count)
            code.close()
        code.close()


class Walk:
    """What both forms share: the walk over output columns, which may end in a step back."""

    columns = 4
    rows = 1

    def __init__(self, op: Depthwise, strip: Strip) -> None:
        self.op, self.strip = op, strip

    def channels(self, code: Code) -> None:
        """Open the loop over channels."""
        s = self.strip
        code.loop("c", s.end, s.elements, s.first) if s.pixels == 1 else code.open("")
        if s.pixels > 1:
            code.line("const int c = 0;")

    def row(self, code: Code, rows: int) -> None:
        """Write the loop over columns for the rows from `row` on."""
        w, p = self.op.y.w, self.strip.pixels
        vectors = w // p
        columns = min(self.columns, vectors)
        parts = -(-vectors // columns)
        columns = -(-vectors // parts)  # 5 columns are 3 + 2, not 4 + 1
        full, rest = divmod(vectors, columns)
        for start, end, count in ((0, full * columns * p, columns), (full * columns * p, vectors * p, rest)):
            if end > start:
                code.loop("column", end, count * p, start)
                self.block(code, rows, count)
                code.close()
        if w % p:  # the last vector steps back so that it ends with the row
            code.open("")
            code.line(f"const int column = {w - p};")
            self.block(code, rows, 1)
            code.close()

    def taken(self, kind: str, load: str, source: str, elements: int) -> str:
        """Return the C expression of a vector of source values: of every other pixel where several are packed and the
        stride is two.
        """
        if self.strip.pixels == 1 or self.op.stride[1] == 1:
            return f"{load}({source})"
        words = self.op.x.c * self.op.x.item // 4
        places = [2 * pixel * words + word for pixel in range(self.strip.pixels) for word in range(words)]
        integers = f"i32x{elements * self.op.x.item // 4}"
        both = f"({integers}){load}({source}), ({integers}){load}({source} + {elements})"
        return f"({kind})__builtin_shufflevector({both}, {', '.join(map(str, places))})"

    def lanes(self, elements: int) -> str:
        """Return the C expression of how many elements of the vector count, "" for all."""
        left = self.strip.end - self.strip.first
        return f"{self.op.y.c} - c" if self.strip.pixels == 1 and left % elements else ""

    def block(self, code: Code, rows: int, columns: int) -> None:
        """Write one block of outputs."""
        raise NotImplementedError
