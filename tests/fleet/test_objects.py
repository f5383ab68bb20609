"""Blobs in an object store: whole or not at all, whatever the store does; and a fleet that keeps its blobs there."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from tests.fleet.conftest import Clock, admin, enrolment_body, make_bundle, new_key
from tests.fleet.s3_server import BUCKET, KEY_ID, SECRET, Store, s3

from skerry_contracts.bundle import Manifest
from skerry_contracts.container import open_container
from skerry_fleet import backup, restore
from skerry_fleet.app import create_app
from skerry_fleet.blobs import BlobStore, open_blobs, read
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import FleetError, InputError, MissingError, UnavailableError
from skerry_fleet.objects import PART_BYTES, ObjectBlobs
from skerry_fleet.routes import sending
from skerry_fleet.sql.dialect import open_dialect

CONTENT = b"weights of a model" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Store, str]]:
    with s3() as found:
        yield found


@pytest.fixture
def store(server: tuple[Store, str]) -> Store:
    server[0].__init__()  # type: ignore[misc]  # as new for each test
    return server[0]


def address(server: tuple[Store, str], bucket: str = BUCKET) -> str:
    return f"s3://{bucket}/fleet-7?endpoint={server[1]}&region=eu-1"


@pytest.fixture
def secret(tmp_path: Path) -> str:
    (tmp_path / "secret").write_text(f"{KEY_ID}\n{SECRET}\n")
    return str(tmp_path / "secret")


@pytest.fixture
def blobs(server: tuple[Store, str], store: Store, tmp_path: Path, secret: str) -> ObjectBlobs:
    return ObjectBlobs(address(server), tmp_path, secret)


def test_what_is_put_is_there_in_whole_and_in_parts(blobs: ObjectBlobs, store: Store) -> None:
    large = os.urandom(PART_BYTES + 1)  # in several parts
    for content in (CONTENT, b"", large):
        digest = hashlib.sha256(content).hexdigest()
        assert blobs.size(digest) is None and not blobs.has(digest, len(content))
        blobs.put(digest, [content[:7], content[7:]])
        assert blobs.size(digest) == len(content) and not blobs.has(digest, len(content) + 1)
        assert read(blobs, digest) == content
        assert b"".join(blobs.pieces(digest, 3, 9)) == content[3:9]
        assert httpx.get(blobs.link(digest), trust_env=False).content == content
        assert store.objects[f"fleet-7/{digest[:2]}/{digest}"] == content
    assert list(blobs.all()) == sorted(hashlib.sha256(each).hexdigest() for each in (CONTENT, b"", large))
    assert store.refused == [] and store.parts == {}


def test_without_a_file_the_usual_variables_hold(
    server: tuple[Store, str], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    ObjectBlobs(address(server), tmp_path).put(DIGEST, [CONTENT])
    assert len(store.objects) == 1 and store.refused == []


def test_other_bytes_than_the_digest_names_are_never_sent(blobs: ObjectBlobs, store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not match"):
        blobs.put(DIGEST, [CONTENT, b"!"])
    assert store.requests == [] and store.objects == {}
    with pytest.raises(MissingError):
        read(blobs, DIGEST)
    assert [each.name for each in tmp_path.iterdir()] == ["secret"], "nothing is left on the disk"


def test_a_store_that_is_away_refuses_and_keeps_nothing(blobs: ObjectBlobs, store: Store) -> None:
    store.down = True
    for act in (lambda: blobs.put(DIGEST, [CONTENT]), lambda: blobs.size(DIGEST), lambda: list(blobs.all())):
        with pytest.raises(UnavailableError) as refused:
            act()
        assert refused.value.status == 503 and refused.value.hint and "\n" not in str(refused.value)
        assert SECRET not in str(refused.value)
    store.down = False
    blobs.put(DIGEST, [CONTENT])  # the same request later
    assert read(blobs, DIGEST) == CONTENT


def test_a_store_that_is_busy_is_asked_again(blobs: ObjectBlobs, store: Store) -> None:
    store.busy = 2
    blobs.put(DIGEST, [CONTENT])
    store.busy = 2
    assert read(blobs, DIGEST) == CONTENT


def test_a_store_that_forgets_is_found_out(blobs: ObjectBlobs, store: Store) -> None:
    store.deaf = True
    with pytest.raises(UnavailableError, match="lost blob"):
        blobs.put(DIGEST, [CONTENT])


def test_an_answer_that_breaks_off_is_no_blob(blobs: ObjectBlobs, store: Store) -> None:
    blobs.put(DIGEST, [CONTENT])
    store.cut = 100
    with pytest.raises(UnavailableError):
        read(blobs, DIGEST)


def test_wrong_keys_and_buckets_are_told(server: tuple[Store, str], store: Store, tmp_path: Path, secret: str) -> None:
    with pytest.raises(UnavailableError, match="there is no s3://attic"):
        ObjectBlobs(address(server, "attic"), tmp_path, secret).put(DIGEST, [CONTENT])
    (tmp_path / "other").write_text(f"{KEY_ID}\nguessed\n")
    with pytest.raises(UnavailableError) as refused:
        ObjectBlobs(address(server), tmp_path, str(tmp_path / "other")).put(DIGEST, [CONTENT])
    assert "guessed" not in str(refused.value) and store.objects == {}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3:///nothing", "leads nowhere"),
        ("ftp://models/x", "leads nowhere"),
        ("file://host/x", "leads nowhere"),
        ("s3://models?endpont=http://a", "unknown option 'endpont'"),
        ("s3://models?ca=/nonexistent", "cannot read"),
    ],
)
def test_addresses_that_make_no_sense_are_refused(url: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said) as refused:
        open_blobs(FleetConfig(root=tmp_path, blob_url=url))
    assert refused.value.hint


def test_a_folder_elsewhere_is_a_store_too(tmp_path: Path) -> None:
    found = open_blobs(FleetConfig(root=tmp_path / "fleet", blob_url=f"file://{tmp_path}/a%20folder"))
    found.put(DIGEST, [CONTENT])
    assert (tmp_path / "a folder" / DIGEST[:2] / DIGEST).read_bytes() == CONTENT
    assert list(found.all()) == [DIGEST] and b"".join(found.pieces(DIGEST, 5, 8)) == CONTENT[5:8]


@given(st.integers(1, 40), st.one_of(st.none(), st.integers(0, 50)), st.one_of(st.none(), st.integers(0, 50)))
def test_ranges_are_those_of_rfc_9110(size: int, first: int | None, last: int | None) -> None:
    content = bytes(range(size))
    text = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    whole = (first is None and last is None) or (first is not None and last is not None and last < first)
    if not whole and ((first is not None and first >= size) or (first is None and last == 0)):
        with pytest.raises(FleetError) as refused:
            sending.part(text, size)
        assert refused.value.status == 416
        return
    start, end = sending.part(text, size)
    if whole:
        assert (start, end) == (0, size)
    elif first is None:
        assert content[start:end] == content[-(last or 0) :]
    else:
        assert content[start:end] == content[first : None if last is None else last + 1]


@pytest.fixture
def app(server: tuple[Store, str], store: Store, tmp_path: Path, secret: str) -> FastAPI:
    config = FleetConfig(root=tmp_path / "fleet", blob_url=address(server), blob_secret_file=secret)
    return create_app(config, Clock(), random.Random(1).randbytes, with_broker=False)


def device(http: httpx.Client) -> dict[str, str]:
    token = http.post("/api/v1/claims", json={}).json()["token"]
    answer = http.post("/device/v1/enrol", json=enrolment_body(token, "camera-1", new_key())).json()
    return {"authorization": f"Bearer {answer['download_token']}"}


def test_a_fleet_keeps_its_blobs_in_the_store_and_devices_fetch_them_through_it(
    app: FastAPI, store: Store, tmp_path: Path
) -> None:
    old, new = os.urandom(60_000), bytearray(os.urandom(60_000))
    new[:59_000] = old[:59_000]
    with admin(app) as http:
        http.post("/api/v1/models", json={"name": "digits"})
        first = make_bundle(library=old)
        assert http.post("/api/v1/models/digits/bundles", content=first).status_code == 201
        manifest: Manifest = open_container(io.BytesIO(first)).manifest
        stored = {key.rsplit("/", 1)[1] for key in store.objects}
        assert set(manifest.blobs()) < stored and not (tmp_path / "fleet" / "blobs").exists()
        token, sha256 = device(http), hashlib.sha256(old).hexdigest()
        whole = http.get(f"/blobs/{sha256}", headers=token)
        assert whole.status_code == 200 and whole.content == old and whole.headers["etag"] == f'"{sha256}"'
        assert whole.headers["accept-ranges"] == "bytes" and whole.headers["content-length"] == "60000"
        part = http.get(f"/blobs/{sha256}", headers={**token, "range": "bytes=59990-"})
        assert (part.status_code, part.content) == (206, old[59_990:])
        assert part.headers["content-range"] == "bytes 59990-59999/60000"
        assert http.get(f"/blobs/{sha256}", headers={**token, "range": "bytes=60000-"}).status_code == 416
        assert http.get(f"/blobs/{'0' * 64}", headers=token).status_code == 404
        assert http.get(f"/blobs/{sha256}").status_code in (401, 404)
        http.post("/api/v1/models/digits/bundles", content=make_bundle(version="2", release=2, library=bytes(new)))
        app.state.fleet.deltas.close()
        found = http.get(
            f"/deltas/{hashlib.sha256(new).hexdigest()}",
            params={"base": sha256, "method": ["tensor", "zstd"]},
            headers=token,
        )
        assert http.get(f"/blobs/{found.json()['sha256']}", headers=token).status_code == 200
        # Away: 503, nothing half registered; and when it is back, the same upload goes through.
        store.down = True
        assert http.get(f"/blobs/{sha256}", headers=token).status_code == 503
        third = make_bundle(version="3", release=3, library=b"third" * 3000)
        assert http.post("/api/v1/models/digits/bundles", content=third).status_code == 503
        versions = [each["version"] for each in http.get("/api/v1/models/digits/bundles").json()["items"]]
        assert sorted(versions) == ["1", "2"]
        store.down = False
        assert http.post("/api/v1/models/digits/bundles", content=third).status_code == 201


def test_with_nginx_in_front_the_store_sends_by_itself(app: FastAPI, server: tuple[Store, str]) -> None:
    fleet = app.state.fleet
    fleet.config = dataclasses.replace(fleet.config, accel_prefix="/skerry-files")
    fleet.blobs.put(DIGEST, [CONTENT])
    with admin(app) as http:
        named = http.get(f"/blobs/{DIGEST}", headers=device(http)).headers["x-accel-redirect"]
    prefix = "/skerry-files/objects/http/"
    assert named.startswith(f"{prefix}127.0.0.1:")
    assert httpx.get(f"http://{named.removeprefix(prefix)}", trust_env=False).content == CONTENT


def test_a_backup_holds_the_stores_blobs_and_goes_into_any_other(
    server: tuple[Store, str], store: Store, tmp_path: Path, secret: str, app: FastAPI
) -> None:
    with admin(app) as http:
        http.post("/api/v1/models", json={"name": "digits"})
        http.post("/api/v1/models/digits/bundles", content=make_bundle())
    config = app.state.fleet.config
    damaged = sorted(store.objects)[0]
    kept = {key.rsplit("/", 1)[1]: content for key, content in store.objects.items() if key != damaged}
    store.objects[damaged] += b"!"
    dialect = open_dialect(config.url)
    try:
        said = backup.write(config, dialect, tmp_path / "b.skb", 1.8e9, b"words", keys=True)
    finally:
        dialect.close()
    assert said.damaged == [damaged.rsplit("/", 1)[1]]
    inward = FleetConfig(root=tmp_path / "inward")
    restore.restore(inward, tmp_path / "b.skb", 1.8e9, b"words")
    here = BlobStore(inward.root / "blobs")
    assert {each: read(here, each) for each in here.all()} == kept
    store.objects.clear()
    outward = dataclasses.replace(config, root=tmp_path / "outward")
    restore.restore(outward, tmp_path / "b.skb", 1.8e9, b"words")
    assert {key.rsplit("/", 1)[1]: content for key, content in store.objects.items()} == kept
    assert not (outward.root / "blobs").exists()
    store.objects.clear()
    store.down = True
    with pytest.raises(UnavailableError):
        restore.restore(dataclasses.replace(config, root=tmp_path / "away"), tmp_path / "b.skb", 1.8e9, b"words")
    assert not (tmp_path / "away").exists(), "made whole or not at all"


def test_the_password_of_the_database_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("p@ss/wo:rd\nmore\n")
    config = FleetConfig(
        root=tmp_path, database_url="postgresql://skerry@db/fleet", database_password_file=str(tmp_path / "password")
    )
    assert config.url == "postgresql://skerry:p%40ss%2Fwo%3Ard@db/fleet"
    for url in ("postgresql://db/fleet", "postgresql://skerry:known@db/fleet"):
        with pytest.raises(InputError, match="a user and no password"):
            _ = dataclasses.replace(config, database_url=url).url
    away = FleetConfig(
        root=tmp_path / "new", database_url="postgresql://a@127.0.0.1:1/x", database_password_file="/none"
    )
    with pytest.raises(InputError, match="cannot read /none"):  # a restore asks for it, too
        restore.restore(away, tmp_path / "password", 1.8e9, b"")
