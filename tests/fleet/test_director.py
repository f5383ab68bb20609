"""Assignments: signed by the director, numbered upward, renewed before they grow old, cleared when a device leaves."""

from __future__ import annotations

import pytest
from tests.fleet.conftest import ACTOR, Bench, folder_of

from skerry_contracts import codec
from skerry_contracts.assignment import ASSIGNMENT_TYPE, Assignment, Envelope, SamplingPolicy, Window
from skerry_contracts.enrolment import Trust
from skerry_fleet import director, leaving
from skerry_fleet.errors import MissingError
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.tables import SignedAssignment
from skerry_fleet.trust import signing


def envelope(bench: Bench, device: str) -> SignedAssignment:
    with bench.fleet.database.read() as session:
        row = session.get(SignedAssignment, ("default", device))
        assert row is not None
        return row


def test_what_is_signed_is_what_the_rollout_says(bench: Bench) -> None:
    bench.enrol("d0")
    bench.beat("d0", "")
    bundle = bench.publish()
    window, sampling = Window(120, 60), SamplingPolicy(0.5, 0.2, 1000, 60)
    with bench.fleet.rollouts.open() as session:
        request = RolloutRequest("digits", bundle, window=window, sampling=sampling)
        rollout = bench.fleet.rollouts.create(session, ACTOR, bench.clock(), request)["id"]
    row = envelope(bench, "d0")
    trust = codec.decode(Trust, bench.fleet.office.trust_document)
    keys = [signing.load_public_key(pem) for pem in trust.director_keys_pem]
    signed = signing.verify(codec.decode(Envelope, row.envelope.encode()), ASSIGNMENT_TYPE, keys)
    assignment = codec.decode(Assignment, signed)
    (model,) = assignment.models
    assert (assignment.device, assignment.sequence, row.published) == ("d0", 1, False)
    assert (model.bundle, model.rollout, model.window, model.sampling) == (bundle, rollout, window, sampling)
    assert not model.allow_downgrade
    assert model.size_bytes == len(folder_of(bench.fleet).path(bundle).read_bytes())


def test_old_assignments_are_signed_anew(bench: Bench) -> None:
    bench.enrol("d0")
    with bench.fleet.database.write() as session:
        sign = bench.fleet.office.director.sign_assignment
        director.issue(session, sign, ACTOR, bench.clock(), 30.0, {"d0": "test"})
    bench.clock.now += 14 * 86_400
    bench.fleet.tick()
    assert envelope(bench, "d0").sequence == 1
    bench.clock.now += 2 * 86_400
    bench.fleet.tick()
    row = envelope(bench, "d0")
    assert row.sequence == 2 and row.expires_ms == int(bench.clock() + 30 * 86_400) * 1000


def test_a_device_that_leaves_has_its_assignment_cleared_and_numbers_go_on(bench: Bench) -> None:
    bench.enrol("d0")
    sign = bench.fleet.office.director.sign_assignment
    with bench.fleet.database.write() as session:
        assert director.issue(session, sign, ACTOR, bench.clock(), 30.0, {"d0": "test"}, above=6) == {"d0": 7}
    with bench.fleet.rollouts.open() as session:
        leaving.decommission(session, ACTOR, bench.clock(), "d0")
    row = envelope(bench, "d0")
    assert row.envelope == "" and not row.published
    with pytest.raises(MissingError), bench.fleet.database.write() as session:
        director.issue(session, sign, ACTOR, bench.clock(), 30.0, {"d0": "test"})
    bench.enrol("d0")
    with bench.fleet.database.write() as session:
        assert director.issue(session, sign, ACTOR, bench.clock(), 30.0, {"d0": "test"}) == {"d0": 8}
