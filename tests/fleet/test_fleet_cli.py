"""The command line: a real server process, and every verb against it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.fleet.conftest import enrolment_body, make_bundle, new_key

from skerry_fleet import cli
from skerry_fleet.cli_verbs import CALLS, LISTS


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "skerry", "fleet", *words]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli") / "fleet"


@pytest.fixture(scope="module")
def url(root: Path) -> Iterator[str]:
    """A fleet as people start it."""
    log = root.parent / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command("serve", "--root", str(root), "--port", "0", "--broker", "embedded"),
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
        assert process.stdout is not None
        found = process.stdout.readline().split()
        assert found[:1] == ["fleet"], log.read_text()
        rest = [process.stdout.readline() for _ in range(3)]
        assert rest[0].startswith("broker") and "(embedded)" in rest[0] and "sk1_" in rest[1]
        while True:
            try:
                if httpx.get(f"{found[1]}/readyz", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                assert process.poll() is None, log.read_text()
            time.sleep(0.05)
        yield found[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text(), log.read_text()
        process.stdout.close()


@pytest.fixture
def run(root: Path, url: str, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Return a function that runs a command and returns exit code, output and error output."""

    def do(*words: str) -> tuple[int, str, str]:
        code = cli.main([*words, "--root", str(root), "--url", url])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return do


def test_claims_for_named_devices_tags_queries_and_the_end(run, url: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    names = tmp_path / "names"
    names.write_text("# two cameras\ncam-1\ncam-2   # the second\n\n")
    code, token, _ = run("claim", "create", "--devices", str(names), "--tags", "site=hall 7")
    assert code == 0
    for device, status in (("cam-1", 200), ("cam-2", 200), ("cam-3", 409)):
        body = enrolment_body(token.strip(), device, new_key())
        assert httpx.post(f"{url}/device/v1/enrol", json=body, trust_env=False).status_code == status
    for words, said in (
        (["claim", "create", "--devices", str(tmp_path / "none")], "No such file"),
        (["claim", "create", "--tags", "site"], "'site' is no tag"),
        (["device", "tag", "cam-1"], "no tag"),
        (["device", "tag", "cam-1", "a=1", "a=2"], "named twice"),
        (["device", "tag", "site=lab"], "say which devices"),
        (["device", "list", "--query", "tag.site=lab"], "query, column 9: an operator is missing"),
        (["device", "delete", "cam-1"], "decommission it first"),
    ):
        code, out, err = run(*words)
        assert (code, out, said in err, err.count("\n")) == (1, "", True, 1), err
    _, out, _ = run("device", "tag", "--query", "tag.site=='hall 7'", "ring=1", "old-", "--dry-run")
    assert out == "2 of 2 devices would change, such as cam-1 cam-2\n"
    assert run("device", "tag", "cam-1", "ring=1")[1] == "1 of 1 devices changed, such as cam-1\n"
    assert run("group", "create", "first", "--query", "tag.ring==1")[0] == 0
    _, out, _ = run("device", "list", "--query", "group!=x;tag.ring==1", "--json")
    assert [each["device"] for each in json.loads(out)] == ["cam-1"]
    assert "tag.ring==1" in run("group", "show", "first")[1]
    assert run("group", "edit", "first", "--query", "name==cam-*")[0] == 0
    assert [row["key"] for row in json.loads(run("tag", "list", "--json")[1])] == ["ring", "site"]
    assert run("device", "revoke", "cam-2")[0] == 0 and run("device", "decommission", "cam-2")[0] == 0
    assert [row["device"] for row in json.loads(run("device", "gone", "--json")[1])] == ["cam-2"]
    deadline_s = time.monotonic() + 60
    while run("device", "delete", "cam-2")[0]:  # the broker clears its assignment first
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert json.loads(run("device", "gone", "--json")[1]) == []
    assert run("device", "decommission", "cam-1")[0] == 0


def test_the_way_from_nothing_to_a_rollout(run, url: str, root: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert (root / "admin.key").stat().st_mode & 0o777 == 0o600
    assert run("group", "create", "lab")[0] == 0
    code, token, _ = run("claim", "create", "--uses", "2", "--group", "lab")
    assert code == 0 and token.startswith("skerry1.") and token.count("\n") == 1
    for device in ("d0", "d1"):
        answer = httpx.post(
            f"{url}/device/v1/enrol", json=enrolment_body(token.strip(), device, new_key()), trust_env=False
        )
        assert answer.status_code == 200
    code, listed, _ = run("device", "list", "--group", "lab", "--json")
    assert [each["device"] for each in json.loads(listed)] == ["d0", "d1"]
    code, table, _ = run("device", "list")
    assert table.splitlines()[0].split() == ["device", "online", "profile", "groups", "models"]
    assert run("model", "register", "digits", "--description", "figures")[0] == 0
    file = tmp_path / "b.skerry"
    file.write_bytes(make_bundle())
    code, made, _ = run("bundle", "upload", str(file), "--json")
    bundle = json.loads(made)["id"]
    assert code == 0 and json.loads(made)["state"] == "published"
    words = ("--waves", "50,100", "--window", "02:00/120", "--sampling", '{"random_share": 0.5}', "--approval")
    start = ("rollout", "start", "--model", "digits", "--bundle", bundle[:10])
    code, told, _ = run(*start, "--waves", "50,100", "--dry-run")
    assert code == 0 and told.startswith("2 devices get") and "within reach now" in told
    assert json.loads(run("rollout", "list", "--json")[1]) == []
    code, made, _ = run(*start, *words, "--json")
    rollout = json.loads(made)
    assert rollout["status"] == "awaiting-approval" and rollout["options"]["window"]["start_minute"] == 120
    code, _, refused = run("rollout", "approve", rollout["id"])
    assert code == 1 and "ask another person" in refused
    second = json.loads(run("key", "create", "second", "--role", "operator", "--json")[1])["key"]
    code, made, _ = run("rollout", "approve", rollout["id"], "--json", "--key", second)
    assert (code, json.loads(made)["status"]) == (0, "running")
    for verb, status in (("pause", "paused"), ("resume", "running"), ("abort", "aborted")):
        code, made, _ = run("rollout", verb, rollout["id"], "--json")
        assert (code, json.loads(made)["status"]) == (0, status)
    assert run("rollout", "wait", rollout["id"])[0] == 1
    code, told, _ = run("rollout", "evidence", rollout["id"])
    assert code == 0 and "evidence for harm 1 (20 takes it back, alpha 0.05)" in told and "error_rate" in told
    assert json.loads(run("rollout", "evidence", rollout["id"], "--json")[1])["items"] == []
    assert run("device", "remove", "d1")[0] == 0
    code, verified, _ = run("audit", "verify")
    assert code == 0 and "records" in verified


def test_every_list_and_call_is_a_command(run) -> None:  # type: ignore[no-untyped-def]
    """The tables of verbs and the parser know the same words."""
    values = {"device": "d0", "model": "digits", "rollout": "none", "shadow": "none"}
    for (noun, verb), (path, _, columns) in LISTS.items():
        words = [values[word] for word in values if f"{{{word}}}" in path]
        words = ["--model", "digits"] if (noun, verb) == ("bundle", "list") else words
        code, out, err = run(noun, verb, *words)
        assert (
            (code == 0 and len(out.splitlines()[0].split()) == len(columns))
            or "no rollout" in err
            or "no shadow" in err
        ), (
            noun,
            verb,
            err,
        )
    parser = cli._parser()
    for noun, verb in CALLS:
        with pytest.raises(SystemExit) as ended:
            parser.parse_args([word for word in (noun, verb, "--help") if word])
        assert ended.value.code == 0


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("device", "show", "none"), 1, "no device 'none' (`skerry fleet device list`"),
        (("device", "show", "../../x"), 1, "Not Found"),
        (("bundle", "upload", "/no/such/file"), 1, "cannot read /no/such/file"),
        (
            ("rollout", "start", "--model", "digits", "--bundle", "x", "--waves", "a"),
            1,
            "--waves: 'a' is not a whole number",
        ),
        (("rollout", "start", "--model", "digits", "--bundle", "x", "--sampling", "{"), 1, "not JSON"),
        (("rollout", "start", "--model", "digits", "--bundle", "x", "--canary", "0"), 1, "canary: at least 1 device"),
        (("alert", "ack", "7"), 1, "no alert 7"),
        (("key", "create", "x" * 101), 1, "1 to 100 printable characters"),
    ],
)
def test_refusals_are_one_line(run, words: tuple[str, ...], code: int, text: str) -> None:  # type: ignore[no-untyped-def]
    found, out, err = run(*words)
    assert (found, out) == (code, "") and err.startswith("skerry: error: ") and text in err and err.count("\n") == 1


