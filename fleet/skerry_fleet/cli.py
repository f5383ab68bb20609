"""`skerry fleet …`: the server, and its API on the command line."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from skerry_contracts.errors import ContractError
from skerry_fleet import cli_alerts, cli_broker, cli_complete, cli_devices, cli_feeds, cli_people
from skerry_fleet.cli_nouns import Noun, Parser
from skerry_fleet.errors import FleetError, InputError, UnavailableError

DEFAULT_URL = "http://127.0.0.1:8707"
DEFAULT_ROOT = "skerry-fleet"
DATABASE_VERBS = ("migrate", "backup", "restore", "retention")
"""What works on the folder and the database of a fleet, not through its API."""


def main(argv: Sequence[str]) -> int:
    """Run one command. Returns 0 when done, 1 when refused, 2 on wrong usage."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        if arguments.noun == "completion":
            print(cli_complete.script(parser), end="")
            return 0
        if arguments.noun == "serve":
            return _serve(arguments)
        if arguments.noun == "ready":
            return _ready(_url(arguments))
        if arguments.noun == "broker":
            return cli_broker.run(arguments, _root(arguments))
        if arguments.noun in DATABASE_VERBS:
            from skerry_fleet import cli_database

            return cli_database.run(arguments, _root(arguments))
        if getattr(arguments, "head", "") and not arguments.files:
            raise InputError("--head is looked for in files", hint="skerry fleet audit export -o FILE first")
        if getattr(arguments, "files", None):
            return cli_people.verify_files([Path(each) for each in arguments.files], arguments.head, arguments.json)
        from skerry_fleet import cli_verbs  # httpx is loaded only where a request is made

        return cli_verbs.run(arguments, _url(arguments), _key(arguments))
    except (FleetError, ContractError) as error:
        said = f"{error}" + (f" ({error.hint})" if error.hint else "")
        print("skerry: error: " + "".join(each if each.isprintable() else "?" for each in said), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 1


def _serve(arguments: argparse.Namespace) -> int:
    from skerry_fleet import config

    names = ["host", "port", "broker", "broker_host", "broker_port", "shards", "swarm_port", "silent_after_s"]
    names.append("database_url")
    settings = config.load(_root(arguments), {name: getattr(arguments, name) for name in names})
    gc.disable()  # until all is loaded
    from skerry_fleet import serve  # the server's libraries, only now

    return serve.serve(settings)


def _ready(url: str) -> int:
    """Ask a fleet whether it is ready; return 0 where it is. It starts no library: containers ask every half minute."""
    from urllib.request import urlopen

    try:
        with urlopen(f"{url}/readyz", timeout=10) as answer:
            print(answer.read().decode("ascii", "replace"))
            return 0
    except (OSError, ValueError) as error:  # 503 is an OSError, too
        why = getattr(error, "reason", None) or error
        why = getattr(why, "strerror", None) or why
        raise UnavailableError(f"the fleet at {url} is not ready: {why}", hint="see its log") from error


def _root(arguments: argparse.Namespace) -> Path:
    return Path(arguments.root or os.environ.get("SKERRY_FLEET_ROOT") or DEFAULT_ROOT)


def _url(arguments: argparse.Namespace) -> str:
    return str(arguments.url or os.environ.get("SKERRY_FLEET_URL") or DEFAULT_URL)


def _key(arguments: argparse.Namespace) -> str:
    """Return the API key: --key (text, or a file), the environment, or the admin's key in the root folder."""
    given = arguments.key or os.environ.get("SKERRY_FLEET_KEY") or str(_root(arguments) / "admin.key")
    if given.startswith("sk1_"):
        return str(given)
    try:
        return Path(given).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"no API key: cannot read {given}", hint="give --key, SKERRY_FLEET_KEY, or --root of the fleet"
        ) from error


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = Parser(prog="skerry fleet", description="The manager of all devices.")
    nouns = parser.add_subparsers(dest="noun", required=True, metavar="NOUN")
    serve = nouns.add_parser("serve", help="run the manager: API, broker, rollouts")
    serve.add_argument("--root", help=f"where everything is kept (default {DEFAULT_ROOT})")
    serve.add_argument("--host", help="address of the API (default 127.0.0.1)")
    serve.add_argument("--port", type=int, help="port of the API (default 8707; 0: any)")
    serve.add_argument(
        "--broker", choices=["auto", "mosquitto", "embedded", "external"], help="which broker (default auto)"
    )
    serve.add_argument("--broker-host", help="address of the broker (default 127.0.0.1)")
    serve.add_argument("--broker-port", type=int, help="port of the broker (default: any, then always the same)")
    serve.add_argument("--shards", type=int, help="broker processes to spread devices over (default 1)")
    serve.add_argument("--swarm-port", type=int, help="also listen here without TLS, for simulated devices")
    serve.add_argument("--silent-after-s", type=float, help="when an unheard device raises an alert (default 180)")
    serve.add_argument("--database-url", help="another database than SQLite in the root folder")
    _databases(nouns)
    cli_broker.add(nouns, DEFAULT_ROOT)
    ready = nouns.add_parser("ready", help="ask whether the fleet is ready: database, broker; exit 0 or 1")
    ready.add_argument("--url", help=f"the fleet's address (default {DEFAULT_URL}, or SKERRY_FLEET_URL)")
    nouns.add_parser("completion", help="print what makes a shell complete these words")
    common = _common()
    _people(nouns, common)
    cli_devices.add(nouns, common)
    _bundles(nouns, common)
    _rollouts(nouns, common)
    _shadows(nouns, common)
    _measuring(nouns, common)
    cli_alerts.add(nouns, common)
    cli_feeds.add(nouns, common)
    cli_people.add(nouns, common)
    return parser


