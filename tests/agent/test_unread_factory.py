"""A disk that fails some reads just when the agent starts: what cannot be read is neither forgotten nor removed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.agent.test_core_storage import FailingLedger
from tests.agent.world import Bundle, World, make_bundle

from skerry_agent.disk import RealDisk
from skerry_agent.errors import StorageError
from skerry_agent.store import Store


class FlakyDisk(RealDisk):
    """Fails whatever lies below `bad`."""

    bad = "\0"

    def read(self, path: str) -> bytes | None:
        self._look(path)
        return super().read(path)

    def names(self, path: str) -> list[str]:
        self._look(path)
        return super().names(path)

    def _look(self, path: str) -> None:
        if path.startswith(self.bad):
            raise StorageError(f"{path}: Input/output error", hint="check the disk")


FACTORY = make_bundle(1)
UNREAD = ("store/factory", "store/factory/digits", f"store/bundles/{FACTORY.id}", "store")


def provisioned(root: Path, *, bad: str, ledger: FailingLedger | None = None) -> tuple[World, FlakyDisk]:
    """Return a device whose maker put a bundle there, started while part of its disk cannot be read."""
    disk = FlakyDisk(root)
    store = Store(disk)
    store.prepare()
    put(store, FACTORY)
    store.mark_factory("digits", FACTORY.id)
    disk.bad = bad
    return World(root, disk=disk, ledger=ledger), disk


def put(store: Store, bundle: Bundle) -> None:
    for data in bundle.blobs.values():
        store.put_blob(data)
    store.put_manifest(bundle.data)


@pytest.mark.parametrize("bad", UNREAD)
@pytest.mark.parametrize("written", [True, False])
def test_a_factory_bundle_unread_at_the_first_boot_serves_once_it_can_be_read(
    tmp_path: Path, bad: str, written: bool
) -> None:
    ledger = FailingLedger(Path(":memory:"))
    ledger.broken = not written
    world, disk = provisioned(tmp_path, bad=bad, ledger=ledger)
    world.pass_s(300)
    if bad != UNREAD[0] and bad != UNREAD[1]:  # without its mark a bundle is only the newest that is here
        assert world.serving == {}
    disk.bad = "\0"
    for _ in range(30):
        world.pass_s(1)
    assert world.serving == {"digits": FACTORY.id}
    ledger.broken = False
    world.pass_s(60)
    assert world.core.memory.records["digits"].factory is not None
    ledger.broken = True
    world.boot()
    assert world.serving == {"digits": FACTORY.id}


@pytest.mark.parametrize("reboot", [False, True])
def test_a_withdrawn_model_serves_until_the_factory_bundle_can_be_read(tmp_path: Path, reboot: bool) -> None:
    world, disk = provisioned(tmp_path, bad=UNREAD[2])
    world.connect()
    second = make_bundle(2)
    world.assign(second)
    world.settle()
    world.assign(sequence=2)
    assert world.serving == {"digits": second.id}, "better than nothing"
    disk.bad = "\0"
    if reboot:
        world.boot()
        world.connect()
    else:
        world.pass_s(3600)
    assert world.serving == {"digits": FACTORY.id}
    assert world.progress()[-1] == ("rolled-back", "ordered")


def test_no_mark_that_can_be_read_no_removal(tmp_path: Path) -> None:
    world, disk = provisioned(tmp_path, bad=UNREAD[1])
    with pytest.raises(StorageError):
        world.store.collect(set())
    disk.bad = "\0"
    assert world.store.factory() == {"digits": FACTORY.id}


def test_nothing_is_removed_that_the_ledger_still_speaks_of(tmp_path: Path) -> None:
    """The medium fails the read of what serves and the write of what is to serve instead, and then the power goes."""
    ledger = FailingLedger(Path(":memory:"))
    world, disk = provisioned(tmp_path, bad="\0", ledger=ledger)
    world.connect()
    second = make_bundle(2)
    world.assign(second)
    world.settle()
    ledger.broken, disk.bad = True, f"store/bundles/{second.id}"
    world.boot()
    assert world.serving == {"digits": FACTORY.id}
    world.pass_s(120)
    disk.bad = "\0"
    world.boot()
    assert world.serving == {"digits": second.id}, "the record of before, and its files"
    world.store.check(second.manifest, second.manifest.variants[0])
