"""Messages go where they may, and nowhere else: no metadata service, and no door that only this machine has."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fleet.conftest import Clock, admin
from tests.fleet.sinks import HttpSink, http_sink

from skerry_fleet import reach, webhooks
from skerry_fleet.app import create_app
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import InputError
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.keys import KeyStore

BODY = '{"data": {"first_alerts": []}}'


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with http_sink() as found:
        yield found


def send(target: str, how: str) -> str:
    return webhooks.send(target, "whsec_AAAA", "e", "t", BODY, 0.0, how)


@pytest.mark.parametrize(
    ("address", "internet", "lan", "machine"),
    [
        ("93.184.216.34", True, True, True),
        ("2606:4700:4700::1111", True, True, True),
        ("10.1.2.3", False, True, True),
        ("172.31.0.1", False, True, True),
        ("192.168.178.20", False, True, True),
        ("100.101.102.103", False, True, True),
        ("fd12:3456::1", False, True, True),
        ("127.0.0.1", False, False, True),
        ("127.255.0.9", False, False, True),
        ("::1", False, False, True),
        ("::ffff:127.0.0.1", False, False, True),
        ("64:ff9b::7f00:1", False, False, True),
        ("2002:7f00:1::", False, False, True),
        ("::ffff:10.0.0.1", False, True, True),
        ("169.254.169.254", False, False, False),
        ("::ffff:169.254.169.254", False, False, False),
        ("64:ff9b::a9fe:a9fe", False, False, False),
        ("fe80::1%eth0", False, False, False),
        ("100.100.100.200", False, False, False),
        ("168.63.129.16", False, False, False),
        ("fd00:ec2::254", False, False, False),
        ("0.0.0.0", False, False, False),
        ("::", False, False, False),
        ("224.0.0.1", False, False, False),
        ("ff02::1", False, False, False),
        ("255.255.255.255", False, False, False),
        ("240.0.0.1", False, False, False),
        ("192.0.2.1", False, False, False),
        ("172.32.0.1", True, True, True),
        ("no address", False, False, False),
    ],
)
def test_which_addresses_may_be_spoken_to(address: str, internet: bool, lan: bool, machine: bool) -> None:
    assert [reach.allowed(address, each) for each in reach.REACHES] == [internet, lan, machine]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "localhost", "[::ffff:127.0.0.1]"])
def test_this_machine_is_reached_only_where_it_is_said(sink: HttpSink, host: str) -> None:
    target = sink.url.replace("127.0.0.1", host)
    assert send(target, "lan") == send(target, "internet") == f"the target is {webhooks.OUT_OF_REACH}"
    assert sink.requests == []
    assert send(target, "machine") == "" and len(sink.requests) == 1


def test_a_name_is_resolved_once_and_that_address_is_spoken_to(sink: HttpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server may say something else a moment later (DNS rebinding)."""
    asked, resolve = [], socket.getaddrinfo

    def server(host: Any, *arguments: Any, **named: Any) -> Any:
        if host != "hooks.example":
            return resolve(host, *arguments, **named)
        asked.append(host)
        return resolve("127.0.0.1" if len(asked) == 1 else "169.254.169.254", *arguments, **named)

    monkeypatch.setattr(socket, "getaddrinfo", server)
    assert send(sink.url.replace("127.0.0.1", "hooks.example"), "machine") == ""
    assert asked == ["hooks.example"]
    assert sink.requests[0][0]["host"].startswith("hooks.example:")
    assert send(sink.url.replace("127.0.0.1", "hooks.example"), "machine") == f"the target is {webhooks.OUT_OF_REACH}"


def test_the_certificate_is_held_against_the_name_not_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    office = Authority.create(tmp_path, KeyStore(tmp_path / "keys"), Clock()())
    key, certificate = office.issue_server(["127.0.0.1"], Clock()())
    for name, text in (("key", key), ("certificate", certificate)):
        (tmp_path / name).write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")
    named: list[str | None] = []
    context.sni_callback = lambda sock, name, _: named.append(name)
    monkeypatch.setattr(reach, "addresses", lambda host, port, how: ["127.0.0.1"])
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError), listener.accept()[0] as plain:
                context.wrap_socket(plain, server_side=True).close()

        thread = threading.Thread(target=serve)
        thread.start()
        assert send(f"https://hooks.example:{listener.getsockname()[1]}/", "machine") == "no connection to the target"
        thread.join()
    assert named == ["hooks.example"]


def test_services_of_apprise_are_held_to_the_same(sink: HttpSink) -> None:
    """It makes its own connections, so its process is confined."""
    target = sink.url.replace("http://", "json://")
    assert send(target, "lan") == f"the target is {webhooks.OUT_OF_REACH}" and sink.requests == []
    assert send(target, "machine") == "" and len(sink.requests) == 1
    assert json.loads(sink.requests[0][1])["title"] == "t"


def test_a_route_to_where_nothing_may_go_is_refused_at_once(tmp_path: Path) -> None:
    app = create_app(FleetConfig(root=tmp_path / "fleet"), Clock(), random.Random(1).randbytes, with_broker=False)
    with admin(app) as client:
        for target in (
            "http://169.254.169.254/latest/meta-data/",
            "http://[fd00:ec2::254]/latest/",
            "http://[::ffff:169.254.169.254]/",
            "http://127.0.0.1:8707/api/v1/keys",
            "HTTP://LOCALHOST/",
            "http://[::1]:8707/",
            "http://0.0.0.0/",
            "file:///etc/passwd",
            "gopher://127.0.0.1:6379/_FLUSHALL",
            "//192.168.1.1/",
        ):
            answer = client.post("/api/v1/routes", json={"name": "hook", "target": target})
            assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad-input"), target
            assert target not in answer.text
        assert client.get("/api/v1/routes").json()["items"] == []


def test_a_reach_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="webhook_reach"):
        FleetConfig(root=tmp_path, webhook_reach="everywhere")
