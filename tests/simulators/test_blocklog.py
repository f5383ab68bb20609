"""Logs of block writes: what is read is what was written, whoever wrote it and however it ended."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry_simulators import blocklog
from skerry_simulators.blockfuse import Served
from skerry_simulators.blocklog import SECTOR, Entry, Flush, Mark, Write
from skerry_simulators.errors import SimulatorError

writes = st.builds(
    lambda at, count, fill, through: Write(at * SECTOR, bytes([fill]) * (count * SECTOR), through),
    st.integers(0, 15),
    st.integers(1, 4),
    st.integers(1, 255),
    st.booleans(),
)
logs = st.lists(st.one_of(writes, st.just(Flush()), st.builds(Mark, st.binary(min_size=1, max_size=40))), max_size=25)


@given(log=logs)
@settings(derandomize=True, max_examples=60)
def test_a_log_comes_back(log: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    with path.open("wb") as file:
        assert blocklog.save(log, file) == len(log)
    assert blocklog.load(path) == log


def test_the_format_is_that_of_dm_log_writes(tmp_path: Path) -> None:
    """Bytes as drivers/md/dm-log-writes.c lays them out."""
    head = struct.pack("<QQQI", 0x6A736677736872, 1, 3, 512).ljust(512, b"\0")
    written = struct.pack("<QQQQ", 8, 1, 0, 0).ljust(512, b"\0") + b"a" * 512
    flushed = struct.pack("<QQQQ", 9, 1, 1 | 2, 0).ljust(512, b"\0") + b"b" * 512  # both a flush before, and through
    marked = (struct.pack("<QQQQ", 0, 0, 8, 5) + b"hello").ljust(512, b"\0")
    path = tmp_path / "log"
    path.write_bytes(head + written + flushed + marked)
    found = [Write(4096, b"a" * 512), Flush(), Write(4608, b"b" * 512, True), Mark(b"hello")]
    assert blocklog.load(path) == found


def test_a_log_whose_writer_was_killed_ends_where_its_entries_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = io.BytesIO()
    blocklog.save([Write(0, b"x" * 1024), Flush(), Write(512, b"y" * 1024)], file)
    path.write_bytes(file.getvalue()[:-512])  # the last one's data is not all there
    assert blocklog.load(path) == [Write(0, b"x" * 1024), Flush()]
    path.write_bytes(file.getvalue() + bytes(4096))  # a file that was made longer before it was filled
    assert len(blocklog.load(path)) == 3


@pytest.mark.parametrize("content", [b"", b"no log", bytes(512), struct.pack("<QQQI", 0x6A736677736872, 1, 0, 4096)])
def test_what_is_no_log_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    with pytest.raises(SimulatorError, match="no log of writes"):
        blocklog.load(path)


def test_facts_of_any_length_fit_marks() -> None:
    facts: list[blocklog.Fact] = [{"n": 1}, {"added": [["boot", number] for number in range(300)]}, {"text": "ü" * 700}]
    log: list[Entry] = [Flush()]
    for fact in facts:
        log += [Mark(piece) for piece in blocklog.marks(fact)]
    assert all(len(each.data) <= blocklog.MARK_BYTES for each in log if isinstance(each, Mark))
    found = list(blocklog.facts(log))
    assert [fact for _, fact in found] == facts and found[-1][0] == len(log) - 1
    assert len(list(blocklog.facts(log[:-1]))) == 2, "a fact counts with its last mark"


def test_the_recorder_answers_as_a_disk_and_notes_the_order() -> None:
    served = Served(bytes(8192))
    code = {"lookup": 1, "getattr": 3, "open": 14, "read": 15, "write": 16, "fsync": 20}

    def at(offset: int, size: int) -> bytes:
        return struct.pack("<QQIIQII", 0, offset, size, 0, 0, 0, 0)

    node = struct.unpack_from("<Q", served.answer(code["lookup"], 1, memoryview(b"disk\0")))[0]
    mark = struct.unpack_from("<Q", served.answer(code["lookup"], 1, memoryview(b"mark\0")))[0]
    assert struct.unpack_from("<QII QQ", served.answer(code["getattr"], node, memoryview(b"")))[4] == 8192
    served.answer(code["write"], node, memoryview(at(512, 512) + b"z" * 512))
    served.answer(code["write"], mark, memoryview(at(0, 3) + b"abc"))
    served.answer(code["fsync"], node, memoryview(bytes(16)))
    assert served.answer(code["read"], node, memoryview(at(1000, 100))) == b"z" * 24 + bytes(76)
    assert served.log == [Write(512, b"z" * 512), Mark(b"abc"), Flush()]
    with pytest.raises(OSError, match="no such file"):
        served.answer(code["lookup"], 1, memoryview(b"other\0"))
    with pytest.raises(OSError, match="not served"):
        served.answer(43, node, memoryview(b""))
