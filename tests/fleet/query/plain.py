"""What a device query means, said once more in plain Python: the oracle of its SQL."""

from __future__ import annotations

import dataclasses
import operator
from typing import Any

from skerry_fleet.query.words import FIELDS as FIELDS
from skerry_fleet.query.words import Comparison, Every, Moment, Node, Pattern, Sort

ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


@dataclasses.dataclass
class Plain:
    """One device, with every field's value by its name; keyed fields hold a dictionary."""

    values: dict[str, Any]

    def of(self, field: str, key: str) -> Any:
        return self.values.get(field, {}).get(key) if FIELDS[field].key else self.values.get(field)


def means(node: Node, device: Plain, now: float) -> bool:
    """Say whether a query means a device."""
    if not isinstance(node, Comparison):
        return (all if isinstance(node, Every) else any)(means(part, device, now) for part in node.parts)
    there = device.of(node.field, node.key)
    if node.operator in ORDER:
        (value,) = node.values
        wanted: Any = value.at_ms(now) if isinstance(value, Moment) else value
        return there is not None and bool(ORDER[node.operator](there, wanted))
    texts = there if FIELDS[node.field].sort is Sort.SET else [there]
    found = any(each is not None and _is(each, value) for each in texts for value in node.values)
    return found is (node.operator in ("==", "=in="))


def _is(there: Any, value: Any) -> bool:
    if not isinstance(value, Pattern):
        return bool(there == value)
    if value.tail is None:
        return bool(there == value.head)
    rest = there[len(value.head) :]
    return bool(there.startswith(value.head) and value.middle in rest and rest.endswith(value.tail))
