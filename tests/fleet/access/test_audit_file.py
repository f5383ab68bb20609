"""The exported audit: whatever is done to the file is named with its line, by us and by a program of a few lines."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fleet.conftest import ACTOR, Clock, admin

from skerry_fleet import audit, audit_file
from skerry_fleet.app import create_app
from skerry_fleet.cli import main
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import InputError

RECORDS = 9


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FastAPI, httpx.Client]]:
    import random

    app = create_app(
        FleetConfig(tmp_path_factory.mktemp("audit")), Clock(), random.Random(1).randbytes, with_broker=False
    )
    with admin(app) as client:
        for number in range(RECORDS - 1):  # the first key is a record, too
            client.post("/api/v1/groups", json={"name": f"g{number}", "description": 'naïve "quotes" \\ \u2028'})
        yield app, client


@pytest.fixture(scope="module")
def exported(house: tuple[FastAPI, httpx.Client]) -> list[bytes]:
    answer = house[1].get("/api/v1/audit/export")
    assert answer.headers["content-type"] == audit_file.MEDIA
    return answer.content.splitlines(keepends=True)


def look(tmp_path: Path, lines: list[bytes], head: str = "") -> audit_file.Found:
    (tmp_path / "audit.jsonl").write_bytes(b"".join(lines))
    return audit_file.verify([tmp_path / "audit.jsonl"], head)


def test_the_file_is_the_chain_and_a_stranger_can_check_it(
    house: tuple[FastAPI, httpx.Client], exported: list[bytes], tmp_path: Path
) -> None:
    walked = house[1].get("/api/v1/audit/verify").json()
    found = look(tmp_path, exported)
    assert (found.broken_at, found.records, found.head) == (None, RECORDS, walked["head"])
    last = "0" * 64
    for line in exported[1:-1]:  # as the docs say how, with the standard library alone
        record = json.loads(line)
        texts = ("previous_hash", "tenant", "actor", "action", "object", "before", "after", "request")
        covered = [[record["seq"], record["time_ms"]], [record[name] for name in texts]]
        canonical = json.dumps(covered, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert record["previous_hash"] == last and record["hash"] == hashlib.sha256(canonical).hexdigest()
        last = record["hash"]
    assert last == walked["head"] and json.loads(exported[-1]) == {"records": RECORDS, "head": last}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_done_to_a_file_is_found_at_its_line(
    exported: list[bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    lines = list(exported)
    at = data.draw(st.integers(1, RECORDS))
    deed = data.draw(st.sampled_from(["alter", "remove", "repeat", "swap", "cut", "insert", "append"]))
    broken = at + 1
    if deed == "alter":
        place = data.draw(st.integers(0, len(lines[at]) - 2))
        other = data.draw(st.integers(0, 255).filter(lambda byte: byte != lines[at][place]))
        lines[at] = lines[at][:place] + bytes([other]) + lines[at][place + 1 :]
    elif deed == "remove":
        del lines[at]
    elif deed == "repeat":
        lines.insert(at, lines[at])
        broken += 1
    elif deed == "swap":
        to = data.draw(st.integers(1, RECORDS).filter(lambda other: other != at))
        lines[at], lines[to] = lines[to], lines[at]
        broken = min(at, to) + 1
    elif deed == "cut":
        lines = [*lines[:at], lines[at][: data.draw(st.integers(0, len(lines[at]) - 1))]]
    elif deed == "insert":
        lines.insert(at, data.draw(st.sampled_from([b"{}\n", b"\n", b"null\n", b'{"a":1,"a":2}\n'])))
    else:
        lines.append(lines[at])
        broken = len(lines)
    found = look(folder, lines)
    assert found.broken_at == f"audit.jsonl:{broken}", (deed, found)


def test_the_first_and_the_last_line_are_part_of_it(exported: list[bytes], tmp_path: Path) -> None:
    first, last = json.loads(exported[0]), json.loads(exported[-1])
    for change in ({"after": 3}, {"previous_hash": "1" * 64}, {"tenant": "rival"}, {"more": 1}):
        altered = [json.dumps({**first, **change}).encode() + b"\n", *exported[1:]]
        assert look(tmp_path, altered).broken_at is not None, change
    for change in ({"records": 3}, {"head": "1" * 64}):
        altered = [*exported[:-1], json.dumps({**last, **change}).encode() + b"\n"]
        assert look(tmp_path, altered).broken_at == f"audit.jsonl:{RECORDS + 2}", change
    assert look(tmp_path, exported[:-1]).problem == "the file is cut off: its last line is missing"
    with pytest.raises(InputError, match="no exported audit"):
        look(tmp_path, [])
    with pytest.raises(InputError, match="cannot read"):
        audit_file.verify([tmp_path / "none"])


def test_a_shorter_or_a_new_chain_is_seen_by_a_head_that_was_noted(exported: list[bytes], tmp_path: Path) -> None:
    noted = json.loads(exported[-1])["head"]
    earlier = json.loads(exported[4])["hash"]
    shorter = [*exported[:5], json.dumps({"records": 4, "head": earlier}).encode() + b"\n"]
    assert look(tmp_path, shorter).broken_at is None, "well made: only what was noted elsewhere tells"
    assert look(tmp_path, shorter, noted).problem.startswith("the noted head")
    assert look(tmp_path, exported, earlier).broken_at is None
    assert look(tmp_path, exported, noted).broken_at is None


def test_exports_that_follow_one_another(
    house: tuple[FastAPI, httpx.Client], exported: list[bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app, client = house
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_bytes(
        b"".join([*exported[:4], b'{"records":3,"head":"%s"}\n' % json.loads(exported[3])["hash"].encode()])
    )
    flags = ["--url", str(client.base_url), "--root", str(app.state.fleet.config.root)]
    assert main(["audit", "export", "-o", str(two), "--after", "3", *flags]) == 0
    assert json.loads(exported[-1])["head"] in capsys.readouterr().out, "to be kept elsewhere"
    assert main(["audit", "export", "-o", str(two), *flags]) == 1 and "already" in capsys.readouterr().err
    gone = ["--url", "http://127.0.0.1:9", "--root", str(tmp_path)]  # verifying asks no fleet and needs no key
    assert main(["audit", "verify", str(one), str(two), *gone]) == 0
    assert f"records          {RECORDS}" in capsys.readouterr().out
    assert main(["audit", "verify", str(two), str(one), *gone]) == 1
    assert "one.jsonl:1: does not go on" in capsys.readouterr().err
    assert main(["audit", "verify", str(two), "--json", *gone]) == 0
    assert json.loads(capsys.readouterr().out)["after"] == 3
    assert main(["audit", "verify", "--head", "0" * 64, *gone]) == 1 and "in files" in capsys.readouterr().err
    assert main(["audit", "export", "-o", str(tmp_path / "x"), "--after", "99", *flags]) == 1
    assert "no record 99" in capsys.readouterr().err and not (tmp_path / "x").exists()


def test_a_chain_longer_than_a_page_is_whole(house: tuple[FastAPI, httpx.Client], tmp_path: Path) -> None:
    fleet = house[0].state.fleet
    with fleet.database.write() as session:
        changes: list[audit.Change] = [(f"device/d{number}", None, {"n": number}) for number in range(4100)]
        audit.write_all(session, ACTOR, 1.5, "assignment.issue", changes)
    found = look(tmp_path, list(audit_file.lines(fleet.database, "default")))
    assert found.broken_at is None and found.records == RECORDS + 4100
