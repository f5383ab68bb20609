"""What a tag may be."""

from __future__ import annotations

from collections.abc import Mapping

from skerry_fleet.errors import InputError
from skerry_fleet.query.reading import KEY

MAX_TAGS = 64
MAX_VALUE = 256


def check(tags: Mapping[str, str], known: Mapping[str, str] | None = None) -> None:
    """Refuse tags that may not be; `known` are there already, and may stay as they are.

    Raises:
        InputError: too many, a key or a value that may not be one.
    """
    if len(tags) > MAX_TAGS:
        raise InputError(f"tags: {len(tags)}, at most {MAX_TAGS}")
    for key, value in tags.items():
        if (known or {}).get(key) == value:
            continue
        if not KEY.fullmatch(key):
            hint = "1 to 64 letters, digits and . _ / -, the first a letter or digit"
            raise InputError(f"tag {key!r:.70} cannot be a name", hint=hint)
        if len(value) > MAX_VALUE or not value.isprintable():
            raise InputError(f"the value of tag {key} is no {MAX_VALUE} printable characters")
