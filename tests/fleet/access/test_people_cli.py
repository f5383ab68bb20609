"""`skerry fleet user` and `key` against a served fleet: passwords come by file, standard input or prompt alone."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from skerry_fleet.cli import main

WORDS, OTHERS = "a tide of many words", "another lamp for the harbour"


@pytest.fixture
def fleet(app: FastAPI, client: httpx.Client) -> list[str]:
    return ["--url", str(client.base_url), "--root", str(app.state.fleet.config.root)]


def test_a_person_is_made_listed_changed_and_shut_out(
    fleet: list[str],
    client: httpx.Client,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "words").write_text(f"{WORDS}\nmore\n")
    made = ["user", "create", "anna", "--role", "operator", "--password-file", str(tmp_path / "words"), *fleet]
    assert main(made) == 0
    assert main(made) == 1
    monkeypatch.setattr("sys.stdin", io.StringIO(OTHERS + "\n"))
    assert main(["user", "password", "anna", "--password-file", "-", *fleet]) == 0
    assert main(["user", "role", "anna", "admin", *fleet]) == 0
    assert main(["user", "sign-out", "anna", *fleet]) == 0
    assert main(["user", "disable", "anna", *fleet]) == 0
    assert main(["user", "list", *fleet]) == 0
    said = capsys.readouterr()
    assert "there is a user anna already" in said.err
    assert WORDS not in said.out + said.err and OTHERS not in said.out + said.err and "argon2" not in said.out
    assert main(["user", "list", "--json", *fleet]) == 0
    (person,) = json.loads(capsys.readouterr().out)
    assert person["role"] == "admin" and person["disabled_ms"] is not None
    assert main(["user", "enable", "anna", *fleet]) == 0
    assert client.get("/api/v1/users").json()["items"][0]["disabled_ms"] is None
    assert main(["user", "disable", "nobody", *fleet]) == 1 and "no user 'nobody'" in capsys.readouterr().err


def test_a_password_is_asked_for_twice_on_a_terminal(
    fleet: list[str], client: httpx.Client, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    answers: list[Any] = [WORDS, OTHERS, WORDS, WORDS]
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("getpass.getpass", lambda prompt: answers.pop(0))
    assert main(["user", "create", "anna", *fleet]) == 1 and "differ" in capsys.readouterr().err
    assert main(["user", "create", "anna", *fleet]) == 0
    assert client.get("/api/v1/users").json()["items"][0]["role"] == "viewer"


def test_without_a_password_nothing_is_asked_of_the_fleet(
    fleet: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    (tmp_path / "empty").write_text("\nsecond\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for file, words in (
        ([], "no password"),
        (["--password-file", str(tmp_path / "none")], "cannot read"),
        (["--password-file", str(tmp_path / "empty")], "no password in its first line"),
        (["--password-file", str(tmp_path / "bytes")], "it is no text"),
    ):
        assert main(["user", "create", "anna", *file, *fleet]) == 1
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["user", "create", "anna", "--password", WORDS, *fleet])
