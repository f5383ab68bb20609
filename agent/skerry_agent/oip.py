"""The Open Inference Protocol v2 as documents: JSON, binary tensor data and shared memory, in and out. No I/O but that
with shared memory, which `Find` gives.

Sources: github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md) and Triton's
protocol/extension_binary_data.md and extension_shared_memory.md. In a binary request the body is the JSON, whose length
Inference-Header-Content-Length gives, and then the bytes of those inputs that have `binary_data_size`, in order; a
binary answer is built alike.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from skerry_agent import tensors
from skerry_agent.errors import RequestError
from skerry_agent.http_words import Body, to_json
from skerry_agent.regions import Part, Region
from skerry_agent.strict_json import parse_json
from skerry_contracts.bundle import Manifest, Signature
from skerry_contracts.tensor import DType, Tensor, TensorSpec

EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "statistics", "system_shared_memory")
HEADER_LENGTH = "inference-header-content-length"
BINARY = "application/octet-stream"


@dataclasses.dataclass(frozen=True, slots=True)
class InferRequest:
    """A request taken apart: the inputs in the order given, and (name, binary) for each output that is wanted.

    `places` says which outputs are to go into shared memory, and where; `capture` under which id it is to be kept;
    `wait_s` how long it may wait for its turn (None: as long as any).
    """

    id: str | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[tuple[str, bool], ...]
    keep: bool
    places: Mapping[str, Part] = dataclasses.field(default_factory=dict)
    capture: str | None = None
    wait_s: float | None = None


Find = Callable[[Any], Region]
_REGION, _SIZE, _OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"


def _no_region(name: Any) -> Region:
    raise RequestError(f"no region is called {name!r:.80}", status=404)


def model_metadata(manifest: Manifest, engine: str) -> dict[str, Any]:
    """Return the model metadata response; `parameters` (our extension) says what the outputs mean."""
    signature = manifest.signature
    meaning = {
        "labels": list(signature.labels),
        "label_output": signature.label_output,
        "score_output": signature.score_output,
    }
    return {
        "name": manifest.model,
        "versions": [manifest.version],
        "platform": f"skerry_{engine}",
        "inputs": [_metadata(spec) for spec in signature.inputs],
        "outputs": [_metadata(spec) for spec in signature.outputs],
        "parameters": {name: value for name, value in meaning.items() if value},
    }


def _metadata(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.dtype.value, "shape": list(spec.shape)}


def read_infer(signature: Signature, headers: Mapping[str, str], body: Body, find: Find = _no_region) -> InferRequest:
    """Return the inference a request asks for; `find` gives the regions of shared memory it may name.

    Raises:
        RequestError: 400, with what is wrong; 404, no such region.
    """
    document, rest = split(headers, body)
    if document is None and rest:
        return _raw_request(signature, rest)
    if not isinstance(document, dict):
        raise RequestError("the request must be a JSON object")
    parameters = _object(document, "parameters")
    keep = parameters.get("sample", True)
    if not isinstance(keep, bool):
        raise RequestError("parameter 'sample' must be true or false")
    name = document.get("id")
    if name is not None and not isinstance(name, str):
        raise RequestError("'id' must be a string")
    inputs, at = read_tensors(signature.inputs, document.get("inputs"), rest, find)
    if at != len(rest):
        raise RequestError(f"{len(rest) - at} bytes of binary data belong to no input")
    outputs, places = _outputs(signature, document, parameters.get("binary_data_output", False) is True, find)
    capture, wait_s = _capture(parameters, keep=keep), _wait_s(parameters)
    return InferRequest(name, inputs, outputs, keep, places, capture, wait_s)


def _wait_s(parameters: Mapping[str, Any]) -> float | None:
    """Return Triton's request timeout (extension_schedule_policy.md: microseconds, 0 for none) in seconds."""
    timeout_us = parameters.get("timeout", 0)
    if isinstance(timeout_us, bool) or not isinstance(timeout_us, int) or timeout_us < 0:
        raise RequestError("parameter 'timeout' must be a whole number of microseconds")
    return timeout_us / 1e6 if timeout_us else None