def _databases(nouns: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--root", help=f"the fleet's folder (default {DEFAULT_ROOT})")
    common.add_argument("--database-url", help="the database, where it is not SQLite in the root folder")
    common.add_argument("--json", action="store_true", help="print JSON")
    migrate = nouns.add_parser("migrate", help="bring the database to this version's tables", parents=[common])
    how = migrate.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="only say where it is; exit 1 if steps are missing")
    how.add_argument("--sql", action="store_true", help="only print the SQL that would be run")
    how.add_argument("--to", metavar="STEP", help="up to this step (default: the newest)")
    keep = nouns.add_parser("backup", help="write everything to one file, while the fleet serves", parents=[common])
    keep.add_argument("file")
    keep.add_argument("--without-keys", action="store_true", help="leave out private keys: they are kept elsewhere")
    back = nouns.add_parser("restore", help="make a fleet anew from a backup", parents=[common])
    back.add_argument("file")
    old = nouns.add_parser("retention", help="delete what is older than the settings say", parents=[common])
    old.add_argument("--dry-run", action="store_true", help="only say what would be deleted, while the fleet serves")
    for each in (keep, back):
        each.add_argument("--passphrase-file", metavar="FILE", help="encrypt for the passphrase in its first line")


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", help=f"the fleet's address (default {DEFAULT_URL}, or SKERRY_FLEET_URL)")
    common.add_argument(
        "--key", help="API key, or a file that holds it (default SKERRY_FLEET_KEY, or admin.key in --root)"
    )
    common.add_argument("--root", help="the fleet's folder, to find admin.key")
    common.add_argument("--json", action="store_true", help="print JSON")
    common.add_argument("--limit", type=int, default=1000, help="items of a list at most (default 1000)")
    return common


