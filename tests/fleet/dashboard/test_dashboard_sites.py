"""Sites, trends and the search against the rows they are made of, on both databases, and what is asked wrongly."""

from __future__ import annotations

import re
import threading

import pytest
from tests.fleet.conftest import ACTOR, Bench
from tests.fleet.dashboard.conftest import HOSTILE, House, token_of
from tests.fleet.dashboard.markup import Markup

from skerry_fleet import alerts
from skerry_fleet import tags as tags_of
from skerry_fleet.alerts import Kind
from skerry_fleet.dashboard import sites, trends
from skerry_fleet.dashboard.shared import Shared
from skerry_fleet.errors import InputError
from skerry_fleet.rollup_tables import HealthHour, MessageHour

DATABASES = "both"
HOUR_MS = trends.HOUR_MS


def test_sites_are_counted_and_placed(bench: Bench) -> None:
    bench.enrol(*(f"d{number}" for number in range(8)))
    places = {"oslo": ("59.9", "10.7"), 'o\'x "y"': ("nan", "1"), "pole": ("89", "0"), "far": ("0", "181")}
    with bench.fleet.rollouts.open() as session:
        for number, (site, (north, east)) in enumerate(places.items()):
            for device in (f"d{number}", f"d{number + 4}")[: 2 if site == "oslo" else 1]:
                tags = {"site": site, "latitude": north, "longitude": east}
                tags_of.replace(session, bench.fleet.rollouts, ACTOR, 0.0, device, tags)
        alerts.raise_alert(session, "default", bench.clock(), Kind.DEVICE_SILENT, "d4", "gone")
        alerts.raise_alert(session, "rival", bench.clock(), Kind.DEVICE_SILENT, "d0", "another's")
    bench.beat("d0", "b" * 64)
    bench.beat("d4", "b" * 64)
    with bench.fleet.database.read() as session:
        found = sites.by_tag(session, "default", "site")
        assert sites.by_tag(session, "rival", "site")["sites"] == []
        for bad in ("", "a'b", 'a"b', "$", "a" * 65):
            with pytest.raises(InputError):
                sites.by_tag(session, "default", bad)
    oslo = next(each for each in found["sites"] if each["name"] == "oslo")
    assert (oslo["devices"], oslo["online"], oslo["alerts"]) == (2, 2, 1)
    assert oslo["versions"] == [{"model": "digits", "version": "1", "devices": 2}]
    assert [each["name"] for each in found["sites"]] == sorted(places)
    assert found["without"]["devices"] == 3
    spots = {each["site"]["name"]: (each["x"], each["y"], each["tone"]) for each in found["spots"]}
    assert spots == {"oslo": (381.4, 48.2, "warn"), "pole": (360.0, 0.0, "bad")}  # beyond the map: at its edge


def test_trends_add_up_hours_and_break_where_none_was_counted(bench: Bench) -> None:
    now_ms = int(bench.clock() * 1000) // HOUR_MS * HOUR_MS
    with bench.fleet.database.write() as session:
        for age, beats, errors in ((0, 10, 1), (1, 30, 0), (5, 20, 3), (30 * 24, 7, 0), (24 * 400, 99, 0)):
            for version in ("1", "2"):
                hour_ms = now_ms - age * HOUR_MS
                row = HealthHour(tenant="default", model="m", version=version, hour_ms=hour_ms)
                row.beats, row.predictions, row.errors = beats, beats * 10, errors
                session.add(row)
        session.add(MessageHour(tenant="default", channel="sample", model="m", word="", hour_ms=now_ms, messages=5))
        session.add(MessageHour(tenant="default", channel="sample", model="n", word="", hour_ms=now_ms, messages=6))
        alerts.raise_alert(session, "default", bench.clock() - 7200, Kind.DEVICE_SILENT, "d", "gone")
    with bench.fleet.database.read() as session:
        day = trends.charts(session, "default", bench.clock(), "day")
        month = trends.charts(session, "default", bench.clock(), "month")
        empty = trends.charts(session, "rival", bench.clock(), "quarter")
    beats, predictions, errors, messages, new = day["charts"]
    assert len(day["steps"]) == 24 and day["steps"][-1] == now_ms
    assert [line.name for line in beats.lines] == ["m 1", "m 2"]
    assert beats.lines[0].values[-6:] == (20.0, None, None, None, 30.0, 10.0)
    assert beats.lines[0].points.count("M") == 2
    assert predictions.lines[0].values[-1] == 200.0 and errors.lines[0].values[-1] == 1.0
    assert messages.lines[0].values[-1] == 11.0 and new.lines[0].values[-3:] == (1.0, 0.0, 0.0)
    assert sum(value or 0 for value in month["charts"][1].lines[0].values) == 20 * (10 + 30 + 20 + 7)
    assert all(not chart.lines for chart in empty["charts"])


