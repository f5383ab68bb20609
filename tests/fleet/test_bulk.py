"""Very many devices at once: rows read and written by the thousand, orders signed by one writer, large waves offered
in portions that together are what one would have been.
"""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import select
from tests.fleet.conftest import Bench
from tests.fleet.rolling import show, start

from skerry_contracts import codec
from skerry_contracts.assignment import ASSIGNMENT_TYPE, AssignedModel, Assignment, Envelope, Window, target_path
from skerry_contracts.device import Phase
from skerry_fleet import audit, director, rollouts
from skerry_fleet.fleet import open_fleet
from skerry_fleet.rollout_plan import Wave
from skerry_fleet.sql import bulk
from skerry_fleet.tables import Device, RolloutDevice
from skerry_fleet.trust import keys, signing
from skerry_fleet.trust.director import Director

DATABASES = "both"
BUNDLE = "ab" * 32
NAMES = [f"d{number}" for number in range(10)]


def ordered(bench: Bench) -> list[str]:
    """Return the devices that have an order."""
    return [name for name in NAMES if bench.assignment(name) is not None]


@pytest.fixture
def heard(bench: Bench) -> Bench:
    """Ten devices that were heard of."""
    bench.enrol(*NAMES)
    for name in NAMES:
        bench.beat(name, "")
    return bench


def test_rows_of_many_names_are_those_of_each(bench: Bench) -> None:
    names = [f"d{number}" for number in range(30)]
    bench.enrol(*names)
    query = "SELECT name, sequence FROM device WHERE tenant = :tenant AND name {among}"
    with bench.fleet.database.read() as session:
        for wanted in ([], ["d3"], names, [*names, "nobody", "d'3", 'd"4', "d%s", "d:tenant"]):
            found = bulk.among(session, query, wanted, tenant="default")
            assert sorted(row[0] for row in found) == sorted(set(wanted) & set(names))
        assert not bulk.among(session, query, names, tenant="rival")
        assert [row.name for row in session.exec(select(Device).where(Device.name == "d7"))] == ["d7"]


def test_health_is_what_each_device_last_said_of_the_model(bench: Bench) -> None:
    bundle = bench.publish()
    bench.enrol("d0", "d1", "d2")
    bench.beat("d0", bundle, errors=3)
    bench.beat("d1", "")
    with bench.fleet.database.read() as session:
        found = director.health(session, "default", "digits", ["d0", "d1", "d2", "nobody"])
        assert not director.health(session, "default", "faces", ["d0"])
    assert set(found) == {"d0"} and found["d0"].bundle == bundle and found["d0"].errors == 3


@given(
    st.lists(st.sampled_from(["digits", "faces", "night-1"]), unique=True),
    st.sampled_from(["d0", "camera-7-west", "a" * 60]),
    st.integers(1, 2**62),
    st.booleans(),
)
@settings(derandomize=True, deadline=None, max_examples=40)
def test_a_signed_assignment_is_written_as_the_contracts_write_it(
    tmp_path_factory: pytest.TempPathFactory, models: list[str], device: str, sequence: int, windowed: bool
) -> None:
    store = keys.KeyStore(tmp_path_factory.getbasetemp() / "director-keys")
    key = store.ed25519(keys.DIRECTOR, create=True)
    signer = Director(store)
    window = Window(120, 60) if windowed else None
    told = tuple(
        AssignedModel(each, "1.0", 1, BUNDLE, target_path(each, BUNDLE), 10, "r1", window=window) for each in models
    )
    for number in (sequence, sequence + 1):  # the models are the same object the second time
        assignment = Assignment("default", device, number, 5, 9, told)
        signed = signer.sign_assignment(assignment)
        envelope = codec.decode(Envelope, signed)
        assert codec.encode(envelope) == signed and envelope.payload == codec.encode(assignment)
        assert signing.verify(envelope, ASSIGNMENT_TYPE, [key.public_key()]) == envelope.payload


@given(st.text(), st.dictionaries(st.text(), st.text() | st.integers(-(2**63), 2**63 - 1), max_size=3))
@settings(derandomize=True, deadline=None, max_examples=200)
def test_a_record_of_the_audit_has_the_hash_that_anybody_computes(name: str, after: dict[str, object]) -> None:
    try:
        shown = codec.canonical_json(after).decode()
        row = dict.fromkeys(audit.TEXTS, name) | {"seq": 1, "time_ms": 2**62, "after": shown}
        expected = audit.digest_of(row)
    except UnicodeEncodeError:  # half a surrogate is no text
        return
    assert audit._hash(row) == expected


@pytest.mark.parametrize("budget", [100, 4])
def test_a_large_wave_is_offered_in_portions(heard: Bench, monkeypatch: pytest.MonkeyPatch, budget: int) -> None:
    monkeypatch.setattr(rollouts, "OFFERS_A_TURN", 3)
    rollout = start(heard, heard.publish(), canary=1, waves=(Wave(100),), exposure_budget=budget)
    (canary,) = ordered(heard)
    assert not heard.fleet.rollouts.more, "a canary is one portion"
    heard.progress(canary, Phase.COMMITTED)
    reached = [1, len(ordered(heard))]
    while heard.fleet.rollouts.more:
        heard.fleet.offer()
        reached.append(len(ordered(heard)))
        assert show(heard, rollout)["exposure"] == reached[-1] - 1 <= budget
    assert all(after - before <= 3 for before, after in itertools.pairwise(reached))
    assert reached[-1] == 1 + min(9, budget)
    with heard.fleet.database.read() as session:
        places = session.exec(select(RolloutDevice.place).where(RolloutDevice.rollout == rollout)).all()
    assert places.count("offered") == reached[-1] - 1


def test_a_restart_goes_on_with_the_portions(heard: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollouts, "OFFERS_A_TURN", 2)
    start(heard, heard.publish(), canary=6, exposure_budget=6)
    assert heard.fleet.rollouts.more and len(ordered(heard)) == 2
    heard.fleet.close()
    heard.fleet = open_fleet(heard.fleet.config, heard.clock, random.Random(2).randbytes)
    heard.fleet.tick()
    while heard.fleet.rollouts.more:
        heard.fleet.offer()
    assert len(ordered(heard)) == 6
    with heard.fleet.database.read() as session:
        assert audit.verify(session, "default").broken_at is None
