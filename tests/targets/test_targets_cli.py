"""`skerry targets` as a person types it."""

from __future__ import annotations

import json

import pytest

from skerry_targets import catalogue, cli


def test_list_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    out = capsys.readouterr().out
    assert all(each in out for each in catalogue.ids()) and "this machine" in out
    assert cli.main(["list", "--json"]) == 0
    assert {each["id"] for each in json.loads(capsys.readouterr().out)} >= set(catalogue.ids())


@pytest.mark.parametrize("target", ["host", "raspberry-pi-4"])
def test_show(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", target]) == 0
    assert "features" in capsys.readouterr().out
    assert cli.main(["show", target, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["abi"]["os"] == "linux"


def test_unknown_target_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "x86-64-v9"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("skerry: error: no target 'x86-64-v9' (did you mean") and error.count("\n") == 1
