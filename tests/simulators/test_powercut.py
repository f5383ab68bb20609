"""A device's life on a folder, what is checked of it after a cut, and (where the machine allows it) block images."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from skerry_agent.identity import CREDENTIALS
from skerry_agent.ledger import MIRROR, Change
from skerry_agent.store import BLOBS
from skerry_simulators import cli_power, power_chapters, powercut
from skerry_simulators import storage as storages
from skerry_simulators.blocklog import Fact
from skerry_simulators.cli import main
from skerry_simulators.power import Plug
from skerry_simulators.power_bugs import BUGS, hasty
from skerry_simulators.power_check import check, known
from skerry_simulators.power_life import Life


@pytest.fixture
def lived(tmp_path: Path) -> Iterator[tuple[Life, list[Fact]]]:
    """A device that has lived through some chapters, and was switched off in good order."""
    facts: list[Fact] = []
    names = [each for each in power_chapters.order(3) if each in ("resume", "carry", "delta", "crash", "renew")]
    offers = [each for each in power_chapters.offers(3) if each.name in names]
    (tmp_path / "root").mkdir()
    life = Life(tmp_path / "root", tmp_path / "fleet", 3, offers, facts.append, store=hasty)
    life.prepare()
    life.start()
    power_chapters.live(life, names)
    life.stop()
    yield life, facts


def test_a_device_that_lost_nothing_passes(lived: tuple[Life, list[Fact]]) -> None:
    life, facts = lived
    before = known(facts)
    assert before.floor >= 3 and before.added >= before.stored and before.stored
    assert before.renewed == before.promoted == 2
    assert check(life, before, before.state) == ""


def spoil_blob(life: Life) -> None:
    path = next(iter(sorted((life.root / BLOBS).iterdir())))
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def forget_row(life: Life) -> None:
    kept = storages.real(life.root, Plug())
    kept.ledger.observer = None
    kept.ledger.commit(Change(puts={"clock": b"1.0"}))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_blob, "is torn"),
        (forget_row, "the ledger holds neither"),
        (lambda life: (life.root / MIRROR).write_text('{"a'), "mirror is torn"),
        (lambda life: (life.root / "state.db").write_bytes(b"?" * 8192), "the ledger is damaged"),
        (lambda life: (life.root / CREDENTIALS).write_bytes(b""), "identity/device.pem"),
        (lambda life: (life.root / "identity/enrolment.json").unlink(), "not enrolled"),
        (lambda life: (life.root / "carried.update").write_bytes(b"{}"), "not an update file"),
    ],
)
def test_what_a_bad_device_loses_is_noticed(
    spoil: Callable[[Life], None], words: str, lived: tuple[Life, list[Fact]]
) -> None:
    life, facts = lived
    spoil(life)
    before = known(facts)
    assert words in check(life, before, before.state)


def test_a_fact_that_came_later_does_not_count() -> None:
    told = [{"at": 1.0, "chapter": "delta"}, {"at": 2.0, "added": [["b", 1]], "floor": 3, "state": "x"}]
    assert known(told[:1]).phase == "delta/idle" and not known(told[:1]).added
    after = known([*told, {"at": 3.0, "floor": 2, "stage": "trial"}])
    assert (after.floor, after.phase, after.state, after.added) == (3, "delta/trial", "x", {("b", 1)})


def test_the_command_knows_every_planted_bug() -> None:
    assert tuple(BUGS) == cli_power.PLANTED


def test_a_machine_that_cannot_is_told_plainly(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["power", "--images", "1"]) == 1
    assert capsys.readouterr().err == (
        "skerry: error: block images need root (loop devices, mounts) "
        "(run as root on Linux with FUSE, loop devices and e2fsprogs)\n"
    )


@pytest.mark.skipif(not powercut.tool("e2fsck"), reason="needs e2fsck: apt install e2fsprogs")
def test_a_torn_superblock_is_repaired_as_at_boot(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    powercut.make_disk(disk)
    with disk.open("r+b") as file:
        file.seek(1024 + 64)
        file.write(b"torn" * 100)
    sound = [powercut.tool("e2fsck"), "-fn", str(disk)]
    assert subprocess.run(sound, check=False, capture_output=True).returncode != 0
    powercut.repair(disk)
    assert subprocess.run(sound, check=False, capture_output=True).returncode == 0


@pytest.mark.blocks
def test_images_of_a_life_keep_every_promise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["power", "--images", "12", "--keep", str(tmp_path), "--json"]) == 0, capsys.readouterr()
    said = json.loads(capsys.readouterr().out)
    assert said["images"] == 12 and said["lives"] == 1 and said["violations"] == [] and len(said["phases"]) > 3


@pytest.mark.blocks
def test_a_careless_disk_is_found_and_its_image_made_again(tmp_path: Path) -> None:
    found = powercut.cut_lives(12, bug="missing-fsync", keep=tmp_path)
    assert found.violations, "files that were never synced must be found torn"
    first = found.violations[0]
    again = powercut.replay(tmp_path / str(first.seed), first.recipe)
    assert [each.message for each in again.violations] == [first.message]
