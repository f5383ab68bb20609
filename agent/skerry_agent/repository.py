"""Triton's statistics, model configuration and model repository extensions as documents. No I/O.

Sources: Triton's protocol/extension_statistics.md, extension_model_configuration.md, extension_model_repository.md.
A device's repository is what the fleet (or the device's maker) installed: `load` and `unload` start and end workers,
and can neither install, change nor remove anything. Each model has one version at a time here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skerry_agent.errors import RequestError
from skerry_agent.http_words import Body
from skerry_agent.slot import Slot
from skerry_agent.strict_json import parse_json

# tritonclient says this with every unload; there are no dependents here, so both values mean the same.
_HARMLESS = frozenset({"unload_dependents"})


def statistics(slots: Iterable[Slot]) -> dict[str, Any]:
    """Return the statistics of models since their workers' slots were made: a new release counts from 0.

    Times are nanoseconds summed over inferences, `last_inference` is in milliseconds since 1970. `compute_input` is the
    copy into the worker's memory, `compute_output` the wake-ups and the copy out.
    """
    return {"model_stats": [_statistics(slot) for slot in slots]}


def _statistics(slot: Slot) -> dict[str, Any]:
    seen = slot.counters
    computed = {
        "compute_input": {"count": seen.predictions, "ns": seen.input_ns},
        "compute_infer": {"count": seen.predictions, "ns": seen.infer_ns},
        "compute_output": {"count": seen.predictions, "ns": seen.output_ns},
    }
    parts = ("queue_ns", "input_ns", "infer_ns", "output_ns")
    return {
        "name": slot.manifest.model,
        "version": slot.manifest.version,
        "last_inference": int(seen.last_s * 1000),
        "inference_count": seen.predictions,
        "execution_count": seen.predictions,
        "inference_stats": {
            "success": {"count": seen.predictions, "ns": sum(getattr(seen, part) for part in parts)},
            "fail": {"count": seen.errors, "ns": seen.errors_ns},
            "queue": {"count": seen.predictions, "ns": seen.queue_ns},
            **computed,
            "cache_hit": {"count": 0, "ns": 0},
            "cache_miss": {"count": 0, "ns": 0},
        },
        "response_stats": {},
        "batch_stats": [{"batch_size": 1, **computed}] if seen.predictions else [],
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": size}] if (size := slot.rss_bytes()) else [],
    }


def config(slot: Slot, instances: int) -> dict[str, Any]:
    """Return a model's configuration in the form of Triton's model_config.proto: shapes are fixed, so batches are none.

    `instances` is how many workers it is to have.
    """
    signature = slot.manifest.signature
    sides = {
        side: [{"name": spec.name, "data_type": f"TYPE_{spec.dtype.value}", "dims": list(spec.shape)} for spec in specs]
        for side, specs in (("input", signature.inputs), ("output", signature.outputs))
    }
    return {
        "name": slot.manifest.model,
        "platform": f"skerry_{slot.variant.engine}",
        "backend": slot.variant.engine,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": 0,
        **sides,
        "instance_group": [{"name": slot.manifest.model, "kind": "KIND_CPU", "count": instances}],
    }


def index(slots: Iterable[Slot], body: Body) -> list[dict[str, str]]:
    """Return the repository's index; the request may ask for what is ready only.

    Raises:
        RequestError: 400, the request is none.
    """
    asked = _document(body)
    only_ready = asked.get("ready", False)
    if not isinstance(only_ready, bool):
        raise RequestError("'ready' must be true or false")
    entries = [_entry(slot) for slot in slots]
    return [entry for entry in entries if entry["state"] == "READY" or not only_ready]


def _entry(slot: Slot) -> dict[str, str]:
    if slot.ready:
        state, reason = "READY", ""
    elif slot.loading:
        state, reason = "LOADING", ""
    else:
        state, reason = "UNAVAILABLE", "unloaded" if slot.unloaded else "its worker is being restarted"
    return {"name": slot.manifest.model, "version": slot.manifest.version, "state": state, "reason": reason}


def check_control(body: Body) -> None:
    """Check the body of a load or an unload: only what the fleet signed is loaded, so nothing can be overridden.

    Raises:
        RequestError: 400, parameters that would change what the model is, or no JSON object.
    """
    parameters = _document(body).get("parameters", {})
    if not isinstance(parameters, dict):
        raise RequestError("'parameters' must be an object")
    if unknown := sorted(set(parameters) - _HARMLESS):
        raise RequestError(
            f"the parameter {unknown[0]!r:.80} is not taken: models are what the fleet signed",
            hint="load and unload without parameters",
        )


def _document(body: Body) -> dict[str, Any]:
    document = parse_json(body) if body.strip() else {}
    if not isinstance(document, dict):
        raise RequestError("the request must be a JSON object")
    return document
