"""The check of brokers: it finds nothing wrong with ours, and each thing that is wrong with a careless one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fleet.broker.conftest import HAS_MOSQUITTO, Room, eventually, open_room

from skerry_fleet import cli
from skerry_fleet.broker import profile
from skerry_fleet.broker.hello import say_hello
from skerry_fleet.broker.launch import PROBE, program
from skerry_fleet.broker.profile_wire import examined
from skerry_fleet.fleet import lock_folder
from skerry_fleet.mqtt.errors import MqttError
from skerry_fleet.trust import credentials
from skerry_fleet.trust.office import open_office

WAIT_S = 2.0
"""How long a broker may take to answer. Only where one is to be found wrong is it waited for in vain."""


def test_nothing_is_wrong_with_our_brokers(own_broker: Room) -> None:
    found = list(profile.check("127.0.0.1", own_broker.port, own_broker.authority, "default", time.time(), 20.0))
    assert [each for each in found if not each.holds] == []
    assert [each.demand for each in found] == list(profile.DEMANDS)


def test_where_nobody_is_one_line_says_so(own_broker: Room) -> None:
    own_broker.process.stop()
    (found,) = profile.check("127.0.0.1", own_broker.port, own_broker.authority, "default", time.time(), WAIT_S)
    assert not found.holds and "no connection" in found.seen


FAULTS = {
    "an old limit of packets": ("max_packet_size 135168", "max_packet_size 65536", "payloads of"),
    "no rules": ("acl_file", "# acl_file", "a device writes to its own channels only"),
    "no rules for reading": ("acl_file", "# acl_file", "a device hears what is meant for it only"),
    "no rules for wills": ("acl_file", "# acl_file", "a device's will is held to the same rules"),
    "any client id": ("use_username_as_clientid", "# use_username_as_clientid", "a client id is worth nothing"),
    "mosquitto's own limit of messages": ("max_queued_messages 0", "max_queued_messages 1000", "what is acknowledged"),
    "nothing is retained": (
        "max_inflight_messages",
        "retain_available false\nmax_inflight_messages",
        "assignments are",
    ),
    "no certificate is asked for": (
        "require_certificate true\nuse_identity_as_username true\nuse_username_as_clientid true",
        "require_certificate false\nallow_anonymous true",
        "who has no certificate",
    ),
}


@pytest.fixture
def careless(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Room]:
    """mosquitto with one setting of ours left out, as somebody else might run it."""
    room = open_room("mosquitto", tmp_path)
    room.process.stop()
    right, wrong, _ = FAULTS[request.param]
    configuration = tmp_path / "broker" / "mosquitto.conf"
    text = configuration.read_text()
    assert right in text, "the configuration is written otherwise by now"
    if wrong.startswith("require_certificate false"):
        text = text.replace("allow_anonymous false\n", "")
    configuration.write_text(text.replace(right, wrong))
    with subprocess.Popen([str(program("mosquitto")), "-c", str(configuration)], stderr=subprocess.DEVNULL) as process:
        try:
            probe = credentials.fleet_client(room.authority, tmp_path / "broker", PROBE, time.time())

            def answers() -> bool:
                assert process.poll() is None, "mosquitto does not take this configuration"
                try:
                    return say_hello("127.0.0.1", room.port, probe, PROBE, 5.0) == 0
                except MqttError:
                    return False

            eventually(answers, "mosquitto answers")
            yield room
        finally:
            process.send_signal(signal.SIGTERM)


@pytest.mark.mosquitto
@pytest.mark.skipif(not HAS_MOSQUITTO, reason="mosquitto is not installed")
@pytest.mark.parametrize("careless", FAULTS, indirect=True)
def test_a_careless_broker_is_found_out(careless: Room, request: pytest.FixtureRequest) -> None:
    fault = request.node.callspec.params["careless"]
    demand = next(each for each in profile.DEMANDS if each.startswith(FAULTS[fault][2]))
    with examined("127.0.0.1", careless.port, careless.authority, "default", time.time(), WAIT_S) as broker:
        found = profile.looked(demand, broker)
    assert not found.holds and found.seen, f"{demand} is said to hold"


def test_the_command_refuses_a_fleet_that_serves_and_names_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    room, root = open_room("embedded", tmp_path / "room"), tmp_path / "fleet"
    url = f"mqtts://127.0.0.1:{room.port}"

    def check(*words: str) -> tuple[int, str]:
        code = cli.main(["broker", "check", "--root", str(root), "--wait-s", "20", *words])
        said = capsys.readouterr()
        return code, said.out + said.err

    try:
        assert check(url) == (1, f"skerry: error: no fleet in {root} (give --root of the fleet)\n")
        open_office(root / "trust", "default", time.time())
        assert "no broker to check" in check()[1] and "mqtts://" in check("http://127.0.0.1")[1]
        held = lock_folder(root)
        try:
            assert "another fleet manager works" in check(url)[1]
        finally:
            os.close(held)
        code, said = check(url)  # the broker of another fleet
        assert code == 1 and "FAIL a device and the fleet are let in" in said and said.count("\n") == 2
        shutil.rmtree(root / "trust")
        shutil.copytree(room.folder / "keys", root / "trust" / "keys")
        shutil.copy(room.folder / "authority.crt", root / "trust")
        open_office(root / "trust", "default", time.time())
        code, said = check(url, "--json")
        assert code == 0 and json.loads(said)["holds"] is True
    finally:
        room.process.stop()
