"""A board's run: enrol, update, predict, a bad update that is taken back, and updates for other boards that the agent
refuses. Everything real but the processor.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from skerry_agent.client import LocalClient
from skerry_agent.errors import AgentError, RequestError
from skerry_contracts.device import Phase, Reason
from skerry_contracts.errors import ContractError
from skerry_fleet.errors import FleetError
from skerry_simulators.board_report import Report, Say, Step
from skerry_simulators.boards import bundles, recipes, userland
from skerry_simulators.boards.board import ENVIRONMENT, Board, agent
from skerry_simulators.boards.bundles import INPUT, MODEL, UNSOUND
from skerry_simulators.boards.recipes import Recipe
from skerry_simulators.boards.site import Card, Programs, Site, compile_bundles
from skerry_simulators.demo.processes import DemoError, run
from skerry_simulators.errors import SimulatorError
from skerry_targets.profile import Profile

SOUND, SIBLING, FOREIGN = "sound", "sibling", "foreign"


class Journey:
    """One run. `close` ends all its processes."""

    def __init__(self, profile: Profile, root: Path, cache: Path, say: Say, *, afresh: bool = False) -> None:
        """Refuse what cannot be run before anything is fetched.

        Args:
            profile: the board.
            root: a new folder for everything that the run makes.
            cache: where userlands are kept.
            say: hears of each step as it begins.
            afresh: whether pip's own cache counts for nothing, too.

        Raises:
            SimulatorError: there is no such userland, or no emulator here.
        """
        self.profile, self.root, self.cache, self.afresh = profile, root, cache, afresh
        self.other = recipes.sibling(profile)
        self.plain = recipes.plain_board(profile)
        self.site = Site(root)
        self.report = Report(profile.id, self.by(), say=say)
        self.say = say
        self._pool = ThreadPoolExecutor(max_workers=6)

    def by(self) -> str:
        """Return what runs the board's programs, in words.

        Raises:
            SimulatorError: there is no such userland, or no emulator here.
        """
        recipe = recipes.of(self.profile)
        emulator(recipe)
        return f"{recipe.emulator} {self.profile.cpu.qemu_cpu or 'max'}"

    def close(self) -> None:
        """End everything, and wait for it."""
        self.site.close()
        self._pool.shutdown(cancel_futures=True)

    def play(self) -> Report:
        """Go through all steps. One that goes wrong is the last.

        Raises:
            SimulatorError: the board's programs cannot be made.
        """
        wanted = self._bundles()
        fleet = self._pool.submit(self.site.start)
        compiled = self._pool.submit(compile_bundles, self._folder, self.site.children.logs, wanted)
        board, other = self.make()
        try:
            self.live(board, other, fleet, compiled)
        except (AgentError, ContractError, DemoError, FleetError, SimulatorError) as error:
            failed = self.report.steps[-1]
            failed.held, failed.seen = False, f"{error!s:.200} (logs: {self.site.children.logs})"
        return self.report

    def make(self) -> tuple[Programs, Programs | None]:
        """Make what the board's programs run on; returns the board and, where there is one, its sibling."""
        recipe = recipes.of(self.profile)
        with self.report.step("userland") as step:
            made = userland.ready(recipe, self.cache, self.say, afresh=self.afresh)
            code = agent(self.cache)
            here = "from the cache" if made.was_there else f"{len(made.parts)} packages and wheels"
            done(step, f"Debian {recipes.SUITE} {recipe.architecture}, {here}")
        board = Board(self.profile, made, code, self.root / "board")
        return board, Board(self.other, made, code, self.root / "other") if self.other else None

    @property
    def _folder(self) -> Path:
        return self.root / "bundles"

    def live(self, board: Programs, other: Programs | None, fleet: Future[str], compiled: Future[None]) -> None:
        """The board's life, step by step."""
        with self.report.step("fleet") as step:
            done(step, fleet.result())
        card = self.site.card("board")
        self._enrol(card, board)
        self._joins(card, board)
        # Not before: what the first start on a processor compiles of Python, the others find compiled.
        others = {}
        if other is not None:
            others[SIBLING] = self._pool.submit(self._refuses, SIBLING, other, board, compiled)
        if self.plain is not None:
            others[FOREIGN] = self._pool.submit(self._refuses, FOREIGN, None, board, compiled)
        doctor = self._pool.submit(self._doctor, card, board)
        with self.report.step("bundles") as step:
            compiled.result()
            done(step, f"compiled for {', '.join(dict.fromkeys(self._bundles().values()))}")
        self._updates(card)
        self._takes_back(card)
        for name, each in others.items():
            with self.report.step(f"refuse {name}") as step:
                done(step, each.result())
        with self.report.step("doctor") as step:
            done(step, doctor.result())

    def _bundles(self) -> dict[str, str]:
        wanted = {SOUND: self.profile.id, UNSOUND: self.profile.id}
        if self.other is not None:
            wanted[SIBLING] = self.other.id
        if self.plain is not None:
            wanted[FOREIGN] = self.plain.id
        return wanted

    def _enrol(self, card: Card, board: Programs) -> None:
        with self.report.step("enrol") as step:
            self.site.enrol(card, board)
            hardware = self.site.device(card)["hardware"]
            expect(hardware["machine"] == self.profile.abi.machine, f"the fleet was told of {hardware['machine']}")
            lacks = sorted(set(self.profile.cpu.features) - set(hardware["cpu_features"]))
            expect(not lacks, f"the agent does not find {', '.join(lacks)}")
            step.held, step.seen = (
                True,
                f"{hardware['profile']}, {hardware['machine']}: {' '.join(hardware['cpu_features'])}",
            )

    def _joins(self, card: Card, board: Programs) -> None:
        with self.report.step("start") as step:
            self.site.run(card, board)
            self.site.wait("sign of the agent", lambda: self.site.device(card)["online"] or None)
            done(step, "the agent is online")

    def _updates(self, card: Card) -> None:
        bundle = self._folder / f"{SOUND}.skerry"
        known = bundles.vectors(bundle)
        with self.report.step("update") as step:
            rollout = self.site.offer(card, bundle)
            with self.site.client(card) as client:
                self.site.wait("model on the board", lambda: self._ready(client))
                right = self._right(client, known)
                status = self.site.wait("end of the rollout", lambda: self._ended(rollout))
            expect(status == "complete", f"the rollout ended as {status}")
            done(step, phases(self.site.events(card)))
        with self.report.step("predict") as step:
            expect(right == len(known.inputs), f"{right} of {len(known.inputs)} golden answers are right")
            done(step, f"{right} of {len(known.inputs)} golden answers right over the agent's own API")

    def _takes_back(self, card: Card) -> None:
        known = bundles.vectors(self._folder / f"{SOUND}.skerry")
        with self.report.step("rollback") as step:
            bundle = self._folder / f"{UNSOUND}.skerry"
            rollout = self.site.offer(card, bundle)
            with self.site.client(card) as client:

                def taken_back() -> dict[str, object] | None:
                    with contextlib.suppress(RequestError):
                        client.infer(MODEL, {INPUT: bundles.odd()})
                    return self._over(card, bundle)

                last = self.site.wait("rollback", taken_back)
                expect(last["reason"] == Reason.UNHEALTHY, f"taken back for {last['reason']}: {last['detail']}")
                self.site.wait("right answer after the rollback", lambda: self._all_right(client, known))
            status = self.site.wait("end of the rollout", lambda: self._ended(rollout))
            expect(status == "rolled-back", f"the bad rollout ended as {status}")
            step.held, step.seen = (
                True,
                f"{last['phase']}, {last['reason']}: {last['detail']:.60}; back to the old",
            )

    def _refuses(self, name: str, was_in: Programs | None, board: Programs, compiled: Future[None]) -> str:
        """Offer an update to a card while it is in another board (None: in this machine); then put it into this one.

        The fleet would not offer a device what does not fit what it told of itself, so the agent must find it alone.
        """
        site = self.site
        card = site.card(name)
        site.enrol(card, was_in)
        compiled.result()
        bundle = self._folder / f"{name}.skerry"
        rollout = site.offer(card, bundle)
        site.carry(card)
        site.run(card, board)
        last = site.wait("refusal", lambda: self._over(card, bundle))
        told = [each["phase"] for each in site.events(card)]
        expect(last["reason"] == Reason.UNFIT, f"refused for {last['reason']}: {last['detail']}")
        expect(
            Phase.TRIAL not in told and Phase.COMMITTED not in told, f"it went as far as {phases(site.events(card))}"
        )
        with site.client(card) as client:
            expect(not client.ready(MODEL), "a model for another board serves")
        status = site.wait("end of the rollout", lambda: self._ended(rollout))
        expect(status == "rolled-back", f"the rollout of what does not fit ended as {status}")
        return f"{last['phase']}, {last['reason']}: {last['detail']:.80}"

    def _doctor(self, card: Card, board: Programs) -> str:
        """Return what the agent's doctor says of the sandbox on the board."""
        command = board.skerry("agent", "doctor", "--json", "--root", str(card.root))
        with contextlib.suppress(ValueError, KeyError):
            found = json.loads(run("doctor", command, self.site.children.logs, ENVIRONMENT))
            said = next(each["says"] for each in found["checks"] if each["name"] == "sandbox")
            return f"sandbox: {said}"
        return "no words"

    def _over(self, card: Card, bundle: Path) -> dict[str, object] | None:
        """Return the last word on a bundle's update of a card, if it came to a bad end. The fleet then assigns the old
        bundle again, and of that, too, the device tells.
        """
        told = [each for each in self.site.events(card) if each["bundle"] == bundles.bundle_id(bundle)]
        return told[-1] if told and told[-1]["phase"] in (Phase.ROLLED_BACK, Phase.FAILED) else None

    def _ready(self, client: LocalClient) -> bool | None:
        try:
            return client.ready(MODEL) or None
        except AgentError:
            return None

    def _right(self, client: LocalClient, known: bundles.Vectors) -> int:
        answers = [client.infer(MODEL, {INPUT: row.tobytes()}).outputs["y"] for row in known.inputs]
        return sum(known.right(number, answer) for number, answer in enumerate(answers))

    def _all_right(self, client: LocalClient, known: bundles.Vectors) -> bool | None:
        """Return whether all golden answers are right; not yet, while the one or the other model is being started."""
        try:
            return self._right(client, known) == len(known.inputs) or None
        except AgentError:
            return None

    def _ended(self, rollout: str) -> str | None:
        status = str(self.site.rollout(rollout)["status"])
        return status if status in ("complete", "rolled-back", "aborted", "superseded") else None


def phases(events: list[dict[str, object]]) -> str:
    """Return what an update went through, in words."""
    return " → ".join(str(each["phase"]) for each in events)


def emulator(recipe: Recipe) -> str:
    """Return where a recipe's emulator is.

    Raises:
        SimulatorError: it is not here.
    """
    found = shutil.which(recipe.emulator)
    if found is None:
        raise SimulatorError(f"{recipe.emulator} is not here", hint="apt install qemu-user-static")
    return found


def done(step: Step, seen: str) -> None:
    """Say that a step went as it must, and what was seen."""
    step.held, step.seen = True, seen


def expect(held: bool, otherwise: str) -> None:
    """Raise what is wrong where something does not hold."""
    if not held:
        raise SimulatorError(otherwise, hint="see the logs")
