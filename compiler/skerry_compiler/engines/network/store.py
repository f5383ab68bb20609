"""Writing finished vectors to memory: floats, or bytes gathered four vectors at a time."""

from __future__ import annotations

from skerry_compiler.engines.network.code import Code
from skerry_compiler.engines.network.graph import Tensor
from skerry_compiler.engines.network.tail import Result, index


def store(code: Code, y: Tensor, results: list[Result], n: int, magic: bool = False) -> None:
    """Write the stores of finished float vectors: floats, or bytes gathered four vectors at a time."""

    def where(result: Result) -> str:
        return f"y + {index(y, result.place, (True, True, True))}"

    if y.quant is None:
        for r in results:
            code.line(f"part{n}({where(r)}, {r.name}, {r.lanes});" if r.lanes else f"store{n}({where(r)}, {r.name});")
        return
    for start in range(0, len(results), 4):
        group = results[start : start + 4]
        if len(group) == 1 and not magic:
            r = group[0]
            code.line(f"partu{n}({where(r)}, {r.name}, {r.lanes});" if r.lanes else f"storeu{n}({where(r)}, {r.name});")
            continue
        names = [f"as_int{n}({r.name})" if magic else f"whole{n}({r.name})" for r in group]
        stores(
            code,
            f"{'packlow' if magic else 'pack'}{n}({', '.join(names + [names[-1]] * (4 - len(group)))})",
            y,
            group,
            n,
        )


def stores(code: Code, packed: str, y: Tensor, group: list[Result], n: int) -> None:
    """Write the stores of four packed vectors: at once where they lie one after the other."""
    first = group[0]
    together = len(group) == 4 and not any(r.lanes for r in group) and _adjacent(y, group, n)
    if together:
        code.line(f"storeq{4 * n}(y + {index(y, first.place, (True, True, True))}, {packed});")
        return
    code.open("")
    code.line(f"const u8x{4 * n} q = {packed};")
    if len(group) == 4 and not any(r.lanes for r in group) and all(_adjacent(y, group[i : i + 2], n) for i in (0, 2)):
        for i in (0, 2):
            code.line(f"half{4 * n}(y + {index(y, group[i].place, (True, True, True))}, q, {i // 2});")
        code.close()
        return
    for i, r in enumerate(group):
        where = f"y + {index(y, r.place, (True, True, True))}"
        code.line(
            f"quarterpart{4 * n}({where}, q, {i}, {r.lanes});" if r.lanes else f"quarter{4 * n}({where}, q, {i});"
        )
    code.close()


def _adjacent(y: Tensor, group: list[Result], n: int) -> bool:
    """Whether the vectors follow one another in memory; columns and channels are "base + k" by construction."""
    offsets = []
    for r in group:
        row, column, channel = (_split(t) for t in (r.place.row, r.place.column, r.place.channel))
        offsets.append(((row[0], column[0], channel[0]), row[1] * y.row + column[1] * y.c + channel[1]))
    bases = {o[0] for o in offsets}
    return len(bases) == 1 and [o[1] - offsets[0][1] for o in offsets] == [i * n for i in range(len(group))]


def _split(text: str) -> tuple[str, int]:
    base, _, offset = text.rpartition(" + ")
    return (base, int(offset)) if base and offset.isdigit() else (("", int(text)) if text.isdigit() else (text, 0))
