"""The client against the real fleet on a real socket."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.cloud.world import sample, sketch
from tests.fleet.conftest import Bench, Clock, make_bundle, serving
from tests.fleet.relay import relay

from skerry_cloud import sync
from skerry_cloud.errors import ConfigError, FleetError
from skerry_cloud.fleet_client import FleetClient, read_key
from skerry_cloud.lake.lake import Lake
from skerry_contracts.container import open_container
from skerry_fleet.app import create_app
from skerry_fleet.config import FleetConfig


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[tuple[FleetClient, Bench]]:
    clock = Clock()
    config = FleetConfig(root=tmp_path / "fleet", broker="embedded")
    app = create_app(config, clock, random.Random(1).randbytes, with_broker=False)
    with serving(app) as url:
        key = read_key(tmp_path / "fleet" / "admin.key")
        with contextlib.closing(FleetClient(url, key)) as client:
            yield client, Bench(app.state.fleet, clock)


def test_bundles_and_rollouts_asked_for_twice_are_there_once(stand: tuple[FleetClient, Bench]) -> None:
    client, bench = stand
    assert client.newest_release("digits") == 0
    client.register_model("digits")
    client.register_model("digits")
    data = make_bundle(release=3)
    bundle = open_container(io.BytesIO(data)).bundle_id
    assert client.upload_bundle("digits", data) == bundle == client.upload_bundle("digits", data)
    assert client.newest_release("digits") == 3 and client.bundle(bundle)["manifest"]["model"] == "digits"
    bench.enrol("cam-1")
    plan = {"model": "digits", "bundle": bundle, "group": None, "waves": [{"percent": 100}], "soak_s": 0.0}
    first = client.create_rollout(plan, idempotency_key="p-host")
    assert client.create_rollout(plan, idempotency_key="p-host")["id"] == first["id"]
    assert [each["id"] for each in client.rollouts("digits")] == [first["id"]]
    bench.beat("cam-1", "")
    bench.install("cam-1")
    assert client.rollout(first["id"])["status"] == "complete"


def test_samples_and_sketches_flow_from_ingest_to_the_lake(stand: tuple[FleetClient, Bench], lake: Lake) -> None:
    client, bench = stand
    bench.enrol("cam-1")
    for i in range(3):
        bench.send("cam-1", "sample", sample(i, np.full(64, i)))
    bench.send("cam-1", "sample", sample(1, np.full(64, 1)))
    bench.send("cam-1", "sketch", sketch(9, {"input:image:mean": (1, 2)}))
    assert sync.pull(client, lake) == sync.Pulled(samples=3, sketches=1)
    assert sync.pull(client, lake) == sync.Pulled()


def test_verdicts_reach_the_fleet_and_refusals_come_back_in_its_words(stand: tuple[FleetClient, Bench]) -> None:
    client, _ = stand
    client.register_model("digits")
    client.put_drift("digits", {"monitor": "data-drift", "drifting": True, "score": 0.9, "threshold": 0.6})
    with pytest.raises(FleetError, match="no model") as refusal:
        client.put_drift("faces", {"monitor": "data-drift", "drifting": True})
    assert refusal.value.status == 404 and not refusal.value.passing
    with pytest.raises(FleetError, match="not a valid bundle") as bad:
        client.upload_bundle("digits", b"no zip")
    assert 400 <= bad.value.status < 500


def test_lost_answers_are_asked_for_again_and_make_nothing_twice(
    stand: tuple[FleetClient, Bench], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    near, _ = stand
    key = read_key(tmp_path / "fleet" / "admin.key")
    with (
        relay(str(near._http.base_url)) as way,
        contextlib.closing(FleetClient(way.url, key, sleep=lambda _: None)) as client,
    ):
        way.lose = 2
        client.register_model("digits")
        way.lose = 1
        bundle = client.upload_bundle("digits", make_bundle())
        way.lose = 1
        assert client.bundle(bundle)["model"] == "digits"
        assert way.lost == 4 and caplog.text.count("asking again") == 4
        way.lose = 1
        with pytest.raises(FleetError) as lost:
            client.approve_rollout("none")
        assert lost.value.passing and way.lose == 0, "an approval is not given twice"
    assert [each["id"] for each in near._ask("GET", "/api/v1/models/digits/bundles")["items"]] == [bundle]


def test_a_key_file_that_is_missing_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_key(tmp_path / "none")
    (tmp_path / "key").write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        read_key(tmp_path / "key")
