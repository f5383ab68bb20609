"""The simulated disk keeps what POSIX promises, and nothing else."""

from __future__ import annotations

import copy
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.agent.world import make_bundle

from skerry_agent.disk import replace_file
from skerry_agent.errors import StorageError
from skerry_agent.store import BLOBS, BUNDLES, PARTIAL, Store
from skerry_contracts import codec
from skerry_contracts.bundle import Blob
from skerry_contracts.device import Reason
from skerry_simulators.disk import SimDisk
from skerry_simulators.errors import PowerCut
from skerry_simulators.power import Plug


def disk(capacity_bytes: int = 10_000) -> SimDisk:
    made = SimDisk(Plug(), capacity_bytes)
    made.mkdir("a/b")
    return made


def after_cuts(prepare: SimDisk, path: str, seeds: int = 200) -> set[bytes | None]:
    """Return every content that `path` had after cuts of copies of a disk, which is cut and thrown away."""
    found = set()
    for seed in range(seeds):
        again = copy.deepcopy(prepare)
        again.power_cut(random.Random(seed))
        found.add(again.read(path))
    return found


def test_what_was_synced_stays() -> None:
    tried = disk()
    replace_file(tried, "a/b/file", b"first")
    assert after_cuts(tried, "a/b/file") == {b"first"}


def test_replacing_leaves_the_old_or_the_new() -> None:
    tried = disk()
    replace_file(tried, "a/b/file", b"first")
    operations = tried.plug.operations
    replace_file(tried, "a/b/file", b"second")
    count = tried.plug.operations - operations
    for cut in range(1, count + 1):
        tried = disk()
        replace_file(tried, "a/b/file", b"first")
        tried.plug.cut_in(cut)
        with pytest.raises(PowerCut):
            replace_file(tried, "a/b/file", b"second")
        assert after_cuts(tried, "a/b/file", 60) <= {b"first", b"second"}


def test_without_fsync_everything_can_happen() -> None:
    tried = disk()
    tried.write("a/b/file", b"0123456789")
    tried.fsync_dir("a/b")
    found = after_cuts(tried, "a/b/file")
    assert {b"", b"0123456789"} < found and any(each and each not in (b"", b"0123456789") for each in found)


def test_without_fsync_of_the_folder_the_name_may_vanish() -> None:
    tried = disk()
    tried.write("a/b/file.new", b"x")
    tried.fsync("a/b/file.new")
    tried.rename("a/b/file.new", "a/b/file")
    assert after_cuts(tried, "a/b/file") == {None, b"x"}


def test_removal_may_be_undone() -> None:
    tried = disk()
    replace_file(tried, "a/b/file", b"x")
    tried.unlink("a/b/file")
    assert tried.read("a/b/file") is None
    assert after_cuts(tried, "a/b/file") == {None, b"x"}


def test_a_full_disk_refuses_and_changes_nothing() -> None:
    tried = disk(capacity_bytes=10)
    tried.write("a/b/file", b"12345678")
    with pytest.raises(StorageError) as caught:
        tried.write("a/b/file", b"9" * 10, 8)
    assert caught.value.reason is Reason.NO_SPACE
    assert tried.read("a/b/file") == b"12345678"
    assert tried.free_bytes() == 2
    tried.unlink("a/b/file")
    tried.reserve("a/b/other", 10)
    assert (tried.free_bytes(), tried.size("a/b/other")) == (0, 0)
    tried.write("a/b/other", b"x" * 10)
    with pytest.raises(StorageError):
        tried.write("a/b/more", b"x")


def test_names_and_folders() -> None:
    tried = disk()
    tried.write("a/b/z", b"1")
    tried.write("a/b/y", b"1")
    assert tried.names("a/b") == ["y", "z"] and tried.names("a") == ["b"] and tried.names("") == ["a"]
    tried.rmdir("a/b")
    assert tried.names("a") == ["b"]
    tried.unlink("a/b/z")
    tried.unlink("a/b/y")
    tried.rmdir("a/b")
    assert tried.names("a") == []
    tried.mkdir("a/b")
    with pytest.raises(StorageError):
        tried.write("no/folder", b"")
    with pytest.raises(StorageError):
        tried.fsync("a/b/nothing")


Step = tuple[str, str, bytes]


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["write", "fsync", "dir", "rename", "unlink"]), st.sampled_from("pq"), st.binary(max_size=6)
        ),
        max_size=25,
    ),
    seed=st.integers(0, 1000),
)
@settings(deadline=None, max_examples=150)
def test_used_space_is_what_lies_there(steps: list[Step], seed: int) -> None:
    tried = disk()
    for kind, name, data in steps:
        path, other = f"a/b/{name}", f"a/b/{'q' if name == 'p' else 'p'}"
        if kind == "write":
            tried.write(path, data)
        elif kind == "unlink":
            tried.unlink(path)
        elif kind == "dir":
            tried.fsync_dir("a/b")
        elif tried.read(path) is not None:
            if kind == "fsync":
                tried.fsync(path)
            else:
                tried.rename(path, other)
        lying = sum(len(tried.read(f"a/b/{each}") or b"") for each in tried.names("a/b"))
        assert tried.free_bytes() == tried.capacity_bytes - lying
    tried.power_cut(random.Random(seed))
    lying = sum(len(tried.read(f"a/b/{each}") or b"") for each in tried.names("a/b"))
    assert tried.free_bytes() == tried.capacity_bytes - lying


def test_a_folder_that_left_stays_away_once_the_one_above_is_synced() -> None:
    tried = disk()
    replace_file(tried, "a/b/file", b"x")
    tried.unlink("a/b/file")
    tried.rmdir("a/b")
    assert after_cuts(tried, "a/b/file") == {None, b"x"}
    tried.fsync_dir("a")
    assert after_cuts(tried, "a/b/file") == {None}


def test_what_the_store_removed_does_not_come_back_years_later() -> None:
    tried = SimDisk(Plug(), 1_000_000)
    store = Store(tried)
    store.prepare()
    for release in range(5):
        bundle = make_bundle(release=release + 1)
        for data in bundle.blobs.values():
            store.put_blob(data)
        store.put_manifest(bundle.data)
        store.append(Blob(codec.digest(b"abc"), 3), 0, b"ab")
        store.collect(set())
    for folder in (BUNDLES, BLOBS, PARTIAL):
        assert tried.names(folder) == []
    for seed in range(50):
        again = copy.deepcopy(tried)
        again.power_cut(random.Random(seed))
        assert [again.names(folder) for folder in (BUNDLES, BLOBS, PARTIAL)] == [[], [], []]
