"""Debian packages and wheels for another processor: whose archive is asked, and what is told where it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from skerry_simulators.debian import packages, wheels
from skerry_simulators.debian.packages import FetchError


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("file:/m/debian/ bookworm main Debian", [("file:/m/debian/", "")]),
        ("file:/m/debian/ bookworm-updates main Debian", []),
        ("file:/m/security/ bookworm-security main Debian", [("file:/m/security/", "-security")]),
        ("file:/m/debian/ bookworm contrib Debian", []),
        ("file:/else/node nodistro main Else", []),
        ("file:/m/debian/ trixie main $(ORIGIN)", [("file:/m/debian/", "")]),  # before the first update
        ("file:/m/debian-security x-security main $(ORIGIN)", [("file:/m/debian-security", "-security")]),
        ("file:/else/apt stable main $(ORIGIN)", []),
        ("file:/m/debian/ a main Debian\nfile:/m/debian/ b main Debian", [("file:/m/debian/", "")]),
        ("", []),
        ("one\n\n two three", []),
    ],
)
def test_only_debians_own_archive_is_asked(said: str, found: list[tuple[str, str]]) -> None:
    assert packages.mirrors(said) == found


def apt(folder: Path, monkeypatch: pytest.MonkeyPatch, *, known: str, else_: str = "") -> None:
    """Put a stand-in for apt-get into the search path, which knows these sources and does this for all but asking."""
    (folder / "apt-get").write_text(
        f'#!/bin/sh\ncase "$*" in *indextargets*) echo "{known}" ;; *) {else_ or ":"} ;; esac\n'
    )
    (folder / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize("alone", [False, True])
def test_without_apt_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: bool) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FetchError, match="apt-get is not here") as caught:
        packages.fetch("trixie", "arm64", ["libc6"], tmp_path, alone=alone)
    assert "Debian" in caught.value.hint


def test_without_debians_archive_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt(tmp_path, monkeypatch, known="file:/else/ubuntu noble main Ubuntu")
    with pytest.raises(FetchError, match="no source of Debian packages"):
        packages.fetch("trixie", "arm64", ["libc6"], tmp_path / "work")


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("echo E: broken >&2; exit 100", "apt-get: broken"),
        ("echo E: The repository does not have a Release file. >&2; exit 100", "not have a Release"),
        ("exit 3", "apt-get: it gave no reason"),
        ("echo W: Failed to fetch http://m/x >&2", "apt-get: Failed to fetch http://m/x"),  # and ends well
        ("echo \"'http://m/a.deb' a_1_arm64.deb 7 SHA256:0\"", "not every package"),
    ],
)
def test_what_apt_complains_of_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, says: str) -> None:
    apt(tmp_path, monkeypatch, known="file:/m/debian/ x main Debian", else_=does)
    with pytest.raises(FetchError, match=says) as caught:
        packages.fetch("trixie", "arm64", ["a", "b"], tmp_path / "work", alone=True)
    assert caught.value.hint and ("--suite" in caught.value.hint) == ("Release" in says)


def test_pips_refusal_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="could not fetch wheels for aarch64") as caught:
        wheels.fetch(["no-such-distribution-of-anybody==0.0.0"], "aarch64", (3, 13), (2, 41), tmp_path)
    assert "\n" not in str(caught.value) and caught.value.hint


def test_locked_requirements_are_whole_lines_for_pip_and_outside_a_checkout_those_that_run_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = wheels.locked("device")
    assert whole and all(line.count("==") >= 1 and "--hash=sha256:" in line and "\\" not in line for line in whole)
    monkeypatch.setattr(wheels, "__file__", str(tmp_path / "a" / "b" / "c" / "wheels.py"))
    pins = {line.split(" ")[0] for line in whole}
    assert {"tuf", "cryptography", "h11"} <= {line.split("==")[0] for line in wheels.locked("device")}
    assert set(wheels.locked("device")) <= pins
