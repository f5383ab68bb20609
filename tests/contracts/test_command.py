"""The one command: what it says where it cannot go on."""

from __future__ import annotations

import sys

import pytest

from skerry.__main__ import COMMANDS, main


def test_an_unknown_word_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["complie"]) == 2
    assert "skerry compile" in capsys.readouterr().err


def test_without_a_word_it_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr().out
    assert [word for word in COMMANDS if word not in said] == []


def test_a_missing_library_names_the_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("httpx", "skerry_fleet.client", "skerry_fleet.cli_verbs"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    assert main(["fleet", "overview", "--key", "k"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "skerry[fleet]" in said and "httpx" in said
