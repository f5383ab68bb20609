"""What images need around them: an engine, an emulator for foreign programs; and the command that builds them."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path

import pytest

from skerry_simulators.errors import SimulatorError
from skerry_simulators.images import binfmt, cli, engine


@pytest.mark.emulated
@pytest.mark.parametrize("platform", ["linux/arm64", "linux/arm/v7", "linux/riscv64"])
def test_foreign_programs_are_recognised_as_by_debian(platform: str) -> None:
    foreign = binfmt.MACHINES[platform]
    word = foreign.emulator.split("-")[1]
    usual = Path(f"/usr/lib/binfmt.d/qemu-{word}.conf")
    if not usual.exists():
        pytest.skip("this qemu-user-static has no binfmt.d")
    _, _, kind, offset, magic, mask, *_ = usual.read_text().strip().split(":")
    ours = binfmt.line(foreign, "x", "/q").split(":")
    assert (ours[2], ours[3] or "0", ours[4]) == (kind, offset or "0", magic)
    assert ours[5].count("\\x") == mask.count("\\x") == 20


def test_an_emulator_that_containers_cannot_use_does_not_count(tmp_path: Path) -> None:
    foreign = binfmt.MACHINES["linux/arm64"]
    words = f"enabled\ninterpreter /q\nflags: {{}}\noffset 0\nmagic {foreign.magic.hex()}\nmask 00\n"
    (tmp_path / "register").touch()
    (tmp_path / "theirs").write_text(words.format("P"))
    assert binfmt.registered(tmp_path, foreign) == ""
    (tmp_path / "theirs").write_text(words.format("PF").replace("enabled", "disabled"))
    assert binfmt.registered(tmp_path, foreign) == ""
    (tmp_path / "theirs").write_text(words.format("POCF"))
    assert binfmt.registered(tmp_path, foreign) == "theirs"
    assert binfmt.registered(tmp_path, binfmt.MACHINES["linux/riscv64"]) == ""


def test_an_engine_that_is_not_there_is_told_by_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with pytest.raises(SimulatorError, match="no Docker engine") as refused:
        engine.connect(f"unix://{path}")
    assert "--engine" in refused.value.hint
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        with pytest.raises(SimulatorError, match="nobody answers") as refused:
            engine.connect(f"unix://{path}")
        assert "start it" in refused.value.hint
    with pytest.raises(SimulatorError, match="no engine's address"):
        engine.connect("carrier-pigeon")


@pytest.mark.root
def test_a_user_who_may_not_use_the_engine_is_told_which_group(tmp_path: Path) -> None:
    place = Path("/tmp") / f"skerry-test-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as guarded:
        guarded.bind(str(place))
        guarded.listen()
        place.chmod(0o600)
        try:
            child = os.fork()
            if not child:  # another user, who has nothing but what is in memory
                code = 1
                try:
                    os.setuid(65534)
                    engine.connect(f"unix://{place}")
                except SimulatorError as error:
                    code = 0 if "usermod -aG docker" in error.hint else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        finally:
            place.unlink()


def test_something_else_at_the_socket_is_no_engine(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()

        def greet() -> None:
            while True:
                try:
                    connection, _ = other.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    connection.sendall(b"220 mail\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(SimulatorError, match="no engine answers"):
            engine.connect(f"unix://{path}")
        other.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("last", "hint"),
    [
        ("failed to start daemon: Devices cgroup isn't mounted", "cgroupfs-mount"),
        ("mkdir /sys/fs/cgroup/docker: read-only file system", "--privileged"),
        ("error creating overlay mount: operation not permitted", "--privileged"),
        ("something new", "by hand"),
    ],
)
def test_dockerds_last_words_become_a_next_step(last: str, hint: str) -> None:
    assert hint in engine.refused(last).hint


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["build"], 2, "name"),
        (["build", "toaster"], 2, "invalid choice"),
        (["build", "agent", "--platform", "linux/mips"], 1, "--platform is one of linux/amd64, linux/arm64"),
        (["build", "agent", "--tag", "Bad Name"], 1, "no image name"),
        (["build", "agent", "--tag", "a:b", "--platform", "linux/amd64", "--platform", "linux/arm64"], 1, "two images"),
        (["build", "agent", "-o", "/nonexistent/x.tar"], 1, "no folder"),
        (["build", "agent", "--engine", "unix:///nonexistent.sock"], 1, "no Docker engine"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_is_fetched(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main([*words, *(["--cache", str(tmp_path)] if len(words) > 1 else [])]) == code
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())
