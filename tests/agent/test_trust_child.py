"""Enrolment, the update repository and the blobs, against the fleet's own trust office behind a plain HTTP server."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.agent.fleet_site import Site
from tests.agent.world import HARDWARE, Bundle, assign, make_bundle

from skerry_agent import identity
from skerry_agent.disk import RealDisk
from skerry_agent.errors import ConfigError, NetworkError, TrustError
from skerry_agent.store import PARTIAL, Store
from skerry_agent.trust import __main__ as trust
from skerry_agent.trust.enrol import enrol
from skerry_agent.trust.fetch import fetch_bundle
from skerry_agent.trust.listing import Listing
from skerry_agent.trust.repository import Memory
from skerry_agent.trust.transfer import Fleet
from skerry_contracts import codec
from skerry_contracts.assignment import Assignment, Envelope, Receipt, target_path
from skerry_contracts.device import Reason
from skerry_contracts.enrolment import Trust
from skerry_fleet.trust.director import verify_receipt

NOW_S = 1_900_000_000.0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path / "fleet", NOW_S)
    yield found
    found.close()


@pytest.fixture
def disk(tmp_path: Path) -> RealDisk:
    (tmp_path / "device").mkdir()
    return RealDisk(tmp_path / "device")


def publish(site: Site, bundle: Bundle) -> None:
    site.publish("digits", bundle.data, bundle.blobs)


def enrolled(site: Site, disk: RealDisk) -> identity.Identity:
    fleet = Fleet(site.url)
    try:
        return enrol(disk, fleet, site.url, str(site.token), "d1", HARDWARE)
    finally:
        fleet.close()


@pytest.fixture
def fleet(site: Site) -> Iterator[Fleet]:
    found = Fleet(site.url, token="token", timeout_s=5.0)
    yield found
    found.close()


def list_it(site: Site, fleet: Fleet, disk: RealDisk, bundle: Bundle, **more: Any) -> tuple[bytes, dict[str, int]]:
    settings: dict[str, Any] = {"floors": {}, "clock_floor_s": NOW_S, "wall_s": NOW_S, **more}
    root = codec.decode(Trust, site.office.trust_document).tuf_root
    memory = Memory(settings["floors"], settings["clock_floor_s"])
    listing = Listing(fleet, disk.root / "tuf", root, memory, settings["wall_s"], Store(disk))
    return listing.manifest(target_path("digits", bundle.id), bundle.id, len(bundle.data))


def test_enrolment_writes_an_identity_that_the_fleet_knows(site: Site, disk: RealDisk) -> None:
    found = enrolled(site, disk)
    assert found == identity.load(disk) and found.enrolment.device == "d1"
    assert site.office.authority.verify_device(found.enrolment.certificate_pem, NOW_S) == "default/d1"
    assert (disk.root / identity.CREDENTIALS).stat().st_mode & 0o077 == 0
    with pytest.raises(ConfigError, match="already enrolled as d1"):
        enrolled(site, disk)


def test_a_repeated_enrolment_keeps_its_key(site: Site, disk: RealDisk) -> None:
    site.refuse = True
    with pytest.raises(TrustError):
        enrolled(site, disk)
    key = disk.read(identity.REQUEST_KEY)
    site.refuse = False
    enrolled(site, disk)
    assert key and (disk.read(identity.CREDENTIALS) or b"").startswith(key)
    assert disk.read(identity.REQUEST_KEY) is None


def test_another_fleet_than_the_tokens_is_not_believed(site: Site, disk: RealDisk) -> None:
    site.token = dataclasses.replace(site.token, trust_sha256="0" * 64)
    with pytest.raises(TrustError, match="not the one"):
        enrolled(site, disk)
    assert disk.read(identity.ENROLMENT) is None


def test_the_fleets_refusal_is_passed_on(site: Site, disk: RealDisk) -> None:
    site.refuse = True
    with pytest.raises(TrustError, match="the claim is used up") as caught:
        enrolled(site, disk)
    assert caught.value.hint == "make another"


def test_a_device_that_is_not_enrolled_says_how(disk: RealDisk) -> None:
    with pytest.raises(ConfigError, match="not enrolled") as caught:
        identity.load(disk)
    assert "skerry agent enroll" in caught.value.hint


def test_a_listed_manifest_comes_with_the_versions_of_its_roles(site: Site, fleet: Fleet, disk: RealDisk) -> None:
    bundle = make_bundle()
    publish(site, bundle)
    data, versions = list_it(site, fleet, disk, bundle)
    assert data == bundle.data
    assert {name.partition("@")[0] for name in versions} == {"root", "timestamp", "snapshot", "targets", "model-digits"}


def test_what_is_not_listed_is_refused(site: Site, fleet: Fleet, disk: RealDisk) -> None:
    publish(site, make_bundle(1))
    with pytest.raises(TrustError) as caught:
        list_it(site, fleet, disk, make_bundle(2))
    assert caught.value.reason == Reason.NOT_LISTED


def test_an_older_repository_is_refused_even_with_an_empty_cache(site: Site, fleet: Fleet, disk: RealDisk) -> None:
    bundle = make_bundle()
    publish(site, bundle)
    _, versions = list_it(site, fleet, disk, bundle)
    for file in (disk.root / "tuf").rglob("*.json"):
        file.unlink()
    higher = {role: version + 5 for role, version in versions.items()}
    with pytest.raises(TrustError) as caught:
        list_it(site, fleet, disk, bundle, floors=higher)
    assert caught.value.reason == Reason.REPLAYED


def test_a_thief_of_the_online_key_cannot_shut_devices_out(site: Site, fleet: Fleet, disk: RealDisk) -> None:
    """Floors at the highest version there is must fall with the stolen key; root's never falls."""
    bundle = make_bundle()
    publish(site, bundle)
    _, versions = list_it(site, fleet, disk, bundle)
    highest = {role: 2**31 for role in versions if role != "root"}
    with pytest.raises(TrustError):
        list_it(site, fleet, disk, bundle, floors=highest)
    site.office.repository.replace_online_key(NOW_S)
    _, after = list_it(site, fleet, disk, bundle, floors={**highest, "root": versions["root"]})
    assert not set(after) & set(highest) and after["root"] > versions["root"]
    with pytest.raises(TrustError) as caught:
        list_it(site, fleet, disk, bundle, floors={"root": after["root"] + 1})
    assert caught.value.reason == Reason.REPLAYED


