"""One broker shard beside the fleet, on a machine or in a container of its own: `skerry fleet broker run`.

It makes its own key, shows the fleet the secret of this installation, and is given a certificate and the list of
revoked ones; from then on it asks for that list every few seconds, and goes on with the last one where the fleet is
away. The broker itself is the same child process with the same configuration as one that the fleet starts.

<folder>/server.key, server.crt, probe.crt, ca.crt     the rest as in launch.py
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from skerry_contracts import codec
from skerry_fleet.broker import guard, launch, mosquitto
from skerry_fleet.broker.config import BrokerConfig
from skerry_fleet.broker.errors import BrokerError, StartError
from skerry_fleet.trust import authority, durable
from skerry_fleet.trust.credentials import Credentials
from skerry_fleet.trust.errors import TrustError
from skerry_fleet.trust.keys import private_pem

RENEW_AT = 1 / 3
RETRY_S = (0.5, 15.0)
STOP_S, LOOK_S = 10.0, 1.0

log = logging.getLogger(__name__)


class JoinedBroker:
    """A broker process whose certificate and list come from a fleet over HTTP. Methods block."""

    def __init__(
        self, fleet: httpx.Client, secret: str, shard: int, folder: Path, host: str, port: int, kind: str
    ) -> None:
        self._http, self._shard, self._folder, self._host, self._port = fleet, shard, folder, host, port
        self._headers = {"authorization": f"Bearer {secret}"}
        self._program = launch.program(kind)
        self._process: subprocess.Popen[bytes] | None = None
        self._tag = ""
        self.ended = threading.Event()

    @property
    def kind(self) -> str:
        """`mosquitto` or `embedded`."""
        return "mosquitto" if self._program else "embedded"

    def run(self, refresh_s: float) -> int:
        """Serve until `ended` is set; return 0.

        Raises:
            PortTakenError: another program has the port.
            StartError: the fleet refuses this broker, or the broker process does not live.
        """
        durable.make_dirs(self._folder)
        launch.check_free(self._host, self._port)
        if not self._fetched():
            return 0
        self._start()
        process = self._process
        if not self.ended.wait(LOOK_S) and process is not None and process.poll() is not None:
            words = launch.last_line(self._folder / "broker.log")
            raise StartError(f"the broker ended at once: {words}", hint=f"see {self._folder / 'broker.log'}")
        log.info("%s listens on %s:%d", self.kind, self._host, self._port)
        try:
            while not self.ended.wait(refresh_s):
                self._look()
        finally:
            self._stop()
        return 0

    def _look(self) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            log.warning("the broker has ended and is started again: %s", launch.last_line(self._folder / "broker.log"))
            self._start()
        begins, ends = authority.life_s((self._folder / "server.crt").read_text("ascii"))
        try:
            old = ends - time.time() < (ends - begins) * RENEW_AT
            renewed = old and self._ask_certificate()
            if (self._ask_list() or renewed) and self._process is not None:
                self._process.send_signal(signal.SIGHUP)
        except (httpx.HTTPError, BrokerError) as error:
            log.warning("nothing new from the fleet: %s", _line(error))

    def _fetched(self) -> bool:
        """Have a certificate for today's names, and the list: those of last time where the fleet is away, else wait for
        it. False: asked to end meanwhile.
        """
        pause_s = RETRY_S[0]
        while True:
            try:
                self._ask_certificate()
                self._ask_list()
                return True
            except httpx.HTTPError as error:
                if self._whole():
                    log.warning("the fleet is not there, certificate and list of last time are used: %s", _line(error))
                    return True
                log.info("waiting for the fleet at %s: %s", self._http.base_url, _line(error))
            if self.ended.wait(pause_s):
                return False
            pause_s = min(2 * pause_s, RETRY_S[1])

    def _whole(self) -> bool:
        try:
            key = (self._folder / "server.key").read_bytes()
            certificates = [(self._folder / name).read_text("ascii") for name in ("server.crt", "probe.crt")]
            return (self._folder / "revoked.crl").is_file() and all(
                authority.belongs(each, key) for each in certificates
            )
        except (OSError, TrustError):
            return False

    def _ask_certificate(self) -> bool:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker")])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
        asked = {"shard": self._shard, "csr_pem": request.public_bytes(serialization.Encoding.PEM).decode("ascii")}
        answer = self._http.post("/broker/v1/join", json=asked, headers=self._headers)
        if 400 <= answer.status_code < 500 and answer.status_code != 429:
            said = answer.json().get("error", {}) if "json" in answer.headers.get("content-type", "") else {}
            raise StartError(
                f"the fleet refuses this broker: {said.get('message', answer.status_code)}", hint=said.get("hint", "")
            )
        answer.raise_for_status()
        try:
            ca, probe, certificate = (str(answer.json()[f"{name}_pem"]) for name in ("ca", "probe", "certificate"))
            whole = all(authority.belongs(each, private_pem(key)) for each in (probe, certificate))
        except (ValueError, KeyError, TypeError, TrustError) as error:
            raise StartError(f"{self._http.base_url} is no fleet", hint="check --fleet") from error
        if not whole:
            raise StartError(f"{self._http.base_url} answers with another's certificates", hint="check --fleet")
        durable.write_file(self._folder / "ca.crt", ca.encode(), 0o644)
        durable.write_file(self._folder / "probe.crt", probe.encode(), 0o644)
        durable.write_file(self._folder / "server.key", private_pem(key), 0o600)
        durable.write_file(self._folder / "server.crt", certificate.encode(), 0o644)
        return True

    def _ask_list(self) -> bool:
        """Take in the list of revoked certificates where it is another one; return whether it was."""
        headers = {"if-none-match": self._tag} if self._tag else {}
        answer = self._http.get("/broker/v1/revoked.crl", headers=headers)
        if answer.status_code == 304:
            return False
        answer.raise_for_status()
        try:
            found = x509.load_der_x509_crl(answer.content)
        except ValueError as error:
            raise StartError(f"{self._http.base_url} is no fleet", hint="check --fleet") from error
        ours = x509.load_pem_x509_certificate((self._folder / "ca.crt").read_bytes())
        key = ours.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not found.is_signature_valid(key):
            raise StartError("the list of revoked certificates is not signed by our authority", hint="another fleet?")
        serials = sorted(f"{each.serial_number:X}" for each in found)
        durable.write_file(self._folder / "revoked.json", codec.canonical_json(serials), 0o600)
        durable.write_file(self._folder / "revoked.crl", found.public_bytes(serialization.Encoding.PEM), 0o600)
        self._tag = answer.headers.get("etag", "")
        return True

    def _start(self) -> None:
        log_file = self._folder / "broker.log"
        if log_file.exists() and log_file.stat().st_size > launch.LOG_BYTES:
            log_file.replace(log_file.with_name("broker.log.1"))
        server = credentials_in(self._folder, "server")
        words = self._mosquitto(server) if self._program else self._embedded(server)
        with log_file.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), *words],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _mosquitto(self, server: Credentials) -> list[str]:
        folder, access = self._folder, self._folder / "access"
        durable.write_file(access, mosquitto.ACCESS.encode(), 0o600)
        text = mosquitto.configuration(
            folder, self._host, self._port, server, folder / "revoked.crl", access, os.geteuid() == 0
        )
        durable.write_file(folder / "mosquitto.conf", text.encode(), 0o600)
        return [str(self._program), "-c", str(folder / "mosquitto.conf")]

    def _embedded(self, server: Credentials) -> list[str]:
        folder = self._folder
        settings = BrokerConfig(
            host=self._host,
            port=self._port,
            ca=str(server.ca),
            certificate=str(server.certificate),
            key=str(server.key),
            revoked=str(folder / "revoked.json"),
            journal=str(folder / "retained.journal"),
        )
        durable.write_file(folder / "embedded.json", codec.encode(settings), 0o600)
        return [sys.executable, "-m", "skerry_fleet.broker", "--config", str(folder / "embedded.json")]

    def _stop(self) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def credentials_in(folder: Path, name: str) -> Credentials:
    """Return the certificate of one name in a broker's folder; all of them belong to the one key."""
    return Credentials(folder / "ca.crt", folder / f"{name}.crt", folder / "server.key")


def secret_of(path: str) -> str:
    """Return the secret in a file.

    Raises:
        BrokerError: it cannot be read, or is empty.
    """
    try:
        found = Path(path).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerError(f"cannot read the secret in {path}", hint="give --token-file") from error
    if not found:
        raise BrokerError(f"{path} is empty", hint="head -c 32 /dev/urandom | base64 > FILE")
    return found
