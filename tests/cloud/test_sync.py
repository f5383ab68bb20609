from __future__ import annotations

import contextlib

import numpy as np
import pytest
from tests.cloud.fleet_double import Fleet, serving
from tests.cloud.world import sample, sketch

from skerry_cloud import sync
from skerry_cloud.errors import FleetError
from skerry_cloud.fleet_client import FleetClient
from skerry_cloud.lake.batch import SampleQuery
from skerry_cloud.lake.lake import Lake


def test_both_feeds_come_in_page_by_page(
    client: FleetClient, fleet: Fleet, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync, "PAGE_ITEMS", 3)
    for i in range(7):
        fleet.send("cam-1", sample(i, np.full(64, i, np.float32)))
    fleet.send("cam-1", sketch(1, {"input:image:mean": (1, 2)}))
    assert sync.pull(client, lake) == sync.Pulled(samples=7, sketches=1, refused=0)
    assert sync.pull(client, lake) == sync.Pulled()
    fleet.send("cam-1", sample(7, np.zeros(64, np.float32)))
    fleet.send("cam-1", sample(7, np.zeros(64, np.float32)))
    assert sync.pull(client, lake).samples == 1
    assert len(lake.samples(SampleQuery("digits"))) == 8


def test_what_is_no_sample_is_left_out_and_the_feed_goes_on(client: FleetClient, fleet: Fleet, lake: Lake) -> None:
    fleet.send("cam-2", sample(1, np.zeros(64, np.float32)))  # says it is cam-1
    fleet.feeds["samples"].append({"id": 2, "device": "cam-1", "record": {"boot_id": 5}})
    fleet.feeds["samples"].append({"id": 3})
    fleet.send("cam-1", sample(2, np.zeros(64, np.float32)))
    assert sync.pull(client, lake) == sync.Pulled(samples=1, refused=3)
    assert lake.cursor("samples") == "4"


def test_a_fleet_that_is_down_or_refuses_is_told_in_one_line(fleet: Fleet, lake: Lake) -> None:
    with serving(fleet) as url:
        with contextlib.closing(FleetClient(url, "wrong")) as client:
            with pytest.raises(FleetError, match="API key") as refusal:
                sync.pull(client, lake)
        assert refusal.value.status == 401 and not refusal.value.passing and "key" in refusal.value.hint
    with contextlib.closing(FleetClient(url, "any")) as client:
        with pytest.raises(FleetError, match="does not answer") as silence:
            sync.pull(client, lake)
    assert silence.value.passing and lake.cursor("samples") is None
