"""A broker beside the fleet: it joins with the installation's secret, devices are sent to it, revoked ones stay out."""

from __future__ import annotations

import contextlib
import http.server
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from fastapi import FastAPI
from tests.fleet.broker.conftest import DEADLINE_S, KINDS, Wire, eventually
from tests.fleet.conftest import admin, csr, enrolment_body, new_key

from skerry_contracts import codec
from skerry_fleet import cli, config
from skerry_fleet.app import create_app
from skerry_fleet.cli_broker import shard_of
from skerry_fleet.config import FleetConfig
from skerry_fleet.errors import InputError
from skerry_fleet.trust.credentials import Credentials
from skerry_fleet.trust.keys import private_pem

SECRET = "a secret of brokers"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def app(tmp_path: Path, port: int) -> FastAPI:
    for name in ("token", "fleet-token"):  # the broker's copy, and the fleet's
        (tmp_path / name).write_text(f"{SECRET}\n")
    settings = FleetConfig(
        root=tmp_path / "fleet",
        broker="external",
        broker_urls="mqtts://mq.example:8883",
        broker_inner_urls=f"mqtts://127.0.0.1:{port}",
        broker_token_file=str(tmp_path / "fleet-token"),
    )
    return create_app(settings, time.time, random.Random(1).randbytes)


