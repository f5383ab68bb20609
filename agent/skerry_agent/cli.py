"""`skerry agent enroll|run|status|doctor|unit|import|carry-out|carry-in|tuf-client`.

Heavy libraries come with the command that needs them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from skerry_agent.config import DEFAULT_ROOT, LOG_LEVELS, AgentConfig, load
from skerry_agent.errors import AgentError, ConfigError
from skerry_agent.trust import tuf_client
from skerry_contracts.errors import ContractError


def main(argv: Sequence[str]) -> int:
    """Run one command; return 0 (done), 1 (refused) or 2 (usage)."""
    arguments = _parser().parse_args(list(argv))
    try:
        result: int = arguments.command(arguments)
        return result
    except (AgentError, ContractError) as error:
        hint = f" ({error.hint})" if error.hint else ""
        print(f"skerry: error: {error}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skerry agent", description="The device daemon.")
    words = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    enrol = words.add_parser("enroll", help="give this device its identity, with a claim token from the fleet")
    enrol.add_argument("--fleet", required=True, metavar="URL", help="the fleet's address, as http://HOST:PORT")
    enrol.add_argument("--claim", required=True, metavar="TOKEN", help="the line `skerry fleet claim create` printed")
    enrol.add_argument("--device", metavar="NAME", help="the device's name (the fleet chooses one otherwise)")
    enrol.set_defaults(command=_enrol)

    run = words.add_parser("run", help="run the daemon until SIGTERM")
    run.add_argument("--api-port", type=int, metavar="N", help="serve the local API at this loopback port too (0: any)")
    run.add_argument("--grpc-port", type=int, metavar="N", help="serve gRPC, at this loopback port too (0: any)")
    run.add_argument("--heartbeat", type=float, metavar="S", dest="heartbeat_s", help="seconds between heartbeats")
    run.add_argument("--log-level", choices=LOG_LEVELS, help="how much is logged (default info)")
    run.set_defaults(command=_run)

    status = words.add_parser("status", help="ask the running daemon how it fares")
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(command=_status)

    doctor = words.add_parser("doctor", help="check everything this device needs, and say what to do where it is ill")
    doctor.add_argument("--json", action="store_true", help="print JSON")
    doctor.set_defaults(command=_doctor)

    unit = words.add_parser("unit", help="print a systemd unit for this agent, with watchdog and hardening")
    unit.add_argument("--user", default="skerry", metavar="NAME", help="whom the agent runs as (default skerry)")
    unit.set_defaults(command=_unit)

    put = words.add_parser("import", help="install a bundle from a file as the factory model, which is never removed")
    put.add_argument("bundle", type=Path, metavar="B.skerry")
    put.set_defaults(command=_import)

    out = words.add_parser("carry-out", help="write what waits for the fleet to a file, where no network reaches it")
    out.add_argument("file", type=Path, metavar="FILE")
    out.set_defaults(command=_carry_out)

    back = words.add_parser("carry-in", help="take in the fleet's answer to that file, or an update from the fleet")
    back.add_argument("file", type=Path, metavar="ANSWER|UPDATE")
    back.set_defaults(command=_carry_in)

    client = words.add_parser("tuf-client", help="the update client alone, against any TUF repository")
    tuf_client.add_words(client)
    client.set_defaults(command=tuf_client.run)

    for each in (enrol, run, status, doctor, unit, put, out, back):
        each.add_argument("--root", type=Path, metavar="DIR", help=f"the agent's folder (default {DEFAULT_ROOT})")
    return parser


def _config(arguments: argparse.Namespace) -> AgentConfig:
    """Return the settings: defaults < config.toml < environment < flags.

    Raises:
        ConfigError: see `config.load`.
    """
    root = arguments.root or Path(os.environ.get("SKERRY_AGENT_ROOT") or DEFAULT_ROOT)
    try:
        text = (root / "config.toml").read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{root / 'config.toml'}: {error}", hint="make it a readable text file") from error
    flags = {name: getattr(arguments, name, None) for name in ("api_port", "grpc_port", "heartbeat_s", "log_level")}
    return load(text, os.environ, {**flags, "root": root.absolute()})


def _enrol(arguments: argparse.Namespace) -> int:
    from skerry_agent.disk import RealDisk
    from skerry_agent.this_device import this_hardware
    from skerry_agent.trust.enrol import enrol
    from skerry_agent.trust.transfer import Fleet

    disk = RealDisk(_config(arguments).root)
    disk.mkdir("")
    fleet = Fleet(arguments.fleet)
    try:
        found = enrol(disk, fleet, arguments.fleet, arguments.claim, arguments.device, this_hardware())
    finally:
        fleet.close()
    print(f"enrolled as {found.enrolment.tenant}/{found.enrolment.device}; now: skerry agent run --root {disk.root}")
    return 0


def _run(arguments: argparse.Namespace) -> int:
    import asyncio

    from skerry_agent import journal
    from skerry_agent.daemon import serve

    config = _config(arguments)
    journal.begin(config.log_level, os.environ.get("JOURNAL_STREAM"))
    asyncio.run(serve(config))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    from skerry_agent.status import ask_status

    found = ask_status(_config(arguments).root / "run" / "api.sock")
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 0
    spool = found["spool"]
    state = "online" if found["online"] else "offline"
    print(f"{found['tenant']}/{found['device']}  {state}  up {found['uptime_s']:.0f} s")
    for model, record in found["models"].items():
        active = record.get("active")
        serves = f"{active['version']} {active['bundle'][:12]} ({active['variant']})" if active else "nothing"
        print(f"  {model}: {record['stage']}, serves {serves}")
    for worker in found["workers"]:
        size = f"{worker['counted_bytes'] / 1e6:.0f} MB" if worker["counted_bytes"] else "not in memory"
        count, wanted = worker["instances"], worker["instances_wanted"]
        several = f"{count} of {wanted} workers, " if wanted > 1 else ""
        words = f"{worker['state']}, {several}{size}, cold start {worker['cold_start_ms']:.0f} ms"
        print(f"  worker {worker['model']}: {words}")
    if (grpc := found.get("grpc")) is not None:
        port = f" and port {grpc['port']}" if grpc.get("port") else ""
        print(f"  gRPC: {'at ' + grpc['socket'] + port if grpc['serving'] else 'not served'}")
    print(f"  spool: {spool['waiting']} waiting, {spool['acked']} acknowledged, {spool['dropped']} dropped")
    for key, words in found["degraded"].items():
        print(f"  degraded: {key}: {words}")
    for each in found.get("drift", ()):
        print(f"  drift: {each['model']}: {each['source']} went from {each['before']:.4g} to {each['after']:.4g}")
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    import dataclasses

    from skerry_agent import doctor

    findings = list(doctor.examine(_config(arguments)))
    if arguments.json:
        checks = [dataclasses.asdict(each) for each in findings]
        print(json.dumps({"well": doctor.healthy(findings), "checks": checks}, indent=2))
    else:
        print("\n".join(doctor.lines(findings)))
    return 0 if doctor.healthy(findings) else 1


def _unit(arguments: argparse.Namespace) -> int:
    from skerry_agent import unit

    print(unit.render(_config(arguments).root, user=arguments.user), end="")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from skerry_agent.factory import install_factory

    model, bundle = install_factory(_config(arguments).root, arguments.bundle)
    print(f"{model}: {bundle} is the factory model now")
    return 0


def _carry_out(arguments: argparse.Namespace) -> int:
    from skerry_agent.carrying import carry_out

    count = carry_out(_config(arguments).root, arguments.file)
    if count:
        print(f"{arguments.file}: {count} messages; next: skerry fleet device carry-in {arguments.file.name} -o ANSWER")
    else:
        print("nothing waits for the fleet: no file was written")
    return 0


def _carry_in(arguments: argparse.Namespace) -> int:
    import time

    from skerry_agent.carrying import carry_in
    from skerry_agent.carrying_update import carry_update_in, is_update

    config = _config(arguments)
    if is_update(arguments.file):
        assignment = carry_update_in(config, arguments.file, time.time())
        models = ", ".join(f"{each.model} {each.version}" for each in assignment.models) or "no models"
        print(f"assignment {assignment.sequence} ({models}) is taken up at the next start: skerry agent run")
        return 0
    found = carry_in(config, arguments.file)
    print(f"{found.removed} messages are the fleet's now and were removed here, {found.waiting} wait")
    return 0
