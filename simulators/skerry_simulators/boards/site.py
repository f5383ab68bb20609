"""What a board's run needs around the boards: a fleet with its broker, bundles, and cards that carry a device."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from skerry_agent.client import LocalClient
from skerry_fleet.client import FleetClient
from skerry_fleet.errors import FleetError
from skerry_simulators.boards.board import ENVIRONMENT
from skerry_simulators.boards.bundles import MODEL
from skerry_simulators.chaos.mortal import mortal
from skerry_simulators.demo import street as parts
from skerry_simulators.demo.processes import Children, DemoError, free_port, run, skerry
from skerry_simulators.demo.street import Street

T = TypeVar("T")
API = "/api/v1"
PATIENCE_S = 120.0  # without anything new: an emulated processor under load is slow, yet it gets on
EVERY_S, LOOK_S = 0.2, 2.0  # how often an answer is asked for, and how often whether anything is new
# A device reports often and decides soon, because somebody is watching.
AGENT = """\
heartbeat_s = 1.0
observe_s = 8.0
observe_predictions = 4
flush_s = 0.5
"""


class Programs(Protocol):
    """A board, as far as a site is concerned: how its `skerry` is called."""

    def skerry(self, *words: str) -> list[str]:
        """Return the command line of a `skerry` command on the board."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Card:
    """A device's name and the folder of its agent: what a board starts from, and may be put into another board."""

    name: str
    root: Path

    @property
    def group(self) -> str:
        """The group of the fleet that only this card is in."""
        return f"only-{self.name}"


class Site:
    """A fleet and everything that talks to it; all ends with `close`, or with the thread that started it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.children = Children(root / "logs")
        self.street = Street(root, self.children)
        self._client: FleetClient | None = None
        self._cards: list[Card] = []

    def start(self) -> str:
        """Start the fleet manager with its broker; returns which broker it is."""
        street, port = self.street, free_port()
        street.fleet_url = f"http://127.0.0.1:{port}"
        command = skerry("fleet", "serve", "--root", str(self.root / "fleet"), "--port", str(port))
        self.children.start("fleet", mortal(command))
        parts.wait_for_fleet(street)
        self._client = FleetClient(street.fleet_url, street.key)
        self.call("POST", "/models", name=MODEL)
        said = re.search(r"^broker +(.*)$", (self.children.logs / "fleet.log").read_text(), re.MULTILINE)
        return said[1] if said else "unknown"

    def close(self) -> None:
        """End everything."""
        if self._client is not None:
            self._client.close()
        self.children.stop()

    def call(self, method: str, path: str, **body: Any) -> Any:
        """Return what the fleet's API answers.

        Raises:
            FleetError: it refuses.
        """
        assert self._client is not None
        return self._client.call(method, f"{API}{path}", **({"json": body} if body else {}))

    def card(self, name: str) -> Card:
        """Return a new card, and make its group."""
        card = Card(name, self.root / "cards" / name)
        card.root.mkdir(parents=True)
        (card.root / "config.toml").write_text(AGENT)
        self.call("POST", "/groups", name=card.group)
        self._cards.append(card)
        return card

    def enrol(self, card: Card, board: Programs | None) -> None:
        """Enrol a card on a board; None: on this machine."""
        token = self.call("POST", "/claims", uses=1, group=card.group)["token"]
        words = ["agent", "enroll", "--fleet", self.street.fleet_url, "--claim", token, "--device", card.name]
        words += ["--root", str(card.root)]
        command = skerry(*words) if board is None else board.skerry(*words)
        run(f"enroll-{card.name}", command, self.children.logs, {} if board is None else ENVIRONMENT)

    def run(self, card: Card, board: Programs) -> None:
        """Start a card's agent on a board."""
        command = board.skerry("agent", "run", "--root", str(card.root))
        self.children.start(card.name, mortal(command), ENVIRONMENT)

    def offer(self, card: Card, bundle: Path) -> str:
        """Publish a bundle and start its rollout to one card; returns the rollout's id."""
        assert self._client is not None
        found = self._client.upload(f"{API}/models/{MODEL}/bundles", bundle)
        started = self.call(
            "POST", "/rollouts", model=MODEL, bundle=found["id"], group=card.group, soak_s=0.5, supersede=True
        )
        return str(started["id"])

    def carry(self, card: Card) -> None:
        """Lay the update that waits for a card into it by file, as where no network reaches the device."""
        assert self._client is not None
        update = self.root / f"{card.name}.update"
        self._client.download(f"{API}/devices/{card.name}/update", update)
        words = ["agent", "carry-in", str(update), "--root", str(card.root)]
        run(f"carry-{card.name}", skerry(*words), self.children.logs)

    def wait(self, what: str, ask: Callable[[], T | None]) -> T:
        """Wait until there is an answer, for as long as the run gets on: what hangs is told from what takes its time,
        however slow the machine is.

        Raises:
            DemoError: a process has ended by itself, or nothing has been new for `PATIENCE_S`.
        """
        return patient(what, ask, self.signs, self.children)

    def signs(self) -> tuple[object, ...]:
        """Return what changes while a run gets on: what the devices have told of their updates, and the files in their
        folders. A heartbeat or a log is no sign: they come without end.
        """
        told = [[each["phase"] for each in self.events(card)] for card in self._cards if self._known(card)]
        files = [sorted(names(card.root)) for card in self._cards]
        return told, files

    def _known(self, card: Card) -> bool:
        try:
            return bool(self.device(card))
        except FleetError:
            return False  # not enrolled yet

    def device(self, card: Card) -> dict[str, Any]:
        """Return what the fleet knows of a card."""
        found: dict[str, Any] = self.call("GET", f"/devices/{card.name}")
        return found

    def events(self, card: Card) -> list[dict[str, Any]]:
        """Return what a card has told of its updates, oldest first."""
        found: list[dict[str, Any]] = self.call("GET", f"/devices/{card.name}/events")["items"]
        return found[::-1]

    def rollout(self, rollout: str) -> dict[str, Any]:
        """Return a rollout."""
        found: dict[str, Any] = self.call("GET", f"/rollouts/{rollout}")
        return found

    def client(self, card: Card) -> LocalClient:
        """Return a program on the device, which asks the agent's own interface."""
        return LocalClient(card.root / "run" / "api.sock")


