"""From the fleet's feeds into the lake: pull pages after the cursor, commit rows and cursor together, never lose or
double one.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any, TypeVar

from skerry_cloud.errors import DataError
from skerry_cloud.fleet_client import FleetClient
from skerry_cloud.lake.lake import Lake
from skerry_cloud.seals import Opener
from skerry_contracts import codec, names
from skerry_contracts.errors import ContractError, MismatchError
from skerry_contracts.sample import Sample, parse_prediction
from skerry_contracts.sketch import Sketch

PAGE_ITEMS = 500
Record = TypeVar("Record", Sample, Sketch)
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Pulled:
    """What one pull brought: new rows, and items that were no sample or sketch."""

    samples: int = 0
    sketches: int = 0
    refused: int = 0


def pull(client: FleetClient, lake: Lake, *, max_pages: int = 50, opener: Opener | None = None) -> Pulled:
    """Take in what both feeds have after their cursors. Sealed samples that `opener` cannot open are left out.

    Raises:
        FleetError: the fleet does not answer or refuses; what was committed before stays.
        DataError: the lake's disk refuses; the cursor stays where it was.
    """
    samples, bad_samples = _pull_feed(client, lake, "samples", max_pages, opener)
    sketches, bad_sketches = _pull_feed(client, lake, "sketches", max_pages, opener)
    return Pulled(samples, sketches, bad_samples + bad_sketches)


def _pull_feed(client: FleetClient, lake: Lake, feed: str, max_pages: int, opener: Opener | None) -> tuple[int, int]:
    new = refused = 0
    for _ in range(max_pages):
        page = client.feed(feed, lake.cursor(feed), PAGE_ITEMS)
        if not page.items:
            break
        if feed == "samples":
            read = [each for each in (_read(Sample, item) for item in page.items) if each is not None]
            good_samples = [each for each in (_open(opener, *item) for item in read) if each is not None]
            new += lake.append_samples(good_samples, cursor=page.cursor)
            refused += len(page.items) - len(good_samples)
        else:
            good_sketches = [each for each in (_read(Sketch, item) for item in page.items) if each is not None]
            new += lake.append_sketches(good_sketches, cursor=page.cursor)
            refused += len(page.items) - len(good_sketches)
        if len(page.items) < PAGE_ITEMS or page.cursor is None:
            break
    return new, refused


def _read(kind: type[Record], item: dict[str, Any]) -> tuple[str, Record] | None:
    """Return device and record of one feed item, or None where it is neither: one bad item must not stop the feed."""
    try:
        device = names.name(str(item.get("device", "")), "device")
        record = codec.from_plain(kind, item.get("record"))
        if isinstance(record, Sample) and parse_prediction(record.prediction)[0] != device:
            raise MismatchError("prediction", "of another device")
    except ContractError as error:
        log.warning("left out an item of the feed: %s", error)
        return None
    return device, record


def _open(opener: Opener | None, device: str, sample: Sample) -> tuple[str, Sample] | None:
    """Return a sample with its tensors, or None where it is sealed for somebody else."""
    try:
        if opener is None and sample.sealed is not None:
            raise DataError(f"sample {sample.prediction} is sealed, and there is no key here")
        return device, opener.open(sample) if opener is not None else sample
    except DataError as error:
        log.warning("left out a sample: %s", error)
        return None
