"""The list of devices, made by the database, against what each device's own page says; on both databases."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fleet.conftest import ACTOR, Bench

from skerry_contracts.codec import canonical_json
from skerry_fleet import devices, group_queries, groups
from skerry_fleet.device_list import list_devices
from skerry_fleet.paging import Page

DATABASES = "both"
NAMES = [f"{word}{number}" for word in ("a", "b-", "1c") for number in range(4)]


def meant(query: str, device: dict[str, Any]) -> bool:
    """Say whether a device is one that a query means, by what is shown of it."""
    if query == "online==true":
        return bool(device["online"])
    return "back" in device["groups"] if query == "group==back" else not query or device["device"] != "a1"


def test_every_page_says_what_the_devices_say(bench: Bench) -> None:
    bench.enrol(*NAMES)
    with bench.fleet.database.write() as session:
        for name in ("front", "back"):
            groups.create(session, ACTOR, 0.0, name)
            groups.add(session, ACTOR, 0.0, name, NAMES[:5])
        row = devices.get(session, "default", NAMES[0])
        row.tags = canonical_json({"site": "o'slo \"<b>\\\u2028é", "1": ""}).decode()  # before there were rules
        session.add(row)
    for name in NAMES[3:8]:
        bench.beat(name, "b" * 64)

    @settings(derandomize=True, deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
    @given(
        limit=st.integers(1, 14),
        q=st.sampled_from(["", "a", "b", "1c", "z"]),
        group=st.sampled_from(["", "front"]),
        online=st.sampled_from([None, True, False]),
        query=st.sampled_from(["", "online==true", "group==back", "name!=a1"]),
    )
    def walk(limit: int, q: str, group: str, online: bool | None, query: str) -> None:
        asked, found, after = (group_queries.tree(query) if query else None), [], ""
        with bench.fleet.database.read() as session:
            while True:
                page = list_devices(
                    session,
                    "default",
                    Page(after, limit),
                    q=q,
                    group=group,
                    online=online,
                    asked=asked,
                    now=bench.clock(),
                )
                assert len(page["items"]) <= limit
                found += page["items"]
                if not page["next"]:
                    break
                after = page["next"]
            whole = [devices.show(session, "default", name) for name in sorted(NAMES)]
        wanted = [
            each for each in whole
            if each["device"].startswith(q) and (not group or group in each["groups"])
            and (online is None or each["online"] is online) and meant(query, each)
        ]  # fmt: skip
        assert [each["device"] for each in found] == [each["device"] for each in wanted]
        for listed, shown in zip(found, wanted, strict=True):
            models = [{key: each[key] for key in ("model", "version", "bundle", "state")} for each in shown["models"]]
            assert listed == {**{key: shown[key] for key in listed}, "models": models}

    walk()
