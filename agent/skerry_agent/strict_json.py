"""JSON from local programs, read strictly: RFC 8259 without NaN, infinities and repeated keys."""

from __future__ import annotations

import functools
import json
from typing import Any

from skerry_agent.errors import RequestError
from skerry_agent.http_words import Body

_AGAIN_BYTES = 2048


def parse_json(data: Body) -> Any:
    """Return a request's JSON, which nobody may change. Its size was limited before; depth is limited by the parser.

    Raises:
        RequestError: not JSON, NaN, too deep, a number beyond all bounds, or a key twice.
    """
    return _parse_again(bytes(data)) if len(data) <= _AGAIN_BYTES else _parse(data)


def _parse(data: Body) -> Any:
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except RecursionError:
        raise RequestError("the JSON is nested too deep") from None
    except ValueError as error:  # also not UTF-8, and integers of more digits than Python converts
        raise RequestError(f"not JSON: {str(error)[:120]}") from error


# A client that sends binary tensors says the same with each inference.
_parse_again = functools.lru_cache(maxsize=16)(_parse)


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return result


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_no_repeats, parse_constant=_no_constant)
