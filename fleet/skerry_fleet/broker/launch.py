"""Start, watch and stop a broker as a child process: mosquitto if it is installed, else the embedded one.

<folder>/server.crt, server.key, ca.crt      the broker's certificate
<folder>/fleet.crt, fleet.key                the fleet's own, as a client
<folder>/revoked.json, revoked.crl           certificates that are let in no more
<folder>/mosquitto.conf, access, retained.db    or  embedded.json, retained.journal
<folder>/broker.log
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from skerry_contracts import codec
from skerry_fleet.broker import guard, mosquitto
from skerry_fleet.broker.config import FLEET, BrokerConfig
from skerry_fleet.broker.errors import ConfigurationError, PortTakenError, StartError
from skerry_fleet.broker.hello import say_hello
from skerry_fleet.mqtt.errors import MqttError
from skerry_fleet.trust import credentials, durable
from skerry_fleet.trust.authority import Authority
from skerry_fleet.trust.credentials import Credentials

KINDS = ("auto", "mosquitto", "embedded")
PROBE = "fleet-probe"  # may connect, and do nothing
LOG_BYTES = 8 * 1024 * 1024  # at the start a longer log becomes broker.log.1


@dataclasses.dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Where the broker lives and listens. `names` are further host names and addresses that devices know it by.

    `swarm_port`, where it is not 0, is a second port for the simulated devices of `tenant` (see mosquitto.py).
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 8883  # 0: any that is free
    kind: str = "auto"
    names: tuple[str, ...] = ()
    swarm_port: int = 0
    tenant: str = "default"
    start_s: float = 30.0
    stop_s: float = 10.0


class BrokerProcess:
    """A broker of this fleet. All methods block; `wall` is the time of day in seconds since 1970."""

    def __init__(self, settings: BrokerSettings, authority: Authority, wall: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._authority = authority
        self._wall = wall
        self._process: subprocess.Popen[bytes] | None = None
        self._program = program(settings.kind)
        if settings.swarm_port and not self._program:
            raise ConfigurationError(
                "the embedded broker has no port for a swarm", hint="install mosquitto, or leave the port out"
            )
        self.port = settings.port or _free_port(settings.host)
        # Where this machine itself reaches it.
        self.host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)

    @property
    def kind(self) -> str:
        """`mosquitto` or `embedded`."""
        return "mosquitto" if self._program else "embedded"

    @property
    def keeps_retained_through_kill(self) -> bool:
        """Whether retained messages of the last minute survive kill -9. The fleet publishes them again in any case."""
        return not self._program

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self.alive() else None

    def fleet(self) -> Credentials:
        """Return the certificate with which the fleet connects, as client `fleet`."""
        return credentials.fleet_client(self._authority, self._settings.folder, FLEET, self._wall())

    def start(self) -> None:
        """Start the broker and wait until it answers a CONNECT.

        Raises:
            PortTakenError: another program listens there.
            StartError: it ended, or did not answer in time.
            ConfigurationError: settings that cannot be written.
        """
        if self.alive():
            return
        settings = self._settings
        check_free(settings.host, self.port)
        command = self._prepare()
        log = settings.folder / "broker.log"
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_name("broker.log.1"))
        self._process = _spawn(command, log)
        probe = credentials.fleet_client(self._authority, settings.folder, PROBE, self._wall())
        deadline_s = time.monotonic() + settings.start_s
        while True:
            if not self.alive():
                how = f"by signal {-status}" if (status := self._process.returncode) < 0 else f"with {status}"
                raise StartError(f"the broker ended at once, {how}: {last_line(log)}", hint=f"see {log}")
            try:
                say_hello(self.host, self.port, probe, PROBE, timeout_s=2.0)
                return
            except MqttError as error:
                if time.monotonic() > deadline_s:
                    self.stop()
                    raise StartError(f"no broker within {settings.start_s:g} s: {error}", hint=f"see {log}") from error
                time.sleep(0.02)

    def stop(self) -> None:
        """End the broker: asked first, killed if it does not listen. Harmless if there is none."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(self._settings.stop_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._process = None

    def alive(self) -> bool:
        """Say whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def restart(self) -> None:
        """Stop and start again on the same port. Raises as `start` does."""
        self.stop()
        self.start()

    def revoke(self, serials: Collection[int], identities: Collection[str]) -> None:
        """Let these certificates in no more, and end the connections of these `<tenant>/<device>` now.

        `serials` is the whole list of revoked certificates that have not expired; it replaces the older one, for good.
        A device with a newer certificate that is not revoked just connects again.
        """
        folder = self._settings.folder
        durable.make_dirs(folder)
        self._write_revoked(serials)
        if not self.alive() or self._process is None:
            return
        self._process.send_signal(signal.SIGHUP)
        if self._program:
            for identity in identities:
                self._take_over(identity)

    def _take_over(self, identity: str) -> None:
        """End a client's connection on mosquitto, which has no other way: connect with the same name, and leave.

        The new list of revoked certificates must be in force first, or the device would be back at once.
        """
        folder = self._settings.folder / "takeover"
        visitor = credentials.visitor(self._authority, folder, identity, self._wall())
        try:
            with contextlib.suppress(MqttError):
                say_hello(self.host, self.port, visitor, identity, timeout_s=5.0)
        finally:
            shutil.rmtree(folder)

    def _prepare(self) -> list[str]:
        settings, folder, now_s = self._settings, self._settings.folder, self._wall()
        durable.make_dirs(folder)
        server = credentials.server(self._authority, folder, [settings.host, *settings.names], now_s)
        self._write_revoked(self._revoked())
        if self._program:
            access, configuration = folder / "access", folder / "mosquitto.conf"
            durable.write_file(access, mosquitto.ACCESS.encode(), 0o600)
            text = mosquitto.configuration(
                folder, settings.host, self.port, server, folder / "revoked.crl", access, os.geteuid() == 0
            )
            if settings.swarm_port:
                check_free(mosquitto.SWARM_HOST, settings.swarm_port)
                durable.write_file(folder / "access-swarm", mosquitto.swarm_access(settings.tenant).encode(), 0o600)
                text = mosquitto.with_swarm(text, access, folder / "access-swarm", settings.swarm_port)
            durable.write_file(configuration, text.encode(), 0o600)
            return [self._program, "-c", str(configuration)]
        embedded = BrokerConfig(
            host=settings.host,
            port=self.port,
            ca=str(server.ca),
            certificate=str(server.certificate),
            key=str(server.key),
            revoked=str(folder / "revoked.json"),
            journal=str(folder / "retained.journal"),
        )
        durable.write_file(folder / "embedded.json", codec.encode(embedded), 0o600)
        return [sys.executable, "-m", "skerry_fleet.broker", "--config", str(folder / "embedded.json")]

    def _revoked(self) -> list[int]:
        try:
            return [int(serial, 16) for serial in json.loads((self._settings.folder / "revoked.json").read_bytes())]
        except FileNotFoundError:
            return []

    def _write_revoked(self, serials: Collection[int]) -> None:
        folder = self._settings.folder
        listed = json.dumps([f"{serial:X}" for serial in sorted(serials)])
        crl = self._authority.revocation_list(serials, self._wall())
        durable.write_file(folder / "revoked.json", listed.encode(), 0o600)
        durable.write_file(folder / "revoked.crl", crl.encode(), 0o600)


def program(kind: str) -> str | None:
    """Return mosquitto's path, None for the embedded broker."""
    if kind not in KINDS:
        raise ConfigurationError(f"{kind!r:.40} is no kind of broker", hint=f"use one of {', '.join(KINDS)}")
    # Debian installs it where an ordinary user's PATH does not look.
    path = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin{os.pathsep}/usr/local/sbin"
    found = None if kind == "embedded" else shutil.which("mosquitto", path=path)
    if kind == "mosquitto" and found is None:
        raise ConfigurationError("mosquitto is not installed", hint="install it, or use --broker embedded")
    return found


def _spawn(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process that dies with this one.

    Linux ties that to the thread that started it, so the thread stays for as long as the process does.
    """
    started: list[subprocess.Popen[bytes]] = []
    ready = threading.Event()

    def run() -> None:
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
            started.append(process)
        finally:
            ready.set()
        process.wait()

    threading.Thread(target=run, name="broker", daemon=True).start()
    ready.wait()
    if not started:
        raise StartError("the broker could not be started", hint=f"is there room for {log}?")
    return started[0]


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        return int(sock.getsockname()[1])


def check_free(host: str, port: int) -> None:
    """Refuse a port that another program has.

    Raises:
        PortTakenError: it is taken, or this user may not have it.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            raise PortTakenError(
                f"the broker cannot listen on {host}:{port}: {error.strerror}", hint="choose another with --broker-port"
            ) from error


def last_line(log: Path) -> str:
    """Return the last thing that a broker said."""
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1][-200:] if lines else "it said nothing"
