"""What gRPC calls say, as the local API's documents, and back. No I/O.

A tensor travels on as the bytes it came in: `raw_input_contents` untouched, typed contents packed. Whether names,
types, shapes and sizes are the model's is for the agent to say, in the words that HTTP clients get.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from skerry_agent.errors import RequestError
from skerry_agent.http_words import to_json
from skerry_contracts.tensor import STRUCT_CODE, DType

REGION = "shared_memory_region"
# datatype: the one field of InferTensorContents that holds it
_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


def read_infer(request: Any) -> tuple[bytes, list[bytes]]:
    """Return the JSON head and the binary tensors of the inference that a ModelInferRequest asks for.

    Raises:
        RequestError: 400, typed and raw contents do not go together, or do not fit the datatype.
    """
    raw = iter(request.raw_input_contents)
    given = len(request.raw_input_contents)
    entries, chunks = [], []
    for tensor in request.inputs:
        parameters = plain(tensor.parameters)
        typed = bool(tensor.contents.ListFields())
        if typed and given:
            raise RequestError(f"input {tensor.name!r:.80} has 'contents' beside 'raw_input_contents'", hint="give one")
        if REGION not in parameters:
            data = packed(tensor) if typed or not given else next(raw, None)
            if data is None:
                raise RequestError(f"input {tensor.name!r:.80} has no entry in 'raw_input_contents'")
            parameters["binary_data_size"] = len(data)
            chunks.append(data)
        elif typed:
            raise RequestError(f"input {tensor.name!r:.80} lies in shared memory: no data may come besides")
        shape = list(tensor.shape)
        entries.append({"name": tensor.name, "shape": shape, "datatype": tensor.datatype, "parameters": parameters})
    if (left := sum(1 for _ in raw)) > 0:
        raise RequestError(f"{left} of 'raw_input_contents' belong to no input")
    document = {
        "inputs": entries,
        "outputs": [
            {"name": each.name, "parameters": {**plain(each.parameters), "binary_data": True}}
            for each in request.outputs
        ],
        "parameters": {**plain(request.parameters), "binary_data_output": True},
    }
    if request.id:
        document["id"] = request.id
    return to_json(document).encode(), chunks


def packed(tensor: Any) -> bytes:
    """Return an input's typed contents as little-endian bytes; an input without any has none.

    Raises:
        RequestError: 400, another list than the datatype calls for, or a number that does not fit it.
    """
    name, datatype = f"input {tensor.name!r:.80}", tensor.datatype
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    wanted = _CONTENTS.get(datatype)
    if not filled:
        return b""
    if wanted is None:
        raise RequestError(f"{name}: {datatype!r:.20} has no typed contents", hint="send it in raw_input_contents")
    if filled != [wanted]:
        raise RequestError(f"{name}: {datatype} goes in {wanted!r}, not in {', '.join(map(repr, filled))}")
    values = getattr(tensor.contents, wanted)
    try:
        return struct.pack(f"<{len(values)}{STRUCT_CODE[DType(datatype)]}", *values)
    except struct.error as error:
        raise RequestError(f"{name}: a number does not fit {datatype}") from error


def write_infer(body: bytes, head_bytes: int | None, response: Any) -> Any:
    """Fill a ModelInferResponse from the local API's answer (`head_bytes`: how much of it is JSON; None: all)."""
    document = json.loads(body[:head_bytes])
    response.model_name, response.model_version = document["model_name"], document["model_version"]
    response.id = document.get("id", "")
    _say(document.get("parameters", {}), response.parameters)
    at = len(body) if head_bytes is None else head_bytes
    for entry in document["outputs"]:
        parameters = entry.get("parameters", {})
        size = parameters.pop("binary_data_size", 0)
        made = response.outputs.add(name=entry["name"], datatype=entry["datatype"], shape=entry["shape"])
        _say(parameters, made.parameters)
        response.raw_output_contents.append(body[at : at + size])
        at += size
    return response


def plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a map of parameters as JSON has it; one without a value is none, bytes become their length."""
    found: dict[str, Any] = {}
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        value = getattr(parameter, kind) if kind else None
        found[name] = len(value) if isinstance(value, bytes) else value
    return found


def _say(values: Mapping[str, Any], parameters: Any) -> None:
    for name, value in values.items():
        if isinstance(value, bool):
            parameters[name].bool_param = value
        elif isinstance(value, int):
            parameters[name].int64_param = value
        else:
            parameters[name].string_param = str(value)


def fill(document: Mapping[str, Any], response: Any) -> Any:
    """Fill a message from a JSON document of the same names; what the message has no field for is left out."""
    return json_format.ParseDict(dict(document), response, ignore_unknown_fields=True)