def _capture(parameters: Mapping[str, Any], *, keep: bool) -> str | None:
    name = parameters.get("capture")
    if name is not None and not isinstance(name, str):
        raise RequestError("parameter 'capture' must be a string: the name you will ask for this capture by")
    if name is not None and not keep:
        raise RequestError("'capture' asks to keep this input, 'sample': false forbids it")
    return name


def read_tensors(
    specs: Sequence[TensorSpec], entries: Any, rest: memoryview, find: Find, *, side: str = "inputs"
) -> tuple[tuple[Tensor, ...], int]:
    """Return the tensors of a request's list `side`, and how many bytes of the binary data they took.

    Raises:
        RequestError: 400, with what is wrong; 404, no such region.
    """
    if not isinstance(entries, list):
        form = '{"name": ..., "shape": [...], "datatype": ..., "data": [...]}'
        raise RequestError(f"{side!r} must be a list", hint=f"each entry as {form}")
    by_name, found, at = {spec.name: spec for spec in specs}, [], 0
    for entry in entries:
        tensor, used = _input(by_name, entry, rest[at:], find)
        found.append(tensor)
        at += used
    return tuple(found), at


def split(headers: Mapping[str, str], body: Body) -> tuple[Any, memoryview]:
    """Return the JSON document (None: there is only binary data) and the binary data behind it.

    Raises:
        RequestError: 400, not JSON, or lengths that do not add up.
    """
    said = headers.get(HEADER_LENGTH)
    if said is None:
        return parse_json(body), memoryview(b"")
    if not (said.isascii() and said.isdigit() and int(said[:12]) <= len(body)):
        raise RequestError(f"Inference-Header-Content-Length {said!r:.40} does not fit a body of {len(body)} bytes")
    length = int(said)
    return (parse_json(body[:length]) if length else None), memoryview(body)[length:]


def _raw_request(signature: Signature, data: memoryview) -> InferRequest:
    """Return a raw binary request: the body is the model's one input, the answer is binary."""
    if len(signature.inputs) != 1:
        raise RequestError(f"a raw binary request needs a model with one input, this one has {len(signature.inputs)}")
    spec = signature.inputs[0]
    if len(data) != spec.size_bytes:
        raise RequestError(f"input {spec.name!r:.80} takes {spec.size_bytes} bytes, {len(data)} were sent")
    tensor = Tensor(spec.name, spec.dtype, spec.shape, bytes(data))
    return InferRequest(None, (tensor,), tuple((each.name, True) for each in signature.outputs), True)