@contextlib.contextmanager
def joined(url: str, folder: Path, port: int, kind: str, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """`skerry fleet broker run` as a process."""
    words = ["--fleet", url, "--token-file", str(folder / "token"), "--shard", "0", "--root", str(folder / "broker")]
    words += ["--port", str(port), "--kind", kind, "--refresh-s", "0.1", *more]
    command = [sys.executable, "-m", "skerry", "fleet", "broker", "run", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()


def enrolled(http: httpx.Client, folder: Path, name: str) -> tuple[Credentials, dict[str, object]]:
    token = http.post("/api/v1/claims", json={}).json()["token"]
    key = new_key()
    answer = http.post("/device/v1/enrol", json=enrolment_body(token, name, key)).json()
    made = Credentials(folder / "ca.pem", folder / f"{name}.crt", folder / f"{name}.key")
    made.ca.write_text(codec.parse_json(http.get("/device/v1/trust").content)["ca_pem"])
    made.certificate.write_text(answer["certificate_pem"])
    made.key.write_bytes(private_pem(key))
    return made, answer


def let_in(port: int, credentials: Credentials) -> Wire | None:
    wire = None
    try:
        wire = Wire(port, credentials, credentials.ca)
        return wire.hello("x")
    except OSError:
        if wire is not None:
            wire.drop()
        return None


def may_enter(port: int, credentials: Credentials) -> bool:
    wire = let_in(port, credentials)
    if wire is not None:
        wire.drop()
    return wire is not None


@pytest.mark.parametrize("kind", KINDS)
def test_a_broker_joins_devices_come_and_a_revoked_one_stays_out(
    app: FastAPI, tmp_path: Path, port: int, kind: str
) -> None:
    with admin(app) as http, joined(str(http.base_url), tmp_path, port, kind) as process:
        eventually(lambda: http.get("/readyz").status_code == 200 or process.poll() is not None, "the fleet is at it")
        assert process.poll() is None
        alive = ["broker", "alive", "--root", str(tmp_path / "broker"), "--port", str(port)]
        assert cli.main(alive) == 0
        good, answer = enrolled(http, tmp_path, "camera-1")
        assert (answer["broker_host"], answer["broker_port"]) == ("mq.example", 8883)
        thief, _ = enrolled(http, tmp_path, "camera-2")
        first, second = let_in(port, good), let_in(port, thief)
        assert first is not None and second is not None
        assert http.delete("/api/v1/devices/camera-2").status_code == 200
        assert second.ended(), "its connection is ended"
        second.drop()
        eventually(lambda: not may_enter(port, thief), "it is let in no more")
        first.subscribe("skerry/1/default/camera-1/down/#")  # and nobody else lost anything
        served = x509.load_pem_x509_certificate((tmp_path / "broker" / "server.crt").read_bytes())
        names = served.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert "mq.example" in names.get_values_for_type(x509.DNSName)
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
        assert cli.main(alive) == 1
        first.drop()


def test_a_broker_goes_on_with_what_it_knows_while_the_fleet_is_away(app: FastAPI, tmp_path: Path, port: int) -> None:
    with admin(app) as http:
        good, _ = enrolled(http, tmp_path, "camera-1")
        with joined(str(http.base_url), tmp_path, port, "embedded"):
            eventually(lambda: http.get("/readyz").status_code == 200, "the fleet is at it")
    with joined("http://127.0.0.1:9", tmp_path, port, "embedded"):
        eventually(lambda: may_enter(port, good), "devices are let in while no fleet answers")


def test_a_broker_without_the_secret_is_refused_in_one_line(app: FastAPI, tmp_path: Path, port: int) -> None:
    with admin(app) as http:
        (tmp_path / "token").write_text("a guess")
        with joined(str(http.base_url), tmp_path, port, "embedded") as process:
            said = process.communicate(timeout=DEADLINE_S)[1].decode()
        assert process.returncode == 1 and "Traceback" not in said
        assert "skerry: error: the fleet refuses this broker" in said and "broker_token_file" in said
        for token, code in (("none", 401), ("a guess", 401), (SECRET, 422)):
            asked = {"shard": 1, "csr_pem": csr(new_key())}
            answer = http.post("/broker/v1/join", json=asked, headers={"authorization": f"Bearer {token}"})
            assert answer.status_code == code, token
        # The file is read for each request: whoever changes the secret needs no restart. Nothing is no secret.
        (tmp_path / "fleet-token").write_text("")
        assert http.post("/broker/v1/join", json=asked, headers={"authorization": "Bearer"}).status_code == 401
        (tmp_path / "fleet-token").unlink()
        assert http.post("/broker/v1/join", json=asked).status_code == 503


def test_the_list_of_revoked_certificates_is_told_once(app: FastAPI, tmp_path: Path) -> None:
    with admin(app) as http:
        first = http.get("/broker/v1/revoked.crl")
        found = x509.load_der_x509_crl(first.content)
        ours = x509.load_pem_x509_certificate(app.state.fleet.office.authority.certificate_pem.encode())
        assert found.is_signature_valid(ours.public_key()) and list(found) == []  # type: ignore[arg-type]  # ours is EC
        known = {"if-none-match": first.headers["etag"]}
        assert http.get("/broker/v1/revoked.crl", headers=known).status_code == 304
        enrolled(http, tmp_path, "camera-1")
        http.delete("/api/v1/devices/camera-1")
        second = http.get("/broker/v1/revoked.crl", headers=known)
        assert second.status_code == 200 and len(list(x509.load_der_x509_crl(second.content))) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"broker": "external"}, "no address"),
        ({"broker": "external", "broker_urls": "mq.example"}, "no broker's address"),
        ({"broker": "external", "broker_urls": "mqtts://a:x"}, "no broker's address"),
        ({"broker": "external", "broker_urls": "mqtts://user@a"}, "no broker's address"),
        ({"broker": "external", "broker_urls": "mqtts://a mqtts://b", "shards": 3}, "3 shards"),
        (
            {"broker": "external", "broker_urls": "mqtts://a", "broker_inner_urls": "mqtts://a mqtts://b"},
            "2 broker_inn",
        ),
        ({"broker": "external", "broker_urls": "mqtts://a", "swarm_port": 4000}, "swarm"),
        ({"broker_urls": "mqtts://a"}, "broker = external"),
        ({"broker": "rabbit"}, "none of auto"),
    ],
)
def test_addresses_that_make_no_sense_are_refused(settings: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        config.load(tmp_path, settings, {})
    assert said in f"{refused.value} {refused.value.hint}"


def test_shards_follow_from_addresses_and_a_shard_from_its_hosts_name(tmp_path: Path) -> None:
    text = "mqtts://a:1, mqtts://[::1] mqtts://c"
    assert config.load(tmp_path, {}, {"SKERRY_FLEET_BROKER": "external", "SKERRY_FLEET_BROKER_URLS": text}).shards == 3
    assert config.addresses(text) == (("a", 1), ("::1", 8883), ("c", 8883))
    assert shard_of("auto", "skerry-broker-12") == 12 and shard_of("3", "x") == 3
    for wrong in ("auto", "x1", "-1"):
        with pytest.raises(InputError):
            shard_of(wrong, "broker")


def test_what_is_no_fleet_and_what_no_broker_can_use_is_refused_in_one_line(
    tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("x")

    class Other(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            return

    def run(fleet: str, at: int, root: str = "broker") -> str:
        words = ["--fleet", fleet, "--token-file", str(tmp_path / "token"), "--shard", "0", "--port", str(at)]
        assert cli.main(["broker", "run", *words, "--root", str(tmp_path / root), "--kind", "embedded"]) == 1
        return capsys.readouterr().err

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Other) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            assert "is no fleet (check --fleet)" in run(url, port)
            assert "cannot listen on 127.0.0.1" in run(url, server.server_port)
        finally:
            server.shutdown()
            thread.join()
    assert "is no fleet's address" in run("fleet:8707", port)
    (tmp_path / "token").write_text("\n")
    assert "is empty" in run("http://127.0.0.1:9", port)
    assert cli.main(["broker", "alive", "--root", str(tmp_path / "nowhere")]) == 1
    assert "no broker has joined" in capsys.readouterr().err