def test_a_clock_in_1970_does_not_revive_a_frozen_repository(site: Site, fleet: Fleet, disk: RealDisk) -> None:
    bundle = make_bundle()
    publish(site, bundle)
    list_it(site, fleet, disk, bundle, wall_s=0.0)
    with pytest.raises(TrustError) as caught:
        list_it(site, fleet, disk, bundle, wall_s=0.0, clock_floor_s=NOW_S + 400 * 86400)
    assert caught.value.reason == Reason.EXPIRED


def test_no_network_is_worth_another_try(site: Site, disk: RealDisk) -> None:
    nobody = Fleet("http://127.0.0.1:9", timeout_s=1.0)
    with pytest.raises(NetworkError):
        list_it(site, nobody, disk, make_bundle())
    nobody.close()


def fetch(fleet: Fleet, disk: RealDisk, bundle: Bundle) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    blobs = list(bundle.manifest.blobs().values())
    fetch_bundle(Store(disk), fleet, bundle.data, blobs, lambda *sizes: told.append(sizes))
    return told


def test_blobs_come_whole_and_the_manifest_last(site: Site, fleet: Fleet, disk: RealDisk) -> None:
    bundle = make_bundle(library_bytes=3_000_000)
    publish(site, bundle)
    told = fetch(fleet, disk, bundle)
    store = Store(disk)
    store.check(bundle.manifest, bundle.manifest.variants[0])
    assert store.bundles() == [bundle.id] and disk.names(PARTIAL) == []
    assert [round(4 * received / total) for received, total in told] == [1, 2, 3]
    site.seen.clear()
    fetch(fleet, disk, bundle)
    assert site.seen == [], "what is here is not fetched again"


def test_a_cut_download_goes_on_where_it_broke_off(site: Site, fleet: Fleet, disk: RealDisk) -> None:
    bundle = make_bundle(library_bytes=1_000_000)
    publish(site, bundle)
    site.cut_after = 600_000
    with pytest.raises(NetworkError):
        fetch(fleet, disk, bundle)
    assert Store(disk).bundles() == []
    site.cut_after = None
    fetch(fleet, disk, bundle)
    assert any(wanted and int(wanted[6:-1]) > 0 for _, wanted in site.seen)
    Store(disk).check(bundle.manifest, bundle.manifest.variants[0])


