"""Where a model drifts: sites with the devices that see it and their samples, alike on both databases."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.fleet.conftest import ACTOR, Bench, Clock
from tests.fleet.dashboard.conftest import HOSTILE, House, send_sample
from tests.fleet.dashboard.markup import Markup
from tests.fleet.test_ingest import heartbeat, put

from skerry_contracts.device import Drift
from skerry_fleet import tags
from skerry_fleet.config import FleetConfig
from skerry_fleet.dashboard import drift_sites, drift_view
from skerry_fleet.fleet import open_fleet

SITES = {"d0": "quay", "d1": "quay", "d2": "it's", "d3": "", "d4": "quay", "d5": "mole"}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def harbour(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Bench]:
    """Devices at sites on either database; of d0 to d4 a heartbeat."""
    url = request.getfixturevalue("postgres").emptied() if request.param == "postgresql" else ""
    fleet = open_fleet(
        FleetConfig(tmp_path / "fleet", broker="embedded", database_url=url), clock, random.Random(1).randbytes
    )
    found = Bench(fleet, clock)
    found.enrol(*SITES)
    with fleet.rollouts.open() as session:
        for device, site in SITES.items():
            tags.replace(session, fleet.rollouts, ACTOR, clock(), device, {"site": site} if site else {})
    yield found
    fleet.close()


def by_site(bench: Bench, model: str = "digits") -> dict[str, Any]:
    with bench.fleet.database.read() as session:
        return drift_sites.by_site(session, "default", model, drift_view.newest_sample(session, "default"))


def shown(bench: Bench, site: str) -> list[tuple[str, str]]:
    with bench.fleet.database.read() as session:
        return [(each["device"], each["site"]) for each in drift_view.samples(session, "default", "digits", site)]


def test_sites_are_told_by_their_alarms(harbour: Bench) -> None:
    bundle = harbour.publish()
    drift = Drift("digits", bundle, "confidence", 0.9, 0.4, 96, 1.0)
    other = dataclasses.replace(drift, model="letters")
    assert by_site(harbour) == {"sites": [], "more": 0, "named": False, "more_alarms": False}
    for device, alarms in (("d0", (drift,)), ("d1", (drift, other)), ("d2", (other,)), ("d3", ()), ("d4", (drift,))):
        put(harbour, "heartbeat", dataclasses.replace(heartbeat(1), drift=alarms or None), device=device)
    for turn, device in enumerate(("d2", "d2", "d3", "d0", "d5")):
        send_sample(harbour, device, bundle, turn)
    found = by_site(harbour)
    told = [(each.name, each.alarms, each.drifting, each.samples, each.devices) for each in found["sites"]]
    assert told == [
        ("quay", 3, ["d0", "d1", "d4"], 1, 3),
        ("it's", 0, [], 2, 1),
        ("", 0, [], 1, 1),
        ("mole", 0, [], 1, 0),  # never heard of, and yet there is a sample: what it runs is not known
    ]
    assert found["named"] and not found["more_alarms"] and all(each.seen_ms for each in found["sites"][:3])
    assert [each.alarms for each in by_site(harbour, "letters")["sites"]] == [1, 1]
    assert shown(harbour, "") == [("d5", "mole"), ("d0", "quay"), ("d3", ""), ("d2", "it's"), ("d2", "it's")]
    assert shown(harbour, "it's") == [("d2", "it's")] * 2
    assert shown(harbour, "' OR '1'='1") == [] == shown(harbour, "%")
    put(harbour, "heartbeat", heartbeat(2), device="d1")
    assert by_site(harbour)["sites"][0].alarms == 2


def test_no_more_than_a_bounded_part_is_read(harbour: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = harbour.publish()
    drift = Drift("digits", bundle, "confidence", 0.9, 0.4, 96, 1.0)
    for turn, device in enumerate(SITES):
        put(harbour, "heartbeat", dataclasses.replace(heartbeat(1), drift=(drift,)), device=device)
        send_sample(harbour, device, bundle, turn)
    monkeypatch.setattr(drift_sites, "LOOK_BACK", 3)
    monkeypatch.setattr(drift_sites, "SITES", 2)
    found = by_site(harbour)
    assert found["more"] == 2 and found["more_alarms"] and len(found["sites"]) == 2
    assert sum(each.alarms for each in found["sites"]) == 3 and shown(harbour, "quay") == [("d4", "quay")]


def test_the_page_narrows_to_a_site_and_takes_no_markup_for_one(full: House) -> None:
    with full.visitor("operator") as client:
        page = client.get("/ui/drift/digits").text
        found = Markup(page)
        ways = [each["href"] or "" for tag, each in found.tags if "?site=" in (each.get("href") or "")]
        assert f"/ui/drift/digits?site={quote(HOSTILE, safe='/')}#h-samples" in ways and HOSTILE in found.text
        here, elsewhere = (client.get(f"/ui/drift/digits?site={quote(site)}") for site in (HOSTILE, "quay"))
        assert Markup(here.text).text.count("Recent samples from") == 1 and "<img src=x" not in here.text
        pictures = [
            page.count('src="data:image/png'),
            *(each.text.count('src="data:image/png') for each in (here, elsewhere)),
        ]
        assert pictures[0] == pictures[1] + pictures[2] > 0 and 0 in pictures
        assert "None from there" in (here if not pictures[1] else elsewhere).text
        for wrong in ("x" * 257, "a%00b", "a%0Ab"):
            assert client.get(f"/ui/drift/digits?site={wrong}").status_code == 422
    with full.visitor("viewer") as client:
        page = client.get("/ui/drift/digits?site=quay").text
        assert "data:image/png" not in page and "By site" in page
