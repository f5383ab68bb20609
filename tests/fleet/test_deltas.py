"""Deltas from publishing to the device's disk: the fleet's real API, the device's own download."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from tests.fleet.conftest import enrolment_body, make_bundle, new_key

from skerry_agent.disk import RealDisk
from skerry_agent.store import BLOBS, Store
from skerry_agent.trust import deltas as device_deltas
from skerry_agent.trust import zstd as device_zstd
from skerry_agent.trust.fetch import fetch_bundle
from skerry_agent.trust.transfer import Fleet as Http
from skerry_contracts import codec, delta
from skerry_contracts.bundle import Blob
from skerry_contracts.container import open_container
from skerry_contracts.delta import Delta
from skerry_fleet import zstd
from skerry_fleet.blobs import BlobStore
from skerry_fleet.deltas import best_width, made_from

SIZE = 300_000
BASE = random.Random(1).randbytes(SIZE)


def nudged(data: bytes, share: float = 0.05) -> bytes:
    """Return bytes as retraining leaves them: some a little larger or smaller."""
    dice = random.Random(2)
    return bytes((each + dice.choice((-1, 1)) * (dice.random() < share)) % 256 for each in data)


def inserted(data: bytes) -> bytes:
    return data[: SIZE // 2] + b"something new" * 40 + data[SIZE // 2 :]


class Device:
    """A device's download against the real API; counts what came over the network."""

    def __init__(self, client: httpx.Client, folder: Path) -> None:
        token = client.post("/api/v1/claims", json={}).json()["token"]
        enrolled = client.post("/device/v1/enrol", json=enrolment_body(token, "d0", new_key())).json()
        self.headers = {"authorization": f"Bearer {enrolled['download_token']}"}
        self.http = Http(str(client.base_url).rstrip("/"), token=enrolled["download_token"])
        folder.mkdir()
        self.folder = folder
        self.store = Store(RealDisk(folder))

    def install(self, file: bytes) -> int:
        """Fetch a bundle's blobs as the trust child does; return the bytes that came."""
        container = open_container(io.BytesIO(file))
        manifest = container.manifest
        came = fetch_bundle(
            self.store, self.http, container.manifest_bytes, list(manifest.blobs().values()), lambda *_: None
        )
        self.store.check(manifest, manifest.variants[0])
        return came


@pytest.fixture
def device(client: httpx.Client, tmp_path: Path) -> Iterator[Device]:
    found = Device(client, tmp_path / "device")
    yield found
    found.http.close()


@pytest.fixture
def publish(client: httpx.Client, app: FastAPI) -> Callable[[bytes, int], bytes]:
    client.post("/api/v1/models", json={"name": "digits"})

    def publish(library: bytes, release: int) -> bytes:
        file = make_bundle(version=str(release), release=release, library=library)
        answer = client.post("/api/v1/models/digits/bundles", content=file)
        assert answer.status_code == 201, answer.text
        app.state.fleet.deltas.close()  # finishes what waits
        return file

    return publish


Publish = Callable[[bytes, int], bytes]


def test_a_manifest_travels_as_a_patch_of_an_installed_one(client: httpx.Client, app: FastAPI, device: Device) -> None:
    client.post("/api/v1/models", json={"name": "digits"})
    files = [make_bundle(version=str(each), release=each, library=BASE, bins=500) for each in (1, 2, 3)]
    for file in files:
        assert client.post("/api/v1/models/digits/bundles", content=file).status_code == 201
    app.state.fleet.deltas.close()
    device.install(files[0])
    wanted = open_container(io.BytesIO(files[2]))
    size = len(wanted.manifest_bytes)
    offered = device_deltas.offer(device.http, Blob(wanted.bundle_id, size), device.store.bundles())
    assert offered is not None and offered.size_bytes < 0.2 * size
    made = device_deltas.manifest(device.store, device.http, "digits", wanted.bundle_id, size)
    assert made == wanted.manifest_bytes
    # Another model's manifests are no base, a length that does not fit and a spoilt patch give nothing.
    assert device_deltas.manifest(device.store, device.http, "other", wanted.bundle_id, size) is None
    assert device_deltas.manifest(device.store, device.http, "digits", wanted.bundle_id, size - 1) is None
    blobs: BlobStore = app.state.fleet.blobs
    blobs.path(offered.sha256).write_bytes(blobs.path(offered.sha256).read_bytes()[:-30] + bytes(30))
    assert device_deltas.manifest(device.store, device.http, "digits", wanted.bundle_id, size) is None


@pytest.mark.parametrize("change", [nudged, inserted])
def test_an_update_travels_as_its_difference(
    publish: Publish, device: Device, change: Callable[[bytes], bytes]
) -> None:
    first = publish(BASE, 1)
    second = publish(change(BASE), 2)
    assert device.install(first) > SIZE
    assert device.install(second) < 0.2 * SIZE
    assert device.store.disk.names("store/partial") == []
    wanted = {
        each for name in device.store.bundles() if (found := device.store.manifest(name)) for each in found.blobs()
    }
    assert set(device.store.disk.names(BLOBS)) == wanted, "the delta itself is gone"


def test_a_device_without_the_base_gets_the_whole(publish: Publish, device: Device) -> None:
    publish(BASE, 1)
    assert device.install(publish(nudged(BASE), 2)) > SIZE


