"""The pages over HTTP, without a browser and so without script: who sees what, and that no text becomes markup."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from sqlmodel import func, select
from tests.fleet.conftest import ACTOR
from tests.fleet.dashboard.conftest import HOSTILE, House, rollout, token_of, verdict
from tests.fleet.dashboard.markup import Markup, addresses

from skerry_fleet import feeds
from skerry_fleet.dashboard import routes
from skerry_fleet.records import Audit, DriftHistory


def test_every_page_answers_and_is_fenced(shown: House) -> None:
    with shown.visitor() as client:
        for address in addresses(shown):
            answer = client.get(address)
            assert answer.status_code == 200, (address, answer.text)
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
            assert (
                answer.headers["cache-control"] == "no-store" and answer.headers["x-content-type-options"] == "nosniff"
            )
            part = client.get(address, headers={"x-skerry-part": "1"})
            assert "<html" not in part.text and "<h1" not in part.text
        for address, status in (("/ui/nonsense", 404), ("/ui/devices/nobody", 404), ("/ui/rollouts/x", 404),
                                ("/ui/devices?online=maybe", 422), ("/ui/alerts?after=x", 422),
                                ("/ui/rollouts?status=x", 422), ("/ui/bundles/00", 404), ("/ui/drift/none", 404),
                                ("/ui/static/../session.py", 404), ("/ui/static/x.css", 404)):  # fmt: skip
            answer = client.get(address)
            assert answer.status_code == status and "text/html" in answer.headers["content-type"], address
            assert "content-security-policy" in answer.headers


def test_no_text_from_a_device_becomes_markup(shown: House) -> None:
    told = 0
    with shown.visitor() as client:
        for address in [*addresses(shown), f"/ui/audit?object={HOSTILE}", f"/ui/devices?q={HOSTILE[:60]}"]:
            page = client.get(address).text
            found = Markup(page)
            for tag, attributes in found.tags:
                assert not any(name.startswith("on") or name == "style" for name in attributes), (address, tag)
                assert tag != "script" or (attributes.get("src") or "").startswith("/ui/static/"), address
                assert tag != "img" or (attributes.get("src") or "").startswith("data:image/png;base64,"), address
                assert not (attributes.get("href") or "").lower().startswith(("javascript:", "data:")), address
            told += HOSTILE in found.text
            assert "49'" not in page
    assert told >= 7  # device, model, bundle, rollout, drift, alerts, overview: told, in full, as text


def test_lists_go_on_page_by_page(house: House) -> None:
    names = [f"d{number:03}" for number in range(70)]
    house.bench.enrol(*names)
    house.bench.beat("d003", "")
    with house.visitor("viewer") as client:
        first = Markup(client.get("/ui/devices").text)
        onward = next(each["href"] for tag, each in first.tags if each.get("rel") == "next")
        second = Markup(client.get(onward or "").text)
        found = [
            each["id"] for page in (first, second) for tag, each in page.tags if (each.get("id") or "").startswith("d-")
        ]
        assert found == [f"d-{name}" for name in names]
        assert not any(each.get("rel") == "next" for _, each in second.tags)
        some = Markup(client.get("/ui/devices?q=d06").text)
        assert "10 devices shown of 70" in some.text
        assert "fits" in client.get("/ui/devices?q=zzz").text
        assert "1 device shown" in Markup(client.get("/ui/devices?online=true").text).text
        assert "d003" not in client.get("/ui/devices?online=false").text
        assert client.get("/ui/devices?group=none").status_code == 404


def test_the_device_page_says_why(shown: House) -> None:
    with shown.visitor("viewer") as client:
        text = Markup(client.get(f"/ui/devices/{shown.bad}").text).text
    assert f"Rollout {shown.rollout} running was ordered by test for group porch" in text
    assert "In it this device is failed ; its last word was rolled-back (golden)" in text
    assert "So it is to run version 1 , which is the way back to what it ran before" in text
    assert "the device has adopted 1" in text
    assert "It says that it runs version 1 serving : as wanted." in text
    assert "13.4 MB" in text and "0.42 ms" in text


def test_scores_are_remembered_up_to_a_limit(house: House) -> None:
    house.bench.publish("1", 1)
    with house.fleet.database.write() as session:
        for step in range(510):
            record = {"score": step / 1000, "threshold": 0.9}
            feeds.put_drift(session, ACTOR, house.bench.clock(), "digits", "data-drift", False, record)
    verdict(house.bench, "data-drift", 0.95, 0.9)
    verdict(house.bench, "data-drift", 0.95, 0.9)  # put again after a lost answer: no second point
    with house.fleet.database.read() as session:
        assert session.exec(select(func.count()).select_from(DriftHistory)).one() == 500
    with house.visitor("viewer") as client:
        page = client.get("/ui/drift").text
    assert "120 scores, from 0.391 to 0.95" in page and "drifting" in page


def test_a_broken_chain_is_told(house: House) -> None:
    with house.visitor("viewer") as client:
        assert "chain holds" in client.get("/ui/audit").text
        with house.fleet.database.write() as session:
            row = session.get(Audit, ("default", 2))
            assert row is not None
            row.actor = "nobody"
            session.add(row)
        assert "The chain is broken at record 2: was altered." in client.get("/ui/audit").text


def test_changes_are_told_as_they_happen(house: House) -> None:
    with house.visitor("viewer") as client, client.stream("GET", "/ui/events", timeout=60) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        told = []
        for line in stream.iter_lines():
            if line == ": skerry":
                house.bench.enrol(*(f"d{number}" for number in range(30)))
                house.bench.publish()
            elif line.startswith("data: "):
                told.append(line)
            if "data: device" in told and "data: bundle" in told:
                break
    assert told.count("data: device") <= 4  # thirty devices, a few words


def test_sessions_outlive_a_restart_and_static_files_are_kept(house: House) -> None:
    with house.visitor("viewer") as client:
        page = client.get("/ui/").text
        style = next(each["href"] for tag, each in Markup(page).tags if tag == "link" and each["rel"] == "stylesheet")
        answer = client.get(style or "")
        assert "immutable" in answer.headers["cache-control"] and answer.headers["content-type"].startswith("text/css")
        routes.install(FastAPI(), house.fleet)  # what a start does: the secret is read, not made anew
        assert client.get("/ui/").status_code == 200


@pytest.mark.parametrize("order", ["approve", "pause", "resume", "abort", "rollback"])
def test_every_order_says_what_it_would_do(shown: House, order: str) -> None:
    with shown.visitor("operator") as client:
        page = client.get(f"/ui/rollouts/{shown.rollout}/{order}").text
    assert ("not possible any more" in page) == (order in ("approve", "resume"))


def test_a_rollout_that_waits_for_approval_is_approved_here(house: House) -> None:
    house.bench.enrol("d0")
    house.bench.beat("d0", "")
    name = rollout(house.bench, house.bench.publish(), approval=True)
    with house.visitor("operator") as client:
        path = f"/ui/rollouts/{name}"
        assert "Approve" in client.get(path).text
        token = token_of(client.get(f"{path}/approve").text)
        client.post(f"{path}/approve", data={"token": token})
        assert "running" in client.get(path).text
    assert house.bench.assignment("d0") is not None