def test_a_question_that_many_ask_at_once_is_answered_once() -> None:
    shared, asked, begun, go_on = Shared(), [], threading.Event(), threading.Event()

    def find() -> int:
        asked.append(1)
        begun.set()
        assert go_on.wait(30)
        return len(asked)

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(shared.get("q", 1e6, find))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert begun.wait(30)
    go_on.set()
    for thread in threads:
        thread.join()
    assert found == [1] * 8 and shared.get("q", 0.0, find) == 2 and shared.get("other", 1e6, find) == 3


def test_what_is_asked_wrongly_is_told(shown: House) -> None:
    with shown.visitor("viewer") as client:
        for address, status in (("/ui/sites?by=%27", 422), ("/ui/trends?span=year", 422),
                                ("/ui/devices?query=name", 422), ("/ui/rollouts/new", 403),
                                ("/ui/search?q=" + "z" * 5000, 200)):  # fmt: skip
            assert client.get(address).status_code == status, address
        page = Markup(client.get("/ui/sites").text)
        assert HOSTILE in page.text and "quay" in page.text
        # A value that cannot be written into a query leads nowhere rather than somewhere else.
        queries = [each["href"] for tag, each in page.tags if (each.get("href") or "").startswith("/ui/devices?query=")]
        assert queries == [
            "/ui/devices?query=tag.site%3D%3D%27harbour%27",
            "/ui/devices?query=tag.site%3D%3D%27quay%27",
        ]
        assert "6 devices shown" in Markup(client.get(queries[1] or "").text).text
        assert sum(tag == "circle" for tag, _ in page.tags) == 2  # 91 degrees north are nowhere


def test_a_rollout_form_is_refused_in_words_and_forgery_at_once(house: House) -> None:
    house.bench.enrol("d0")
    bundle = house.bench.publish()
    with house.visitor("operator") as client:
        token = token_of(client.get("/ui/rollouts/new").text)
        plan = {"bundle": bundle, "waves": "100", "canary": "1", "failure_budget": "0", "exposure_budget": "5"}
        plan |= {"holdout": "0", "soak_s": "0", "per_minute": "0"}
        for wrong, said in (({"canary": "0"}, "canary"), ({"waves": "50, 20"}, "waves"), ({"waves": ""}, "waves"),
                            ({"soak_s": "nan"}, "soak"), ({"soak_s": "inf"}, "soak"), ({"canary": "9" * 400}, "canary"),
                            ({"bundle": "0" * 64}, "choose a bundle"), ({"group": "x"}, "no group"),
                            ({"exposure_budget": HOSTILE}, "is no number")):  # fmt: skip
            for step in ({}, {"confirmed": "1"}):
                answer = client.post("/ui/rollouts/new", data={**plan, **wrong, **step, "token": token})
                assert answer.status_code == 422, wrong
                problem = re.search(r'class="problem" role="alert">([^\n]*)</p>', answer.text)
                assert problem is not None and said in problem[1].lower() and "<img" not in problem[1]
        assert client.post("/ui/rollouts/new", data={**plan, "confirmed": "1"}).status_code == 403
        assert "None" in Markup(client.get("/ui/rollouts").text).text  # nothing of this was begun
        dry = client.post("/ui/rollouts/new", data={**plan, "token": token, "approval": "1"})
        assert "Hand it in for approval" in dry.text and "None" in Markup(client.get("/ui/rollouts").text).text
        made = client.post("/ui/rollouts/new", data={**plan, "token": token, "approval": "1", "confirmed": "1"})
        path = made.headers["location"]
        assert "awaiting-approval" in client.get(path).text
        assert client.post(f"{path}/approve", data={"token": token}).status_code == 409  # not by the same person
    with house.visitor("admin") as other:
        token = token_of(other.get(f"{path}/approve").text)
        assert other.post(f"{path}/approve", data={"token": token}).status_code == 303
        assert "running" in other.get(path).text
