"""Profiles are read strictly: a slip in a file is refused where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_contracts import codec
from skerry_targets import profile, shelf
from skerry_targets.errors import ProfileError, TargetError

SOUND = (shelf.FOLDER / "x86_64/x86-64-v3.toml").read_text()


def refused(text: str) -> ProfileError:
    with pytest.raises(ProfileError) as caught:
        profile.parse(text.encode(), "mine.toml")
    assert "\n" not in str(caught.value)
    return caught.value


def test_reads_what_it_writes() -> None:
    found = profile.parse(SOUND.encode(), "x")
    assert profile.from_plain(codec.to_plain(found), "recipe") == found
    assert profile.digest(found) == codec.digest(codec.encode(found))


def test_unknown_field_is_refused_with_the_nearest() -> None:
    error = refused(SOUND.replace("vector_bits", "vektor_bits"))
    assert "cpu.vektor_bits" in str(error) and "vector_bits" in error.hint
    assert "engines.native.opset" in str(refused(SOUND.replace("[engines.native]", "[engines.native]\nopset = 3")))
    assert "kolour" in str(refused('kolour = "red"\n' + SOUND))


@pytest.mark.parametrize(
    "old, new, said",
    [
        ('"avx2"', '"avx3"', "did you mean 'avx"),
        ("memory_bytes = 4_294_967_296", "memory_bytes = 0", "budget.memory_bytes"),
        ("artifact_bytes = 1_073_741_824", "artifact_bytes = -1", "budget.artifact_bytes"),
        ("vector_bits = 256", "vector_bits = 100", "cpu.vector_bits"),
        ("vector_registers = 16", "vector_registers = 1000", "cpu.vector_registers"),
        ("elf_class = 64", 'elf_class = "64"', "abi.elf_class"),
        ('machine = "x86_64"', 'machine = "vax"', "abi.machine"),
        ('id = "x86-64-v3"', 'id = "X86 64"', "id"),
        ("cores = 2", "cores = 0", "cpu.cores"),
        ('kind = "native"', 'kind = "magic"', "emulator.kind"),
    ],
)
def test_impossible_values_are_refused(old: str, new: str, said: str) -> None:
    assert old in SOUND
    assert said in str(refused(SOUND.replace(old, new, 1)))


def test_missing_part_is_named() -> None:
    assert "budget" in str(refused(SOUND[: SOUND.index("[budget]")]))


@given(st.binary(max_size=200))
def test_noise_is_refused(noise: bytes) -> None:
    with pytest.raises(ProfileError):
        profile.parse(noise, "noise")


def test_a_file_that_extends_a_board_has_all_it_leaves_out(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('id = "mine"\ntitle = "Mine"\nextends = "imx8m-mini"\n\n[budget]\nartifact_bytes = 5_000_000\n')
    found, base = shelf.read(mine), shelf.get("imx8m-mini")
    assert found.budget.artifact_bytes == 5_000_000 and found.budget.memory_bytes == base.budget.memory_bytes
    assert (found.cpu, found.family, found.aliases, found.note) == (base.cpu, base.family, (), "")
    for wrong, said in (('"mine"', "no profile"), ("7", "no profile on file"), ('"../x"', "no profile")):
        mine.write_text(f'id = "mine"\ntitle = "Mine"\nextends = {wrong}\n')
        with pytest.raises(TargetError, match=said):
            shelf.read(mine)
    assert "gpu.arch" in str(refused(SOUND + '\n[gpu]\nname = "x"\narch = "sm_1"\n'))
    assert "gpu.kolour" in str(refused(SOUND + '\n[gpu]\nname = "x"\narch = "sm_87"\nkolour = 1\n'))
