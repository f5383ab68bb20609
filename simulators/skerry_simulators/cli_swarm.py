"""`skerry sim swarm`: very many devices on a real broker and a real fleet."""

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
    from skerry_simulators.swarm.scenarios import Figures, Wish

SCENARIOS = ("steady", "drop", "silence", "flap", "kill", "drift", "rollout", "bad-model")
"""See docs/simulators.md."""
_RELEASES = ("drift", "rollout", "bad-model")
_SILENT_S = 8.0
_SAY_EVERY_S = 5.0


def add_words(commands: Any) -> None:
    """Add the command to the parser's."""
    swarm = commands.add_parser(
        "swarm",
        help="very many devices (50 000 and more) on real brokers and a real fleet manager, with faults",
        description="Start a fleet manager with its brokers in a folder of its own, let simulated devices in, connect "
        "them, and take them through a scenario. They speak the real contracts over a port for simulated devices "
        "alone, or with --tls as devices do. A scenario that does not come out as it must ends with 1.",
    )
    swarm.add_argument("--devices", type=count, default=1000, metavar="N", help="how many devices (1000)")
    swarm.add_argument("--shards", type=count, default=0, metavar="S", help="brokers (as many as the devices need)")
    swarm.add_argument("--processes", type=count, default=0, metavar="P", help="processes that play devices (the same)")
    swarm.add_argument("--tls", action="store_true", help="enrol each device, and connect it with its certificate")
    swarm.add_argument(
        "--scenario", choices=SCENARIOS, nargs="+", default=["steady"], help="what they go through (steady)"
    )
    swarm.add_argument("--seconds", type=_seconds, default=20.0, metavar="T", help="how long a scenario lasts (20)")
    swarm.add_argument("--rate", type=_seconds, default=0.0, metavar="R", help="samples a second, all devices together")
    swarm.add_argument(
        "--limit", type=_seconds, default=300.0, metavar="T", help="how long to wait for anything (300 s)"
    )
    swarm.add_argument(
        "--database-url",
        default="",
        metavar="URL",
        help="the fleet's database, an empty one of PostgreSQL (SQLite in the fleet's folder)",
    )
    swarm.add_argument("--root", type=Path, metavar="DIR", help="keep the fleet, its log and keys in this new folder")
    swarm.add_argument("--json", action="store_true", help="the figures as JSON")
    swarm.set_defaults(command=_swarm)


def _swarm(arguments: argparse.Namespace) -> int:
    from skerry_simulators.errors import SimulatorError
    from skerry_simulators.swarm.scenarios import Wish

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    names = ("devices", "shards", "processes", "seconds", "rate", "tls", "database_url")
    wish = Wish(**{name: getattr(arguments, name) for name in names}, limit_s=arguments.limit, beats_s=60.0)
    if "silence" in arguments.scenario:
        wish = dataclasses.replace(wish, beats_s=_SILENT_S / 4)
    say = _Progress()
    try:
        with tempfile.TemporaryDirectory(prefix="skerry-swarm-", ignore_cleanup_errors=True) as made:
            root = (arguments.root or Path(made, "run")).absolute()
            if root.exists() and any(root.iterdir()):
                raise SimulatorError(f"{root} is not empty", hint="give a new folder")
            root.mkdir(parents=True, exist_ok=True)
            found = _run(root, wish, arguments.scenario, say)
    except SimulatorError as error:
        say.clear()
        print(f"skerry: error: {error} ({error.hint})" if error.hint else f"skerry: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    say.clear()
    if arguments.json:
        print(json.dumps(found))
    else:
        for scenario, figures in found.items():
            print(scenario)
            for name, value in figures.items():
                print(f"  {name:<24} {value if isinstance(value, bool) else format(round(value, 3), ',')}")
    wrong = _wrong(found)
    for words in wrong:
        print(f"  WRONG: {words}", file=sys.stderr)
    return 1 if wrong else 0


def _run(root: Path, wish: Wish, wanted: list[str], say: _Progress) -> dict[str, Figures]:
    from skerry_simulators.swarm import releases, scenarios

    settings: dict[str, object] = {"silent_after_s": _SILENT_S} if "silence" in wanted else {}
    with scenarios.stage(root, wish, say, **settings) as on:
        found = {"connect": scenarios.connect(on)}
        for scenario in wanted:
            room = releases if scenario in _RELEASES else scenarios
            found[scenario] = getattr(room, scenario.replace("-", "_"))(on)
    return found


def _wrong(found: dict[str, Figures]) -> list[str]:
    """Return in words what did not come out as it must."""
    wrong = []
    for scenario, figures in found.items():
        if figures.get("lost"):
            wrong.append(f"{scenario}: {figures['lost']:,} samples were acknowledged and are not stored")
        if figures.get("wrongly_silent"):
            wrong.append(f"{scenario}: {figures['wrongly_silent']:,} devices that spoke were called silent")
        if figures.get("complete") is False or figures.get("rolled_back") is False:
            wrong.append(f"{scenario}: the rollout did not end as it must")
        if figures.get("exposed", 0) > figures.get("budget", float("inf")):
            wrong.append(f"{scenario}: {figures['exposed']} devices were exposed, the budget was {figures['budget']}")
        if figures.get("alerts", 1) != 1:
            wrong.append(f"{scenario}: {figures['alerts']} alerts for one thing")
    return wrong


class _Progress:
    """One line that is written over, on a terminal; a line now and then elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._said_s = 0.0

    def __call__(self, words: str) -> None:
        now_s = time.monotonic()
        if self._terminal:
            print(f"\r\x1b[K{words}", end="", file=sys.stderr, flush=True)
        elif now_s - self._said_s >= _SAY_EVERY_S:
            self._said_s = now_s
            print(words, file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self._terminal:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < 1e6:
        raise argparse.ArgumentTypeError("greater than 0")
    return number
