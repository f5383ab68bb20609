"""The hand-over to quantisation-aware retraining, for networks that no recipe keeps accurate in bytes.

Two files: JSON that says how every tensor is put into bytes, what each layer costs and which layers to train; and the
best attempt as QDQ ONNX, from which a trainer continues. docs/accuracy-repair.md describes the form.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from skerry_compiler.engines.network.graph import Quant
from skerry_compiler.repair.layers import Model
from skerry_compiler.repair.search import Search, chosen
from skerry_compiler.repair.simulate import rounded_weight

FORM = "skerry-qat-1"
HARMFUL = 0.8  # of the whole error: the layers that together make this much of it are to be trained


@dataclasses.dataclass(frozen=True, slots=True)
class Handover:
    """The JSON as plain data, and the QDQ ONNX as bytes."""

    plain: dict[str, Any]
    onnx: bytes


def made(search: Search) -> Handover:
    """Return the hand-over of a search: of its best candidate, with each layer's sensitivity measured now."""
    workshop = search.workshop
    best = chosen(search.trials)[0].recipe
    proto, place = workshop.exported(best)
    measured = search.harm(best, workshop.everything, patient=True)
    harm = {workshop.order[i]: error for i, error in measured.items()}
    plain_proto, _, _ = workshop.made(best, workshop.everything)
    model = Model(plain_proto)
    layers = []
    for layer in model.layers():
        if layer.out not in workshop.order:
            continue
        entry: dict[str, Any] = {
            "name": layer.out,
            "operator": layer.kind,
            "number": workshop.order.index(layer.out),
            "bytes": layer.out in place.layers,
            "error": harm.get(layer.out),
        }
        if layer.out in place.layers:
            _, scale = rounded_weight(model.array(layer.weight), layer.axis)
            entry["weight"] = {"axis": layer.axis, "scales": [float(each) for each in scale], "zero_point": 0}
        if layer.out in place.inputs:
            entry["input"] = _quant(place.inputs[layer.out])
        layers.append(entry)
    equalised = workshop.factors(workshop.everything) if best.cle else {}
    judged = next(trial for trial in search.trials if trial.recipe == best)
    return Handover(
        {
            "format": FORM,
            "candidate": best.name,
            "worst_cosine": judged.judgement.cosine,
            "range_share": judged.judgement.range_share,
            "refusal": judged.judgement.refusal,
            "equalised": {name: [float(each) for each in by] for name, by in sorted(equalised.items())},
            "activations": {name: _quant(quant) for name, quant in sorted(place.values.items())},
            "layers": sorted(layers, key=lambda each: each["number"]),
            "train": to_train(harm),
        },
        proto.SerializeToString(deterministic=True),
    )


def to_train(harm: dict[str, float]) -> list[str]:
    """Return the layers that make most of the error, the worst first."""
    ordered = sorted(harm, key=lambda name: (-harm[name], name))
    limit, seen = HARMFUL * sum(harm.values()), 0.0
    chosen_layers: list[str] = []
    for name in ordered:
        if seen >= limit and chosen_layers:
            break
        chosen_layers.append(name)
        seen += harm[name]
    return chosen_layers


def _quant(quant: Quant) -> dict[str, float | int]:
    return {"scale": quant.scale, "zero_point": quant.zero}
