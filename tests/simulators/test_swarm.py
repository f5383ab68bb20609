"""The swarm: its codec against paho's, its messages against the contracts, and a few dozen devices on a real fleet."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import sqlite3
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from tests.fleet.postgres import Server
from tests.fleet.postgres import postgres as postgres

from skerry_contracts import codec
from skerry_contracts.device import Heartbeat, Phase, Presence, Progress, Reason
from skerry_contracts.sample import Sample
from skerry_simulators.cli import main
from skerry_simulators.swarm import exposing, wire, words
from skerry_simulators.swarm import scenarios as swarm_scenarios
from skerry_simulators.swarm.scenarios import Wish
from skerry_simulators.swarm.words import Behaviour

BOOT = b"00000001-0000abcd"
TOPIC = "skerry/1/default/swarm-000001/up/sample"
KNOWN = Behaviour("1.0.0", "a" * 64)
needs_mosquitto = pytest.mark.skipif(
    shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None, reason="mosquitto is not installed"
)


class _Paho(paho.Client):
    """paho's client with a socket that goes nowhere: what it would send is kept."""

    def __init__(self) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, client_id="swarm-000001", protocol=paho.MQTTv311)
        self._sock = socket.socket()
        self.written = bytearray()

    def _packet_queue(self, command: int, packet: bytes | bytearray, mid: int, qos: int, info: Any = None) -> Any:
        self.written += packet
        return paho.MQTT_ERR_SUCCESS


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=3000), st.integers(0, 65535))
def test_a_message_is_written_as_paho_writes_it(payload: bytes, packet_id: int) -> None:
    client = _Paho()
    client._send_publish(packet_id, TOPIC.encode(), payload, 1 if packet_id else 0)
    assert wire.publish(TOPIC.encode(), payload, packet_id) == bytes(client.written)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 65535), st.binary(max_size=200))
def test_hello_and_subscription_are_written_as_paho_writes_them(keepalive_s: int, will: bytes) -> None:
    client = _Paho()
    client.will_set(TOPIC, will, 1)
    client.username_pw_set("000001")
    client._send_connect(keepalive_s)
    assert wire.hello("swarm-000001", "000001", keepalive_s, TOPIC, will) == bytes(client.written)
    client.written.clear()
    client._send_subscribe(False, [(b"skerry/1/default/swarm-000001/down/#", 1)])
    assert wire.listen("skerry/1/default/swarm-000001/down/#") == bytes(client.written)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.binary(max_size=400), st.integers(0, 65535)), max_size=8), st.data())
def test_a_stream_is_read_as_it_was_written_however_it_is_cut(
    said: list[tuple[bytes, int]], data: st.DataObject
) -> None:
    stream = b"".join(wire.publish(TOPIC.encode(), payload, number) for payload, number in said)
    heard, rest, at = [], b"", 0
    while at < len(stream):
        step = data.draw(st.integers(1, 300))
        found, rest = wire.split(rest + stream[at : at + step])
        heard += [wire.message(first, body) for first, body in found]
        at += step
    assert rest == b""
    assert heard == [(TOPIC.encode(), number.to_bytes(2, "big") if number else b"", text) for text, number in said]


def test_an_endless_length_is_no_packet() -> None:
    with pytest.raises(ValueError, match="four bytes"):
        wire.split(b"\x30\xff\xff\xff\xff\xff\xff")


@pytest.mark.parametrize("drifting", [False, True])
def test_messages_are_the_contracts_records(drifting: bool) -> None:
    told = {
        Presence: words.presence(True)(BOOT, 3),
        Heartbeat: words.heartbeat(KNOWN, drifting)(BOOT, 7, 1_795_716_012.5, 33.0, 4),
        Progress: words.progress(KNOWN, Phase.COMMITTED)(BOOT, 8, 1_795_716_012.0, 4, b"r1-abc"),
        Sample: words.sample(KNOWN)(BOOT, 9, 1_795_716_012.0, b"swarm-000001"),
    }
    for kind, text in told.items():
        record: Any = codec.decode(kind, text)
        assert codec.encode(record) == text
    beat = codec.decode(Heartbeat, told[Heartbeat])
    assert (beat.seq, beat.sequence, bool(beat.drift)) == (7, 4, drifting)
    assert codec.decode(Sample, told[Sample]).prediction == "swarm-000001/00000001-0000abcd/9"