def test_no_fleet_no_key_wrong_usage(root: Path, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    for words, text in (
        (["--url", f"http://127.0.0.1:{port}", "--root", str(root)], "is `skerry fleet serve` running"),
        (["--url", url, "--root", str(tmp_path)], "no API key: cannot read"),
        (["--url", url, "--key", "sk1_0_0"], "unknown or revoked"),
        (["--url", "gopher://x", "--root", str(root)], "no fleet at"),
    ):
        assert cli.main(["device", "list", *words]) == 1
        assert text in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        cli.main(["device", "explode"])
    assert ended.value.code == 2


def test_a_server_that_cannot_start_says_why_in_one_line(root: Path, url: str, tmp_path: Path) -> None:
    port = url.rsplit(":", 1)[1]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    for words, text in (
        (("--root", str(tmp_path / "a"), "--port", port), f"cannot listen on 127.0.0.1:{port}"),
        (("--root", str(root), "--port", "0"), "another fleet manager works in"),
        (
            ("--root", str(tmp_path / "b"), "--port", "0", "--broker-port", port, "--broker", "embedded"),
            "broker cannot listen",
        ),
        (("--root", str(tmp_path / "c"), "--port", "70000"), "a port is a number"),
    ):
        ended = subprocess.run(command("serve", *words), capture_output=True, text=True, env=environment, timeout=120)
        assert ended.returncode == 1 and ended.stdout == "", ended
        assert ended.stderr.startswith("skerry: error: ") and text in ended.stderr and ended.stderr.count("\n") == 1
