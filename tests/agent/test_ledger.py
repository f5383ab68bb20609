"""The ledger: whole transactions, damage noticed at the start, floors that outlive the database."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path

import pytest

from skerry_agent.disk import RealDisk
from skerry_agent.errors import StorageError
from skerry_agent.ledger import MIRROR, Change, Row, SqliteLedger, open_ledger

BOOT = "00000001-00000000"


def row(seq: int, priority: int = 1) -> Row:
    return Row(BOOT, seq, "sample", priority, b"payload%d" % seq)


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "state.db", RealDisk(tmp_path))
    ledger.commit(Change({"a": b"1", "b": b"2"}, [row(1), row(2, 3)]))
    ledger.commit(Change({"a": None}, (), [(BOOT, 1)]))
    ledger.close()
    again, trouble = open_ledger(tmp_path / "state.db", RealDisk(tmp_path))
    assert trouble is None and again.load() == {"b": b"2"}
    assert again.head(9) == [row(2, 3)] and again.size() == (1, 8)
    again.close()


def test_a_transaction_that_fails_changes_nothing_and_the_next_works(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "state.db")
    ledger.commit(Change(add=[row(1)]))
    with pytest.raises(StorageError):
        ledger.commit(Change({"a": b"1"}, [row(2), row(1)]))  # the number is taken
    assert ledger.load() == {} and ledger.size() == (1, 8)
    ledger.commit(Change({"a": b"1"}))
    assert ledger.load() == {"a": b"1"}
    ledger.close()


def test_a_file_that_cannot_be_opened_again_says_why_until_it_can(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    ledger = SqliteLedger(path)
    ledger.commit(Change({"a": b"1"}, [row(1)]))
    with pytest.raises(StorageError):
        ledger.commit(Change(add=[row(1)]))  # closes the file
    path.rename(tmp_path / "aside")
    path.mkdir()
    for attempt in (ledger.load, ledger.size, lambda: ledger.commit(Change({"b": b"2"}))):
        with pytest.raises(StorageError, match="unable to open"):
            attempt()
    path.rmdir()
    (tmp_path / "aside").rename(path)
    assert ledger.load() == {"a": b"1"} and ledger.size() == (1, 8)
    ledger.close()


@pytest.mark.parametrize("damage", [b"", b"not a database, and long enough to be read as one" * 100])
def test_a_damaged_file_is_set_aside_and_the_keys_come_from_the_mirror(tmp_path: Path, damage: bytes) -> None:
    disk = RealDisk(tmp_path)
    ledger = SqliteLedger(tmp_path / "state.db", disk)
    ledger.commit(Change({"floors": b"7", "spool": b"x"}, [row(1)]))
    ledger.close()
    if damage:
        (tmp_path / "state.db").write_bytes(damage)
    else:
        content = bytearray((tmp_path / "state.db").read_bytes())
        content[100:] = os.urandom(len(content) - 100)
        (tmp_path / "state.db").write_bytes(content)
    again, trouble = open_ledger(tmp_path / "state.db", disk)
    assert trouble is not None and "damaged" in trouble
    assert again.load() == {"floors": b"7"} and again.size() == (0, 0)
    assert (tmp_path / "state.db.damaged").exists()
    again.close()


@pytest.mark.parametrize("mirror", [None, b"", b"{", b"[]", b'{"a": 1}', b'{"a": "%%%"}'])
def test_a_damaged_mirror_too_leaves_an_empty_ledger(tmp_path: Path, mirror: bytes | None) -> None:
    (tmp_path / "state.db").write_bytes(b"rubbish" * 500)
    if mirror is not None:
        (tmp_path / MIRROR).write_bytes(mirror)
    ledger, trouble = open_ledger(tmp_path / "state.db", RealDisk(tmp_path))
    assert trouble is not None and ledger.load() == {}
    ledger.close()


def test_a_file_that_cannot_be_opened_is_not_taken_for_damage(tmp_path: Path) -> None:
    disk = RealDisk(tmp_path)
    ledger = SqliteLedger(tmp_path / "state.db", disk)
    ledger.commit(Change({"floors": b"7"}))
    ledger.close()
    (tmp_path / "state.db").rename(tmp_path / "kept.db")
    (tmp_path / "state.db").mkdir()
    again, trouble = open_ledger(tmp_path / "state.db", disk)
    assert trouble is not None and "cannot be written" in trouble
    assert again.load() == {"floors": b"7"}, "what the mirror says, in memory"
    assert stat.S_ISDIR((tmp_path / "state.db").stat().st_mode), "nothing was moved away"
    again.close()


def test_the_file_shrinks_when_the_spool_drains(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "state.db")
    big = [Row(BOOT, seq, "sample", 0, b"x" * 10_000) for seq in range(400)]
    ledger.commit(Change(add=big))
    before = sum(each.stat().st_size for each in tmp_path.iterdir())
    ledger.commit(Change(remove=[each.key for each in big]))
    ledger.close()
    assert sum(each.stat().st_size for each in tmp_path.iterdir()) < before / 4


def test_the_dearest_then_the_oldest_are_sent_first(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "state.db")
    chance = random.Random(3)
    rows = [Row("00000001-00000000", i, "sample", chance.randint(0, 3), b"x") for i in range(300)]
    ledger.commit(Change(add=rows))
    wanted = sorted(rows, key=lambda each: (-each.priority, each.seq))
    for limit in (0, 1, 60, 150, 299, 1000):
        assert ledger.head(limit) == wanted[:limit]