def test_an_update_that_fails_says_why_at_its_end_only() -> None:
    bad = Behaviour("2.0.0", "b" * 64, ends=Phase.ROLLED_BACK, reason=Reason.GOLDEN)
    steps = words.steps(bad, "all")
    made = [codec.decode(Progress, words.progress(bad, step)(BOOT, 1, 1.0, 1, b"r1-abc")) for step in steps]
    assert [each.reason for each in made] == [Reason.OK] * 4 + [Reason.GOLDEN]
    assert words.steps(bad, "last") == (Phase.ROLLED_BACK,)


@needs_mosquitto
def test_dozens_of_devices_through_faults_and_releases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "run"
    scenarios = ["drop", "kill", "drift", "rollout", "bad-model"]
    arguments = [
        "--devices",
        "40",
        "--shards",
        "2",
        "--processes",
        "2",
        "--seconds",
        "2",
        "--rate",
        "100",
        "--limit",
        "40",
    ]
    assert main(["swarm", "--json", "--root", str(root), *arguments, "--scenario", *scenarios]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["connect"]["connections"] == 40
    assert found["drop"]["dropped"] == 20
    assert (found["kill"]["lost"], found["kill"]["kills"]) == (0, 2)
    assert found["drift"]["alerts"] == 1
    assert (found["rollout"]["confirmed"], found["rollout"]["complete"]) == (40, True)
    assert found["bad-model"]["rolled_back"]
    with contextlib.closing(sqlite3.connect(root / "fleet" / "fleet.db")) as base:
        assert base.execute("SELECT count(*) FROM dead_letter").fetchone() == (0,)
        assert {shard for (shard,) in base.execute("SELECT shard FROM device_shard")} == {0, 1}


@needs_mosquitto
def test_devices_with_certificates_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--devices", "12", "--shards", "2", "--tls", "--seconds", "1", "--rate", "20"]
    assert main(["swarm", "--json", "--root", str(tmp_path / "run"), *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["connect"]["connections"], found["steady"]["lost"]) == (12, 0)


@pytest.mark.parametrize(
    "wrong", [["--devices", "0"], ["--seconds", "0"], ["--seconds", "nan"], ["--scenario", "war"], ["--rate", "-1"]]
)
def test_wrong_words_are_refused(wrong: list[str]) -> None:
    assert main(["swarm", *wrong]) == 2


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("kept")
    assert main(["swarm", "--root", str(tmp_path)]) == 1
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.slow
@needs_mosquitto
def test_no_bad_model_is_ever_on_more_devices_than_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposing, "SILENT_S", 3.0)
    wish = Wish(40, shards=1, processes=1, limit_s=120)
    with swarm_scenarios.stage(tmp_path, wish, lambda _: None, silent_after_s=3600) as on:
        swarm_scenarios.connect(on)
        exposing.prepare(on)
        for seed, kind in enumerate(exposing.KINDS):
            found = exposing.expose(on, seed)
            assert found.kind == kind and found.rolled_back and 1 <= found.exposed <= exposing.BUDGET
            assert len(on.team.look()["bundles"]) == 1, "all are back on the good one"
            assert found.rollback_s >= (3.0 if kind == "silences" else 0.0), "silence is seen by its length alone"


@pytest.mark.postgres
@needs_mosquitto
def test_on_postgresql_nothing_is_lost_through_kills_either(postgres: Server, tmp_path: Path) -> None:
    wish = Wish(30, shards=2, processes=1, seconds=2, rate=100, limit_s=120, database_url=postgres.url())
    with swarm_scenarios.stage(tmp_path, wish, lambda _: None, silent_after_s=3600) as on:
        swarm_scenarios.connect(on)
        found = swarm_scenarios.kill(on)
        assert (found["samples"], found["lost"], found["kills"]) == (200, 0, 2)
        assert on.ground.count("SELECT count(*) FROM device_state WHERE name LIKE 'swarm-%'") == 30
        assert not (on.ground.root / "fleet.db").exists()
