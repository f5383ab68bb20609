"""Messages as rows of segments, and what becomes of a prediction that two messages tell of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skerry_cloud.database import Database
from skerry_contracts import codec
from skerry_contracts.sample import Kept, Sample
from skerry_contracts.sketch import Sketch

Items = list[tuple[str, Sample]]


def sketch_row(device: str, sketch: Sketch) -> dict[str, Any]:
    """Return a sketch as a row of a segment."""
    row = {"device": device, **codec.to_plain(sketch)}
    for each in row.get("frequent", ()):
        each["counters"] = sorted(each["counters"].items())  # Parquet knows maps as pairs
    return row


def sample_row(device: str, sample: Sample, tensors: dict[str, bytes]) -> dict[str, Any]:
    """Return a sample as a row of a segment; its inputs' content goes into `tensors`, by digest."""
    inputs = []
    for each in sample.inputs:
        sha256 = each.ref or codec.digest(each.data or b"")
        if each.data is not None:
            tensors[sha256] = each.data
        inputs.append({"name": each.name, "dtype": each.dtype.value, "shape": list(each.shape), "sha256": sha256})
    outputs = [
        {"name": each.name, "dtype": each.dtype.value, "shape": list(each.shape), "data": each.data}
        for each in sample.outputs
        if each.data is not None
    ]
    plain = {
        key: getattr(sample, key) for key in ("boot_id", "seq", "time_s", "prediction", "model", "version", "bundle")
    }
    rest = {
        "variant": sample.variant,
        "kept": sample.kept.value,
        "weight": sample.weight,
        "confidence": sample.confidence,
        "capture": sample.capture,
    }
    return {"device": device, **plain, **rest, "inputs": inputs, "outputs": outputs}


def told_again(database: Database, items: Iterable[tuple[str, Sample]]) -> tuple[Items, Items, Items]:
    """Return samples that tell of a new prediction; those that tell again of a known one; and of these, those whose
    row is to take the place of the known one's.

    A device may keep a prediction by its policy, and a program may ask for it by name afterwards: two messages, one
    sample, with both reasons. The row is that of the random one, whichever comes first: its weight speaks for others.
    """
    first: dict[str, tuple[str, Sample]] = {}
    again: Items = []
    better: Items = []
    for device, sample in items:
        known = database.row("SELECT kept FROM sample WHERE prediction = ?", (sample.prediction,))
        if known is None and sample.prediction not in first:
            first[sample.prediction] = (device, sample)
            continue
        kept = known["kept"] if known is not None else first[sample.prediction][1].kept.value
        again.append((device, sample))
        if sample.kept is Kept.RANDOM and kept != Kept.RANDOM.value:
            better.append((device, sample))
    return list(first.values()), again, better
