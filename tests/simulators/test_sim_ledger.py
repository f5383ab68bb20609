"""The simulated ledger answers exactly as the SQLite one does, and is durable on commit alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skerry_agent.errors import StorageError
from skerry_agent.ledger import Change, Row, SqliteLedger
from skerry_contracts.device import Reason
from skerry_simulators.disk import SimDisk
from skerry_simulators.errors import PowerCut
from skerry_simulators.ledger import SimLedger
from skerry_simulators.power import Plug

BOOT = "00000001-00000000"


def ledger(capacity_bytes: int = 100_000) -> SimLedger:
    plug = Plug()
    return SimLedger(plug, SimDisk(plug, capacity_bytes))


def row(seq: int, priority: int = 0, payload: bytes = b"x") -> Row:
    return Row(BOOT, seq, "sample", priority, payload)


rows = st.builds(row, st.integers(0, 20), st.integers(0, 3), st.binary(max_size=5))
changes = st.builds(
    Change,
    st.dictionaries(st.sampled_from("abc"), st.none() | st.binary(max_size=3), max_size=2),
    st.lists(rows, max_size=4, unique_by=lambda each: each.seq),
    st.lists(st.tuples(st.just(BOOT), st.integers(0, 20)), max_size=4),
)


@given(st.lists(changes, max_size=12))
@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_answers_as_sqlite_does(tmp_path: Path, all_changes: list[Change]) -> None:
    path = tmp_path / "state.db"
    for each in (path, path.with_name("state.db-wal"), path.with_name("state.db-shm")):
        each.unlink(missing_ok=True)
    real, simulated = SqliteLedger(path), ledger()
    try:
        for change in all_changes:
            outcomes = []
            for one in (real, simulated):
                try:
                    one.commit(change)
                    outcomes.append(True)
                except StorageError:
                    outcomes.append(False)
            assert outcomes[0] == outcomes[1]
            assert simulated.load() == real.load()
            assert simulated.size() == real.size()
            for limit in (1, 3, 50):
                assert simulated.head(limit) == real.head(limit)
                assert simulated.cheapest(limit) == real.cheapest(limit)
            asked = [(BOOT, seq) for seq in range(0, 21, 3)]
            assert simulated.stubs(asked) == real.stubs(asked)
    finally:
        real.close()


def test_a_cut_commit_changes_nothing() -> None:
    tried = ledger()
    tried.commit(Change({"a": b"1"}, [row(1)]))
    tried.plug.cut_in(1)
    with pytest.raises(PowerCut):
        tried.commit(Change({"a": b"2"}, [row(2)], [(BOOT, 1)]))
    assert tried.load() == {"a": b"1"}
    assert tried.head(9) == [row(1)]


def test_a_full_disk_refuses_what_adds_and_allows_what_removes() -> None:
    tried = ledger(capacity_bytes=300)
    tried.commit(Change(add=[row(1, payload=b"x" * 100)]))
    with pytest.raises(StorageError) as caught:
        tried.commit(Change(add=[row(2, payload=b"x" * 100)]))
    assert caught.value.reason is Reason.NO_SPACE
    tried.commit(Change(remove=[(BOOT, 1)]))
    tried.commit(Change(add=[row(2, payload=b"x" * 100)]))
    assert tried.size() == (1, 100)
