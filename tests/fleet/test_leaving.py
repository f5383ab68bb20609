"""How devices go: revoked, decommissioned, deleted. On both brokers, with several shards, and after their restart."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlmodel import Session, func, select
from tests.fleet.broker.conftest import KINDS
from tests.fleet.conftest import ACTOR, Bench, admin, enrolment_body, new_key
from tests.fleet.rolling import DEVICES, show, start
from tests.fleet.test_app import Device, eventually

from skerry_contracts.device import Phase, Reason
from skerry_fleet import alerts, audit, leaving, outbox
from skerry_fleet.alert_words import Kind
from skerry_fleet.app import create_app
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import ConflictError, MissingError
from skerry_fleet.mqtt.errors import MqttError
from skerry_fleet.paging import Page
from skerry_fleet.records import Alert, Audit, ProgressRow
from skerry_fleet.tables import Device as DeviceRow
from skerry_fleet.tables import RevokedCertificate, SignedAssignment
from skerry_fleet.trust import authority


async def refused(device: Device) -> bool:
    try:
        await device.connect(9)
    except MqttError:
        return True
    assert device.link is not None
    await device.link.disconnect()
    return False


@pytest.mark.parametrize("kind", KINDS)
def test_an_open_session_ends_and_the_certificate_stays_shut_out(tmp_path: Path, kind: str) -> None:
    config = FleetConfig(root=tmp_path / "fleet", broker=kind, shards=2, tick_s=0.1)
    revoked, gone, stays = (Device(name, tmp_path / name) for name in ("d0", "d3", "d1"))
    with admin(create_app(config, time.time, random.Random(1).randbytes)) as http:
        token = http.post("/api/v1/claims", json={"uses": 3}).json()["token"]
        for each in (revoked, gone, stays):
            each.enrol(http, token)
        assert len({each.port for each in (revoked, gone, stays)}) == 2, "two shards"

        async def shut_out() -> None:
            for each in (revoked, gone, stays):
                await each.connect(1)
            answer = await asyncio.to_thread(http.post, "/api/v1/devices/d0/revoke")
            assert (answer.status_code, answer.json()["certificates"]) == (200, 1)
            assert (await asyncio.to_thread(http.delete, "/api/v1/devices/d3")).status_code == 200
            for each in (revoked, gone):
                assert each.link is not None
                async with asyncio.timeout(60):
                    await each.link.wait_closed()
                assert await refused(each)
            await stays.beat()  # others never notice
            await eventually(lambda: bool(http.get("/api/v1/devices/d1").json()["heartbeat"]), "d1 is heard")
            assert stays.link is not None
            await stays.link.disconnect()

        asyncio.run(shut_out())
    for file in tmp_path.glob("fleet/broker*/revoked.*"):
        file.unlink()  # as after a crash before they were written, or in a folder made anew from a backup
    with admin(create_app(config, time.time, random.Random(1).randbytes)) as http:

        async def still() -> None:
            for each in (revoked, gone):
                assert await refused(each)
            assert not await refused(stays)

        asyncio.run(still())
        assert http.get("/api/v1/devices/d0").json()["certificate"] is None


def test_a_revoked_device_comes_back_by_a_claim_for_it_and_by_no_other(client: httpx.Client, app: FastAPI) -> None:
    old, other = (client.post("/api/v1/claims", json={"uses": 5}).json()["token"] for _ in range(2))
    key = new_key()
    first = client.post("/device/v1/enrol", json=enrolment_body(old, "d0", key)).json()
    client.patch("/api/v1/devices/d0", json={"tags": {"site": "lab"}})
    assert client.post("/api/v1/devices/d0/revoke").json() == {"device": "d0", "certificates": 1}
    assert client.post("/api/v1/devices/d0/revoke").json()["certificates"] == 1, "once more is no error"
    bearer = {"authorization": f"Bearer {first['download_token']}"}
    assert client.get("/tuf/metadata/timestamp.json", headers=bearer).status_code == 401
    for token, wanted in ((old, key), (old, new_key()), (other, new_key())):
        answer = client.post("/device/v1/enrol", json=enrolment_body(token, "d0", wanted))
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict"), answer.text
    made = client.post("/api/v1/claims", json={"devices": ["d0", "d9"], "tags": {"back": "yes"}}).json()
    assert (made["uses"], made["named"], made["tags"]) == (2, 2, {"back": "yes"})
    wanted = new_key()
    for _ in range(2):  # the answer was lost: the same again
        assert client.post("/device/v1/enrol", json=enrolment_body(made["token"], "d0", wanted)).status_code == 200
    again = client.post("/device/v1/enrol", json=enrolment_body(made["token"], "d0", new_key()))
    assert (again.status_code, again.json()["error"]["code"]) == (409, "claim-not-for-it")
    stranger = client.post("/device/v1/enrol", json=enrolment_body(made["token"], "d1", new_key()))
    assert (stranger.status_code, stranger.json()["error"]["code"]) == (409, "claim-not-for-it")
    nameless = client.post("/device/v1/enrol", json=enrolment_body(made["token"], None, new_key()))
    assert nameless.status_code == 409
    assert client.post("/device/v1/enrol", json=enrolment_body(made["token"], "d9", new_key())).status_code == 200
    shown = client.get("/api/v1/devices/d0").json()
    assert shown["tags"] == {"site": "lab", "back": "yes"} and shown["certificate"] is not None
    with app.state.fleet.database.read() as session:
        old_serial = f"{authority.serial_of(first['certificate_pem']):x}"
        assert [row.serial for row in session.exec(select(RevokedCertificate))] == [old_serial]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"devices": []}, "at least one name"),
        ({"devices": ["a", "a"]}, "named twice"),
        ({"devices": ["../x"]}, "devices"),
        ({"devices": ["A"]}, "devices"),
        ({"tags": {"": "x"}}, "cannot be a name"),
        ({"tags": {"a b": "x"}}, "cannot be a name"),
        ({"tags": {"a": "x" * 257}}, "256 printable"),
        ({"tags": {"a": "x\n"}}, "256 printable"),
        ({"tags": {f"k{each}": "" for each in range(65)}}, "at most 64"),
    ],
)
def test_claims_that_cannot_be_are_refused(client: httpx.Client, body: dict[str, object], said: str) -> None:
    answer = client.post("/api/v1/claims", json=body)
    assert answer.status_code == 422 and said in answer.json()["error"]["message"], answer.text
    assert client.get("/api/v1/claims").json()["items"] == []


def serials(session: Session) -> set[str]:
    return {row.serial for row in session.exec(select(RevokedCertificate))}


def test_certificates_that_only_the_audit_knows_are_revoked_too(bench: Bench) -> None:
    bench.enrol("d0")
    with bench.fleet.database.write() as session:
        row = session.get(DeviceRow, ("default", "d0"))
        assert row is not None
        mine = f"{authority.serial_of(row.certificate_pem):x}"
        for serial in ("aaaa", "bbbb"):
            audit.write(session, ACTOR, bench.clock(), "device.renew", "device/d0", None, {"certificate": serial})
        leaving.revoke(session, ACTOR, bench.clock(), "d0")
        assert serials(session) == {mine, "aaaa", "bbbb"}
        assert len(leaving.revoked_serials(session, bench.clock() + 31 * 86400)) == 2
        assert leaving.revoked_serials(session, bench.clock() + 401 * 86400) == []


@pytest.fixture
def ready(bench: Bench) -> Bench:
    bench.enrol(*DEVICES)
    for device in DEVICES:
        bench.beat(device, "")
    return bench


def leave(bench: Bench, device: str) -> None:
    with bench.fleet.rollouts.open() as session:
        bench.fleet.rollouts.left(session, bench.clock(), "default", device)
        leaving.decommission(session, ACTOR, bench.clock(), device)


def test_what_a_decommissioned_device_leaves_and_what_is_left_when_it_is_deleted(ready: Bench) -> None:
    rollout = start(ready, ready.publish("1", 1), canary=6, exposure_budget=6, failure_budget=5)
    ready.progress("d1", Phase.FAILED, Reason.GOLDEN)
    with ready.fleet.database.write() as session:
        for subject in ("d1/digits", "d10/digits", "d10"):
            kind = Kind.MODEL_DEGRADED if "/" in subject else Kind.DISK_LOW
            alerts.raise_alert(session, "default", ready.clock(), kind, subject, "!")
    with ready.fleet.database.write() as session, pytest.raises(ConflictError, match="is a member"):
        leaving.forget(session, ACTOR, ready.clock(), "d1")
    leave(ready, "d1")
    with ready.fleet.database.write() as session:
        open_alerts = {each.subject for each in session.exec(select(Alert)) if each.state != "resolved"}
        assert open_alerts == {"d10/digits", "d10"}
        assert show(ready, rollout)["devices"] == 5
        signed = session.get(SignedAssignment, ("default", "d1"))
        assert signed is not None and (signed.envelope, signed.published) == ("", False)
        page = leaving.list_gone(session, "default", Page())
        assert [each["device"] for each in page["items"]] == ["d1"]
        with pytest.raises(ConflictError, match="broker still holds"):
            leaving.forget(session, ACTOR, ready.clock(), "d1")
    outbox.sent(ready.fleet.database, [row for row in outbox.unsent(ready.fleet.database, 0) if row.device == "d1"])
    with ready.fleet.database.write() as session:
        rows = leaving.forget(session, ACTOR, ready.clock(), "d1")["rows"]
        assert rows["progress"] == 1
        left = select(func.count()).select_from(ProgressRow).where(ProgressRow.device == "d1")
        assert session.exec(left).one() == 0 and session.get(DeviceRow, ("default", "d1")) is None
        told = [each.action for each in session.exec(select(Audit).where(Audit.object == "device/d1"))]
        assert told[0] == "device.enrol" and told[-2:] == ["device.decommission", "device.delete"]
        assert len(leaving.revoked_serials(session, ready.clock())) == 1, "its certificate stays shut out"
        with pytest.raises(MissingError):
            leaving.forget(session, ACTOR, ready.clock(), "d1")


def test_a_name_that_left_may_be_taken_anew_but_not_with_what_was_revoked(ready: Bench) -> None:
    leave(ready, "d1")
    ready.enrol("d1")
    with ready.fleet.database.read() as session:
        row = session.get(DeviceRow, ("default", "d1"))
        assert row is not None and row.status == "active"
        assert authority.serial_of(row.certificate_pem) not in leaving.revoked_serials(session, ready.clock())
