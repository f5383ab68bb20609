from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.fleet.trust.conftest import NOW_S

from skerry_contracts import codec
from skerry_contracts.enrolment import Trust
from skerry_fleet.trust import durable, keys
from skerry_fleet.trust.errors import KeyMissingError, TrustError
from skerry_fleet.trust.office import TrustOffice, open_office


def test_private_keys_are_private(office: TrustOffice, tmp_path: Path) -> None:
    files = list((tmp_path / "fleet/keys").rglob("*.pem"))
    assert len(files) == 8
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in files)
    assert all(folder.stat().st_mode & 0o077 == 0 for folder in {file.parent for file in files})


def test_the_spare_director_is_believed_too(office: TrustOffice, tmp_path: Path) -> None:
    offline, online = tmp_path / "fleet/keys/offline", tmp_path / "fleet/keys/online"
    (online / "director.pem").unlink()
    with pytest.raises(KeyMissingError):
        open_office(tmp_path / "fleet", "default", NOW_S)
    shutil.copy(offline / "director-spare.pem", online / "director.pem")
    assert open_office(tmp_path / "fleet", "default", NOW_S).trust_document == office.trust_document


def test_keys_that_devices_would_not_believe(office: TrustOffice, tmp_path: Path) -> None:
    path = tmp_path / "fleet/keys/online/director.pem"
    path.unlink()
    keys.KeyStore(tmp_path / "fleet/keys").ed25519(keys.DIRECTOR, create=True)
    with pytest.raises(TrustError, match="other keys"):
        open_office(tmp_path / "fleet", "default", NOW_S)


def test_a_damaged_or_foreign_document(office: TrustOffice, tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="tenant default"):
        open_office(tmp_path / "fleet", "other", NOW_S)
    (tmp_path / "fleet/trust.json").write_bytes(b"{")
    with pytest.raises(TrustError, match="damaged"):
        open_office(tmp_path / "fleet", "default", NOW_S)


def test_two_fleets_share_nothing(office: TrustOffice, tmp_path: Path) -> None:
    other = open_office(tmp_path / "other", "default", NOW_S)
    mine, theirs = (codec.decode(Trust, each.trust_document) for each in (office, other))
    assert mine.ca_pem != theirs.ca_pem
    assert not set(mine.director_keys_pem) & set(theirs.director_keys_pem)


@pytest.mark.parametrize("failing", ["fsync", "fchmod"])
def test_a_failing_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    path = tmp_path / "file"
    durable.write_file(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space"):
        durable.write_file(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old" and [each.name for each in tmp_path.iterdir()] == ["file"]
    (tmp_path / ".file.new").write_bytes(b"left by a crash")
    durable.write_file(path, b"new", 0o600)
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o600
