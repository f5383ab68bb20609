"""Leases over HTTP: each role may do its own, and any course of a lease ends once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.fleet.conftest import Bench, admin
from tests.fleet.lease_parts import (
    FITS,
    PROFILE,
    SOURCE,
    candidates,
    online,
)

from skerry_contracts import codec
from skerry_contracts.measuring import MeasureState
from skerry_fleet import lease_machine as machine
from skerry_fleet.lease_machine import Effect, Lease, LeaseStatus


@contextlib.contextmanager
def keys(app: FastAPI, *roles: str) -> Iterator[list[httpx.Client]]:
    with admin(app) as first, contextlib.ExitStack() as stack:
        found = []
        for role in roles:
            key = first.post("/api/v1/keys", json={"name": role, "role": role}).json()["key"]
            headers = {"authorization": f"Bearer {key}"}
            client = httpx.Client(base_url=first.base_url, headers=headers, trust_env=False)
            found.append(stack.enter_context(client))
        yield found


def test_the_api_knows_roles(app: FastAPI, config: Any) -> None:
    with keys(app, "viewer", "measurer", "measurer", "operator") as (viewer, measurer, other, operator):
        bench = Bench(app.state.fleet, app.state.fleet.clock)
        bench.enrol("b1")
        online(bench, "b1")
        request = {"profile": PROFILE, "requires": codec.to_plain(FITS), "source_sha256": SOURCE}
        assert viewer.post("/api/v1/leases", json=request).status_code == 403
        assert measurer.post("/api/v1/groups", json={"name": "measuring"}).status_code == 403, "it opts nobody in"
        operator.post("/api/v1/groups", json={"name": "measuring"})
        assert operator.post("/api/v1/groups/measuring/devices", json={"devices": ["b1"]}).status_code == 200
        made = measurer.post("/api/v1/leases", json=request)
        assert made.status_code == 201 and made.json()["status"] == "granted"
        name = made.json()["id"]
        for verb in ("renew", "cancel"):
            assert other.post(f"/api/v1/leases/{name}/{verb}", json={}).status_code == 403
        assert other.post(f"/api/v1/leases/{name}/bundle", content=candidates().getvalue()).status_code == 403
        assert viewer.post(f"/api/v1/leases/{name}/renew", json={}).status_code == 403
        sent = measurer.post(f"/api/v1/leases/{name}/bundle?seconds=30", content=candidates().getvalue())
        assert sent.status_code == 200 and sent.json()["status"] == "measuring"
        assert measurer.post("/api/v1/rollouts", json={"model": "digits", "bundle": "x"}).status_code == 403
        assert viewer.get("/api/v1/leases").json()["items"][0]["id"] == name
        assert viewer.get("/api/v1/measurements/7").status_code == 404
        assert viewer.get("/api/v1/measurements/x").status_code == 404
        assert viewer.get("/api/v1/measurements").json() == {"items": [], "next": None}
        seen = {"if-match": operator.get(f"/api/v1/leases/{name}").headers["etag"]}
        assert operator.post(f"/api/v1/leases/{name}/cancel", headers={"if-match": '"x"'}).status_code == 412
        assert operator.post(f"/api/v1/leases/{name}/cancel", headers=seen).json()["status"] == "cancelled"
        bad = measurer.post("/api/v1/leases", json={**request, "source_sha256": "no"})
        assert bad.status_code in (400, 422)


# The machine.


class LeaseCourse(RuleBasedStateMachine):
    """Any course of a lease: it ends once, and what was ordered is withdrawn exactly once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.lease = Lease(LeaseStatus.QUEUED, self.now)
        self.effects: list[Effect] = []

    def see(self, event: machine.Event) -> None:
        before = self.lease
        self.lease, effects = machine.advance(before, event, self.now)
        self.effects += effects
        if before.status in machine.FINAL:
            assert self.lease == before and not effects

    @rule(seconds=st.sampled_from([1.0, 20.0, 61.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.see(machine.Tick())

    @rule(
        event=st.sampled_from(
            [
                machine.Granted("b1"),
                machine.Renewed(),
                machine.Uploaded(60),
                machine.Told(MeasureState.DONE, ""),
                machine.Told(MeasureState.FAILED, "no"),
                machine.Silent("gone"),
            ]
        )
    )
    def something_happens(self, event: machine.Event) -> None:
        self.see(event)

    @precondition(lambda self: self.lease.status is LeaseStatus.MEASURING)
    @rule()
    def it_is_cancelled(self) -> None:
        self.see(machine.Cancelled("enough"))
        assert self.lease.status is LeaseStatus.CANCELLED

    @invariant()
    def an_order_stands_only_while_it_measures(self) -> None:
        standing = self.effects.count(Effect.ORDER) - self.effects.count(Effect.WITHDRAW)
        assert standing == (self.lease.status is LeaseStatus.MEASURING)
        assert self.effects.count(Effect.ORDER) <= 1

    @invariant()
    def it_has_a_board_when_it_needs_one(self) -> None:
        assert (self.lease.status not in machine.ACTIVE) or self.lease.device
        assert self.lease.status is not LeaseStatus.QUEUED or not self.lease.device


LeaseCourse.TestCase.settings = settings(max_examples=60, stateful_step_count=30, derandomize=True, deadline=None)
TestAnyCourse = LeaseCourse.TestCase


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.lists(st.floats(0, 59.0), max_size=20))
def test_a_lease_that_is_renewed_lives_until_its_time_is_up(pauses: list[float]) -> None:
    held, _ = machine.advance(Lease(LeaseStatus.GRANTED, 0.0, "b1"), machine.Uploaded(60), 0.0)
    now = 0.0
    for pause in pauses:
        now += pause
        held, _ = machine.advance(held, machine.Tick(), now)
        held, _ = machine.advance(held, machine.Renewed(), now)
    assert (held.status is LeaseStatus.MEASURING) == (now <= 60 + machine.GRACE_S)