def _input(specs: Mapping[str, TensorSpec], entry: Any, rest: memoryview, find: Find) -> tuple[Tensor, int]:
    """Return one input, and how many bytes of the binary data it took."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise RequestError("each input must be an object with a name")
    spec = specs.get(entry["name"])
    if spec is None:
        raise RequestError(f"no input is called {entry['name']!r:.80}", hint=f"inputs: {', '.join(specs)}")
    shape, dtype = entry.get("shape"), entry.get("datatype")
    if not isinstance(shape, list) or not isinstance(dtype, str):
        raise RequestError(f"input {spec.name!r:.80} needs 'shape' and 'datatype'")
    tensors.check_form(spec, dtype, shape)
    parameters = _object(entry, "parameters")
    size = parameters.get("binary_data_size")
    if _REGION in parameters:
        if size is not None or "data" in entry:
            raise RequestError(f"input {spec.name!r:.80} lies in shared memory: no data may come besides")
        part = _part(spec, parameters, find)
        return Tensor(spec.name, spec.dtype, spec.shape, part.read()), 0
    if (size is None) == ("data" not in entry):
        raise RequestError(f"input {spec.name!r:.80} needs either 'data' or the parameter 'binary_data_size'")
    if size is None:
        return Tensor(spec.name, spec.dtype, spec.shape, tensors.from_json(spec, entry["data"])), 0
    if type(size) is not int or size != spec.size_bytes:
        raise RequestError(
            f"input {spec.name!r:.80}: binary_data_size is {size!r:.20}, the tensor has {spec.size_bytes}"
        )
    if len(rest) < size:
        raise RequestError(f"input {spec.name!r:.80}: {size} bytes announced, {len(rest)} sent")
    return Tensor(spec.name, spec.dtype, spec.shape, bytes(rest[:size])), size


def _part(spec: TensorSpec, parameters: Mapping[str, Any], find: Find) -> Part:
    """Return where in shared memory a tensor lies."""
    size = parameters.get(_SIZE)
    if size != spec.size_bytes:
        raise RequestError(f"{spec.name!r:.80}: {_SIZE} is {size!r:.24}, the tensor has {spec.size_bytes}")
    return find(parameters[_REGION]).part(parameters.get(_OFFSET, 0), size)


def _outputs(
    signature: Signature, document: Mapping[str, Any], binary: bool, find: Find
) -> tuple[tuple[tuple[str, bool], ...], dict[str, Part]]:
    """Return which outputs are wanted, whether in binary, and the places of those that go into shared memory."""
    names = {spec.name: spec for spec in signature.outputs}
    wanted: dict[str, bool] = {}
    places: dict[str, Part] = {}
    for entry in _list(document, "outputs"):
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or entry["name"] not in names:
            raise RequestError(f"no such output: {entry!r:.80}", hint=f"outputs: {', '.join(names)}")
        parameters = _object(entry, "parameters")
        if "classification" in parameters:
            raise RequestError("the classification extension is not offered here")
        wanted[entry["name"]] = parameters.get("binary_data", binary) is True
        if _REGION in parameters:
            place = _part(names[entry["name"]], parameters, find)
            if not place.region.writable:
                raise RequestError(f"region {place.region.name!r} cannot be written by the agent")
            places[entry["name"]] = place
    return tuple(wanted.items()) if wanted else tuple((name, binary) for name in names), places


def write_infer(
    request: InferRequest, model: str, version: str, outputs: Sequence[Tensor], parameters: Mapping[str, Any]
) -> tuple[bytes, int | None]:
    """Return the answer's body, and the length of its JSON part where binary data follows (else None); outputs that
    have a place in shared memory are put there.

    Raises:
        RequestError: an infinite number is to be written as JSON, or a region was cut short.
    """
    by_name = {tensor.name: tensor for tensor in outputs}
    entries: list[str] = []
    chunks = []
    for name, binary in request.outputs:
        tensor = by_name[name]
        if name not in request.places and binary:
            chunks.append(tensor.data or b"")
            entries.append(_binary_entry(name, tensor.dtype, tensor.shape, len(chunks[-1])))
            continue
        entry: dict[str, Any] = {"name": name, "datatype": tensor.dtype.value, "shape": list(tensor.shape)}
        if (place := request.places.get(name)) is not None:
            place.write(tensor.data or b"")
            where = {_REGION: place.region.name, _SIZE: place.size_bytes}
            entry["parameters"] = {**where, _OFFSET: place.offset} if place.offset else where
        else:
            entry["data"] = tensors.to_json(tensor)
        entries.append(to_json(entry))
    name = f'"id":{to_json(request.id)},' if request.id is not None else ""
    release = f'"model_name":{to_json(model)},"model_version":{to_json(version)}'
    said = f'{{{release},{name}"parameters":{to_json(dict(parameters))},"outputs":[{",".join(entries)}]}}'.encode()
    return b"".join((said, *chunks)), len(said) if chunks else None


@functools.lru_cache(maxsize=64)
def _binary_entry(name: str, dtype: DType, shape: tuple[int, ...], size_bytes: int) -> str:
    """Return how the answer's JSON names an output whose bytes follow; the same with each inference."""
    form = {"name": name, "datatype": dtype.value, "shape": list(shape)}
    return to_json({**form, "parameters": {"binary_data_size": size_bytes}})


def _object(holder: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = holder.get(key, {})
    if not isinstance(value, dict):
        raise RequestError(f"{key!r} must be an object")
    return value


def _list(holder: Mapping[str, Any], key: str, *, required: bool = False) -> list[Any]:
    value = holder.get(key, None if required else [])
    if not isinstance(value, list):
        raise RequestError(f"{key!r} must be a list")
    return value
