"""System shared memory: what may be registered, by whom, and what a client that cheats can do (nothing)."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from skerry_agent.errors import RequestError
from skerry_agent.peers import Peer
from skerry_agent.regions import RegionLimits, Regions

MINE = os.getuid()


class Someone(Peer):
    """A peer whose user the test chooses."""

    def __init__(self, uid: int | None) -> None:
        super().__init__()
        self._uid = uid


ME = Someone(MINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").write_bytes(bytes(range(200)))
    return tmp_path


@pytest.fixture
def regions(folder: Path) -> Iterator[Regions]:
    made = Regions(RegionLimits(regions=3, size_bytes=1000), folder)
    yield made
    made.close()


def asked(key: Any = "data", size: Any = 100, offset: Any = 0) -> dict[str, Any]:
    return {"key": key, "offset": offset, "byte_size": size}


def test_a_region_is_read_and_written_where_it_lies(regions: Regions, folder: Path) -> None:
    regions.register("r", asked("/data", 100, 50), ME)
    assert regions.status(None, ME) == [{"name": "r", "key": "/data", "offset": 50, "byte_size": 100}]
    assert regions.find("r", ME).part(3, 4).read() == bytes((53, 54, 55, 56))
    regions.find("r", ME).part(96, 4).write(b"abcd")
    assert (folder / "data").read_bytes()[146:150] == b"abcd"
    regions.unregister("r", ME)
    regions.unregister("r", ME)
    assert regions.status(None, ME) == []
    with pytest.raises(RequestError) as caught:
        regions.status("r", ME)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    "key",
    [
        "", "/", ".", "..", "/..", "../etc/passwd", "/etc/passwd", "//data", "a/b", "data\0", "\0", " ", "data ", "ä",
        "\ud800", "x" * 300, "nobody", "link", "pipe", "folder", "socket", "/link", None, 7, ["data"], {}, True,
    ],
)  # fmt: skip
def test_keys_that_name_no_regular_file_here(regions: Regions, folder: Path, key: Any) -> None:
    (folder / "link").symlink_to(folder / "data")
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
    with pytest.raises(RequestError) as caught:
        regions.register("r", asked(key), ME)
    assert caught.value.status in (400, 403) and regions.status(None, ME) == []


@pytest.mark.parametrize(
    ("size", "offset"),
    [
        (201, 0), (1, 200), (100, 101), (0, 0), (-1, 0), (1, -1), (2**63, 0), (1, 2**63), (10**40, 0), (1.0, 0),
        (True, 0), ("1", 0), (None, 0),
    ],
)  # fmt: skip
def test_sizes_that_are_not_in_the_file(regions: Regions, size: Any, offset: Any) -> None:
    with pytest.raises(RequestError):
        regions.register("r", asked("data", size, offset), ME)


@pytest.mark.parametrize("name", ["", " ", ".", "..", "a/b", "a\n", "a\0", "-a", "x" * 65, "ä", "\ud800"])
def test_names_that_are_none(regions: Regions, name: str) -> None:
    with pytest.raises(RequestError):
        regions.register(name, asked(), ME)


@given(offset=st.integers(-(2**70), 2**70), size=st.integers(-(2**70), 2**70))
@hypothesis_settings(derandomize=True, max_examples=200)
def test_a_part_lies_within_its_region_or_is_refused(tmp_path_factory: Any, offset: int, size: int) -> None:
    folder = tmp_path_factory.mktemp("part")
    (folder / "data").write_bytes(bytes(200))
    regions = Regions(folder=folder)
    try:
        regions.register("r", asked("data", 100, 50), ME)
        if offset >= 0 and size > 0 and offset + size <= 100:
            assert len(regions.find("r", ME).part(offset, size).read()) == size
        else:
            with pytest.raises(RequestError):
                regions.find("r", ME).part(offset, size)
    finally:
        regions.close()


def test_only_the_files_owner_may_name_it_and_only_he_sees_it(regions: Regions) -> None:
    stranger, nobody, root = Someone(MINE + 1), Someone(None), Someone(0)
    with pytest.raises(RequestError, match="another user") as caught:
        regions.register("r", asked(), stranger)
    assert caught.value.status == 403
    for call in (
        lambda: regions.register("r", asked(), nobody),
        lambda: regions.find("r", nobody),
        lambda: regions.status(None, nobody),
        lambda: regions.unregister(None, nobody),
    ):
        with pytest.raises(RequestError) as refused:
            call()
        assert refused.value.status == 403
    regions.register("r", asked(), ME)
    assert regions.status(None, stranger) == []
    regions.unregister("r", stranger)
    regions.unregister(None, stranger)
    with pytest.raises(RequestError):
        regions.find("r", stranger)
    assert regions.find("r", ME)
    if MINE != 0:
        regions.register("r", asked(), root)


def test_a_region_that_is_cut_short_is_refused_and_not_grown(regions: Regions, folder: Path) -> None:
    regions.register("r", asked(), ME)
    part = regions.find("r", ME).part(0, 100)
    os.truncate(folder / "data", 99)
    with pytest.raises(RequestError, match="cut short"):
        part.read()
    with pytest.raises(RequestError, match="cut short"):
        part.write(bytes(100))
    assert (folder / "data").stat().st_size == 99


def test_a_part_of_a_forgotten_region_means_no_other_file(regions: Regions, folder: Path) -> None:
    regions.register("r", asked(), ME)
    part = regions.find("r", ME).part(0, 4)
    regions.unregister("r", ME)
    (folder / "other").write_bytes(b"mine")
    with (folder / "other").open("r+b"):  # takes the number that has become free
        for call in (part.read, lambda: part.write(b"evil")):
            with pytest.raises(RequestError, match="unregistered meanwhile"):
                call()
    assert (folder / "other").read_bytes() == b"mine"


def test_what_cannot_be_written_is_for_inputs_only(regions: Regions, folder: Path) -> None:
    if MINE == 0:
        pytest.skip("root may write everything")
    (folder / "data").chmod(0o400)
    regions.register("r", asked(), ME)
    assert not regions.find("r", ME).writable
    assert regions.find("r", ME).part(0, 1).read() == b"\0"


def test_number_and_bytes_are_limited_and_lost_files_make_room(regions: Regions, folder: Path) -> None:
    for number in range(3):
        regions.register(f"r{number}", asked(), ME)
    with pytest.raises(RequestError, match="no room"):
        regions.register("r3", asked(), ME)
    regions.unregister(None, ME)
    (folder / "large").write_bytes(bytes(900))
    regions.register("large", asked("large", 1), ME)
    with pytest.raises(RequestError, match="no room"):
        regions.register("r", asked(), ME)
    (folder / "large").unlink()
    regions.register("r", asked(), ME)
    assert [each["name"] for each in regions.status(None, ME)] == ["r"]
    with pytest.raises(RequestError, match="already"):
        regions.register("r", asked(), ME)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_nothing_is_left_open(folder: Path) -> None:
    before = descriptors()
    regions = Regions(folder=folder)
    for key, size in (("data", 100), ("data", 1000), ("nobody", 1), ("..", 1)):
        try:
            regions.register(f"{key}{size}", asked(key, size), ME)
        except RequestError:
            continue
    assert descriptors() == before + 1
    regions.close()
    assert descriptors() == before
