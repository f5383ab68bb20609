"""The chaos: what its reckoning finds in histories that are known, and one short run with real parts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from skerry_agent.errors import StorageError
from skerry_agent.ledger import Change, Key, Row, SqliteLedger
from skerry_agent.spool import TOTALS, Totals
from skerry_contracts import codec
from skerry_simulators.chaos.history import ToldLedger, count, keys_of, read, settle, words
from skerry_simulators.chaos.plan import KILLS, Harm, Settings, plan

BOOT = "00000001-00000000"


def keys(*seqs: int) -> set[Key]:
    return {(BOOT, seq) for seq in seqs}


@given(st.sets(st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 60)), min_size=1))
@examples(derandomize=True, deadline=None)
def test_words_name_keys(named: set[Key]) -> None:
    said = words("+", named)
    assert {key for word in said for key in keys_of(word)} == named
    assert sum(count(word) for word in said) == len(named)


def test_the_ledger_tells_before_and_after(tmp_path: Path) -> None:
    lines: list[str] = []
    ledger = ToldLedger(SqliteLedger(tmp_path / "state.db"), lines.append)
    ledger.load()
    rows = [Row(BOOT, i, "sample", 1, b"x") for i in (1, 2, 3)]
    sketch = Row(BOOT, 4, "sketch", 2, b"x")
    ledger.commit(Change({TOTALS: codec.encode(Totals(4))}, [*rows, sketch]))
    ledger.commit(Change({TOTALS: codec.encode(Totals(4, 2))}, (), [rows[0].key, sketch.key]))
    ledger.commit(Change({TOTALS: codec.encode(Totals(4, 2, 1))}, (), [rows[1].key]))
    with pytest.raises(StorageError):
        ledger.commit(Change(add=[rows[2]]))
    ledger.commit(Change({"boots": b"1"}))
    assert lines == [
        f"try +{BOOT}:1-3 *{BOOT}:4", "ok", f"try -{BOOT}:1,4", "ok", f"try !{BOOT}:2", "ok", f"try +{BOOT}:3", "no"
    ]  # fmt: skip
    assert ledger.net == 2


def test_a_reckoning_finds_what_is_lost_forged_and_uncounted() -> None:
    acked, dropped = [f"try -{BOOT}:1-3", "ok"], [f"try !{BOOT}:4", "ok"]
    told = read([f"try +{BOOT}:1-6", "ok", *acked, *dropped, f"try +{BOOT}:7-8", f"try +{BOOT}:9", "no"])
    fine = settle(told, keys(1, 2, 3, 5, 7), keys(6), 1)
    assert (fine.lost, fine.forged, fine.uncounted) == ((), (), 0), "7 was tried, and may have been kept: no one knows"
    assert (fine.samples, fine.stored, fine.spooled, fine.given_up) == (6, 5, 1, 1)
    assert settle(told, keys(1, 2, 5), keys(6), 1).lost == ((BOOT, 3),), "acknowledged, and not stored"
    assert settle(told, keys(1, 2, 3), keys(6), 1).lost == ((BOOT, 5),), "kept, and nowhere"
    assert settle(told, keys(1, 2, 3, 5, 10), keys(6), 1).forged == ((BOOT, 10),)
    assert settle(told, keys(1, 2, 3, 5), keys(6), 0).uncounted == 1


def test_a_kill_leaves_the_last_word_open() -> None:
    told = read([f"try +{BOOT}:1-2", "ok", f"try -{BOOT}:1 +{BOOT}:3", f"try +{BOOT}:4", "ok"])
    assert settle(told, set(), keys(2, 4), 1).lost == ()
    assert settle(told, set(), keys(2, 4), 0).uncounted == 1, "1 is gone and was not counted: then it must be stored"


def test_a_plan_follows_from_its_seed() -> None:
    one = plan(Settings(1000, devices=3, seed=7, kills=4, cuts=2))
    assert one == plan(Settings(1000, devices=3, seed=7, kills=4, cuts=2)) != plan(Settings(1000, devices=3, seed=8))
    assert [blow.at for blow in one] == sorted(blow.at for blow in one)
    assert {harm: sum(blow.harm is harm for blow in one) for harm in Harm} == {
        harm: 4 if harm in KILLS else 2 for harm in Harm
    }


def test_every_sample_survives_a_short_chaos(tmp_path: Path) -> None:
    """Broker, manager and a device killed once each on a lossy proxy, which needs no rights; then the books balance."""
    command = [sys.executable, "-m", "skerry", "sim", "chaos", "--network", "proxy", "--root", str(tmp_path / "run")]
    command += ["--samples", "3000", "--devices", "2", "--kills", "1", "--cuts", "1", "--longest-s", "1", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert done.returncode == 0, done.stderr[-3000:] + done.stdout[-2000:]
    found = json.loads(done.stdout)
    assert (found["lost"], found["duplicated"], found["wrong"]) == (0, 0, [])
    assert found["stored"] + found["spooled"] + found["given_up"] >= found["samples"] >= 3000
    assert found["kills"] == 4 and found["lake"] >= 3000 and found["captures"] > 0 and found["drained"]
    assert set(found["dealt"]) == {harm.value for harm in Harm}
