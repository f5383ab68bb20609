"""A network of real packets: each device in a network namespace of its own, joined by a veth pair; nftables loses.

The namespaces have no names: they end with the processes in them, whatever becomes of this one. The run itself has to
be in a private one already (`enter`), so that nothing of the machine's own network is touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from skerry_simulators.chaos.mortal import mortal
from skerry_simulators.chaos.weather import Weather
from skerry_simulators.errors import SimulatorError

HUB = "10.213.0.1"
INSIDE = "SKERRY_CHAOS_INSIDE"
TOOLS = ("unshare", "nsenter", "ip", "nft")
PATHS = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin{os.pathsep}/sbin"
RULES = """\
table inet chaos
delete table inet chaos
table inet chaos {{
    chain arriving {{
        type filter hook input priority 0;
{rules}
    }}
}}
"""


def missing() -> str:
    """Return why there can be no namespaces here; empty: there can."""
    for tool in TOOLS:
        if shutil.which(tool, path=PATHS) is None:
            return f"no program {tool}"
    done = subprocess.run([*_unshare(), "true"], capture_output=True, text=True, env={**os.environ, "PATH": PATHS})
    return "" if done.returncode == 0 else f"unshare: {done.stderr.strip()[:200]}"


def enter(command: Sequence[str]) -> int:
    """Run a command in a private network and mount namespace; return its status."""
    environment = {**os.environ, "PATH": PATHS, INSIDE: "1"}
    with subprocess.Popen(mortal([*_unshare(), *command]), env=environment) as child:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the child was told, too, or hears of it by our end
            child.terminate()
            return child.wait()


def inside() -> bool:
    """Whether this process was started by `enter`."""
    return os.environ.get(INSIDE) == "1"


class NamespaceNetwork:
    """The hub's end of everything."""

    kind = "namespaces"
    host = HUB

    def __init__(self, devices: int) -> None:
        """Make the namespaces.

        Raises:
            SimulatorError: a tool refused.
        """
        self._holders: list[subprocess.Popen[bytes]] = []
        self._weather: dict[int, Weather] = {}
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "addr", "add", f"{HUB}/32", "dev", "lo")
        for device in range(1, devices + 1):
            self._join(device)

    def command(self, device: int, words: Sequence[str]) -> list[str]:
        """Return the command line in a device's namespace."""
        return ["nsenter", "-t", str(self._holders[device - 1].pid), "-n", "--", *words]

    def broker(self, device: int, host: str, port: int) -> tuple[str, int]:
        """Return the broker's own address."""
        return host, port

    def set(self, device: int, weather: Weather) -> None:
        """Write the rules of both ends anew: what arrives at the hub, and what arrives at the device."""
        self._weather[device] = weather
        up = [rule for each, found in self._weather.items() for rule in _rules(f'iifname "up{each}"', found, found.up)]
        _nft([], up)
        _nft(self.command(device, []), _rules('iifname "net"', weather, weather.down))

    def close(self) -> None:
        """Let the namespaces go."""
        for holder in self._holders:
            holder.kill()
            holder.wait()

    def _join(self, device: int) -> None:
        holder = subprocess.Popen(mortal(["unshare", "--net", "sleep", "infinity"]), stdin=subprocess.DEVNULL)
        self._holders.append(holder)
        _wait_for_namespace(holder.pid)
        net = f"10.213.{device}"
        _run("ip", "link", "add", f"up{device}", "type", "veth", "peer", "name", "net", "netns", str(holder.pid))
        _run("ip", "addr", "add", f"{net}.1/30", "dev", f"up{device}")
        _run("ip", "link", "set", f"up{device}", "up")
        for words in (
            ("link", "set", "lo", "up"),
            ("addr", "add", f"{net}.2/30", "dev", "net"),
            ("link", "set", "net", "up"),
            ("route", "add", "default", "via", f"{net}.1"),
        ):
            _run(*self.command(device, ["ip", *words]))


def _rules(match: str, weather: Weather, passes: bool) -> list[str]:
    if not passes:
        return [f"{match} drop"]
    if weather.reset:
        return [f"{match} meta l4proto tcp reject with tcp reset"]
    return [f"{match} numgen random mod 1000 < {round(weather.loss * 1000)} drop"] if weather.loss > 0 else []


def _nft(prefix: list[str], rules: list[str]) -> None:
    text = RULES.format(rules="\n".join(f"        {rule}" for rule in rules))
    _run(*prefix, "nft", "-f", "-", given=text)


def _run(*words: str, given: str = "") -> None:
    done = subprocess.run(words, input=given, capture_output=True, text=True)
    if done.returncode:
        raise SimulatorError(
            f"{' '.join(words[:6])}: {done.stderr.strip()[:300]}", hint="use --network proxy where this kernel lacks it"
        )


def _wait_for_namespace(pid: int) -> None:
    """Wait until a process has left this namespace."""
    own = str(Path("/proc/self/ns/net").readlink())
    for _ in range(1000):
        command = Path(f"/proc/{pid}/comm").read_text().strip()
        if str(Path(f"/proc/{pid}/ns/net").readlink()) != own and command == "sleep":
            return
        time.sleep(0.01)
    raise SimulatorError("a namespace was not made in ten seconds", hint="use --network proxy")


def _unshare() -> list[str]:
    """Return how to get a private network: root just may; others become root of a user namespace first."""
    return ["unshare", "--net", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
