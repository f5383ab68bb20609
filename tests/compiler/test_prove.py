"""Boards proven here: right answers give the highest level, wrong ones and what runs where it must not take it away."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from skerry_compiler.emulators import catalogue as emulators
from skerry_compiler.emulators import programs
from skerry_compiler.errors import CompileError
from skerry_compiler.proof import cli, prove
from skerry_compiler.proof.references import references
from skerry_compiler.proof.refusals import PLAIN_BOARD
from skerry_contracts import codec
from skerry_targets import levels, shelf
from skerry_targets.levels import Evidence, Kind, Level

DENSE = references()[0]


def quiet(_: str) -> None:
    pass


@pytest.mark.emulated
@pytest.mark.parametrize("name", ["raspberry-pi-5", "riscv64"])
def test_linux_boards(name: str) -> None:
    profile = shelf.get(name)
    found = prove.prove(profile, quiet)
    assert [each for each in found.checks if not each.held] == []
    assert levels.level(profile, found) is Level.PARITY
    refused = [each.seen for each in found.checks if each.kind is Kind.REFUSAL]
    weaker = "cortex-a53, which lacks asimddp" if name == "raspberry-pi-5" else "rv64,d=false,v=false, which lacks d"
    assert any(each.startswith(weaker) for each in refused)  # stops there
    assert any("by the header of an artifact for" in each for each in refused)
    assert any("offered x86-64-v2's: made for x86_64" in each or "offered raspberry-pi-5's" in each for each in refused)


def test_webassembly() -> None:
    profile = shelf.get("wasm32-wasi")
    found = prove.prove(profile, quiet)
    assert [each for each in found.checks if not each.held] == []
    assert levels.level(profile, found) is Level.PARITY


@pytest.mark.boards
def test_a_microcontroller() -> None:
    profile = shelf.get("cortex-m0plus")
    found = prove.prove(profile, quiet)
    assert levels.level(profile, found) is Level.PARITY
    assert [each for each in found.checks if not each.held] == []
    core = [each.seen for each in found.checks if "the agent's core" in each.seen]
    assert len(core) == 4 and sum("nothing was written" in each for each in core) == 2
    sizes = levels.footprints(found)
    assert set(sizes) == {each.name for each in references()}
    assert all(0 < ram < flash < profile.budget.artifact_bytes for flash, ram in (sizes["dense"], sizes["dense-int8"]))
    assert sizes["dense-int8"][0] < sizes["dense"][0] and sizes["convolutions-int8"][1] < sizes["convolutions"][1]


@pytest.mark.browser
def test_a_browser() -> None:
    profile = shelf.get("browser")
    artifact = prove.compiled(DENSE, profile)
    answers = prove.answers(DENSE, profile, artifact)
    assert abs(answers - prove.originals(DENSE.name)).max() < prove.FLOAT_LIMIT
    with pytest.raises(CompileError, match="in the browser"):
        emulators.outputs(artifact[:40], profile, DENSE.signature, b"")


def test_what_nothing_here_runs_is_compiled_and_no_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["windows-arm64", "-o", str(tmp_path)]) == 0
    assert "compiled" in capsys.readouterr().out
    profile = shelf.get("windows-arm64")
    found = codec.decode(Evidence, (tmp_path / "windows-arm64.json").read_bytes())
    assert levels.level(profile, found) is Level.COMPILED and not emulators.available(profile)


def test_wrong_answers_are_no_parity(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = shelf.get(PLAIN_BOARD)
    monkeypatch.setattr(
        prove, "originals", lambda _: prove.answers(DENSE, profile, prove.compiled(DENSE, profile)) + 0.1
    )
    monkeypatch.setattr(prove, "references", lambda: (DENSE,))
    found = prove.prove(profile, quiet)
    assert levels.level(profile, found) is Level.EXECUTED


@pytest.mark.emulated
def test_a_library_that_is_damaged_or_needs_another_does_not_load() -> None:
    profile = shelf.get("arm64")
    whole = bytearray(prove.compiled(DENSE, profile))
    other = bytearray(whole)
    other[18] = 62  # the machine
    with pytest.raises(CompileError, match="no library for this processor"):
        programs.outputs(bytes(other), profile, DENSE.signature, b"")
    nameless = whole.replace(b"skerry_run\0", b"skerry_ran\0")
    with pytest.raises(CompileError, match="no skerry_run"):
        programs.outputs(bytes(nameless), profile, DENSE.signature, b"")


def test_too_small_a_budget_is_a_check_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    profile = shelf.get("macos-arm64")
    small = dataclasses.replace(profile, budget=dataclasses.replace(profile.budget, artifact_bytes=1000))
    found = prove.prove(small, quiet)
    assert levels.level(small, found) is Level.DECLARED
    with pytest.raises(CompileError, match="graphics processor"):
        prove.prove(shelf.get("cuda-sm90"), quiet)
    assert cli.main(["raspberry-pie-5"]) == 1 and "did you mean" in capsys.readouterr().err


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--all", "arm64"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(words)
        assert caught.value.code == 2
    capsys.readouterr()
    assert cli.main(["ios-arm64", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["level"] == "compiled"
