from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner
from tests.fleet.trust.conftest import DAY_S, NOW_S, Device, MakeDevice
from tuf.api.exceptions import BadVersionNumberError, ExpiredMetadataError, RepositoryError
from tuf.api.metadata import TargetFile

from skerry_contracts import codec
from skerry_contracts.assignment import target_path
from skerry_contracts.enrolment import Trust
from skerry_fleet.trust import durable, errors, keys, metadata
from skerry_fleet.trust.office import TrustOffice, open_office
from skerry_fleet.trust.repository import Repository

MANIFEST = b'{"model":"digits"}'
PATH = target_path("digits", codec.digest(MANIFEST))


def published(office: TrustOffice) -> str:
    office.repository.register_model("digits", NOW_S)
    office.repository.publish(PATH, MANIFEST, {"target": "x86-64", "release": 1}, NOW_S)
    return PATH


def test_a_device_fetches_what_was_published(office: TrustOffice, make_device: MakeDevice) -> None:
    trust = codec.decode(Trust, office.trust_document)
    device = make_device()
    assert device.root == trust.tuf_root
    assert device.fetch(published(office)) == MANIFEST
    assert office.repository.models() == ("digits",)
    assert office.repository.custom_of(PATH) == {"target": "x86-64", "release": 1}


def test_what_is_not_listed_is_not_found(office: TrustOffice, make_device: MakeDevice) -> None:
    published(office)
    other = target_path("digits", codec.digest(b"other"))
    assert make_device().fetch(other) is None
    assert office.repository.custom_of(other) is None
    assert office.repository.withdraw(PATH, NOW_S)
    assert not office.repository.withdraw(PATH, NOW_S)
    assert make_device().fetch(PATH) is None


def test_saying_it_twice_changes_nothing(office: TrustOffice) -> None:
    published(office)
    before = (office.repository.metadata_dir / "timestamp.json").read_bytes()
    assert not office.repository.register_model("digits", NOW_S)
    assert not office.repository.publish(PATH, MANIFEST, {"target": "x86-64", "release": 1}, NOW_S)
    assert (office.repository.metadata_dir / "timestamp.json").read_bytes() == before
    assert office.repository.publish(PATH, MANIFEST, {"target": "x86-64", "release": 2}, NOW_S)


@pytest.mark.parametrize("model", ["root", "targets", "snapshot", "timestamp"])
def test_tufs_own_names_are_ordinary_models(office: TrustOffice, make_device: MakeDevice, model: str) -> None:
    path = target_path(model, codec.digest(MANIFEST))
    office.repository.register_model(model, NOW_S)
    office.repository.publish(path, MANIFEST, {}, NOW_S)
    assert make_device().fetch(path) == MANIFEST


@pytest.mark.parametrize(
    "path",
    [
        "digits/x.json",
        "../digits/a.json",
        "digits",
        "",
        "Digits/" + "0" * 64 + ".json",
        "digits/" + "0" * 64,
        "/etc/passwd",
    ],
)
def test_paths_that_are_none_are_refused(office: TrustOffice, path: str) -> None:
    published(office)
    with pytest.raises(errors.RepositoryError):
        office.repository.publish(path, MANIFEST, {}, NOW_S)


def test_refused_publications(office: TrustOffice) -> None:
    published(office)
    with pytest.raises(errors.RepositoryError, match="does not name"):
        office.repository.publish(PATH, MANIFEST + b" ", {}, NOW_S)
    with pytest.raises(errors.RepositoryError, match="no role") as refused:
        office.repository.publish(target_path("faces", codec.digest(MANIFEST)), MANIFEST, {}, NOW_S)
    assert "register" in refused.value.hint
    with pytest.raises(errors.RepositoryError):
        office.repository.register_model("../up", NOW_S)


def test_a_publisher_speaks_only_for_its_model(office: TrustOffice, make_device: MakeDevice, tmp_path: Path) -> None:
    """A stolen publisher key that lists another model's path achieves nothing."""
    published(office)
    office.repository.register_model("faces", NOW_S)
    state = metadata.load(office.repository.metadata_dir)
    evil = b"evil"
    path = target_path("faces", codec.digest(evil))
    state.models["model-digits"].signed.targets[path] = TargetFile.from_data(path, evil, ["sha256"])
    store = keys.KeyStore(tmp_path / "fleet" / "keys")
    committer = metadata.Committer(office.repository.metadata_dir, store, durable.write_file)
    committer.commit(state, {"model-digits": CryptoSigner(store.ed25519(keys.publisher("digits")))}, NOW_S)
    assert make_device().fetch(path) is None


