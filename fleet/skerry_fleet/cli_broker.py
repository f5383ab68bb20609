"""`skerry fleet broker …`: brokers that others run, or that run beside the fleet."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from skerry_fleet import config as settings
from skerry_fleet.errors import InputError, UnavailableError

if TYPE_CHECKING:
    from skerry_fleet.trust.authority import Authority
    from skerry_fleet.trust.office import TrustOffice

BROKER_ROOT = "skerry-broker"


def add(nouns: argparse._SubParsersAction[argparse.ArgumentParser], default_root: str) -> None:
    """Add the verbs to the command line."""
    verbs = nouns.add_parser("broker", help="brokers outside the fleet's process").add_subparsers(
        dest="verb", required=True, metavar="VERB"
    )
    run = verbs.add_parser("run", help="run one shard here, with certificate and list of revoked ones from the fleet")
    run.add_argument("--fleet", required=True, metavar="URL", help="the fleet's address")
    run.add_argument(
        "--token-file", required=True, metavar="FILE", help="the secret that the fleet's broker_token_file has"
    )
    run.add_argument(
        "--shard", default="auto", help="which shard this is; auto: the number that this host's name ends in"
    )
    run.add_argument("--root", help=f"where it keeps its files (default {BROKER_ROOT})")
    run.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    run.add_argument("--port", type=int, default=settings.MQTTS_PORT, help=f"port (default {settings.MQTTS_PORT})")
    run.add_argument("--kind", choices=["auto", "mosquitto", "embedded"], default="auto", help="which broker (auto)")
    run.add_argument("--refresh-s", type=float, default=5.0, help="seconds between looks at the list (default 5)")
    alive = verbs.add_parser("alive", help="ask the broker that runs here whether it answers; exit 0 or 1")
    alive.add_argument("--root", help=f"where it keeps its files (default {BROKER_ROOT})")
    alive.add_argument("--port", type=int, default=settings.MQTTS_PORT, help=f"port (default {settings.MQTTS_PORT})")
    check = verbs.add_parser("check", help="visit a broker and say what of the profile it does not do")
    check.add_argument("urls", nargs="*", metavar="URL", help="mqtts://HOST:PORT (default: those of the settings)")
    check.add_argument("--wait-s", type=float, default=5.0, help="how long to wait for what must come (default 5)")
    check.add_argument("--json", action="store_true", help="print JSON")
    made = verbs.add_parser("certificate", help="make a certificate for a broker, with all that it has to know")
    made.add_argument(
        "--name", action="append", required=True, metavar="HOST", help="a name of the broker, again for more"
    )
    made.add_argument("-o", "--output", required=True, type=Path, metavar="FOLDER", help="a new folder")
    for each in (check, made):
        each.add_argument("--root", help=f"the fleet's folder (default {default_root})")


def run(arguments: argparse.Namespace, root: Path) -> int:
    """Run one verb; `root` is the fleet's folder.

    Raises:
        FleetError: refused.
    """
    verbs = {"run": _run, "alive": _alive, "check": _check, "certificate": _certificate}
    return verbs[arguments.verb](arguments, root)


def _own_root(arguments: argparse.Namespace) -> Path:
    return Path(arguments.root or os.environ.get("SKERRY_FLEET_ROOT") or BROKER_ROOT)


def shard_of(text: str, host: str) -> int:
    """Return the number of a shard, or the number that the host's name ends in.

    Raises:
        InputError: there is none.

    >>> shard_of("auto", "skerry-broker-2")
    2
    """
    found = re.search(r"(\d+)$", host if text == "auto" else text)
    if found is None or (text != "auto" and not text.isdigit()):
        raise InputError(f"no number of a shard in {host if text == 'auto' else text!r:.60}", hint="give --shard 0")
    return int(found[1])


def _run(arguments: argparse.Namespace, root: Path) -> int:
    import httpx

    from skerry_fleet.broker import joined
    from skerry_fleet.broker.errors import BrokerError

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    shard = shard_of(arguments.shard, socket.gethostname())
    if not arguments.fleet.startswith(("http://", "https://")):
        raise InputError(f"{arguments.fleet!r:.80} is no fleet's address", hint="it looks like http://fleet:8707")
    if arguments.refresh_s <= 0:
        raise InputError("--refresh-s is greater than 0")
    try:
        secret = joined.secret_of(arguments.token_file)
        with httpx.Client(base_url=arguments.fleet, timeout=10.0, trust_env=False) as http:
            broker = joined.JoinedBroker(
                http, secret, shard, _own_root(arguments), arguments.host, arguments.port, arguments.kind
            )
            before = {
                each: signal.signal(each, lambda *_: broker.ended.set()) for each in (signal.SIGTERM, signal.SIGINT)
            }
            try:
                return broker.run(arguments.refresh_s)
            finally:
                for each, handler in before.items():
                    signal.signal(each, handler)
    except (BrokerError, httpx.InvalidURL) as error:
        raise UnavailableError(str(error), hint=getattr(error, "hint", "")) from error


def _alive(arguments: argparse.Namespace, root: Path) -> int:
    from skerry_fleet.broker.hello import say_hello
    from skerry_fleet.broker.joined import credentials_in
    from skerry_fleet.broker.launch import PROBE
    from skerry_fleet.mqtt.errors import MqttError

    if not (_own_root(arguments) / "probe.crt").is_file():
        raise UnavailableError(f"no broker has joined in {_own_root(arguments)} yet", hint="give its --root")
    try:
        code = say_hello("127.0.0.1", arguments.port, credentials_in(_own_root(arguments), "probe"), PROBE, 5.0)
    except (MqttError, OSError) as error:
        raise UnavailableError(f"no broker answers: {error}", hint="see broker.log") from error
    print("the broker answers")
    return int(code != 0)


def _check(arguments: argparse.Namespace, root: Path) -> int:
    from skerry_fleet.fleet import lock_folder

    config = settings.load(root, {})
    text = " ".join(arguments.urls) or config.broker_inner_urls or config.broker_urls
    wanted = settings.addresses(text)
    if not wanted:
        raise InputError("no broker to check", hint="name it: mqtts://HOST:PORT")
    authority = _office(config).authority
    lock = lock_folder(config.root)  # a fleet that serves would take its name back in the middle
    try:
        return _visit(arguments, config, authority, wanted)
    finally:
        os.close(lock)


def _visit(
    arguments: argparse.Namespace, config: settings.FleetConfig, authority: Authority, wanted: Sequence[tuple[str, int]]
) -> int:
    from skerry_fleet.broker import profile

    told, good = [], True
    for host, port in wanted:
        if not arguments.json:
            print(f"mqtts://{host}:{port}")
        for found in profile.check(host, port, authority, config.tenant, time.time(), arguments.wait_s):
            good &= found.holds
            told.append({"broker": f"{host}:{port}", "demand": found.demand, "holds": found.holds, "seen": found.seen})
            if not arguments.json:
                print(
                    f"  {'ok  ' if found.holds else 'FAIL'} {found.demand}" + (f": {found.seen}" if found.seen else "")
                )
    if arguments.json:
        print(json.dumps({"holds": good, "findings": told}))
    elif good:
        print("it does all that the fleet and its devices need")
    return 0 if good else 1


def _certificate(arguments: argparse.Namespace, root: Path) -> int:
    from skerry_fleet import leaving
    from skerry_fleet.broker.mosquitto import ACCESS
    from skerry_fleet.database import Database
    from skerry_fleet.trust import durable

    config = settings.load(root, {})
    authority, folder, now = _office(config).authority, arguments.output, time.time()
    if folder.exists():
        raise InputError(f"{folder} is there already", hint="give a new folder")
    key, certificate = authority.issue_server(arguments.name, now)
    database = Database(config.url)
    try:
        with database.read() as session:
            serials = leaving.revoked_serials(session, now)
    finally:
        database.close()
    durable.make_dirs(folder, 0o700)
    files = {"ca.crt": authority.certificate_pem, "server.crt": certificate, "server.key": key, "access": ACCESS}
    files["revoked.crl"] = authority.revocation_list(serials, now)
    for name, content in files.items():
        durable.write_file(folder / name, content.encode(), 0o600 if name.endswith(".key") else 0o644)
    print(f"{folder}: {', '.join(files)}; good for a year, for {', '.join(arguments.name)}")
    return 0


def _office(config: settings.FleetConfig) -> TrustOffice:
    from skerry_fleet.trust.errors import TrustError
    from skerry_fleet.trust.office import open_office

    if not (config.root / "trust" / "trust.json").is_file():
        raise InputError(f"no fleet in {config.root}", hint="give --root of the fleet")
    try:
        return open_office(config.root / "trust", config.tenant, time.time())
    except (TrustError, OSError) as error:
        raise UnavailableError(f"the fleet's keys: {error}", hint=getattr(error, "hint", "")) from error
