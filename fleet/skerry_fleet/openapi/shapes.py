"""JSON Schemas, written shortly: of answers by hand, of rows from their tables, of records from their dataclasses."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
from sqlmodel import SQLModel

Schema = dict[str, Any]
REF = "#/components/schemas/{name}"

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
REAL: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
ANYTHING: Schema = {}
OBJECT: Schema = {"type": "object"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
COUNTS: Schema = {"type": "object", "additionalProperties": WHOLE}
NAME: Schema = {"pattern": "^[a-z0-9][a-z0-9-]{0,62}$"}
HEX: Schema = {"pattern": "^[0-9a-f]{64}$"}
ERROR = "Error"
JSON = "application/json"
BYTES = "application/octet-stream"


def one(**fields: Schema) -> Schema:
    """Return an object that has all of these fields."""
    return {"type": "object", "properties": fields, "required": list(fields)}


def some(schema: Schema, **fields: Schema) -> Schema:
    """Return an object's schema with fields that may be there."""
    return {**schema, "properties": {**schema["properties"], **fields}}


def many(item: Schema) -> Schema:
    """Return a list."""
    return {"type": "array", "items": item}


def maybe(schema: Schema) -> Schema:
    """Return what may be null."""
    return {"anyOf": [schema, {"type": "null"}]}


def page(item: Schema, **fields: Schema) -> Schema:
    """Return one page of a list: `next` is the cursor for `after`, null at its end."""
    return one(items=many(item), next=maybe(TEXT), **fields)


def row(table: type[SQLModel], hidden: str = "", /, **fields: Schema) -> Schema:
    """Return a table's row as the API shows it: all columns but the tenant and those hidden, with the fields that a
    view adds or shows otherwise.
    """
    columns = table.model_json_schema(mode="serialization")["properties"]
    return part(table, " ".join(name for name in columns if name not in {"tenant", *hidden.split()}), **fields)


def part(table: type[SQLModel], chosen: str, /, **fields: Schema) -> Schema:
    """Return some columns of a table's row, and other fields."""
    columns = table.model_json_schema(mode="serialization")["properties"]
    kept = {name: columns[name] for name in chosen.split()}
    shown = {name: {key: each[key] for key in ("type", "anyOf") if key in each} for name, each in kept.items()}
    return one(**{**shown, **fields})


def records(kinds: list[type[Any]]) -> dict[str, Schema]:
    """Return the components that describe these dataclasses."""
    _, components = msgspec.json.schema_components(kinds, ref_template=REF)
    for schema in components.values():
        if "description" in schema:
            schema["description"] = " ".join(schema["description"].split())
    return components


def record(kind: type[Any]) -> Schema:
    """Return where a dataclass is described."""
    return {"$ref": REF.format(name=kind.__name__)}


ERROR_SCHEMA = one(error=one(code=TEXT, message=TEXT, hint=TEXT)) | {
    "description": "A refusal: `code` for programs, `message` what was wrong, `hint` what to do next (may be empty)."
}


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a route gives (None: bytes), and what it takes where that is not a dataclass of the route itself.

    `others` are answers under other statuses; `refuses` are statuses of refusals that the route alone has.
    """

    schema: Schema | None
    media: str = JSON
    takes: Schema | None = None
    takes_media: str = JSON
    others: dict[int, Schema] = dataclasses.field(default_factory=dict)
    refuses: tuple[int, ...] = ()
