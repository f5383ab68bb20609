"""A whole run: open the site, deal the blows while samples are made, wait for calm, and reckon."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from skerry_simulators.chaos import namespaces, reckoning
from skerry_simulators.chaos.blows import Blows
from skerry_simulators.chaos.device import MODEL
from skerry_simulators.chaos.namespaces import NamespaceNetwork
from skerry_simulators.chaos.plan import Settings, plan
from skerry_simulators.chaos.program import Program
from skerry_simulators.chaos.proxy import ProxyNetwork
from skerry_simulators.chaos.reckoning import Report
from skerry_simulators.chaos.site import INPUTS, PROGRAM, Site
from skerry_simulators.demo.processes import DemoError
from skerry_simulators.errors import SimulatorError

STEP_S = 0.05
STALL_S = 180.0
SMALL_DISKS = ("fed-1", PROGRAM)
SMALL_DISK_BYTES = 96 << 20

Say = Callable[[str], None]
Progress = Callable[[int, int], None]


def choose(network: str) -> str:
    """Return which network a run gets: `namespaces` where the machine allows it, else `proxy`.

    Raises:
        SimulatorError: namespaces were asked for, and cannot be had.
    """
    if network == "proxy":
        return network
    problem = "" if namespaces.inside() else namespaces.missing()
    if problem and network == "namespaces":
        raise SimulatorError(f"no network namespaces here: {problem}", hint="use --network proxy")
    return "proxy" if problem else "namespaces"


def run_chaos(root: Path, settings: Settings, say: Say, progress: Progress) -> Report:
    """Run in a folder that is empty or new; what is left there (logs, histories, database) is the caller's.

    Raises:
        SimulatorError: the site could not be opened, or nothing moved any more.
    """
    network = _network(root, settings)
    site = Site(root, network, settings)
    began_s = time.monotonic()
    try:
        site.open(say)
        ready_s = time.monotonic()
        program = Program(root / PROGRAM / "run" / "api.sock", MODEL, INPUTS)
        blows = Blows(site, plan(settings))
        program.start()
        _storm(site, blows, say, progress)
        program.stop()
        say("all is calm; waiting until every spool is empty")
        drained = _drain(site, settings.patience_s)
        stormy_s = time.monotonic() - ready_s
        for device in site.devices:
            site.end_device(device, signal.SIGTERM)
        site.street.children.stop()
        say("reckoning")
        report = reckoning.reckon(site, program, blows.dealt)
        return dataclasses.replace(
            report,
            fell=blows.fell,
            network=network.kind,
            drained=drained,
            seconds=time.monotonic() - began_s,
            stormy_s=stormy_s,
        )
    except DemoError as error:
        raise SimulatorError(str(error), hint=error.hint) from error
    finally:
        site.close()
        network.close()
        for name in SMALL_DISKS:
            if (root / name).is_mount():
                subprocess.run(["umount", "-l", str(root / name)], check=False)


def _network(root: Path, settings: Settings) -> NamespaceNetwork | ProxyNetwork:
    count = settings.devices + 1
    if settings.network == "proxy":
        return ProxyNetwork(count, settings.seed)
    for name in SMALL_DISKS:
        (root / name).mkdir(parents=True)
        words = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES},mode=700", "tmpfs", str(root / name)]
        subprocess.run(words, check=True)
    return NamespaceNetwork(count)


def _storm(site: Site, blows: Blows, say: Say, progress: Progress) -> None:
    """Deal blows until all samples are kept and all blows are over."""
    wanted = site.settings.samples
    fed = [device for device in site.devices if device.fed]
    say(f"{wanted:,} samples on {len(fed)} devices")
    blows.begin()
    site.begin()
    before, moved_s = -1, time.monotonic()
    while True:
        kept = sum(device.net for device in fed)
        blows.step(kept / wanted)
        _revive(site, blows)
        progress(min(kept, wanted), wanted)
        if kept >= wanted and blows.over:
            break
        if kept != before or kept >= wanted:
            before, moved_s = kept, time.monotonic()
        elif time.monotonic() - moved_s > STALL_S:
            raise SimulatorError(
                f"nothing was kept for {STALL_S:.0f} s, at {kept:,} of {wanted:,}",
                hint=f"see {site.street.children.logs}",
            )
        time.sleep(STEP_S)
    blows.finish()


def _revive(site: Site, blows: Blows) -> None:
    """Start again what ended by itself, as a service manager would, and say so."""
    for name in site.revive():
        print(f"{name} ended by itself and is started again", file=sys.stderr)
        blows.fell += 1
    for device in site.devices:
        if device.process is not None and device.process.poll() is not None and not blows.holds(device.number):
            print(f"{device.name} ended by itself with {device.process.returncode}", file=sys.stderr)
            blows.fell += 1
            site.end_device(device, signal.SIGKILL)
            site.start_device(device)


def _drain(site: Site, patience_s: float) -> bool:
    """Wait until no device has anything left to tell, and the lake has all; False: nothing moved for too long."""
    before, moved_s = -1, time.monotonic()
    while time.monotonic() - moved_s < patience_s:
        site.revive()
        left = [reckoning.waiting(device.root) for device in site.devices] + [reckoning.behind(site)]
        if not any(left):
            return True
        if sum(left) != before:
            before, moved_s = sum(left), time.monotonic()
        time.sleep(0.5)
    return False


def enter(arguments: list[str]) -> int:
    """Run this very command again where it may make network namespaces."""
    return namespaces.enter([sys.executable, "-m", "skerry", "sim", "chaos", *arguments])