def test_the_targets_key_may_be_kept_offline(office: TrustOffice, make_device: MakeDevice, tmp_path: Path) -> None:
    path = published(office)
    offline = tmp_path / "drawer"
    shutil.move(tmp_path / "fleet" / "keys" / "offline", offline)
    with pytest.raises(errors.KeyMissingError) as refused:
        office.repository.register_model("faces", NOW_S)
    assert "targets.pem" in str(refused.value) and "copy" in refused.value.hint
    second = b'{"model":"digits","release":2}'
    office.repository.publish(target_path("digits", codec.digest(second)), second, {}, NOW_S)
    office.repository.refresh_timestamp(NOW_S + DAY_S)
    again = open_office(tmp_path / "fleet", "default", NOW_S + DAY_S)
    assert again.trust_document == office.trust_document
    assert make_device().fetch(path, NOW_S + DAY_S) == MANIFEST


def test_freshness(office: TrustOffice, make_device: MakeDevice) -> None:
    path = published(office)
    device = make_device()
    assert device.fetch(path) == MANIFEST
    late = NOW_S + 60 * DAY_S
    with pytest.raises(ExpiredMetadataError):
        device.fetch(path, late)
    office.repository.refresh_timestamp(late)
    assert device.fetch(path, late) == MANIFEST


