"""HTML and SVG from Python: everything that is not markup already is escaped, so that a name cannot become a tag."""

from __future__ import annotations

import html
from collections.abc import Container, Iterable, Sequence


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


_VOID = frozenset({"meta", "br", "line", "rect", "circle", "path"})


def escaped(content: object) -> Markup:
    """Return anything as markup; letters that cannot be printed, which may turn text around, become U+FFFD."""
    if isinstance(content, Markup):
        return content
    text = "".join(letter if letter.isprintable() or letter == " " else "�" for letter in str(content))
    return Markup(html.escape(text, quote=True))


def tag(name: str, /, *content: object, **attributes: str) -> Markup:
    """Return an element. `class_` and `aria_label` stand for class and aria-label."""
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value or key != "class_"
    )
    if name in _VOID and not content:
        return Markup(f"<{name}{words}>" if name in ("meta", "br") else f"<{name}{words}/>")
    return Markup(f"<{name}{words}>{''.join(map(escaped, content))}</{name}>")


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """Return an iterable of content as one piece of markup."""
    return Markup(str(escaped(between)).join(map(escaped, parts)))


def table(
    heads: Sequence[str], rows: Sequence[Sequence[object]], look: str = "", numbers: Container[int] = ()
) -> Markup:
    """Return a table that scrolls by itself where the page is narrow; `numbers` are the columns set to the right."""

    def cells(name: str, row: Sequence[object]) -> Markup:
        return tag("tr", *(tag(name, each, class_="num" if at in numbers else "") for at, each in enumerate(row)))

    head = cells("th", heads) if any(heads) else Markup("")
    body = (cells("td", row) for row in rows)
    inner = tag("table", tag("thead", head), tag("tbody", *body), class_=look)
    return tag("div", inner, class_="scroll")
