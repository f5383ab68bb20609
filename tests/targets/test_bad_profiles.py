"""A person's own profile that cannot be meant: refused before anything is compiled, with the nearest board on file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.targets.test_host_and_fit import hardware

from skerry_contracts.bundle import Blob, Predicates, Variant
from skerry_targets import catalogue, cli, fit, levels, shelf
from skerry_targets.errors import ProfileError
from skerry_targets.levels import Level

A72 = (shelf.FOLDER / "aarch64/raspberry-pi-4.toml").read_text()
M4 = (shelf.FOLDER / "thumb/cortex-m4.toml").read_text()


def refused(text: str, path: Path) -> ProfileError:
    path.write_text(text)
    with pytest.raises(ProfileError) as caught:
        catalogue.get(str(path))
    assert "\n" not in str(caught.value) + caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    "text, old, new, said, near",
    [
        (M4, "[cpu]\n", "[cpu]\nclock = 3\n", "unknown field 'cpu.clock'", "cortex-m4"),
        (M4, '"fpv4-sp"', '"fpv4-dp"', "'fpv4-dp' is no known feature of thumb", "cortex-m4"),
        (M4, "artifact_bytes = 524_288", "artifact_bytes = 5_000_000_000", "more than 32 bits reach", "cortex-m4"),
        (M4, "memory_bytes = 131_072", "memory_bytes = 12", "budget.memory_bytes: 12 is not from 1024", "cortex-m4"),
    ],
)
def test_the_nearest_board_is_named(text: str, old: str, new: str, said: str, near: str, tmp_path: Path) -> None:
    assert old in text
    error = refused(text.replace(old, new), tmp_path / "mine.toml")
    assert said in str(error) and f"the nearest board on file is {near}" in error.hint


def test_the_board_that_it_extends_is_the_nearest(tmp_path: Path) -> None:
    text = 'id = "mine"\ntitle = "Mine"\nextends = "imx8m-mini"\n\n[budget]\nartifact_bytes = -1\n'
    assert "nearest board on file is imx8m-mini" in refused(text, tmp_path / "mine.toml").hint
    assert "nearest" not in refused("id = ", tmp_path / "mine.toml").hint  # no TOML, so nothing to go by
    assert refused('abi = 3\ncpu = [1]\nextends = ["x"]\n', tmp_path / "mine.toml")
    assert refused('[abi]\nmachine = "vax"\n[cpu]\nfeatures = [{a = 1}, 3]\n', tmp_path / "mine.toml")


def test_nothing_is_shown_or_written_of_such_a_profile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(M4.replace('"fpv4-sp"', '"fpv9"'))
    assert cli.main(["show", str(path)]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and "nearest board" in shown.err


def test_a_sibling_boards_variant_is_refused_with_what_to_compile_for() -> None:
    a76 = Predicates("linux", "aarch64", ("asimd", "asimddp", "fp"))
    newer = Predicates("linux", "aarch64", ("fp",), "glibc", "2.99")
    engine = Predicates("linux", "aarch64", ("fp",), None, None, "99.0")
    device = hardware("aarch64", "fp", "asimd")
    for requires, said in ((a76, "asimddp"), (newer, "glibc 2.99"), (engine, "onnxruntime 99.0")):
        variant = Variant("a", "onnxruntime", "fp32", {"model": Blob("0" * 64, 1)}, requires, 0)
        assert said in fit.why_not([variant], device) and fit.instead(device).startswith("compile for ")
        good = Variant("b", "onnxruntime", "fp32", {}, Predicates("linux", "aarch64"), 0)
        assert fit.why_not([variant, good], device) == ""


def test_no_level_beyond_compiled_is_claimed_where_nothing_runs() -> None:
    never = [each for each in catalogue.load_all() if each.abi.os in ("windows", "macos", "ios", "android")]
    assert len(never) >= 9 and {levels.of(each) for each in never} == {Level.COMPILED}
    for each in never:
        found = levels.on_file(each.id)
        assert found is not None and {one.kind for one in found.checks} <= {"header", "budget", "refusal"}