def patient(what: str, ask: Callable[[], T | None], signs: Callable[[], object], children: Children) -> T:
    """Ask until there is an answer; give up once `signs` has stayed the same for `PATIENCE_S`.

    Raises:
        DemoError: a child has ended by itself, or nothing has been new for so long.
    """
    seen: object = None
    since = looked = time.monotonic()
    while True:
        children.check()
        answer = ask()
        if answer is not None:
            return answer
        now = time.monotonic()
        if now - looked > LOOK_S:
            latest, looked = signs(), now
            if latest != seen:
                seen, since = latest, now
            elif now - since > PATIENCE_S:
                raise DemoError(f"no {what}, and nothing new for {PATIENCE_S:.0f} s", hint=f"see {children.logs}")
        time.sleep(EVERY_S)


def names(folder: Path) -> list[tuple[str, int]]:
    """Return all files below a folder with their sizes, but a ledger's and its journal's, which grow without end."""
    found = []
    for path in folder.rglob("*"):
        if not path.name.startswith("state."):
            with contextlib.suppress(OSError):  # it went meanwhile
                found.append((path.relative_to(folder).as_posix(), path.stat().st_size))
    return found


def compile_bundles(folder: Path, logs: Path, wanted: dict[str, str]) -> None:
    """Compile bundles by name and target, in a process of their own."""
    folder.mkdir(parents=True)
    words = [f"{name}={target}" for name, target in wanted.items()]
    run("bundles", [sys.executable, "-m", "skerry_simulators.boards.bundles", str(folder), *words], logs)
