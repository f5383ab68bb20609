"""Whatever the API can do, a person can do on the command line, or there is a reason; and what they mistype is told."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from fastapi import FastAPI
from tests.fleet.conftest import ACTOR, Bench, Clock, serving

from skerry_fleet import cli, cli_verbs, feeds
from skerry_fleet.app import create_app
from skerry_fleet.config import FleetConfig
from skerry_fleet.openapi.document import describe

# What verbs ask that are written out, (method, path) each.
SPECIAL: dict[tuple[str, str], tuple[str, str]] = {
    ("overview", ""): ("GET", "/overview"),
    ("metrics", ""): ("GET", "/metrics"),
    ("events", ""): ("GET", "/events"),
    ("bundle", "upload"): ("POST", "/models/{}/bundles"),
    ("device", "carry-in"): ("POST", "/carried"),
    ("device", "carry-out"): ("POST", "/devices/{}/update"),
    ("group", "remove"): ("DELETE", "/groups/{}/devices/{}"),
    ("model", "health"): ("GET", "/models/{}/health"),
    ("model", "drift"): ("GET", "/models/{}/drift"),
    ("model", "verdict"): ("PUT", "/models/{}/drift"),
    ("rollout", "start"): ("POST", "/rollouts"),
    ("rollout", "wait"): ("GET", "/rollouts/{}"),
    ("rollout", "evidence"): ("GET", "/rollouts/{}/evidence"),
    ("route", "create"): ("POST", "/routes"),
    ("shadow", "start"): ("POST", "/shadows"),
    ("shadow", "promote"): ("POST", "/shadows/{}/promote"),
    ("audit", "export"): ("GET", "/audit/export"),
    ("user", "create"): ("POST", "/users"),
    ("user", "password"): ("PATCH", "/users/{}"),
    ("user", "role"): ("PATCH", "/users/{}"),
    ("user", "disable"): ("PATCH", "/users/{}"),
    ("user", "enable"): ("PATCH", "/users/{}"),
    ("claim", "create"): ("POST", "/claims"),
    ("device", "tag"): ("POST", "/tags"),
    ("device", "state"): ("GET", "/devices/{}/state"),
}
# Paths without a verb, by how they begin, and why.
WITHOUT = {
    "/device/v1/": "what devices ask",
    "/blobs/": "what devices ask",
    "/deltas/": "what devices ask",
    "/tuf/": "what devices ask",
    "/broker/v1/": "what brokers ask: `skerry fleet broker join`",
    "/openapi.json": "the API's description, for programs",
    "/healthz": "whether the process lives, for whoever restarts it",
    "/readyz": "`skerry fleet ready`",
    "/leases POST": "compilers lease boards: `skerry compile --on-device`",
    "/leases/{}/renew": "compilers lease boards",
    "/leases/{}/bundle": "compilers lease boards",
    "/devices/{} PATCH": "`device tag` and `group add | remove`, one change each",
}


def asked() -> set[tuple[str, str]]:
    found = set(SPECIAL.values())
    found |= {("GET", path) for path, _, _ in cli_verbs.LISTS.values()}
    found |= {(method, path) for method, path, _ in cli_verbs.CALLS.values()}
    return {(method, re.sub(r"\{\w+\}", "{}", path)) for method, path in found}


def test_every_operation_has_a_verb_or_a_reason(app: FastAPI) -> None:
    has, missing = asked(), []
    for path, methods in describe(app)["paths"].items():
        short = re.sub(r"\{\w+\}", "{}", path).removeprefix("/api/v1")
        orders = [short.replace("/rollouts/{}/{}", f"/rollouts/{{}}/{order}") for order in ("approve", "abort")]
        for method in methods:
            known = any((method.upper(), each) in has for each in (short, *orders))
            reason = any(f"{short} {method.upper()}".startswith(each) for each in WITHOUT)
            if not known and not reason:
                missing.append(f"{method.upper()} {path}")
    app.state.fleet.close()
    assert missing == []


def test_every_verb_is_one_of_the_command_line() -> None:
    assert set(cli_verbs._SPECIAL) <= set(SPECIAL), "say what a new verb asks"
    for noun, verb in {*cli_verbs.LISTS, *cli_verbs.CALLS, *cli_verbs._SPECIAL}:
        with pytest.raises(SystemExit) as ended:
            cli._parser().parse_args([word for word in (noun, verb, "--help") if word])
        assert ended.value.code == 0, (noun, verb)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["devic", "list"], "did you mean `device`?"),
        (["device", "lst"], "did you mean `list`?"),
        (["device", "list", "--grup", "x"], "did you mean `--group`?"),
        (["ready", "--root", "x"], "not here: others take `--root`"),
        (["claim", "create", "--expires-s", "5x"], "invalid float value"),
        (["device", "list", "--online", "tru"], "did you mean `true`?"),
    ],
)
def test_what_is_mistyped_is_told_with_what_may_be_meant(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert ended.value.code == 2 and said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "some"),
    [
        (["fleet", "rol"], {"rollout"}),
        (["fleet", "device", "l"], {"list"}),
        (["fleet", "device", "list", "--on"], {"--online"}),
        (["fleet", "rollout", "start", "--can"], {"--canary"}),
        (["fleet", "serve", "--po"], {"--port"}),
        (["fleet", "events", "--count", "1", "--ki"], {"--kind"}),
        (["compile", "rol"], set()),
    ],
)
def test_a_real_shell_completes_words(typed: list[str], some: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion"]) == 0
    words = " ".join(f"'{word}'" for word in ["skerry", *typed])
    ask = f"COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _skerry_fleet; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", capsys.readouterr().out + ask], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == some and done.stderr == ""


@pytest.mark.parametrize("words", [["--help"], ["fleet", "--help"], ["fleet", "rollout", "start", "--help"]])
def test_a_reader_that_has_seen_enough_is_no_error(words: list[str]) -> None:
    """As `skerry --help | head -1`: the pipe is closed before anything is written."""
    process = subprocess.Popen(
        [sys.executable, "-m", "skerry", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert said == "" and process.wait(60) in (0, 1)


def test_what_came_in_and_what_happens_is_told(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    app = create_app(FleetConfig(root=tmp_path / "fleet"), clock, random.Random(1).randbytes, with_broker=False)
    with serving(app) as url:

        def run(*words: str) -> str:
            assert cli.main([*words, "--root", str(tmp_path / "fleet"), "--url", url]) == 0, capsys.readouterr()
            return capsys.readouterr().out

        run("model", "register", "digits")
        bench = Bench(app.state.fleet, clock)
        bench.enrol("d0", "d1")
        bench.send("d0", "sample", b"no record")
        letters = json.loads(run("feed", "dead-letters", "--json"))
        assert letters[0]["payload"] == "no record" and "no record" in run("feed", "dead-letters")
        assert run("feed", "samples").split() == ["id", "device", "received"]
        assert json.loads(run("whoami", "--json"))["role"] == "admin"
        assert "skerry_devices" in run("metrics")
        run("model", "verdict", "digits", "--drifting", "true", "--record", '{"score": 0.9}')
        assert json.loads(run("model", "drift", "digits", "--json"))["monitors"][0]["drifting"] is True
        assert run("model", "drift", "digits").splitlines()[0].split()[:2] == ["monitor", "drifting"]
        assert run("model", "health", "digits").split()[0] == "hour"
        run("group", "create", "lab")
        run("group", "add", "lab", "d0", "d1")
        run("group", "remove", "lab", "d0", "d1")
        assert json.loads(run("group", "list", "--json"))[0]["devices"] == 0
        stop = threading.Event()

        def judge() -> None:
            number = 0
            while not stop.wait(0.05):  # until the other has begun to listen
                number += 1
                with app.state.fleet.database.write() as session:
                    feeds.put_drift(session, ACTOR, clock(), "digits", "data", number % 2 == 0, {"drifting": True})

        thread = threading.Thread(target=judge)
        thread.start()
        try:
            told = run("events", "--kind", "drift", "--count", "1", "--json")
        finally:
            stop.set()
            thread.join()
        assert json.loads(told)["kind"] == "drift"


def test_words_of_others_reach_no_terminal_as_they_are(
    tmp_path: Path, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Escape sequences move the cursor, change titles and worse; what a device or a person wrote is shown as text."""
    app = create_app(FleetConfig(root=tmp_path / "fleet"), clock, random.Random(1).randbytes, with_broker=False)
    with serving(app) as url:
        where = ["--root", str(tmp_path / "fleet"), "--url", url]
        evil = "\x1b]0;owned\x07\x1b[2J\u202e=cmd|' /C calc'!A0"
        assert cli.main(["model", "register", "digits", "--description", evil, *where]) == 0
        assert cli.main(["model", "list", *where]) == 0
        Bench(app.state.fleet, clock).enrol("d0")
        Bench(app.state.fleet, clock).send("d0", "sample", evil.encode())
        assert cli.main(["feed", "dead-letters", *where]) == 0
        assert cli.main(["device", "show", evil, *where]) == 1
        said = capsys.readouterr()
    assert "owned" in said.out and all(each.isprintable() or each == "\n" for each in said.out + said.err)