def test_a_server_without_ranges_is_read_from_the_start(site: Site, fleet: Fleet, disk: RealDisk) -> None:
    bundle = make_bundle(library_bytes=1_000_000)
    publish(site, bundle)
    site.ranges, site.cut_after = False, 600_000
    with pytest.raises(NetworkError):
        fetch(fleet, disk, bundle)
    site.cut_after = None
    fetch(fleet, disk, bundle)
    Store(disk).check(bundle.manifest, bundle.manifest.variants[0])


def test_a_torn_beginning_is_fetched_again_once(site: Site, fleet: Fleet, disk: RealDisk) -> None:
    bundle = make_bundle(library_bytes=10_000)
    publish(site, bundle)
    store = Store(disk)
    store.prepare()
    library = bundle.manifest.variants[0].blobs["library"]
    store.append(library, 0, bytes(5_000))
    fetch(fleet, disk, bundle)
    store.check(bundle.manifest, bundle.manifest.variants[0])


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1] + b"x", lambda data: data + b"x" * 10, lambda data: data[:-1]]
)
def test_bytes_that_are_not_the_blob_are_never_installed(site: Site, fleet: Fleet, disk: RealDisk, change: Any) -> None:
    bundle = make_bundle(library_bytes=10_000)
    publish(site, bundle)
    library = bundle.manifest.variants[0].blobs["library"].sha256
    site.blobs[library] = change(site.blobs[library])
    with pytest.raises((TrustError, NetworkError)):
        fetch(fleet, disk, bundle)
    assert Store(disk).bundles() == [] and not (disk.root / "store/blobs" / library).exists()


def test_redirects_are_not_followed(site: Site, fleet: Fleet) -> None:
    with pytest.raises(NetworkError, match="HTTP 302"):
        fleet.get("/moved")


def test_the_child_verifies_lists_fetches_and_signs(site: Site, disk: RealDisk) -> None:
    found = enrolled(site, disk)
    bundle = make_bundle()
    publish(site, bundle)
    envelope = site.office.director.sign_assignment(codec.decode(Assignment, assign(bundle)))
    forged = codec.encode(dataclasses.replace(codec.decode(Envelope, envelope), payload=assign(bundle, sequence=9)))
    receipt = Receipt("default", "d1", 1, "digits", bundle.id, "native-fp32", 1, 2, 0.1, 0.2, 3)
    requests = [
        {"verb": "verify", "envelope": base64.b64encode(envelope).decode()},
        {"verb": "verify", "envelope": base64.b64encode(forged).decode()},
        {
            "verb": "manifest",
            "target_path": target_path("digits", bundle.id),
            "bundle": bundle.id,
            "size_bytes": len(bundle.data),
            "floors": {},
            "clock_floor_s": NOW_S,
        },
        {
            "verb": "blobs",
            "manifest": base64.b64encode(bundle.data).decode(),
            "blobs": [codec.to_plain(blob) for blob in bundle.manifest.blobs().values()],
        },
        {"verb": "sign", "receipt": codec.to_plain(receipt)},
        {"verb": "nonsense"},
    ]
    lines = "".join(json.dumps(each) + "\n" for each in requests)
    ran = subprocess.run(
        [sys.executable, "-m", "skerry_agent.trust", str(disk.root), str(os.getpid())],
        input=lines,
        capture_output=True,
        text=True,
        check=True,
    )
    verified, refused, listed, fetched, signed, wrong = [json.loads(line) for line in ran.stdout.splitlines()]
    assert base64.b64decode(verified["ok"]["payload"]) == assign(bundle)
    assert refused["error"]["reason"] == "unsigned"
    assert base64.b64decode(listed["ok"]["manifest"]) == bundle.data
    assert fetched["ok"]["transferred_bytes"] == sum(len(data) for data in bundle.blobs.values())
    envelope_back = codec.from_plain(Envelope, signed["ok"]["envelope"])
    assert verify_receipt(envelope_back, found.enrolment.certificate_pem) == receipt
    assert "error" in wrong


def test_an_answer_is_given_whatever_is_asked(disk: RealDisk) -> None:
    for line in (b"", b"{}", b"[]", b"null", b'{"verb": 1}', b'{"verb": "verify"}', b"\xff"):
        assert "error" in trust.answer(disk, line)