def test_a_device_three_releases_behind_gets_a_delta_four_behind_the_whole(publish: Publish, device: Device) -> None:
    files = [publish(nudged(BASE, each / 100), each + 1) for each in range(5)]
    device.install(files[0])
    assert device.install(files[3]) < 0.3 * SIZE
    far = open_container(io.BytesIO(files[4])).manifest.variants[0].blobs["library"].sha256
    oldest = open_container(io.BytesIO(files[0])).manifest.variants[0].blobs["library"]
    assert device_deltas.offer(device.http, Blob(far, SIZE), [oldest.sha256]) is None


def test_a_damaged_base_ends_in_the_whole(publish: Publish, device: Device) -> None:
    first, second = publish(BASE, 1), publish(nudged(BASE), 2)
    device.install(first)
    library = open_container(io.BytesIO(first)).manifest.variants[0].blobs["library"]
    path = device.folder / BLOBS / library.sha256
    path.write_bytes(b"\0" + path.read_bytes()[1:])
    assert device.install(second) > SIZE, "delta and then everything"


def test_a_device_without_libzstd_asks_for_none(
    publish: Publish, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = publish(BASE, 1), publish(inserted(BASE), 2)
    device.install(first)
    monkeypatch.setattr(device_zstd, "LIBRARIES", ())
    device_zstd.library.cache_clear()
    try:
        assert device.install(second) > SIZE, "other lengths need zstd"
    finally:
        device_zstd.library.cache_clear()


def test_noise_is_not_worth_a_delta(publish: Publish, device: Device) -> None:
    first, second = publish(BASE, 1), publish(random.Random(9).randbytes(SIZE), 2)
    device.install(first)
    assert device.install(second) >= SIZE


@pytest.mark.parametrize(
    "spoil",
    [
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed[:-40] + bytes(40),
        lambda packed: b"rubbish",
        lambda packed: packed.replace(b'"size_bytes":300000', b'"size_bytes":299999'),
    ],
)
@pytest.mark.parametrize("method", delta.METHODS)
def test_a_hostile_delta_is_survived(
    publish: Publish, device: Device, app: FastAPI, spoil: Callable[[bytes], bytes], method: str
) -> None:
    """The fleet's disk, or somebody between, gives another delta in its place: the whole is fetched."""
    target = nudged(BASE)
    first, second = publish(BASE, 1), publish(target, 2)
    device.install(first)
    packed = dict(made_from(codec.digest(BASE), BASE, codec.digest(target), target))[method]
    bad = spoil(packed)
    blobs: BlobStore = app.state.fleet.blobs
    blobs.put(codec.digest(bad), [bad])
    offered = delta.DeltaOffer(codec.digest(BASE), codec.digest(bad), len(bad), method)
    app.state.fleet.deltas._keep(codec.digest(target), [offered])
    assert device.install(second) >= SIZE


def test_zstd_bombs_are_cut_off(tmp_path: Path) -> None:
    """A frame that gives a gigabyte where 300 000 bytes are wanted."""
    store = Store(RealDisk(tmp_path))
    store.prepare()
    base, wanted = store.put_blob(BASE), Blob(codec.digest(b"x" * SIZE), SIZE)
    header = Delta(base.sha256, wanted.sha256, SIZE, delta.ZSTD)
    packed = store.put_blob(delta.join(header, zstd.patch(BASE, bytes(50_000_000))))
    offered = delta.DeltaOffer(base.sha256, packed.sha256, packed.size_bytes, delta.ZSTD)
    assert not device_deltas.apply(store, offered, wanted)
    assert store.missing([wanted]) == [wanted] and store.partial_bytes(wanted) == 0


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/deltas/" + "0" * 64 + "?base=" + "1" * 64 + "&method=tensor", 404),
        ("/deltas/" + "0" * 64, 422),
        ("/deltas/x?base=y&method=tensor", 422),
        ("/deltas/" + "0" * 64 + "?method=tensor" + "&base=x" * 9, 422),
    ],
)
def test_bad_requests_are_refused(client: httpx.Client, device: Device, path: str, status: int) -> None:
    answer = client.get(path, headers=device.headers)
    assert answer.status_code == status, answer.text
    assert client.get(path).status_code == 401, "an API key is no device"


def test_the_width_is_that_of_the_numbers() -> None:
    dice = random.Random(3)
    numbers = [dice.randrange(2**30) for _ in range(20_000)]
    old, new = (b"".join((each + up).to_bytes(4, "little") for each in numbers) for up in (0, 200))
    assert best_width(old, new) == 4
    assert best_width(BASE, nudged(BASE)) == 1


def test_the_device_reads_what_the_fleet_packs() -> None:
    dice: Any = random.Random(4)
    for size in (0, 1, 1000, 700_000):
        target = inserted(BASE)[:size]
        assert b"".join(device_zstd.restored(BASE, zstd.patch(BASE, target))) == target
    big = dice.randbytes(3_000_000)
    changed = big[1000:2_000_000] + b"x" + big[2_000_000:]
    packed = zstd.patch(big, changed)
    assert b"".join(device_zstd.restored(big, packed)) == changed and len(packed) < 5000
