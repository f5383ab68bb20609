"""What an emulated Linux board is made of: recipes, packages by name, identity, layout, bundles."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_simulators import cli
from skerry_simulators.boards import bundles, identity, recipes, site, userland
from skerry_simulators.boards.board import Board, agent
from skerry_simulators.boards.userland import Userland
from skerry_simulators.demo.processes import Children, DemoError
from skerry_targets import catalogue, fit, host
from skerry_targets.profile import Profile

RUNNABLE = [each for each in catalogue.load_all() if recipes.runs(each)]


def test_every_linux_arm_and_riscv_board_has_a_userland() -> None:
    found = {each.id for each in RUNNABLE}
    assert {"raspberry-pi-4", "raspberry-pi-2", "riscv64", "visionfive-2", "imx93"} <= found
    assert not {"cortex-m4", "android-arm64", "x86-64-v2", "browser"} & found


@pytest.mark.parametrize("profile", RUNNABLE, ids=lambda each: each.id)
def test_a_board_says_of_itself_what_its_profile_does(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity.write(profile, tmp_path)
    monkeypatch.setattr(host, "machine", lambda: profile.abi.machine)
    cpu = host.cpu_info(tmp_path / "proc")
    facts = host.hardware({}, "", tmp_path / "proc")
    assert fit.missing(fit.predicates(profile), facts) == ()
    assert cpu.compatible == profile.cpu.compatible
    if profile.cpu.compatible:
        assert facts.profile == profile.id
    cores = len((tmp_path / "proc" / "cpuinfo").read_text().split("processor\t:")) - 1
    assert 1 <= cores <= min(profile.cpu.cores, os.cpu_count() or 1)


@pytest.mark.parametrize("profile", RUNNABLE, ids=lambda each: each.id)
def test_a_sibling_is_a_board_of_the_same_kind_that_asks_for_more(profile: Profile) -> None:
    other = recipes.sibling(profile)
    if other is None:
        return
    assert other.family == profile.family and set(other.cpu.features) - set(profile.cpu.features)


def test_the_sibling_is_the_board_most_like_it() -> None:
    found = recipes.sibling(catalogue.get("raspberry-pi-4"))
    assert found is not None and found.id == "raspberry-pi-5"


@given(st.sets(st.sampled_from(["m", "a", "f", "d", "c", "v", "zba", "zbb"])))
def test_an_isa_line_is_read_back_as_the_features_it_was_made_of(features: set[str]) -> None:
    line = identity.isa(tuple(sorted(features)))
    assert set(host._extensions(line)) == features | {"i"}


def test_a_device_gets_what_its_locked_requirements_say_and_no_compiled_wheel_where_there_is_none() -> None:
    arm64, riscv64 = (userland.requirements(recipes.RECIPES[each]) for each in ("aarch64", "riscv64"))
    assert all("==" in line and "--hash=sha256:" in line for line in arm64)
    names = {line.split("==")[0] for line in arm64}
    assert {"tuf", "paho-mqtt", "h11", "cryptography", "cffi"} <= names and "onnx" not in names
    assert {line.split("==")[0] for line in riscv64} == names - {"cryptography", "cffi", "pycparser"}


def test_userlands_of_other_contents_have_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipes.RECIPES["aarch64"]
    one = userland.key(recipe)
    assert one == userland.key(recipe) and one != userland.key(recipes.RECIPES["armv7l"])
    monkeypatch.setattr(userland, "requirements", lambda _: ["tuf==1"])
    assert one != userland.key(recipe)


def test_a_run_is_waited_for_as_long_as_it_gets_on_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda s: clock.__setitem__(0, clock[0] + s))
    children = Children(tmp_path / "logs")
    slow = site.patient("model", lambda: clock[0] > 2000 or None, lambda: clock[0] // (site.PATIENCE_S - 5), children)
    assert slow is True
    with pytest.raises(DemoError, match="no model, and nothing new for 120 s"):
        site.patient("model", lambda: None, lambda: min(clock[0], 3000.0), children)
    assert 3000 + site.PATIENCE_S <= clock[0] < 3000 + site.PATIENCE_S + 2 * site.LOOK_S


_KILLED = """
import os, signal, sys
from pathlib import Path
from skerry_simulators.boards.site import Card, Site

class Board:
    def skerry(self, *words):
        return ["sleep", "600"]

root = Path(sys.argv[1])
site = Site(root)
site.run(Card("board", root), Board())
print(site.children.pid("board"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_run_that_is_killed_leaves_no_board_behind(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    stat = Path("/proc") / done.stdout.strip() / "stat"
    for _ in range(600):
        try:
            if stat.read_text().rpartition(") ")[2].startswith("Z"):
                return
        except OSError:
            return
        time.sleep(0.1)
    pytest.fail("its board still runs")


def test_the_agents_code_is_what_runs_here_and_is_made_once(tmp_path: Path) -> None:
    one = agent(tmp_path)
    assert agent(tmp_path) == one and [each.name for each in tmp_path.iterdir()] == [one.name]
    assert (one / "skerry_agent" / "daemon.py").is_file() and (one / "skerry" / "__main__.py").is_file()
    assert list(one.glob("skerry-*.dist-info/METADATA")) and not list(one.rglob("__pycache__"))
    assert not (one / "skerry_fleet").exists() and not (one / "skerry_compiler").exists()


def test_a_boards_python_is_a_script_that_passes_on_every_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "qemu-aarch64-static"
    fake.write_text('#!/bin/sh\necho "$QEMU_CPU"; for word in "$@"; do echo "$word"; done\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    made = Userland(tmp_path / "user's land", {}, True)
    (made.folder / userland.SITE).mkdir(parents=True)
    board = Board(catalogue.get("raspberry-pi-4"), made, agent(tmp_path / "code"), tmp_path / "a 'board'")
    command = board.skerry("agent", "run", "--root", "a b")
    said = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": "/nowhere"}).stdout
    words = said.splitlines()
    assert words[:3] == ["cortex-a72", "-0", str(board.python)]
    assert words[3] == str(made.folder / userland.INTERPRETER) and words[-2:] == ["--root", "a b"]


@pytest.mark.parametrize("sound", [True, False])
def test_only_service_shows_that_the_unsound_bundle_is_unsound(sound: bool) -> None:
    model = bundles.network(1, sound=sound).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    rows = np.random.default_rng(1).uniform(0, bundles.LARGEST, (50, bundles.PIXELS)).astype(np.float32)
    assert all(np.isfinite(session.run(None, {"x": row[None]})[0]).all() for row in rows)
    white = np.frombuffer(bundles.odd(), np.float32).reshape(1, -1)
    assert np.isnan(session.run(None, {"x": white})[0]).any() == (not sound)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["rasberry-pi-4"], "raspberry-pi-4"),
        (["windows-x86-64"], "no emulator here runs an agent on windows-x86-64"),
        (["raspberry-pi-zero"], "the nearest that one does for: armhf, "),
        (["x86-64-v3"], "the nearest that one does for"),
    ],
)
def test_a_board_that_cannot_be_run_is_refused_with_the_nearest(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["board", *words]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.strip().count("\n") == 0 and says in shown.err


def test_without_the_emulator_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli.main(["board", "raspberry-pi-4"]) == 1
    assert "qemu-aarch64-static is not here (apt install qemu-user-static)" in capsys.readouterr().err


def test_a_folder_that_is_there_already_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raspberry-pi-4").mkdir()
    assert cli.main(["board", "raspberry-pi-4", "--root", str(tmp_path)]) == 1
    assert "give a new folder" in capsys.readouterr().err
