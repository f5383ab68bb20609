"""A capture as the local API speaks of it: the request and the answer. No I/O but that with shared memory."""

from __future__ import annotations

from collections.abc import Mapping

from skerry_agent import oip
from skerry_agent.captures import check_id
from skerry_agent.errors import RequestError
from skerry_agent.hooks import CaptureOrder
from skerry_agent.http_words import Body
from skerry_agent.tensors import check_inputs
from skerry_contracts.bundle import Manifest


def read(manifest: Manifest, headers: Mapping[str, str], body: Body, find: oip.Find) -> CaptureOrder:
    """Return what a request asks to keep: a prediction by its id, or tensors as an inference has them.

    Raises:
        RequestError: 400, with what is wrong; 404, no such region of shared memory.
    """
    document, rest = oip.split(headers, body)
    if not isinstance(document, dict):
        raise RequestError("the request must be a JSON object")
    name, prediction, time_s = document.get("id"), document.get("prediction"), document.get("time_s")
    if not isinstance(name, str):
        raise RequestError("'id' must be a string: the name you will ask for this capture by")
    check_id(name)
    if time_s is not None and (type(time_s) not in (int, float) or not 0 <= time_s < 1e11):
        raise RequestError("'time_s' must be seconds since 1970")
    if prediction is not None:
        if not isinstance(prediction, str) or "inputs" in document or "outputs" in document or rest:
            raise RequestError("give either 'prediction' (the id of one) or 'inputs' and 'outputs'")
        return CaptureOrder(name, manifest.model, prediction=prediction)
    signature = manifest.signature
    inputs, used = oip.read_tensors(signature.inputs, document.get("inputs"), rest, find)
    entries = document.get("outputs", [])
    outputs, more = oip.read_tensors(signature.outputs, entries, rest[used:], find, side="outputs")
    if used + more != len(rest):
        raise RequestError(f"{len(rest) - used - more} bytes of binary data belong to no tensor")
    check_inputs(signature.inputs, inputs)
    if len({each.name for each in outputs}) != len(outputs):
        raise RequestError("an output stands twice")
    return CaptureOrder(name, manifest.model, inputs=inputs, outputs=outputs, time_s=time_s)
