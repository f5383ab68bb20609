"""Renewal of device certificates over the real API: signed with the present key, safe to repeat, deaf to replays."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI
from tests.fleet.conftest import Clock, csr, enrolment_body, new_key

from skerry_contracts import codec
from skerry_contracts.assignment import RECEIPT_TYPE, Envelope, Receipt
from skerry_contracts.enrolment import RENEWAL_TYPE, RenewalRequest
from skerry_fleet import leaving
from skerry_fleet.fleet import Fleet, receipt_checker
from skerry_fleet.trust import authority, signing

DAY_S = 86400.0


@pytest.fixture
def fleet(app: FastAPI) -> Fleet:
    found: Fleet = app.state.fleet
    return found


class Device:
    """A device as the fleet sees it over HTTP."""

    def __init__(self, client: httpx.Client, name: str = "d0") -> None:
        self.client, self.name, self.key = client, name, new_key()
        token = client.post("/api/v1/claims", json={}).json()["token"]
        enrolled = client.post("/device/v1/enrol", json=enrolment_body(token, name, self.key)).json()
        self.certificate: str = enrolled["certificate_pem"]
        self.headers = {"authorization": f"Bearer {enrolled['download_token']}"}

    def envelope(
        self,
        wanted: ec.EllipticCurvePrivateKey,
        issued_ms: int,
        *,
        signer: ec.EllipticCurvePrivateKey | None = None,
        device: str | None = None,
    ) -> Envelope:
        request = RenewalRequest("default", device or self.name, csr(wanted), issued_ms)
        return signing.sign(RENEWAL_TYPE, codec.encode(request), [signer or self.key])

    def send(self, envelope: Envelope) -> httpx.Response:
        return self.client.post("/device/v1/renew", content=codec.encode(envelope), headers=self.headers)

    def renew(self, wanted: ec.EllipticCurvePrivateKey, issued_ms: int, **more: Any) -> str:
        answer = self.send(self.envelope(wanted, issued_ms, **more))
        assert answer.status_code == 200, answer.text
        return str(answer.json()["certificate_pem"])


def test_a_signed_request_gets_the_next_certificate(client: httpx.Client, fleet: Fleet, clock: Clock) -> None:
    device, wanted = Device(client), new_key()
    clock.now += 20 * DAY_S
    issued = device.renew(wanted, 1)
    assert fleet.office.authority.verify_device(issued, clock()) == "default/d0"
    assert signing.certificate_key(issued) == wanted.public_key()
    assert authority.expires_s(issued) > authority.expires_s(device.certificate) + 19 * DAY_S
    assert client.get("/api/v1/audit?limit=1").json()["items"][0]["action"] == "device.renew"


def test_a_lost_answer_is_given_again(client: httpx.Client) -> None:
    device, wanted = Device(client), new_key()
    assert device.renew(wanted, 1) == device.renew(wanted, 2)
    other = new_key()
    assert signing.certificate_key(device.renew(other, 3)) == other.public_key(), "a device that lost the key, too"


def test_the_new_key_signs_the_next_renewal_and_receipts(client: httpx.Client, fleet: Fleet) -> None:
    device, second, third = Device(client), new_key(), new_key()
    device.renew(second, 1)
    check = receipt_checker(fleet.database)
    receipt = Receipt("default", "d0", 1, "digits", "a" * 64, "native", 1, 2, 0.1, 0.2, 1000)
    for key in (device.key, second):
        envelope = signing.sign(RECEIPT_TYPE, codec.encode(receipt), [key])
        assert check("default", "d0", envelope) == receipt
    device.renew(third, 2, signer=second)
    answer = device.send(device.envelope(new_key(), 3))
    assert answer.status_code == 401, "the first key is history now"


def test_an_old_request_played_again_changes_nothing(client: httpx.Client) -> None:
    device = Device(client)
    old = device.envelope(new_key(), 1)
    assert device.send(old).status_code == 200
    wanted = new_key()
    issued = device.renew(wanted, 2)
    assert device.send(old).status_code == 409
    assert device.renew(wanted, 2) == issued


def test_a_clock_that_was_ahead_does_not_keep_a_device_from_renewing(client: httpx.Client, clock: Clock) -> None:
    device, first, second = Device(client), new_key(), new_key()
    device.renew(first, 4_102_444_800_000)  # in 2100, the device believes
    clock.now += 20 * DAY_S
    device.renew(second, int(clock.now * 1000), signer=first)


def test_strangers_and_other_devices_get_nothing(client: httpx.Client) -> None:
    device, other = Device(client), Device(client, "d1")
    assert device.send(device.envelope(new_key(), 1, signer=new_key())).status_code == 401
    assert device.send(other.envelope(new_key(), 1)).status_code == 401, "signed by another device"
    assert device.send(device.envelope(new_key(), 1, device="d1")).status_code == 401, "in another's name"
    wrong = signing.sign(RECEIPT_TYPE, device.envelope(new_key(), 1).payload, [device.key])
    assert device.send(wrong).status_code == 401, "signed as something else"
    assert client.post("/device/v1/renew", content=codec.encode(device.envelope(new_key(), 1))).status_code == 401
    answer = client.post("/device/v1/renew", content=b"{}", headers=device.headers)
    assert answer.status_code == 422 and answer.json()["error"]["message"]


def test_a_device_that_slept_past_its_certificate_renews_unless_it_was_decommissioned(
    client: httpx.Client, fleet: Fleet, clock: Clock
) -> None:
    device, wanted = Device(client), new_key()
    clock.now += 200 * DAY_S
    issued = device.renew(wanted, 1)
    assert fleet.office.authority.verify_device(issued, clock()) == "default/d0"
    assert client.delete("/api/v1/devices/d0").status_code in (200, 204)
    assert device.send(device.envelope(new_key(), 2, signer=wanted)).status_code == 401


@pytest.mark.parametrize("renewals", [0, 1, 2])
def test_decommissioning_revokes_every_certificate_that_is_still_good(
    client: httpx.Client, fleet: Fleet, clock: Clock, renewals: int
) -> None:

    device = Device(client)
    issued, signer = [device.certificate], device.key
    for each in range(renewals):
        wanted = new_key()
        issued.append(device.renew(wanted, each + 1, signer=signer))
        signer = wanted
    client.delete("/api/v1/devices/d0")
    with fleet.database.read() as session:
        revoked = leaving.revoked_serials(session, clock())
    assert {authority.serial_of(each) for each in issued[-2:]} <= set(revoked)
