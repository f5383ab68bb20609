"""Two tenants in one fleet: one with something of every kind, and one who must never hear of it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import random
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import sqlalchemy
from fastapi import FastAPI
from fastapi.routing import APIRoute
from sqlalchemy import MetaData
from sqlmodel import select
from tests.fleet.conftest import ACTOR, HARDWARE, Bench, Clock, csr, folder_of, make_bundle, new_key, serving
from tests.fleet.dashboard.conftest import send_sample, sign_in, token_of
from tests.fleet.described import Description
from tests.fleet.lease_parts import ask, candidate, candidates, online, tell, upload

from skerry_contracts.device import Phase, Reason
from skerry_contracts.enrolment import EnrolmentRequest
from skerry_contracts.measuring import MeasureState
from skerry_fleet import alerts, apikeys, claims, delivery, enrolment, feeds, groups, notice_routes, users
from skerry_fleet import shadow_orders as shadows
from skerry_fleet.alerts import Kind
from skerry_fleet.apikeys import Role
from skerry_fleet.app import create_app
from skerry_fleet.audit import Actor
from skerry_fleet.config import FleetConfig
from skerry_fleet.fleet import Fleet
from skerry_fleet.incident_tables import Incident, Mute, Notice, Route
from skerry_fleet.measure_tables import MeasurementRow
from skerry_fleet.records import Alert
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.shadow_orders import ShadowRequest

RIVAL = Actor("rival", "test")
WORD = "harbour"
"""In every name that the first tenant gives: whoever else reads it was told too much."""


@dataclasses.dataclass
class Estate:
    """The fleet, its address, the first tenant's objects by the words of paths, and keys by (tenant, role)."""

    app: FastAPI
    url: str
    bench: Bench
    names: dict[str, str]
    rival: dict[str, str]
    keys: dict[tuple[str, str], str]
    tokens: dict[str, str]
    """Download tokens of one device of each tenant."""

    @functools.cached_property
    def description(self) -> Description:
        return Description(self.app)

    @property
    def fleet(self) -> Fleet:
        return self.bench.fleet

    def marks(self) -> list[str]:
        """Return what only the first tenant may read: its names, and ids that are long enough to be no accident."""
        return [WORD, "digits", *(each for each in self.names.values() if len(each) > 8)]

    def dump(self) -> dict[str, list[Any]]:
        """Return every row that is not the rival's."""
        tables = MetaData()
        with self.fleet.database.read() as session:
            connection = session.connection()
            tables.reflect(connection)
            return {
                name: sorted(map(repr, connection.execute(_not_the_rivals(table)).all()))
                for name, table in tables.tables.items()
            }

    @contextlib.contextmanager
    def caller(self, key: str | None) -> Iterator[httpx.Client]:
        """Give a client with a key or token, whose answers must be as described."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        hooks = {"response": [self.description.check]}
        with httpx.Client(base_url=self.url, headers=headers, trust_env=False, event_hooks=hooks) as client:
            yield client

    @contextlib.contextmanager
    def visitor(self, key: str) -> Iterator[tuple[httpx.Client, str]]:
        """Give a browser without a window that has signed in, and its form token."""
        with httpx.Client(base_url=self.url, trust_env=False) as client:
            assert sign_in(client, key).status_code == 303
            yield client, token_of(client.get("/ui/").text)


def _not_the_rivals(table: sqlalchemy.Table) -> sqlalchemy.Select[Any]:
    query = sqlalchemy.select(table)
    return query.where(table.c.tenant != RIVAL.tenant) if "tenant" in table.c else query


def leaves(app: FastAPI) -> list[tuple[str, APIRoute]]:
    """Return every (method, route) of an application, however deep it is mounted."""
    found: list[tuple[str, APIRoute]] = []
    rooms: list[Any] = list(app.routes)
    while rooms:
        each = rooms.pop()
        if hasattr(each, "original_router"):  # how FastAPI keeps a router that was included
            rooms += each.original_router.routes
        elif getattr(each, "routes", None):  # a mount
            rooms += each.routes
        else:
            assert isinstance(each, APIRoute), f"{each!r} is no route that can be guarded"
            found += [(method, each) for method in sorted(each.methods or ())]
    return sorted(found, key=lambda pair: (pair[1].path, pair[0]))


@contextlib.contextmanager
def opened(config: FleetConfig) -> Iterator[Estate]:
    """Make and serve both estates."""
    # A walk is quicker than any person; and nothing but requests may change a row.
    config = dataclasses.replace(config, address_per_s=0.0, key_per_s=0.0, tick_s=3600.0)
    app = create_app(config, clock := Clock(), random.Random(1).randbytes, with_broker=False)
    fleet: Fleet = app.state.fleet
    bench = Bench(fleet, clock)
    keys: dict[tuple[str, str], str] = {}
    ids: dict[str, str] = {}
    with fleet.database.write() as session:
        for actor, owner in ((ACTOR, WORD), (RIVAL, "rival")):
            for role in Role:
                _, text = apikeys.create(session, actor, clock(), fleet.random, f"{owner} {role}", role)
                keys[actor.tenant, role.value] = text
            row, keys[actor.tenant, "revoked"] = apikeys.create(
                session, actor, clock(), fleet.random, f"{owner} left", Role.ADMIN
            )
            session.flush()
            ids[actor.tenant] = row.id
            apikeys.revoke(session, actor, clock(), row.id)
    names = furnish(bench)
    names["key_id"] = ids["default"]
    rival, token = _rival(bench)
    tokens = {"default": _token(bench, ACTOR.tenant, f"{WORD}-4"), "rival": token}
    with serving(app) as url:
        yield Estate(app, url, bench, names, rival, keys, tokens)


def furnish(bench: Bench) -> dict[str, str]:
    """Give the first tenant something of every kind; return what to call each in a path."""
    fleet, now = bench.fleet, bench.clock()
    devices = [f"{WORD}-{number}" for number in (1, 2, 3)]
    with fleet.database.write() as session:
        for group in (f"{WORD}-crew", f"{WORD}-pilots", "measuring"):
            groups.create(session, ACTOR, now, group, f"the {WORD}'s")
    bench.enrol(*devices, group=f"{WORD}-crew")
    for device in devices:
        bench.beat(device, "")
    first = bench.publish("1", 1)
    with fleet.rollouts.open() as session:
        plan = RolloutRequest("digits", first, canary=3, soak_s=0.0)
        fleet.rollouts.create(session, ACTOR, bench.clock(), plan)
    for device in devices:
        bench.install(device)
    send_sample(bench, devices[0], first, 1)
    bench.send(devices[0], "sample", b"{")  # a dead letter
    second = bench.publish("2", 2)
    with fleet.rollouts.open() as session:
        wanted = ShadowRequest("digits", second, devices=(devices[0],))
        shadow = shadows.create(session, fleet.pen, ACTOR, bench.clock(), wanted, fleet.random).id
        groups.add(session, ACTOR, now, f"{WORD}-pilots", [devices[1]])
        plan = RolloutRequest("digits", second, group=f"{WORD}-pilots", soak_s=0.0)
        rollout = str(fleet.rollouts.create(session, ACTOR, bench.clock(), plan)["id"])
    bench.progress(devices[1], Phase.ROLLED_BACK, Reason.GOLDEN, detail=f"the {WORD} is shut")
    bench.enrol(f"{WORD}-5", group="measuring")
    online(bench, f"{WORD}-5")
    lease = ask(bench)
    upload(bench, lease, candidates())
    tell(bench, lease, MeasureState.MEASURING, candidate=candidate())
    return {
        **_told(bench, devices[0]),
        "device": devices[0],
        "group": f"{WORD}-crew",
        "user": f"{WORD}-master",
        "model": "digits",
        "bundle": second,
        "rollout": rollout,
        "shadow": shadow,
        "lease": lease,
        "order": "pause",
        "change": "disable",
        "step": "end",
        "sha256": make_blob(second, fleet),
    }


def make_blob(bundle: str, fleet: Fleet) -> str:
    """Return the digest of a bundle's manifest, which is a blob as others are."""
    assert folder_of(fleet).path(bundle).is_file()
    return bundle


