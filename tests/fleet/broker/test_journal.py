from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_fleet.broker import journal
from skerry_fleet.broker.journal import Journal, Kept

records = st.lists(
    st.builds(Kept, st.sampled_from(["a", "b/c", "ä"]), st.binary(max_size=20), st.integers(0, 1)), max_size=12
)


def after(written: list[Kept]) -> dict[str, Kept]:
    kept: dict[str, Kept] = {}
    for each in written:
        if each.payload:
            kept[each.topic] = each
        else:
            kept.pop(each.topic, None)
    return kept


def load(path: Path) -> dict[str, Kept]:
    opened = Journal(path)
    try:
        return opened.load()
    finally:
        opened.close()


def write(path: Path, written: list[Kept]) -> None:
    opened = Journal(path)
    opened.load()
    for each in written:
        opened.append(each)
        opened.flush()
    opened.close()


@given(records, st.data())
def test_any_cut_leaves_a_true_past(written: list[Kept], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        write(path, written)
        whole = path.read_bytes()
        assert load(path) == after(written)
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        assert load(path) in [after(written[:count]) for count in range(len(written) + 1)]
        # What was torn off stays off, and what comes next is kept.
        write(path, [Kept("next", b"x", 1)])
        assert load(path)["next"].payload == b"x"


@given(records.filter(bool), st.data())
def test_a_damaged_record_ends_the_past(written: list[Kept], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        write(path, written)
        whole = bytearray(path.read_bytes())
        whole[data.draw(st.integers(0, 10**6)) % len(whole)] ^= data.draw(st.integers(1, 255))
        path.write_bytes(whole)
        assert load(path) in [after(written[:count]) for count in range(len(written))]


def test_it_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "COMPACT_AT_BYTES", 10_000)
    opened = Journal(tmp_path / "journal")
    opened.load()
    for number in range(2000):
        kept = Kept("skerry/1/a", b"%d" % number * 10, 1)
        opened.append(kept)
        opened.flush()
        if opened.overgrown:
            opened.compact([kept])
    opened.close()
    assert (tmp_path / "journal").stat().st_size < 20_000
    assert load(tmp_path / "journal") == {"skerry/1/a": kept}


def test_a_full_disk_hides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Journal(tmp_path / "journal")
    opened.load()
    opened.append(Kept("a", b"1", 1))
    opened.flush()
    real = os.write

    def half(descriptor: int, data: bytes) -> int:
        if len(data) > 5:
            return real(descriptor, data[:5])
        raise OSError(28, "No space left on device")

    opened.append(Kept("b", b"2", 1))
    monkeypatch.setattr(os, "write", lambda descriptor, data: half(descriptor, data[: len(data) // 2]))
    with pytest.raises(OSError, match="No space"):
        opened.flush()
    monkeypatch.undo()
    assert set(load(tmp_path / "journal")) == {"a"}
    opened.flush()
    opened.close()
    assert set(load(tmp_path / "journal")) == {"a", "b"}
