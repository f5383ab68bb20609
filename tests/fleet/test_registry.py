"""The registry: what comes in is whole, named once, and listed only when its blobs are on disk."""

from __future__ import annotations

import io
import random

import pytest
from tests.fleet.conftest import ACTOR, Bench, folder_of, make_bundle

from skerry_contracts.assignment import target_path
from skerry_fleet import registry
from skerry_fleet.errors import ConflictError, InputError, MissingError
from skerry_fleet.fleet import open_fleet
from skerry_fleet.paging import Page
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.tables import Bundle


def upload(bench: Bench, data: bytes, model: str = "digits", **options: bool) -> str:
    return str(bench.fleet.registry.upload(ACTOR, model, io.BytesIO(data), **options)["id"])


def state(bench: Bench, bundle: str) -> str:
    with bench.fleet.database.read() as session:
        return registry.get(session, "default", bundle).state


def test_an_upload_is_kept_listed_and_harmless_to_repeat(bench: Bench) -> None:
    bundle = bench.publish()
    assert upload(bench, make_bundle()) == bundle and state(bench, bundle) == "published"
    listed = bench.fleet.office.repository.custom_of(target_path("digits", bundle))
    assert listed == {"version": "1", "release": 1, "target": "host"}
    with bench.fleet.database.read() as session:
        manifest = registry.show(session, "default", bundle)["manifest"]
        assert registry.show(session, "default", bundle[:8])["id"] == bundle
    blob = manifest["variants"][0]["blobs"]["library"]
    assert folder_of(bench.fleet).path(blob["sha256"]).read_bytes() == b"library 1"


@pytest.mark.parametrize(
    ("data", "model", "error", "text"),
    [
        (make_bundle("other"), "digits", InputError, "of model other"),
        (make_bundle("other"), "other", MissingError, "no model"),
        (make_bundle(version="1", release=9), "digits", ConflictError, "exists with other bytes"),
        (make_bundle(version="2", release=5), "digits", ConflictError, "release 5 is not greater than 5"),
        (make_bundle(version="2", release=4), "digits", ConflictError, "release 4 is not greater"),
        (make_bundle(version="1", release=6, target="pi"), "digits", ConflictError, "version 1 is release 5"),
        (make_bundle(version="2", release=6)[:-1], "digits", InputError, "not a valid bundle"),
        (b"", "digits", InputError, "not a valid bundle"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    bench: Bench, data: bytes, model: str, error: type[Exception], text: str
) -> None:
    bench.publish(version="1", release=5)
    before = sorted(folder_of(bench.fleet).root.rglob("*"))
    with pytest.raises(error, match=text):
        upload(bench, data, model)
    assert sorted(folder_of(bench.fleet).root.rglob("*")) == before
    with bench.fleet.database.read() as session:
        assert len(registry.list_bundles(session, "default", "digits", Page())["items"]) == 1


def test_one_flipped_byte_is_found_wherever_it_is(bench: Bench) -> None:
    bench.publish(version="0", release=0)
    data = make_bundle(version="1", release=1)
    for at in range(0, len(data), 97):
        with pytest.raises((InputError, ConflictError)):
            upload(bench, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert upload(bench, data)


def test_the_same_version_for_another_board(bench: Bench) -> None:
    bench.publish("1", 5)
    bench.publish("1", 5, target="pi", machine="aarch64")
    with bench.fleet.database.read() as session:
        items = registry.list_bundles(session, "default", "digits", Page("", 1))
        more = registry.list_bundles(session, "default", "digits", Page(items["next"], 1))
    assert {items["items"][0]["target"], more["items"][0]["target"]} == {"host", "pi"} and more["next"] is None


def test_a_cut_between_listing_and_row_is_mended_at_the_next_start(bench: Bench) -> None:
    bench.publish("1", 1)
    draft = upload(bench, make_bundle(version="2", release=2), publish=False)
    assert state(bench, draft) == "draft"
    with bench.fleet.database.read() as session:
        row = registry.get(session, "default", draft)
        manifest = row.manifest.encode()
    bench.fleet.office.repository.publish(target_path("digits", draft), manifest, {}, bench.clock())
    config = bench.fleet.config
    bench.fleet.close()
    bench.fleet = open_fleet(config, bench.clock, random.Random(2).randbytes)
    assert state(bench, draft) == "published"


def test_withdrawing(bench: Bench) -> None:
    bench.enrol("d0")
    used, unused = bench.publish("1", 1), bench.publish("2", 2)
    with bench.fleet.rollouts.open() as session:
        bench.fleet.rollouts.create(session, ACTOR, 0.0, RolloutRequest("digits", used))
    with pytest.raises(ConflictError, match="in use"):
        bench.fleet.registry.withdraw(ACTOR, used)
    assert bench.fleet.registry.withdraw(ACTOR, unused)["state"] == "withdrawn"
    assert bench.fleet.office.repository.custom_of(target_path("digits", unused)) is None
    with pytest.raises(ConflictError, match="withdrawn"):
        bench.fleet.registry.publish(ACTOR, unused)
    with pytest.raises(ConflictError, match="is withdrawn"), bench.fleet.rollouts.open() as session:
        bench.fleet.rollouts.create(session, ACTOR, 0.0, RolloutRequest("digits", unused, supersede=True))


def test_a_blob_that_is_not_what_it_says_is_not_kept(bench: Bench) -> None:
    with pytest.raises(InputError, match="digest"):
        bench.fleet.blobs.put("0" * 64, [b"x"])
    assert not folder_of(bench.fleet).path("0" * 64).exists()
    assert not list(folder_of(bench.fleet).path("0" * 64).parent.iterdir())


def test_a_prefix_that_fits_two_names_none(bench: Bench) -> None:
    with bench.fleet.database.write() as session:
        for end in "ab":
            row = Bundle(tenant="default", id="f" * 63 + end, model="m", version=end, release=1, target=end)
            row.size_bytes, row.manifest, row.created_ms = 1, "", 0
            session.add(row)
    with bench.fleet.database.read() as session, pytest.raises(MissingError):
        registry.get(session, "default", "f" * 10)