def _told(bench: Bench, device: str) -> dict[str, str]:
    """Raise an alert and an incident, tell of it, mute, and make a claim."""
    fleet, now = bench.fleet, bench.clock()
    with fleet.database.write() as session:
        notice_routes.create(
            session, ACTOR, now, fleet.random, name=f"{WORD}-bell", target=f"http://127.0.0.1:9/{secrets.token_hex(8)}"
        )
        notice_routes.mute(session, ACTOR, now, kind="", group=f"{WORD}-crew", hours=1, reason=f"the {WORD} sleeps")
        made = claims.create(session, ACTOR, now, fleet.random, "0" * 64, uses=3)
        person = {"name": f"{WORD}-master", "role": "viewer", "password": "a tide of many words"}
        users.create(session, ACTOR, now, fleet.random, **person)
        alerts.raise_alert(session, "default", now, Kind.DEVICE_SILENT, device, f"{device} is silent")
        feeds.put_drift(session, ACTOR, now, "digits", f"{WORD}-watch", True, {"score": 1.0})
    fleet.tick()
    bench.clock.now += fleet.config.incident_wait_s
    fleet.tick()
    with fleet.database.write() as session:
        for notice in session.exec(select(Notice)).all():
            delivery.settle(session, bench.clock(), int(notice.id or 0), "")
    with fleet.database.read() as session:
        first = {
            "alert": session.exec(select(Alert.id)).first(),
            "incident": session.exec(select(Incident.id)).first(),
            "mute": session.exec(select(Mute.id)).first(),
            "number": session.exec(select(MeasurementRow.id)).first(),
        }
        route = session.exec(select(Route.name)).one()
    assert all(first.values()), first
    return {**{name: str(found) for name, found in first.items()}, "claim": str(made["id"]), "route": route}


def _token(bench: Bench, tenant: str, device: str) -> str:
    """Enrol a device of any tenant and return its download token."""
    fleet, now, actor = bench.fleet, bench.clock(), Actor(tenant, "test")
    with fleet.rollouts.open() as session:
        made = claims.create(session, actor, now, fleet.random, "0" * 64)
        _, claim, secret, _ = made["token"].split(".")
        request = EnrolmentRequest(claim, secret, csr(new_key()), HARDWARE, device)
        office = fleet.office.authority
        return enrolment.enrol(
            session, office, tenant, request, ("127.0.0.1", 1), now, 30.0, fleet.random
        ).download_token


def _rival(bench: Bench) -> tuple[dict[str, str], str]:
    """Give the rival a device, a group and a bundle of its own, to be named beside what is not."""
    fleet, now = bench.fleet, bench.clock()
    token = _token(bench, "rival", "rival-1")
    with fleet.database.write() as session:
        groups.create(session, RIVAL, now, "rival-crew", "")
        groups.add(session, RIVAL, now, "rival-crew", ["rival-1"])
    fleet.registry.register(RIVAL, "rival-model")

    file = io.BytesIO(make_bundle("rival-model", library=b"of the rival"))
    bundle = str(fleet.registry.upload(RIVAL, "rival-model", file)["id"])
    return {"device": "rival-1", "group": "rival-crew", "model": "rival-model", "bundle": bundle}, token
