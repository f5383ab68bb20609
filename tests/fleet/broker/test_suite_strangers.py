"""What any broker of ours must do when asked by a stranger: Mosquitto's own clients, in the versions they speak."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from tests.fleet.broker.conftest import Room, closed, down, fleet_that_hears, up

from skerry_fleet.trust.credentials import Credentials

pytestmark = pytest.mark.skipif(shutil.which("mosquitto_pub") is None, reason="mosquitto-clients is not installed")
VERSIONS = ["mqttv311", "mqttv5"]


def command(room: Room, program: str, certificate: Credentials, version: str, *words: str) -> list[str]:
    where = ("-h", "localhost", "-p", str(room.port), "-V", version, "--cafile", str(certificate.ca))
    return [program, *where, "--cert", str(certificate.certificate), "--key", str(certificate.key), *words]


def served(room: Room, version: str) -> bool:
    """The embedded broker speaks 3.1.1 alone, and says so."""
    return version == "mqttv311" or room.process.kind == "mosquitto"


@contextlib.contextmanager
def running(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_foreign_device_says_reaches_nobody(broker: Room, version: str) -> None:
    fleet = fleet_that_hears(broker, "skerry/1/#")
    certificate = broker.certificate("default/m1")
    for topic in (up("default/victim"), down("default/victim"), down("default/m1"), "skerry/1/fleet/x", "$SYS/x"):
        for words in ((), ("-r",), ("-i", "default/victim"), ("--will-topic", topic, "--will-payload", "evil")):
            asked = command(broker, "mosquitto_pub", certificate, version, "-t", topic, "-m", "evil", *words)
            subprocess.run(asked, capture_output=True, timeout=20, check=False)
    own = command(broker, "mosquitto_pub", certificate, version, "-q", "1", "-t", up("default/m1"), "-m", "good")
    told = subprocess.run(own, capture_output=True, timeout=20, check=False)
    heard = closed(fleet)
    if served(broker, version):
        assert heard == [(up("default/m1"), b"good", False)]
    else:
        assert heard == [] and told.returncode != 0 and b"protocol version" in (told.stdout + told.stderr).lower()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "wanted", ["#", "skerry/1/default/victim/down/#", "skerry/1/+/+/down/#", "$share/thieves/skerry/1/default/#"]
)
def test_a_foreign_device_hears_its_own_and_nothing_else(broker: Room, wanted: str, version: str) -> None:
    if not served(broker, version):
        pytest.skip("the embedded broker speaks 3.1.1 alone")
    fleet = broker.fleet()
    fleet.publish(down("default/victim"), b"secret", retain=True)
    fleet.publish(down("default/m2", "ack"), b"mine", retain=True)
    certificate = broker.certificate("default/m2")
    asked = command(
        broker, "mosquitto_sub", certificate, version, "-C", "1", "-t", wanted, "-t", "skerry/1/default/m2/#"
    )
    # What it may not have would have come first.
    told = subprocess.run([*asked, "-v"], capture_output=True, timeout=20, check=False)
    fleet.publish(down("default/victim"), b"", retain=True)
    fleet.publish(down("default/m2", "ack"), b"", retain=True)
    assert told.stdout.decode().strip() == f"{down('default/m2', 'ack')} mine"


def test_a_foreign_device_that_dies_leaves_no_word_in_anothers_name(broker: Room) -> None:
    fleet = fleet_that_hears(broker, "skerry/1/#")
    will = ("--will-topic", up("default/victim", "presence"), "--will-payload", "evil")
    certificate, own = broker.certificate("default/m3"), down("default/m3", "ack")
    fleet.publish(own, b"here", retain=True)
    with running(command(broker, "mosquitto_sub", certificate, "mqttv311", "-t", own, *will)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
    fleet.publish(own, b"", retain=True)
    other = broker.device("default/m3")  # the same name again: the broker is done with the one before
    other.publish(up("default/m3"), b"good")
    assert [each for each in closed(fleet) if "/up/" in each[0]] == [(up("default/m3"), b"good", False)]


def test_without_a_certificate_of_ours_nothing_is_said(broker: Room) -> None:
    fleet = fleet_that_hears(broker, "skerry/1/#")
    ca = broker.certificate("default/m4").ca
    base = ["mosquitto_pub", "-h", "localhost", "-p", str(broker.port), "-q", "1", "-t", up("default/m4"), "-m", "evil"]
    for words in ([], ["--cafile", str(ca)], ["--cafile", str(ca), "-u", "default/m4", "-P", "x"]):
        assert subprocess.run([*base, *words], capture_output=True, timeout=20, check=False).returncode != 0
    assert closed(fleet) == []
