"""`skerry sim …`: worlds under bad luck, and a process killed at every durable operation of an update."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from skerry_simulators import cli_board, cli_chaos, cli_power, cli_swarm
from skerry_simulators.cli_words import Progress, count
from skerry_simulators.faults import BUGS

if TYPE_CHECKING:
    from skerry_simulators.killpoints import Outcome
    from skerry_simulators.runner import Report


def main(argv: Sequence[str]) -> int:
    """Run one command; return 0 (done), 1 (a violation, or refused) or 2 (usage)."""
    parser = _parser()
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as end:
        return int(end.code or 0)
    command: Callable[[argparse.Namespace], int] = arguments.command
    return command(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skerry sim", description="The real device and fleet cores in a false world.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    world = commands.add_parser(
        "world",
        help="many devices and the fleet under loss, crashes, power cuts, wrong clocks, full disks and bad models",
        description="Run worlds in virtual time and check the invariants after every event. The same seed gives the "
        "same history, to the byte.",
    )
    world.add_argument("--devices", type=count, default=100, metavar="N", help="devices in each world (100)")
    world.add_argument("--seed", type=int, default=1, metavar="S", help="the first world's seed (1)")
    world.add_argument("--seeds", type=count, default=1, metavar="K", help="how many worlds, seeds counting up (1)")
    world.add_argument("--days", type=_days, default=1.0, metavar="D", help="days of bad luck in each world (1)")
    world.add_argument("--shadows", action="store_true", help="candidates beside what serves, good and bad ones")
    world.add_argument("--bug", choices=sorted(BUGS), help="plant a bug, to see that it is found")
    world.add_argument("--jobs", type=count, default=1, metavar="J", help="worlds at the same time, each a process (1)")
    world.add_argument("--json", action="store_true", help="the reports as JSON")
    world.set_defaults(command=_world)
    _update_words(commands)
    kill = commands.add_parser(
        "kill",
        help="one update on a real folder, its process killed at every durable operation",
        description="Kill the process of one update at each system call that changes the disk, restart it, and check.",
    )
    kill.add_argument("--no-strace", action="store_true", help="kill between operations of disk and ledger only")
    kill.add_argument("--json", action="store_true", help="the outcome as JSON")
    kill.set_defaults(command=_kill)
    bad = commands.add_parser(
        "errors",
        help="one update on a real folder, each of its durable operations failing (disk full, I/O error, read-only)",
        description="Let each system call that changes the disk fail, and each operation of disk and ledger, once or "
        "from there on; as root, fill a small file system for real. It must live, say so, and finish the update.",
    )
    bad.add_argument("--no-strace", action="store_true", help="operations of disk and ledger only")
    bad.add_argument("--every", type=count, default=1, metavar="N", help="only every N-th of all these (1)")
    bad.add_argument("--json", action="store_true", help="the outcome as JSON")
    bad.set_defaults(command=_errors)
    hostile = commands.add_parser(
        "hostile",
        help="models that crash, hang, hoard, lie and attack, in real workers beside one that behaves",
        description="Run each hostile model under a real supervisor: it must live, the other model must answer right, "
        "nothing outside may be touched, nothing may be left behind.",
    )
    hostile.add_argument("names", nargs="*", metavar="NAME", help="only these models (all)")
    hostile.add_argument("--json", action="store_true", help="the outcomes as JSON")
    hostile.set_defaults(command=_hostile)
    mutants = commands.add_parser(
        "mutants",
        help="safety bugs planted in copies of the agent's sources: do the tests notice?",
        description="Plant each bug in a copy of the sources and run the tests that must notice. Needs a checkout.",
    )
    mutants.add_argument("names", nargs="*", metavar="NAME", help="only these mutants (all)")
    mutants.add_argument("--jobs", type=count, default=1, metavar="J", help="mutants at the same time (1)")
    mutants.add_argument("--json", action="store_true", help="the verdicts as JSON")
    mutants.set_defaults(command=_mutants)
    cli_power.add(commands)
    cli_chaos.add_words(commands)
    cli_swarm.add_words(commands)
    cli_board.add(commands)
    return parser


def _update_words(commands: Any) -> None:
    updates = commands.add_parser(
        "updates",
        help="worlds that do little but update under many faults: how many updates succeed, how many devices end dead",
        description="Run worlds until so many updates were hit by a fault and had an outcome; count what they came to.",
    )
    updates.add_argument("--updates", type=count, default=10_000, metavar="N", help="faulted updates (10000)")
    updates.add_argument("--devices", type=count, default=100, metavar="N", help="devices in each world (100)")
    updates.add_argument("--days", type=_days, default=1.5, metavar="D", help="days of bad luck in each world (1.5)")
    updates.add_argument("--seed", type=int, default=1, metavar="S", help="the first world's seed (1)")
    updates.add_argument("--jobs", type=count, default=1, metavar="J", help="worlds at the same time (1)")
    updates.add_argument("--json", action="store_true", help="the figures as JSON")
    updates.set_defaults(command=_updates)


def _world(arguments: argparse.Namespace) -> int:
    from skerry_simulators.runner import run_worlds
    from skerry_simulators.world import Settings

    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    shadows = arguments.shadows
    worlds = [Settings(arguments.devices, seed, arguments.days, shadows=shadows) for seed in seeds]
    found: list[Report] = []
    with Progress() as progress:
        for report in run_worlds(worlds, arguments.bug or "", jobs=arguments.jobs, progress=progress.share):
            progress.clear()
            found.append(report)
            if not arguments.json:
                print(_line(report), flush=True)
    broken = [report for report in found if report.violation is not None]
    if arguments.json:
        print(json.dumps(_plain(found)))
    else:
        days, events = sum(each.device_days for each in found), sum(each.events for each in found)
        print(f"{days:,.0f} device-days, {events:,} events, {len(broken)} of {len(found)} worlds with a violation")
        for report in broken:
            _explain(report, arguments.bug)
    if broken:
        first = broken[0]
        message = first.violation.message if first.violation is not None else ""
        again = _again(first, arguments.bug)
        print(f"skerry: error: seed {first.seed}: {message} (replay: {again})", file=sys.stderr)
    return 1 if broken else 0


def _updates(arguments: argparse.Namespace) -> int:
    from skerry_simulators.storm import run_storm

    with Progress() as progress:
        found = run_storm(
            arguments.updates,
            seed=arguments.seed,
            jobs=arguments.jobs,
            devices=arguments.devices,
            days=arguments.days,
            heard=lambda _, faulted: progress.share(min(1.0, faulted / arguments.updates)),
        )
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found)))
    else:
        print(f"{found.updates} updates on {found.device_days:,.0f} device-days, {found.unfaulted} without a fault")
        print(f"{found.succeeded} of {found.faulted} faulted updates succeeded ({found.share:.3%}), ", end="")
        print(f"{found.superseded} more were superseded before they were done; {found.bricks} bricks")
        for kind, hits in found.kinds.items():
            print(f"  {hits:>6} hit by {kind}")
        for words in (*found.lost, *found.violations):
            print(f"  {words}")
    return 1 if found.bricks or found.violations else 0


def _kill(arguments: argparse.Namespace) -> int:
    from skerry_simulators.killpoints import enumerate_points

    strace = False if arguments.no_strace else None
    return _enumerated(arguments, "kill points", lambda progress: enumerate_points(progress, strace=strace))


def _errors(arguments: argparse.Namespace) -> int:
    from skerry_simulators.diskerrors import enumerate_errors

    def ask(progress: Callable[[int, int], None]) -> Outcome:
        return enumerate_errors(progress, strace=False if arguments.no_strace else None, every=arguments.every)

    return _enumerated(arguments, "errors", ask)


def _enumerated(arguments: argparse.Namespace, what: str, ask: Callable[[Callable[[int, int], None]], Outcome]) -> int:
    from skerry_simulators.errors import SimulatorError

    try:
        with Progress() as progress:
            outcome = ask(progress.of)
    except SimulatorError as error:
        print(f"skerry: error: {error} ({error.hint})", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(dataclasses.asdict(outcome)))
    else:
        calls = ", ".join(f"{count} {name}" for name, count in sorted(outcome.calls.items()))
        print(f"{outcome.points} {what} by {outcome.how} ({calls}), {len(outcome.violations)} violations")
        for violation in outcome.violations:
            print(f"  {violation}")
    return 1 if outcome.violations else 0


def _hostile(arguments: argparse.Namespace) -> int:
    from skerry_simulators.errors import SimulatorError
    from skerry_simulators.hostile import run_hostile

    try:
        with Progress() as progress:
            found = run_hostile(arguments.names, progress.of)
    except SimulatorError as error:
        print(f"skerry: error: {error} ({error.hint})", file=sys.stderr)
        return 1
    skipped, survived = sum(each.ended == "skipped" for each in found), sum(each.survived for each in found)
    tried = len(found) - skipped
    if arguments.json:
        counts = {"hostile_models": tried, "hostile_survived": survived, "skipped": skipped}
        print(json.dumps({**counts, "models": [dataclasses.asdict(each) for each in found]}))
    else:
        for each in found:
            print(f"{each.name:<12} {each.tries}: {each.ended} ({each.why:.100})")
            for wrong in each.wrong:
                print(f"{'':<12} WRONG: {wrong}")
        print(f"{survived} of {tried} hostile models survived, {skipped} skipped")
    return 0 if survived == tried else 1


def _mutants(arguments: argparse.Namespace) -> int:
    from skerry_simulators.errors import SimulatorError
    from skerry_simulators.mutants import run_mutants

    try:
        with Progress() as progress:
            found = run_mutants(arguments.names, jobs=arguments.jobs, progress=progress.of)
    except SimulatorError as error:
        print(f"skerry: error: {error} ({error.hint})", file=sys.stderr)
        return 1
    killed = sum(each.killed for each in found)
    if arguments.json:
        counts = {"mutants": len(found), "mutants_killed": killed}
        print(json.dumps({**counts, "verdicts": [dataclasses.asdict(each) for each in found]}))
    else:
        for each in found:
            print(f"{'killed' if each.killed else 'SURVIVED':<9} {each.name} ({each.file}): {each.how:.140}")
        print(f"{killed} of {len(found)} mutants killed")
    return 0 if killed == len(found) else 1


def _line(report: Report) -> str:
    verdict = "ok" if report.violation is None else report.violation.message
    luck = {"power cut": "cuts", "agent crash": "crashes", "assign": "assignments", "serve": "starts"}
    told = ", ".join(f"{report.counts.get(key, 0)} {name}" for key, name in luck.items())
    return f"seed {report.seed}: {report.device_days:g} device-days, {told}, history {report.history[:16]}: {verdict}"


def _explain(report: Report, bug: str | None) -> None:
    violation = report.violation
    if violation is not None:
        print(f"\nseed {report.seed}, {violation.time_s:.3f} s, {violation.who}: {violation.message}")
        print("what came before:")
        for line in violation.last:
            print(f"  {line}")
        print(f"replay: {_again(report, bug)}")


def _again(report: Report, bug: str | None) -> str:
    planted = f" --bug {bug}" if bug else ""
    return f"skerry sim world --devices {report.devices} --seed {report.seed} --days {report.days:g}{planted}"


def _plain(reports: list[Report]) -> dict[str, Any]:
    return {
        "device_days": round(sum(each.device_days for each in reports), 3),
        "violations": sum(each.violation is not None for each in reports),
        "worlds": [dataclasses.asdict(each) for each in reports],
    }


def _days(text: str) -> float:
    number = float(text)
    if not 0 < number <= 3650:
        raise argparse.ArgumentTypeError("more than 0, at most 3650")
    return number
