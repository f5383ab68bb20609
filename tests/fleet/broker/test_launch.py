"""Starting, stopping, killing, and shutting the door to one device."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from tests.fleet.broker.conftest import KINDS, Room, eventually, refused

from skerry_fleet.broker.errors import ConfigurationError, PortTakenError, StartError
from skerry_fleet.broker.launch import BrokerProcess, BrokerSettings
from skerry_fleet.mqtt import packets
from skerry_fleet.mqtt.packets import Will
from skerry_fleet.trust.authority import Authority, serial_of
from skerry_fleet.trust.keys import KeyStore


def test_kill_and_restart(own_broker: Room) -> None:
    """kill -9, start again on the same port: clients connect again, and what the broker had put down is there."""
    fleet = own_broker.fleet()
    fleet.publish("skerry/1/default/a/down/assignment", b"kept", retain=True)
    pid = own_broker.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert fleet.ended()
    eventually(lambda: not own_broker.process.alive(), "the process is seen to be gone")
    port = own_broker.port
    own_broker.process.start()
    assert own_broker.port == port and own_broker.process.pid != pid
    if not own_broker.process.keeps_retained_through_kill:
        own_broker.fleet().publish("skerry/1/default/a/down/assignment", b"kept", retain=True)
    device = own_broker.device("default/a")
    device.send(packets.Subscribe(9, (("skerry/1/default/a/down/#", 1),)))
    assert device.read() == packets.Suback(9, (1,))
    kept = device.read()
    assert isinstance(kept, packets.Publish) and kept.payload == b"kept" and kept.retain


def test_an_orderly_restart_keeps_what_is_retained(own_broker: Room) -> None:
    fleet = own_broker.fleet()
    fleet.publish("skerry/1/default/a/down/assignment", b"kept", retain=True)
    fleet.publish("skerry/1/default/b/down/assignment", b"cleared", retain=True)
    fleet.publish("skerry/1/default/b/down/assignment", b"", retain=True)
    own_broker.process.restart()
    fleet = own_broker.fleet()
    assert fleet.subscribe("skerry/1/+/+/down/#", "skerry/1/end") == (1, 1)
    fleet.publish("skerry/1/end")
    assert [each.payload for each in fleet.messages("skerry/1/end")] == [b"kept"]


def test_a_revoked_device_is_out_and_stays_out(own_broker: Room) -> None:
    certificate = own_broker.certificate("default/thief")
    other = own_broker.device("default/honest")
    fleet = own_broker.fleet()
    fleet.subscribe("skerry/1/+/+/up/presence")
    will = Will("skerry/1/default/thief/up/presence", b"gone", 1)
    thief = own_broker.wire(certificate).hello(will=will)
    serial = serial_of(certificate.certificate.read_text())
    own_broker.process.revoke([serial], ["default/thief"])
    assert thief.ended()
    heard = fleet.read()
    assert isinstance(heard, packets.Publish) and heard.payload == b"gone"
    assert refused(own_broker, certificate)
    other.send(packets.Pingreq())
    assert other.read() == packets.Pingresp()
    own_broker.process.restart()
    assert refused(own_broker, certificate)
    own_broker.device("default/thief")  # with a new certificate, once someone has given it one
    own_broker.process.revoke([], [])
    eventually(lambda: not refused(own_broker, certificate), "let in again")


@pytest.mark.parametrize("kind", KINDS)
def test_a_taken_port_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    office = Authority.create(tmp_path, KeyStore(tmp_path / "keys"), time.time())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = BrokerProcess(BrokerSettings(tmp_path / "broker", port=port, kind=kind), office)
        with pytest.raises(PortTakenError) as refusal:
            process.start()
    assert str(port) in str(refusal.value) and "--broker-port" in refusal.value.hint
    assert "\n" not in str(refusal.value) and not process.alive()
    process.stop()


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    office = Authority.create(tmp_path, KeyStore(tmp_path / "keys"), time.time())
    process = BrokerProcess(BrokerSettings(tmp_path / "broker", port=0, kind="embedded"), office)
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker/retained.journal").mkdir()
    with pytest.raises(StartError, match="ended at once") as refusal:
        process.start()
    assert "broker.log" in refusal.value.hint


def test_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    office = Authority.create(tmp_path, KeyStore(tmp_path / "keys"), time.time())
    with pytest.raises(ConfigurationError, match="no kind"):
        BrokerProcess(BrokerSettings(tmp_path, port=0, kind="rabbit"), office)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    assert BrokerProcess(BrokerSettings(tmp_path, port=0), office).kind == "embedded"
    with pytest.raises(ConfigurationError, match="not installed"):
        BrokerProcess(BrokerSettings(tmp_path, port=0, kind="mosquitto"), office)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: "/usr/sbin/mosquitto")
    assert BrokerProcess(BrokerSettings(tmp_path, port=0), office).kind == "mosquitto"


def test_starting_and_stopping_twice(own_broker: Room) -> None:
    pid = own_broker.process.pid
    own_broker.process.start()
    assert own_broker.process.pid == pid
    own_broker.process.stop()
    own_broker.process.stop()
    assert not own_broker.process.alive() and own_broker.process.pid is None
    own_broker.process.start()


def test_nothing_readable_by_others(own_broker: Room) -> None:
    secret = [path for path in (own_broker.folder / "broker").iterdir() if path.suffix in (".key", ".json", ".journal")]
    assert len(secret) >= 3
    assert all(path.stat().st_mode & 0o077 == 0 for path in secret)


PARENT = """
import sys, time
from pathlib import Path
from skerry_fleet.broker.launch import BrokerProcess, BrokerSettings
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.keys import KeyStore
folder = Path(sys.argv[1])
office = Authority.create(folder, KeyStore(folder / "keys"), time.time())
process = BrokerProcess(BrokerSettings(folder / "broker", port=0, kind=sys.argv[2]), office)
process.start()
print(process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_it_dies_with_its_parent(tmp_path: Path, kind: str) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), kind], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the broker has gone too")
