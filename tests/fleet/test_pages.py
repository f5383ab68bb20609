"""Lists page by page, while others make and change things: nothing twice, nothing that was there all along left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fleet.conftest import ACTOR, Bench, make_bundle

from skerry_fleet import alerts, audit, notice_routes
from skerry_fleet.alert_words import Kind

Make = Callable[[int], Any]


def makers(client: httpx.Client, app: FastAPI) -> dict[str, tuple[str, Make]]:
    """Return for each list: the field that tells its items apart, and how to make another one, somewhere in it."""
    fleet = app.state.fleet
    bench = Bench(fleet, fleet.clock)
    client.post("/api/v1/models", json={"name": "digits"})

    def spread(number: int) -> str:  # names that fall between the ones there are
        return f"n{number * 7919 % 10007:05d}"

    def post(path: str, **more: Any) -> Make:
        return lambda number: client.post(f"/api/v1/{path}", json={"name": spread(number), **more}).raise_for_status()

    def within(act: Callable[..., Any]) -> Make:
        def make(number: int) -> None:
            with fleet.database.write() as session:
                act(session, number)

        return make

    def letter(number: int) -> None:
        bench.send(spread(number), "sample", b"no record")

    def beat(number: int) -> None:
        bench.enrol(spread(number))

    raised = within(
        lambda session, number: alerts.raise_alert(session, "default", number, Kind.DISK_LOW, spread(number), "low")
    )
    wrote = within(lambda session, number: audit.write(session, ACTOR, 0.0, "x", f"x/{number}", None, {}))
    muted = within(
        lambda session, number: notice_routes.mute(
            session, ACTOR, fleet.clock(), kind="", group="", hours=1.0, reason=str(number)
        )
    )
    bundled = lambda number: client.post(  # noqa: E731  # a release rises, so bundles come at the beginning
        "/api/v1/models/digits/bundles", content=make_bundle(version=f"v{number}", release=number + 1)
    ).raise_for_status()
    return {
        "groups": ("name", post("groups")),
        "models": ("name", post("models")),
        "routes": ("name", post("routes", target="https://hooks.example/")),
        "keys": ("id", post("keys", role="viewer")),
        "claims": ("id", lambda number: client.post("/api/v1/claims", json={}).raise_for_status()),
        "devices": ("device", beat),
        "dead-letters": ("id", letter),
        "alerts": ("id", raised),
        "audit": ("seq", wrote),
        "mutes": ("id", muted),
        "models/digits/bundles": ("id", bundled),
    }


def test_pages_hold_while_things_are_made(client: httpx.Client, app: FastAPI) -> None:
    made, found = dict.fromkeys(makers(client, app), 0), makers(client, app)

    @settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(sorted(found)), st.integers(1, 4), st.lists(st.integers(0, 2), max_size=8))
    def walk(name: str, size: int, between: list[int]) -> None:
        key, make = found[name]

        def more(count: int) -> None:
            for _ in range(count):
                made[name] += 1
                make(made[name])

        more(5)
        there = {each[key] for each in client.get(f"/api/v1/{name}?limit=1000").json()["items"]}
        seen: list[Any] = []
        page = client.get(f"/api/v1/{name}?limit={size}").json()
        while True:
            assert len(page["items"]) <= size
            seen += [each[key] for each in page["items"]]
            if page["next"] is None:
                break
            assert len(page["items"]) == size, "a page in the midst is full"
            more(between.pop() if between else 0)
            page = client.get(f"/api/v1/{name}?limit={size}&after={page['next']}").json()
        assert len(seen) == len(set(seen)) and there <= set(seen), name

    walk()


@pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)], indirect=True
)
def test_filters_leave_what_they_name(client: httpx.Client, app: FastAPI) -> None:
    fleet = app.state.fleet
    bench = Bench(fleet, fleet.clock)
    for name in ("lab", "lab-2", "Lab", "hall"):
        client.post("/api/v1/groups", json={"name": name})
        client.post("/api/v1/models", json={"name": name})
    with fleet.database.write() as session:
        for kind, subject in ((Kind.DISK_LOW, "d0"), (Kind.DISK_LOW, "d1"), (Kind.FLAPPING, "d0")):
            alerts.raise_alert(session, "default", fleet.clock(), kind, subject, "x")
    bench.send("d7", "sample", b"x")
    bench.send("d8", "sample", b"x")
    client.post("/api/v1/models/lab/bundles", content=make_bundle("lab"))
    client.post("/api/v1/models/lab/bundles", content=make_bundle("lab", target="cortex-a72"))

    def count(path: str) -> int:
        answer = client.get(f"/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        return len(answer.json()["items"])

    for path, items in (
        ("groups?q=lab", 2),
        ("groups?q=lab-", 1),
        ("groups?q=%25", 0),
        ("groups?q=_ab", 0),
        ("models?q=ha", 1),
        ("routes?q=x", 0),
        ("alerts?kind=disk-low", 2),
        ("alerts?kind=disk-low&subject=d0", 1),
        ("alerts?subject=d0&state=open", 2),
        ("alerts?kind=rain", 0),
        ("incidents?kind=flapping", 1),
        ("notices?status=waiting&route=pager", 0),
        ("dead-letters?device=d7", 1),
        ("dead-letters?device=d", 0),
        ("audit?action=group.create", 3),
        ("audit?action=group.create&object=group/lab", 1),
        ("audit?actor=nobody", 0),
        ("models/lab/bundles?target=cortex-a72", 1),
        ("models/lab/bundles?target=host", 1),
    ):
        assert count(path) == items, path
