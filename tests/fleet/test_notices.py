"""Messages on their way: real HTTP and mail servers hear of an incident, once, signed, and no secret is shown again."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import hmac
import json
import logging
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from tests.fleet.conftest import ACTOR, Bench, Clock
from tests.fleet.sinks import HttpSink, MailSink, http_sink, mail_sink

from skerry_fleet import alerts, delivery, incidents, notice_routes, webhooks
from skerry_fleet.alert_words import Kind
from skerry_fleet.cli import main
from skerry_fleet.errors import InputError
from skerry_fleet.fleet import Fleet
from skerry_fleet.incident_tables import Notice
from skerry_fleet.paging import Page

API = "/api/v1"


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink() as found:
        yield found


@pytest.fixture
def mails() -> Iterator[MailSink]:
    with mail_sink() as found:
        yield found


def until(what: Callable[[], object]) -> None:
    for _ in range(600):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it never happened")


def alarm(fleet: Fleet, clock: Clock, subject: str, kind: Kind = Kind.UPDATE_FAILED) -> None:
    with fleet.database.write() as session:
        alerts.raise_alert(session, "default", clock(), kind, subject, f"{subject} \N{SNOWMAN} \x1b[31m</b>")


def test_a_webhook_hears_signed_events_in_order_each_once(
    client: httpx.Client, app: FastAPI, clock: Clock, sink: HttpSink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fleet: Fleet = app.state.fleet
    made = client.post(f"{API}/routes", json={"name": "hook", "target": sink.url, "kinds": ["update-failed"]}).json()
    assert made["target"].endswith("/…") and made["signing_secret"].startswith("whsec_")
    sink.answers = [500, 302, 429]
    alarm(fleet, clock, "d1")
    alarm(fleet, clock, "c1", Kind.CERTIFICATE)  # not for this route

    def later(count: int) -> bool:
        clock.now += 21
        return len(sink.requests) >= count

    until(lambda: later(4))
    until(lambda: client.get(f"{API}/notices").json()["items"][0]["status"] == "sent")
    with fleet.database.write() as session:
        alerts.resolve(session, "default", clock(), Kind.UPDATE_FAILED, "d1")
    until(lambda: later(5))
    until(lambda: all(each["status"] == "sent" for each in client.get(f"{API}/notices").json()["items"]))
    bodies = [body for _, body in sink.requests]
    assert len(bodies) == 5 and len(set(bodies[:4])) == 1  # tried again, the same to the byte
    events = [json.loads(body) for body in bodies[3:]]
    assert [each["id"] for each in events] == ["default/incident/1/opened", "default/incident/1/resolved"]
    assert [each["type"] for each in events] == ["skerry.incident.opened", "skerry.incident.resolved"]
    assert events[0]["specversion"] == "1.0" and events[0]["data"]["first_alerts"][0]["subject"] == "d1"
    key = base64.b64decode(made["signing_secret"].removeprefix("whsec_"))
    for headers, body in sink.requests:
        assert headers["content-type"].startswith("application/cloudevents+json")
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        wanted = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        assert headers["webhook-signature"] == f"v1,{wanted}" and headers["webhook-id"] == json.loads(body)["id"]
    shown = [client.get(f"{API}/{each}").text for each in ("routes", "notices", "audit", "incidents", "alerts")]
    for text in (*shown, caplog.text):
        assert "hush-hush" not in text and "whsec_" not in text
    assert client.get(f"{API}/audit/verify").json()["broken_at"] is None


def test_a_mail_server_gets_the_message_as_text(bench: Bench, mails: MailSink) -> None:
    target = f"mailto://127.0.0.1:{mails.port}?from=fleet@example.org&to=ann@example.org&mode=insecure"
    webhooks.check(target, "machine")
    with bench.fleet.database.write() as session:
        notice_routes.create(session, ACTOR, 0.0, random.Random(1).randbytes, name="mail", target=target)
    alarm(bench.fleet, bench.clock, "kitchen-1")
    bench.clock.now += 10
    with bench.fleet.database.write() as session:
        incidents.tick(session, bench.clock(), 10.0, 900.0)
        (job,) = delivery.due(session, bench.clock())
    assert delivery.send(bench.fleet.database, bench.clock, job, "machine") == ""
    (mail,) = mails.mails
    message: Any = email.message_from_string(mail, policy=email.policy.default)
    assert message["to"] == "ann@example.org" and "[warning] update-failed: 1 alert" in message["subject"]
    text = message.get_body(("plain",)).get_content()
    assert "kitchen-1 \N{SNOWMAN}" in text and "</b>" in text and "default/incident/1/opened" in text
    with bench.fleet.database.read() as session:
        assert not delivery.due(session, bench.clock())
        row = session.get(Notice, job.notice)
        assert row is not None and (row.status, row.tries) == ("sent", 1)


def test_a_mail_server_that_is_gone_is_a_problem_without_the_password(bench: Bench, mails: MailSink) -> None:
    target = "mailto://user:s3cret@127.0.0.1:1?from=fleet@example.org&to=ann@example.org&mode=insecure"
    assert webhooks.send(target, "", "e", "t", '{"data": {"first_alerts": []}}', 0.0, "machine") == (
        "the service did not take the message"
    )
    assert webhooks.shown(target) == "mailto://…"


@pytest.mark.parametrize(
    "target",
    ["", "x", "nonsense://x", "http://", "https://[", "http://a:b/", "http://a b/", "http://a/\n", "mailto://"],
)
def test_what_is_no_target_is_refused_and_not_repeated(target: str) -> None:
    with pytest.raises(InputError) as caught:
        webhooks.check(target, "machine")
    assert not target or len(target) < 3 or target not in str(caught.value)


def test_routes_and_mutes_are_refused_in_words_and_change_nothing(client: httpx.Client, sink: HttpSink) -> None:
    good = {"name": "hook", "target": sink.url}
    assert client.post(f"{API}/routes", json=good).status_code == 201
    for wrong, status in (
        ({}, 422),
        ({**good, "name": "a/b"}, 422),
        ({**good, "name": "b", "kinds": ["rain"]}, 422),
        ({**good, "name": "b", "severity": "grave"}, 422),
        ({**good, "name": "b", "level": -1}, 422),
        ({**good, "name": "b", "level": 10}, 422),
        ({**good, "name": "b", "group": "nobody"}, 404),
        ({**good, "name": "b", "colour": "red"}, 422),
        (good, 409),
    ):
        assert client.post(f"{API}/routes", json=wrong).status_code == status, wrong
    for body, status in (
        ({}, 422),
        ({"hours": 0}, 422),
        ({"hours": 1e9}, 422),
        ({"hours": 1, "kind": "rain"}, 422),
        ({"hours": 1, "group": "nobody"}, 404),
    ):
        assert client.post(f"{API}/mutes", json=body).status_code == status, body
    assert client.get(f"{API}/mutes").json()["items"] == []
    assert [each["name"] for each in client.get(f"{API}/routes").json()["items"]] == ["hook"]
    for path in ("routes/none", "mutes/1", "mutes/x"):
        assert client.delete(f"{API}/{path}").status_code == 404
    for path in ("alerts?incident=7", "alerts?incident=x", "incidents/1", "incidents?state=gone", "notices?after=x"):
        assert client.get(f"{API}/{path}").status_code in (404, 422), path
    sink.answers = [503]
    refused = client.post(f"{API}/routes/hook/test")
    assert refused.status_code == 503 and "answered 503" in refused.text and "hush" not in refused.text
    assert client.post(f"{API}/routes/hook/test").json()["delivered"] is True
    assert json.loads(sink.requests[-1][1])["type"] == "skerry.test"


def test_a_deleted_route_is_told_nothing_more(bench: Bench) -> None:
    with bench.fleet.database.write() as session:
        notice_routes.create(session, ACTOR, 0.0, bytes, name="a", target="http://127.0.0.1:1/")
        alerts.raise_alert(session, "default", 0.0, Kind.DISK_LOW, "d", "low")
        incidents.tick(session, 10.0, 10.0, 900.0)
        (job,) = delivery.due(session, 10.0)
        notice_routes.remove(session, ACTOR, 11.0, "a")
        assert delivery.due(session, 1e9) == []
        delivery.settle(session, 12.0, job.notice, "too late")  # it was under way
        notice_routes.create(session, ACTOR, 13.0, bytes, name="a", target="http://127.0.0.1:2/")
        assert delivery.due(session, 1e9) == []  # what the old one was told is not the new one's
        assert notice_routes.list_notices(session, "default", Page())["items"] == []


def test_the_command_line_goes_the_whole_way(
    client: httpx.Client, app: FastAPI, clock: Clock, sink: HttpSink, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(app.state.fleet.config.root)
    where = ["--url", str(client.base_url), "--root", root]
    target = tmp_path / "target"
    target.write_text(sink.url + "\n")
    make = ["route", "create", "hook", "--target-file", str(target), "--kinds", "update-failed", "--severity", "info"]
    assert main([*make, *where]) == 0 and "whsec_" in capsys.readouterr().out
    assert main([*make, *where]) == 1 and "already" in capsys.readouterr().err
    assert main(["route", "create", "x", "--target-file", str(tmp_path / "none"), *where]) == 1
    assert "cannot read" in capsys.readouterr().err
    assert main(["route", "test", "hook", *where]) == 0 and len(sink.requests) == 1
    alarm(app.state.fleet, clock, "d1")
    assert main(["mute", "start", "--kind", "update-failed", "--hours", "1", "--reason", "works", *where]) == 0
    assert main(["mute", "end", "1", *where]) == 0
    assert main(["incident", "show", "1", *where]) == 0 and "update-failed" in capsys.readouterr().out
    assert main(["incident", "ack", "1", *where]) == 0
    capsys.readouterr()
    assert main(["alert", "list", "--incident", "1", "--json", *where]) == 0
    assert [each["state"] for each in json.loads(capsys.readouterr().out)] == ["acknowledged"]
    assert main(["incident", "ack", "2", *where]) == 1 and "no incident" in capsys.readouterr().err
    assert main(["route", "delete", "hook", *where]) == 0