def test_an_older_state_is_refused(office: TrustOffice, make_device: MakeDevice, tmp_path: Path) -> None:
    published(office)
    device, metadata_dir = make_device(), office.repository.metadata_dir
    old = (metadata_dir / "timestamp.json").read_bytes()
    office.repository.refresh_timestamp(NOW_S)
    device.fetch(PATH)
    (metadata_dir / "timestamp.json").write_bytes(old)
    # python-tuf may also keep what it has without a word; either way nothing old is taken.
    with contextlib.suppress(BadVersionNumberError):
        device.fetch(PATH)
    trusted = json.loads((device.folder / "timestamp.json").read_bytes())["signed"]["version"]
    assert trusted > json.loads(old)["signed"]["version"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_byte_never_changes_what_is_installed(
    office: TrustOffice, make_device: MakeDevice, data: st.DataObject
) -> None:
    path = published(office)
    folder = office.repository.metadata_dir.parent
    files = sorted(file for file in folder.rglob("*.json") if not file.name.startswith("."))
    file = data.draw(st.sampled_from(files))
    original = file.read_bytes()
    position = data.draw(st.integers(0, 10**6)) % len(original)
    mask = data.draw(st.integers(1, 255))
    file.write_bytes(original[:position] + bytes([original[position] ^ mask]) + original[position + 1 :])
    try:
        found = make_device().fetch(path)
    except (RepositoryError, ValueError):  # refused; python-tuf lets some ValueErrors of damaged JSON through
        found = None
    finally:
        file.write_bytes(original)
    assert found in (MANIFEST, None)


def test_maintenance_renews_and_warns(office: TrustOffice, make_device: MakeDevice, tmp_path: Path) -> None:
    path = published(office)
    assert office.repository.maintain(NOW_S) == ()
    late = NOW_S + 300 * DAY_S
    shutil.move(tmp_path / "fleet/keys/offline/targets.pem", tmp_path / "targets.pem")
    warnings = office.repository.maintain(late)
    assert len(warnings) == 1 and "targets.pem" in warnings[0]
    shutil.move(tmp_path / "targets.pem", tmp_path / "fleet/keys/offline/targets.pem")
    assert office.repository.maintain(late) == ()
    very_late = NOW_S + 900 * DAY_S
    for lost in ("root-1", "root-2"):
        (tmp_path / f"fleet/keys/offline/{lost}.pem").rename(tmp_path / f"{lost}.pem")
    assert any("root" in warning for warning in office.repository.maintain(very_late))
    (tmp_path / "root-1.pem").rename(tmp_path / "fleet/keys/offline/root-1.pem")  # two of three are enough
    assert office.repository.maintain(very_late) == ()
    office.repository.refresh_timestamp(very_late)
    beyond_first_root = NOW_S + 1200 * DAY_S
    office.repository.maintain(beyond_first_root)
    office.repository.refresh_timestamp(beyond_first_root)
    assert make_device().fetch(path, beyond_first_root) == MANIFEST


def test_a_new_online_key(office: TrustOffice, make_device: MakeDevice, tmp_path: Path) -> None:
    path = published(office)
    device = make_device()
    device.fetch(path)
    stolen = (tmp_path / "fleet/keys/online/repository.pem").read_bytes()
    office.repository.replace_online_key(NOW_S)
    assert (tmp_path / "fleet/keys/online/repository.pem").read_bytes() != stolen
    assert device.fetch(path) == MANIFEST and make_device().fetch(path) == MANIFEST
    assert open_office(tmp_path / "fleet", "default", NOW_S).trust_document == office.trust_document
    (tmp_path / "fleet/keys/online/repository.pem").write_bytes(stolen)
    office.repository._committer.commit_timestamp(metadata.load(office.repository.metadata_dir), NOW_S)
    with pytest.raises(RepositoryError):
        device.fetch(path)


class Cut(BaseException):
    """The power goes: nothing catches this."""


def cut_at(count: int) -> durable.Writer:
    left = [count]

    def write(path: Path, data: bytes, mode: int = 0o644) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Cut
        durable.write_file(path, data, mode)

    return write


@pytest.mark.parametrize("count", range(6))
def test_a_cut_at_any_write_of_the_first_start(tmp_path: Path, count: int) -> None:
    """Root, targets, snapshot, timestamp, trust document: whichever is missing, the next start ends the same way."""
    with contextlib.suppress(Cut):
        open_office(tmp_path / "fleet", "default", NOW_S, cut_at(count))
    office = open_office(tmp_path / "fleet", "default", NOW_S)
    path = published(office)
    (tmp_path / "device").mkdir()
    assert (
        Device(tmp_path / "fleet/tuf", tmp_path / "device", office.repository.bootstrap_root()).fetch(path) == MANIFEST
    )
    assert open_office(tmp_path / "fleet", "default", NOW_S).trust_document == office.trust_document


@pytest.mark.parametrize("step", ["register", "publish", "withdraw", "renew", "rotate"])
@pytest.mark.parametrize("count", range(5))
def test_a_cut_at_any_write_leaves_the_old_or_the_new(
    office: TrustOffice, make_device: MakeDevice, tmp_path: Path, step: str, count: int
) -> None:
    path = published(office)
    device = make_device()
    device.fetch(path)
    second = b'{"model":"digits","release":2}'
    second_path = target_path("digits", codec.digest(second))
    store = keys.KeyStore(tmp_path / "fleet/keys")
    cut = Repository(tmp_path / "fleet/tuf", store, cut_at(count))
    steps: dict[str, Callable[[], object]] = {
        "register": lambda: cut.register_model("faces", NOW_S),
        "publish": lambda: cut.publish(second_path, second, {}, NOW_S),
        "withdraw": lambda: cut.withdraw(path, NOW_S),
        "renew": lambda: cut.maintain(NOW_S + 900 * DAY_S),
        "rotate": lambda: cut.replace_online_key(NOW_S),
    }
    with contextlib.suppress(Cut):
        steps[step]()
    if step != "rotate":  # a rotation may stop devices until the next start, which finishes it
        assert device.fetch(path) in (MANIFEST, None)
    again = open_office(tmp_path / "fleet", "default", NOW_S)
    assert again.trust_document == office.trust_document
    assert device.fetch(path) in (MANIFEST, None)
    again.repository.publish(second_path, second, {"release": 2}, NOW_S)
    assert device.fetch(second_path) == second and make_device().fetch(second_path) == second


def test_a_damaged_repository_is_told_of_at_the_start(office: TrustOffice, tmp_path: Path) -> None:
    published(office)
    (office.repository.metadata_dir / "timestamp.json").write_bytes(b"")
    with pytest.raises(errors.RepositoryError) as refused:
        open_office(tmp_path / "fleet", "default", NOW_S)
    assert "timestamp.json" in str(refused.value) and refused.value.hint


def test_no_repository(tmp_path: Path) -> None:
    with pytest.raises(errors.RepositoryError):
        Repository(tmp_path / "none", keys.KeyStore(tmp_path)).publish(PATH, MANIFEST, {}, NOW_S)


def test_old_versions_are_tidied_away(office: TrustOffice) -> None:
    published(office)
    for day in range(40):
        office.repository.publish(PATH, MANIFEST, {"release": day}, NOW_S + day * DAY_S)
    assert len(list(office.repository.metadata_dir.glob("*.model-digits.json"))) <= metadata.KEPT_VERSIONS
    assert len(list(office.repository.metadata_dir.glob("*.snapshot.json"))) <= metadata.KEPT_VERSIONS
    assert metadata.load(office.repository.metadata_dir).snapshot.signed.version > 40
