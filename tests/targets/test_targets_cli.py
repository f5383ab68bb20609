"""`skerry targets` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skerry_targets import catalogue, cli, unreachable


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


def test_the_page_of_boards_is_what_the_profiles_and_their_evidence_say(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--markdown"]) == 0
    page = Path(__file__).parents[2] / "docs" / "boards.md"
    assert (
        page.read_text(encoding="utf-8") == capsys.readouterr().out
    )  # skerry targets list --markdown > docs/boards.md


def test_names_of_other_services_are_known_or_refused_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "rasp4b"]) == 0 and "raspberry-pi-4" in capsys.readouterr().out
    assert cli.main(["show", "ml_inf1"]) == 1
    error = capsys.readouterr().err
    assert "cannot be compiled for" in error and error.count("\n") == 1
    assert cli.main(["list", "--family", "vax"]) == 1 and "linux-arm64" in capsys.readouterr().err


NEO = """lambda ml_m4 ml_m5 ml_m6g ml_c4 ml_c5 ml_c6g ml_p2 ml_p3 ml_g4dn ml_inf1 ml_inf2 ml_trn1 ml_eia2 jetson_tx1
jetson_tx2 jetson_nano jetson_xavier rasp3b rasp4b imx8qm deeplens rk3399 rk3288 aisage sbe_c qcs605 qcs603
sitara_am57x amba_cv2 amba_cv22 amba_cv25 x86_win32 x86_win64 coreml jacinto_tda4vm imx8mplus"""


def test_every_name_of_neos_list_is_known_or_out_of_reach() -> None:
    known = {each for profile in catalogue.load_all() for each in (profile.id, *profile.aliases)}
    lost = {each for one in unreachable.load() for each in (one.id, *one.aliases)}
    assert set(NEO.split()) <= known | lost
    names = [each for profile in catalogue.load_all() for each in profile.aliases]
    assert len(names) == len(set(names)) and not set(names) & lost
    assert {one.nearest for one in unreachable.load()} <= set(catalogue.ids())