def _people(nouns: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    nouns.add_parser("overview", help="the fleet in a few numbers", parents=[common])


def _bundles(nouns: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    model = Noun(nouns, "model", "registered models", common)
    model.verb("register", "make a model known", "model").add_argument("--description", default="")
    model.verb("list", "models").add_argument("--q", help="only names that begin so")
    cli_feeds.add_to_model(model)
    bundle = Noun(nouns, "bundle", "bundles in the registry", common)
    upload = bundle.verb("upload", "give the fleet a .skerry file", "file")
    upload.add_argument("--model", help="default: the model the file names")
    upload.add_argument("--draft", action="store_true", help="keep it, but do not publish it yet")
    listing = bundle.verb("list", "bundles of a model")
    listing.add_argument("--model", required=True)
    listing.add_argument("--target", help="only for this board")
    bundle.verb("show", "manifest, evidence and state of a bundle", "bundle")
    bundle.verb("publish", "list a draft for devices", "bundle")
    bundle.verb("withdraw", "take a bundle off the list", "bundle")


def _rollouts(nouns: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    rollout = Noun(nouns, "rollout", "bringing a bundle to devices, and back", common)
    start = rollout.verb("start", "start a rollout")
    start.add_argument("--model", required=True)
    start.add_argument("--bundle", required=True, help="id, or a beginning of it that fits only one")
    start.add_argument("--group", help="default: all devices")
    _plan(start)
    start.add_argument("--allow-downgrade", action="store_true", help="an older release is meant")
    start.add_argument("--supersede", action="store_true", help="take devices over from rollouts under way")
    start.add_argument("--sampling", help='as JSON, such as {"random_share": 0.05, "sketch_seconds": 60}')
    start.add_argument("--window", help="activate only from HH:MM local time, for MINUTES: 02:00/120")
    start.add_argument("--dry-run", action="store_true", help="say what it would do, and do nothing")
    start.add_argument(
        "--wait", action="store_true", help="show progress until it is over; exit 1 if it was taken back"
    )
    listing = rollout.verb("list", "rollouts, newest first")
    listing.add_argument("--model")
    listing.add_argument("--status", help="one status, or active")
    rollout.verb("show", "where a rollout stands", "rollout")
    rollout.verb("devices", "the devices of a rollout", "rollout").add_argument("--place")
    rollout.verb("evidence", "how devices with the bundle do beside devices without it", "rollout")
    rollout.verb("wait", "show progress until a rollout is over", "rollout")
    for verb, text in (
        ("approve", "let a rollout begin"),
        ("pause", "make no more offers"),
        ("resume", "go on"),
        ("abort", "stop; unconfirmed devices go back"),
        ("rollback", "take every device back"),
    ):
        rollout.verb(verb, text, "rollout").add_argument("--reason", default="")


def _plan(verb: argparse.ArgumentParser) -> None:
    """Add the flags that say how a rollout goes."""
    verb.add_argument("--canary", type=int, help="devices that must confirm first (default 1)")
    verb.add_argument("--waves", help="rising percentages, such as 25,50,100 (default 100)")
    verb.add_argument("--soak-s", type=float, help="how long a device must serve before it counts (default 30)")
    verb.add_argument("--failure-budget", type=int, help="more failures take everything back (default 0)")
    verb.add_argument("--exposure-budget", type=int, help="devices unconfirmed or failed at any time (default 5)")
    verb.add_argument("--timeout-s", type=float, help="an unconfirmed device counts as failed after (default a day)")
    verb.add_argument("--per-minute", type=float, help="offers a minute at most (default: no limit)")
    verb.add_argument("--growth", type=float, help="that many times faster (2), each time --grow-after have confirmed")
    verb.add_argument("--grow-after", type=int, help="devices (default: never faster)")
    verb.add_argument("--bytes-per-s", type=int, help="what all devices together may fetch (default: no limit)")
    verb.add_argument("--holdout", type=int, help="percent of devices that wait till the end, to compare with (0)")
    verb.add_argument(
        "--alpha", type=float, help="chance of taking a harmless bundle back by comparison (0.05; 0: off)"
    )
    verb.add_argument("--approval", action="store_true", help="wait for `rollout approve`")


def _shadows(nouns: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    shadow = Noun(nouns, "shadow", "trying a bundle beside the one that serves", common)
    start = shadow.verb("start", "start a shadow: it answers, serves nobody, and what it says otherwise is counted")
    start.add_argument("--model", required=True)
    start.add_argument("--bundle", required=True, help="id, or a beginning of it that fits only one")
    start.add_argument("--group", help="default: all devices that run the model")
    start.add_argument("--devices", nargs="+", metavar="DEVICE", help="only these")
    start.add_argument("--days", type=float, help="ends by itself after (default 7)")
    start.add_argument("--share", type=float, help="of the predictions, at most (default 0.1)")
    start.add_argument("--cpu-share", type=float, help="of one core on each device, on the long run (default 0.1)")
    start.add_argument("--memory-mb", type=float, help="of its worker, at most (default: what models leave)")
    start.add_argument("--max-c", type=float, help="pause from so many degrees Celsius (default 70)")
    start.add_argument("--min-battery", type=float, help="pause on a battery below this share (default 0.5)")
    start.add_argument("--tolerance", type=float, help="relative difference of outputs that still agrees (default 0.1)")
    start.add_argument("--report-s", type=int, help="seconds between a device's reports (default 300)")
    listing = shadow.verb("list", "shadows, newest first")
    listing.add_argument("--model")
    listing.add_argument("--status", choices=["running", "promoted", "ended"])
    shadow.verb("show", "what a shadow came to", "shadow")
    shadow.verb("devices", "the devices of a shadow, each with its figures", "shadow")
    shadow.verb("samples", "the newest inputs on which it disagreed (with --json: both answers)", "shadow")
    shadow.verb("end", "end a shadow on every device", "shadow").add_argument("--reason", default="")
    promote = shadow.verb("promote", "start a rollout of a shadow's bundle", "shadow")
    promote.add_argument("--group", help="default: where the shadow was")
    _plan(promote)
    promote.add_argument("--wait", action="store_true", help="show progress until it is over")


def _measuring(nouns: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    lease = Noun(nouns, "lease", "boards lent to compilers for measuring", common)
    lease.verb("list", "leases, newest first").add_argument("--status", help="one status, such as measuring")
    lease.verb("show", "where a lease stands", "lease")
    lease.verb("cancel", "end a lease", "lease").add_argument("--reason", default="")
    measured = Noun(nouns, "measurements", "the performance database: what boards measured", common)
    listing = measured.verb("list", "what was measured, newest first")
    listing.add_argument("--profile", help="only on boards of this profile")
    listing.add_argument("--device", help="only on this device")
    listing.add_argument("--source", metavar="SHA256", help="only of the model with this digest")
    listing.add_argument("--lease", help="only of this lease")
    measured.verb("show", "one measurement with every round", "measurement")
