"""The real disk and the store on it: only whole things have a name, and garbage goes."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from tests.agent.world import Bundle, make_bundle

from skerry_agent.disk import RealDisk, replace_file
from skerry_agent.errors import StorageError
from skerry_agent.store import BLOBS, PARTIAL, Store, prune
from skerry_contracts import codec
from skerry_contracts.bundle import Blob
from skerry_contracts.device import Reason


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(RealDisk(tmp_path))
    found.prepare()
    return found


def put(store: Store, bundle: Bundle) -> str:
    for data in bundle.blobs.values():
        store.put_blob(data)
    return store.put_manifest(bundle.data)


def test_a_bundle_is_there_when_its_manifest_is(store: Store) -> None:
    bundle = make_bundle()
    for data in bundle.blobs.values():
        store.put_blob(data)
    assert store.bundles() == [] and store.manifest(bundle.id) is None
    assert put(store, bundle) == bundle.id
    assert store.bundles() == [bundle.id] and store.manifest(bundle.id) == bundle.manifest
    store.check(bundle.manifest, bundle.manifest.variants[0])


def test_damage_is_found_by_digest_and_removed(store: Store) -> None:
    bundle = make_bundle()
    put(store, bundle)
    library = bundle.manifest.variants[0].blobs["library"]
    path = f"{BLOBS}/{library.sha256}"
    store.disk.write(path, b"\0" * library.size_bytes)
    with pytest.raises(StorageError) as caught:
        store.check(bundle.manifest, bundle.manifest.variants[0])
    assert caught.value.reason == Reason.CORRUPT
    assert store.missing([library]) == [library], "it will be fetched again"
    with pytest.raises(StorageError) as caught:
        store.check(bundle.manifest, bundle.manifest.variants[0])
    assert caught.value.reason == Reason.STORAGE


def test_a_damaged_manifest_is_no_bundle(store: Store) -> None:
    bundle = make_bundle()
    put(store, bundle)
    store.disk.write(f"store/bundles/{bundle.id}/manifest.json", bundle.data[:-2])
    assert store.manifest(bundle.id) is None


def test_another_bundle_s_manifest_is_no_bundle(store: Store) -> None:
    """A whole, valid manifest under a name that is not its digest."""
    bundle = make_bundle()
    put(store, bundle)
    store.disk.write(f"store/bundles/{bundle.id}/manifest.json", bundle.data + b"\n")
    assert store.manifest(bundle.id) is None


def test_a_blob_cut_short_is_missing_and_a_download_too_long_is_nothing(store: Store) -> None:
    blob = store.put_blob(b"abcdef")
    store.disk.write(f"{BLOBS}/{blob.sha256}", b"abc")
    assert store.missing([blob]) == [blob]
    store.append(blob, 0, b"abcdefg")
    assert store.partial_bytes(blob) == 0


def test_a_partial_download_keeps_its_length_and_reserved_space_does_not_count(store: Store) -> None:
    blob = Blob(codec.digest(b"abcdef"), 6)
    store.reserve(blob)
    assert store.partial_bytes(blob) == 0
    store.append(blob, 0, b"abc")
    assert store.partial_bytes(blob) == 3
    store.append(blob, 3, b"def")
    store.finish(blob)
    assert store.missing([blob]) == [] and store.disk.names(PARTIAL) == []


def test_a_download_with_another_digest_is_thrown_away(store: Store) -> None:
    blob = Blob(codec.digest(b"abcdef"), 6)
    store.append(blob, 0, b"abcdeX")
    with pytest.raises(StorageError):
        store.finish(blob)
    assert store.partial_bytes(blob) == 0 and store.missing([blob]) == [blob]


def test_an_empty_blob_is_a_blob(store: Store) -> None:
    blob = Blob(codec.digest(b""), 0)
    store.finish(blob)
    assert store.missing([blob]) == []


def test_collecting_spares_what_is_kept_and_the_factory_model(store: Store) -> None:
    kept, factory, garbage = make_bundle(1), make_bundle(2), make_bundle(3)
    for each in (kept, factory, garbage):
        put(store, each)
    store.mark_factory("digits", factory.id)
    assert store.collect({kept.id}) == [garbage.id]
    assert store.bundles() == sorted([kept.id, factory.id])
    for each in (kept, factory):
        store.check(each.manifest, each.manifest.variants[0])
    gone = garbage.manifest.variants[0].blobs["library"]
    assert store.missing([gone]) == [gone]


def test_a_mark_for_a_factory_bundle_that_is_not_there_counts_for_nothing(store: Store) -> None:
    store.mark_factory("digits", "0" * 64)
    assert store.factory() == {}


def test_replacing_a_file_leaves_one_file(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    disk.mkdir("a/b")
    replace_file(disk, "a/b/c", b"1")
    replace_file(disk, "a/b/c", b"2")
    assert disk.names("a/b") == ["c"] and disk.read("a/b/c") == b"2"


def test_writing_at_an_offset_cuts_what_stood_behind(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    disk.write("f", b"abcdef")
    disk.write("f", b"X", 2)
    assert disk.read("f") == b"abX" and disk.size("f") == 3


def test_missing_files_are_no_errors_and_real_errors_are_mapped(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    assert disk.read("f") is None and disk.size("f") is None and disk.digest("f") is None and disk.names("f") == []
    disk.unlink("f")
    disk.rmdir("f")
    disk.mkdir("d/e")
    disk.rmdir("d")
    with pytest.raises(StorageError) as caught:
        disk.write("d", b"")
    assert caught.value.reason == Reason.STORAGE and caught.value.hint


def test_a_full_disk_is_said_to_be_full(tmp_path: Path) -> None:
    import resource

    disk = RealDisk(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(StorageError) as caught:
            disk.write("f", b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.reason == Reason.NO_SPACE and errno.EFBIG


def test_downloads_of_replaced_orders_do_not_pile_up(store: Store) -> None:
    disk = store.disk
    wanted = {f"{number:064x}" for number in range(4)}
    others = [f"{number:064x}" for number in range(10, 15)]
    for name in [*wanted, *others[:4]]:
        disk.write(f"{PARTIAL}/{name}", b"a part")
    prune(store, wanted)
    assert {*disk.names(PARTIAL)} == {*wanted, *others[:4]}, "a few may be deltas of what is wanted"
    disk.write(f"{PARTIAL}/{others[4]}", b"a part")
    prune(store, wanted)
    assert {*disk.names(PARTIAL)} == wanted
