"""The catalogue: every file sound, names found, wrong names answered with the nearest."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry_targets import catalogue, features, shelf
from skerry_targets.errors import UnknownTargetError


def test_every_profile_is_sound_and_named_as_its_file() -> None:
    found = catalogue.load_all()
    assert {"x86-64-v2", "x86-64-v3", "x86-64-v4", "arm64", "raspberry-pi-4"} <= {each.id for each in found}
    for each in found:
        assert features.unknown(each.abi.machine, each.cpu.features) == []
        assert "native" in each.engines


def test_levels_hold_what_the_psabi_says() -> None:
    for target, level in (
        ("x86-64-v2", features.X86_V2),
        ("x86-64-v3", features.X86_V3),
        ("x86-64-v4", features.X86_V4),
    ):
        assert set(level) <= set(catalogue.get(target).cpu.features)


def test_unknown_target_names_the_nearest() -> None:
    with pytest.raises(UnknownTargetError) as caught:
        catalogue.get("raspberypi4")
    assert "raspberry-pi-4" in caught.value.hint


def test_a_file_of_your_own(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_bytes((shelf.FOLDER / "aarch64/arm64.toml").read_bytes().replace(b'id = "arm64"', b'id = "mine"'))
    assert catalogue.get(str(mine)).id == "mine"
    with pytest.raises(UnknownTargetError):
        catalogue.get(str(tmp_path / "none.toml"))
    with pytest.raises(UnknownTargetError):
        catalogue.get("../../etc/passwd")
