"""A device that no network reaches: what waits there and what the fleet answers go by hand, and nothing is believed for
that.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import select
from tests.fleet.conftest import Bench, Clock, serving

from skerry_agent import cli as agent_cli
from skerry_agent.disk import RealDisk
from skerry_agent.ledger import Change, Row, SqliteLedger
from skerry_agent.outbox import Outbox
from skerry_agent.spool import Spool
from skerry_agent.this_device import lock
from skerry_contracts import codec
from skerry_contracts.assignment import Envelope
from skerry_contracts.carried import CARRIED_TYPE, Carried, CarriedMessage
from skerry_contracts.sample import Kept, Sample
from skerry_contracts.tensor import DType, Tensor
from skerry_fleet import cli as fleet_cli
from skerry_fleet.app import create_app
from skerry_fleet.config import FleetConfig
from skerry_fleet.records import DeadLetter, SampleRow
from skerry_fleet.tables import DeviceState

Run = Callable[..., int]
BOOT = "00000001-00000001"
COUNT = 12


class Site:
    """A fleet over HTTP without a broker, and devices that could not reach one."""

    def __init__(self, root: Path, bench: Bench, url: str) -> None:
        self.root, self.bench, self.url = root, bench, url

    def fleet(self, *words: str) -> int:
        key = str(self.root / "fleet" / "admin.key")
        return fleet_cli.main([*words, "--url", self.url, "--key", key])

    def agent(self, device: str, *words: str) -> int:
        return agent_cli.main([*words, "--root", str(self.root / device)])

    def enrol(self, device: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.fleet("claim", "create") == 0
        token = capsys.readouterr().out.splitlines()[-1]
        assert self.agent(device, "enroll", "--fleet", self.url, "--claim", token, "--device", device) == 0

    def spool(self, device: str, count: int = COUNT, size: int = 4) -> None:
        """Keep samples as the agent keeps them."""
        outbox = Outbox(BOOT)
        ledger = SqliteLedger(self.root / device / "state.db", RealDisk(self.root / device))
        spool = Spool(ledger, quota_bytes=1 << 30, in_flight=64, redeliver_s=30.0)
        spool.load(ledger.load().get("spool"))
        rows: list[Row] = []
        for _ in range(count):
            seq = outbox.next_seq()
            tensor = Tensor("x", DType.FP32, (size // 4,), data=bytes(size))
            fields = ("digits", "1", "b" * 64, "v", Kept.RANDOM, 1.0, (tensor,), (tensor,))
            row = outbox.sample(Sample(BOOT, seq, 0.0, f"{device}/{BOOT}/{seq}", *fields))
            assert row is not None
            rows.append(row)
        ledger.commit(spool.plan(rows).change({}))
        ledger.close()

    def waiting(self, device: str) -> int:
        ledger = SqliteLedger(self.root / device / "state.db", RealDisk(self.root / device))
        try:
            return ledger.size()[0]
        finally:
            ledger.close()

    def rows(self, table: type[Any]) -> list[Any]:
        with self.bench.fleet.database.read() as session:
            return list(session.exec(select(table)).all())


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Site]:
    clock = Clock()
    config = FleetConfig(root=tmp_path / "fleet", broker="embedded")
    app = create_app(config, clock, random.Random(1).randbytes, with_broker=False)
    app.state.fleet.broker = ("127.0.0.1", 1)
    with serving(app) as url:
        site = Site(tmp_path, Bench(app.state.fleet, clock), url)
        site.enrol("d1", capsys)
        yield site


def test_samples_go_out_by_file_and_are_forgotten_on_the_answer(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, answer = str(tmp_path / "out.jsonl"), str(tmp_path / "answer.jsonl")
    site.spool("d1", 60, size=20_000)  # more than one part
    assert site.agent("d1", "carry-out", out) == 0
    assert Path(out).stat().st_mode & 0o777 == 0o600 and len(Path(out).read_bytes().splitlines()) > 3
    assert site.waiting("d1") == 60, "handing out deletes nothing"
    before = site.rows(DeviceState)
    for _ in range(2):  # twice imported is once stored, and answered alike
        assert site.fleet("device", "carry-in", out, "-o", answer, "--json") == 0
        said = json.loads(capsys.readouterr().out.splitlines()[-1])
        assert said == {"device": "d1", "messages": 60, "refused": 0, "acknowledged": 60}
    assert sorted(row.seq for row in site.rows(SampleRow)) == list(range(1, 61))
    assert site.rows(DeviceState) == before, "a file is no sign that the device is there"
    assert site.agent("d1", "carry-in", answer) == 0
    assert "60 messages" in capsys.readouterr().out and site.waiting("d1") == 0
    assert site.agent("d1", "carry-in", answer) == 0  # again: nothing more to forget
    assert "0 messages" in capsys.readouterr().out
    Path(out).unlink()
    assert site.agent("d1", "carry-out", out) == 0
    assert not Path(out).exists() and "nothing waits" in capsys.readouterr().out


def test_what_was_made_after_the_file_stays(site: Site, tmp_path: Path) -> None:
    out, answer = str(tmp_path / "out.jsonl"), str(tmp_path / "answer.jsonl")
    site.spool("d1")
    assert site.agent("d1", "carry-out", out) == 0
    ledger = SqliteLedger(tmp_path / "d1" / "state.db", RealDisk(tmp_path / "d1"))
    ledger.commit(Change(add=[Row(BOOT, 99, "sample", 1, b"later")]))
    ledger.close()
    assert site.fleet("device", "carry-in", out, "-o", answer) == 0
    assert site.agent("d1", "carry-in", answer) == 0
    assert site.waiting("d1") == 1


def test_a_running_agent_hands_out_but_is_to_be_stopped_for_the_answer(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, answer = str(tmp_path / "out.jsonl"), str(tmp_path / "answer.jsonl")
    site.spool("d1")
    with lock_of(tmp_path / "d1"):
        assert site.agent("d1", "carry-out", out) == 0
        assert site.fleet("device", "carry-in", out, "-o", answer) == 0
        assert site.agent("d1", "carry-in", answer) == 1
    assert "stop it first" in capsys.readouterr().err and site.waiting("d1") == COUNT


def changed(line: bytes, **fields: Any) -> bytes:
    """Return an envelope with other words under the old signature."""
    envelope = json.loads(line)
    payload = json.loads(base64.b64decode(envelope["payload"]))
    envelope["payload"] = base64.b64encode(json.dumps({**payload, **fields}).encode()).decode()
    return json.dumps(envelope).encode() + b"\n"


BAD: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut in a line": lambda data: data[:-9],
    "cut between lines": lambda data: data[: data.index(b"\n") + 1],
    "first line lost": lambda data: data[data.index(b"\n") + 1 :],
    "another device's name": lambda data: changed(data.splitlines()[0], device="d2", last=True),
    "another tenant's name": lambda data: changed(data.splitlines()[0], tenant="other", last=True),
    "other words": lambda data: changed(data.splitlines()[0], last=True),
    "no signature": lambda data: codec.encode(Envelope(CARRIED_TYPE, unsigned(), ())) + b"\n",
    "a presence": lambda data: changed(data.splitlines()[0], messages=[{"channel": "presence", "payload": ""}]),
    "a bundle": lambda data: b"PK\3\4" + bytes(500),
    "no end of line": lambda data: b"{" + b" " * (2 << 20),
}


def unsigned() -> bytes:
    return codec.encode(Carried("default", "d1", 0, True, (CarriedMessage("sample", b"{}"),)))


def lock_of(root: Path) -> Any:
    return open(lock(root), "rb")  # noqa: PTH123 - the descriptor that holds the lock


def test_a_bad_file_is_refused_by_the_fleet_in_one_line(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, answer = tmp_path / "out.jsonl", tmp_path / "answer.jsonl"
    site.enrol("d2", capsys)
    site.spool("d1", 30, size=20_000)
    assert site.agent("d1", "carry-out", str(out)) == 0
    good = out.read_bytes()
    for kind, spoil in BAD.items():
        out.write_bytes(spoil(good))
        capsys.readouterr()
        assert site.fleet("device", "carry-in", str(out), "-o", str(answer)) == 1, kind
        errors = capsys.readouterr().err
        assert errors.startswith("skerry: error: ") and errors.count("\n") == 1, (kind, errors)
        assert not answer.exists() and site.rows(SampleRow) == [] == site.rows(DeadLetter), kind


ANSWERS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "cut in a line": lambda answer, out: answer[:-9],
    "what was handed out itself": lambda answer, out: out,
    "more numbers": lambda answer, out: changed(answer, received=[{"boot_id": BOOT, "seqs": list(range(1, 99))}]),
    "an acknowledgement of the link": lambda answer, out: (
        b'{"received":[{"boot_id":"' + BOOT.encode() + b'","seqs":[1]}]}\n'
    ),
    "signed by the device": lambda answer, out: changed(out.replace(b"carried.v1", b"carried-ack.v1"), received=[]),
}


def test_a_bad_answer_deletes_nothing(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, answer = tmp_path / "out.jsonl", tmp_path / "answer.jsonl"
    site.spool("d1")
    assert site.agent("d1", "carry-out", str(out)) == 0
    assert site.fleet("device", "carry-in", str(out), "-o", str(answer)) == 0
    good = answer.read_bytes()
    for kind, spoil in ANSWERS.items():
        answer.write_bytes(spoil(good, out.read_bytes()))
        capsys.readouterr()
        assert site.agent("d1", "carry-in", str(answer)) == 1, kind
        errors = capsys.readouterr().err
        assert errors.startswith("skerry: error: ") and errors.count("\n") == 1, (kind, errors)
        assert errors.endswith(")\n") and site.waiting("d1") == COUNT, (kind, errors)


def test_an_answer_is_for_one_device_of_one_fleet(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, answer = str(tmp_path / "out.jsonl"), str(tmp_path / "answer.jsonl")
    site.enrol("d2", capsys)
    for device in ("d1", "d2"):
        site.spool(device)
    assert site.agent("d1", "carry-out", out) == 0
    assert site.fleet("device", "carry-in", out, "-o", answer) == 0
    capsys.readouterr()
    assert site.agent("d2", "carry-in", answer) == 1
    assert "default/d1" in capsys.readouterr().err and site.waiting("d2") == COUNT


def test_a_decommissioned_device_is_not_acknowledged(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, answer = tmp_path / "out.jsonl", tmp_path / "answer.jsonl"
    site.spool("d1")
    assert site.agent("d1", "carry-out", str(out)) == 0
    assert site.fleet("device", "remove", "d1") == 0
    assert site.fleet("device", "carry-in", str(out), "-o", str(answer)) == 1
    assert "no device" in capsys.readouterr().err and not answer.exists() and site.rows(SampleRow) == []
