"""Programs of the agent's group reach its socket, and nothing else of it; programs of others reach nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from skerry_agent import sockets
from skerry_agent.doors import open_to_group
from skerry_simulators.children import run

GROUP, MEMBER, STRANGER = 54321, 54322, 54323


def come(root: Path, user: int, groups: list[int]) -> str:
    """Try the socket and everything else as another user; return what was reached."""
    os.setgroups(groups)
    os.setgid(user)
    os.setuid(user)
    reached = []
    for name in ("", "store", "identity", "run"):
        with contextlib.suppress(PermissionError):
            os.listdir(root / name)  # noqa: PTH208  # the very call that must fail
            reached.append(name)
    for name in ("identity/device.pem", "state.db"):
        with contextlib.suppress(PermissionError):
            (root / name).read_text()
            reached.append(name)
    with contextlib.suppress(PermissionError):
        sockets.connect(root / "run/api.sock", 10.0).close()
        reached.append("socket")
    return " ".join(reached)


@pytest.fixture
def root() -> Iterator[Path]:
    """A folder that others could reach (pytest's own are closed)."""
    outside = Path(tempfile.mkdtemp())
    outside.chmod(0o755)
    found = outside / "device"
    (found / "run").mkdir(parents=True)
    (found / "run").chmod(0o700)
    for name in ("store", "identity"):
        (found / name).mkdir()
    (found / "identity/device.pem").write_text("secret")
    (found / "state.db").write_text("secret")
    (found / "state.db").chmod(0o644)
    found.chmod(0o700)
    yield found
    shutil.rmtree(outside)


def test_only_the_way_to_the_socket_is_opened(root: Path) -> None:
    open_to_group(root, root / "run")
    modes = {each.name: stat.S_IMODE(each.lstat().st_mode) for each in root.iterdir()}
    assert modes == {"run": 0o710, "store": 0o700, "identity": 0o700, "state.db": 0o600}
    assert stat.S_IMODE(root.stat().st_mode) == 0o710
    open_to_group(root / "not there", root / "not there/run")


@pytest.mark.root
def test_a_member_of_the_group_gets_through_and_a_stranger_does_not(root: Path) -> None:
    open_to_group(root, root / "run")
    listening = sockets.listen(root / "run/api.sock")
    try:
        for each in (root, *root.rglob("*")):
            os.chown(each, 0, GROUP)
        assert run(partial(come, root, MEMBER, [GROUP])) == "socket"
        assert run(partial(come, root, STRANGER, [])) == ""
    finally:
        listening.close()
