"""`skerry sim chaos`: real broker, manager and devices under kill -9 and a bad network."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry_simulators.cli_words import count

if TYPE_CHECKING:
    from skerry_simulators.chaos.reckoning import Report

EVERY_S = 10.0


def add_words(commands: Any) -> None:
    """Add the command to the parser's."""
    chaos = commands.add_parser(
        "chaos",
        help="real broker, manager and devices, killed again and again on a bad network: is all stored, and once?",
        description="Start a fleet manager with its broker and some devices, all real processes; lose a tenth of all "
        "packets, kill -9 broker, manager, devices and what pulls samples into the lake, cut and reset connections, "
        "fill disks; then compare what devices promised with what was stored. The same seed makes the same plan of "
        "what goes wrong; what it meets is never the same.",
    )
    chaos.add_argument("--samples", type=count, default=10_000, metavar="N", help="samples to be kept (10 000)")
    chaos.add_argument(
        "--devices", type=count, default=6, metavar="D", help="devices with a feed (6; one more is asked)"
    )
    chaos.add_argument("--seed", type=int, default=1, metavar="S", help="the plan's seed (1)")
    chaos.add_argument(
        "--kills", type=int, default=5, metavar="K", help="kills of broker, manager, devices and puller each (5)"
    )
    chaos.add_argument("--cuts", type=int, default=2, metavar="C", help="cuts of each kind, and full disks (2)")
    chaos.add_argument("--longest-s", type=float, default=5.0, metavar="T", help="the longest a cut lasts (5)")
    chaos.add_argument("--loss", type=_share, default=0.1, metavar="P", help="share of packets lost, each way (0.1)")
    chaos.add_argument("--network", choices=("auto", "namespaces", "proxy"), default="auto", help="what joins them")
    chaos.add_argument("--broker", choices=("auto", "mosquitto", "embedded"), default="auto", help="which broker")
    chaos.add_argument(
        "--root", type=Path, metavar="DIR", help="keep logs, histories and the database in this new folder"
    )
    chaos.add_argument("--json", action="store_true", help="the outcome as JSON")
    chaos.set_defaults(command=_chaos)


def _chaos(arguments: argparse.Namespace) -> int:
    from skerry_simulators.chaos import namespaces, run
    from skerry_simulators.chaos.plan import Settings
    from skerry_simulators.errors import SimulatorError

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        network = run.choose(arguments.network)
        if network == "namespaces" and not namespaces.inside():
            return run.enter(_again(arguments))
        names = ("samples", "devices", "seed", "kills", "cuts", "longest_s", "loss", "broker")
        settings = Settings(**{name: getattr(arguments, name) for name in names}, network=network)
        with tempfile.TemporaryDirectory(prefix="skerry-chaos-", ignore_cleanup_errors=True) as made:
            root = (arguments.root or Path(made, "run")).absolute()
            if root.exists() and any(root.iterdir()):
                raise SimulatorError(f"{root} is not empty", hint="give a new folder")
            root.mkdir(parents=True, exist_ok=True)
            report = run.run_chaos(root, settings, _say, _Progress())
    except SimulatorError as error:
        print(f"skerry: error: {error} ({error.hint})", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        found = {**dataclasses.asdict(report), "kills": report.kills, "rate": round(report.rate, 1)}
        print(json.dumps(found))
    else:
        _show(report)
    return 1 if report.wrong or report.lost or report.duplicated else 0


def _again(arguments: argparse.Namespace) -> list[str]:
    words = ["--network", "namespaces"]
    for name, value in vars(arguments).items():
        if name not in ("command", "json", "network") and value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return [*words, *(["--json"] if arguments.json else [])]


def _show(report: Report) -> None:
    dealt = ", ".join(f"{number} {name}" for name, number in report.dealt.items())
    print(f"{report.network}: {dealt}; {report.lives} lives of devices, {report.seconds:.0f} s")
    if report.fell:
        print(f"{report.fell} times a process ended by itself, and was started again")
    print(f"{report.samples:,} samples promised, {report.captures:,} of them to a program on a device")
    print(
        f"{report.stored:,} stored ({report.rate:,.0f}/s), {report.spooled:,} still spooled, "
        f"{report.given_up:,} given up and counted"
    )
    print(f"{report.lake:,} in the lake")
    print(f"{report.lost:,} lost, {report.duplicated:,} stored twice")
    for words in report.wrong:
        print(f"  WRONG: {words}")


def _say(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


class _Progress:
    """A line now and then."""

    def __init__(self) -> None:
        self._said_s = time.monotonic()

    def __call__(self, done: int, count: int) -> None:
        if time.monotonic() - self._said_s > EVERY_S:
            self._said_s = time.monotonic()
            _say(f"{done:,} of {count:,} kept")


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError("from 0 to less than 1")
    return number
