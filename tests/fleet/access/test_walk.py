"""The walk: every route of the running application, with every key and without one, at its own things and at others'.

OWASP API security 2023, API1 (object level) and API5 (function level): nothing here trusts that a new route was thought
of. The routes come from the application; one that `visits.py` does not know fails.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
from tests.fleet.access.estate import WORD, Estate, leaves, opened
from tests.fleet.access.visits import VISITS, Visit
from tests.fleet.access.walking import OWN, STREAMS, asked, filled, guard_of, refused, untold, visits

from skerry_fleet import groups
from skerry_fleet.apikeys import Role
from skerry_fleet.config import FleetConfig
from skerry_fleet.database import announce


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with opened(FleetConfig(root=tmp_path_factory.mktemp("walk"), webhook_reach="machine")) as found:
        yield found


def test_the_table_and_the_application_know_the_same_routes_and_roles(estate: Estate) -> None:
    found = {(method, route.path): guard_of(route) for method, route in leaves(estate.app)}
    assert len(found) > 100
    assert found == {key: visit.role for key, visit in VISITS.items()}


def test_without_a_key_with_a_revoked_one_and_with_a_devices_token_the_api_says_nothing(estate: Estate) -> None:
    before = estate.dump()
    keys = [None, "x", estate.keys["default", "revoked"], estate.keys["rival", "revoked"], estate.tokens["default"]]
    for key in keys:
        with estate.caller(key) as client:
            for method, path, visit in visits(estate, pages=False):
                if not isinstance(visit.role, Role):
                    continue
                words = f"{method} {path} with {key!r:.8}"
                answer = client.request(
                    method, filled(estate, visit, path), **asked(estate, visit, visit.sent, form=False)
                )
                refused(answer, 401, words)
                untold(estate, answer, path, words)
    assert estate.dump() == before


@pytest.mark.parametrize("tenant", ["default", "rival"])
def test_a_role_too_low_is_refused_and_changes_nothing(estate: Estate, tenant: str) -> None:
    before = estate.dump()
    for role in Role:
        with estate.caller(estate.keys[tenant, role]) as client:
            for method, path, visit in visits(estate, pages=False):
                if not isinstance(visit.role, Role) or role.covers(visit.role):
                    continue
                for body in (visit.sent, *(each for each in visit.foreign if not isinstance(each, str))):
                    address = filled(estate, visit, path)
                    answer = client.request(method, address, **asked(estate, visit, body, form=False))
                    refused(answer, 403, f"{method} {path} as {role}")
    assert estate.dump() == before


def test_what_is_anothers_is_not_there_alone_or_among_ones_own(estate: Estate) -> None:
    before = estate.dump()
    for role in Role:
        with estate.caller(estate.keys["rival", role]) as client:
            for method, path, visit in visits(estate, pages=False):
                if not isinstance(visit.role, Role) or not role.covers(visit.role) or path in STREAMS:
                    continue
                _stranger(estate, client, method, path, visit)
    assert estate.dump() == before
    with estate.fleet.database.read() as session:
        assert groups.members_of(session, "rival", "rival-crew") == ["rival-1"], "added all or none"


def _stranger(estate: Estate, client: httpx.Client, method: str, path: str, visit: Visit) -> None:
    """Ask one route as the rival, in every way in which it can name what is not the rival's."""
    address = filled(estate, visit, path)
    if "{" in path:
        answer = client.request(method, address, **asked(estate, visit, visit.sent, form=False))
        if path != "/metrics":
            refused(answer, 404, f"{method} {path}")
        untold(estate, answer, address + json.dumps(str(visit.sent)), f"{method} {path}")
    elif method == "GET":
        answer = client.get(address)
        assert answer.status_code == (403 if path == "/metrics" else 200), f"{path}: {answer.text}"
        untold(estate, answer, "", f"GET {path}")
    for query in (*visit.empty, *(each for each in visit.foreign if isinstance(each, str))):
        answer = client.get(address + filled(estate, visit, query))
        if query in visit.empty:
            assert answer.status_code == 200 and answer.json()["items"] == [], f"{path}{query}"
        else:
            refused(answer, 404, f"{path}{query}")
        untold(estate, answer, filled(estate, visit, query), f"{path}{query}")
    for body in visit.foreign:
        if not isinstance(body, str):
            sent = asked(estate, visit, body, form=False)
            answer = client.request(method, address, **sent)
            refused(answer, 404, f"{method} {path} {body}")
            said = estate.names["device"] if isinstance(body, bytes) else repr(sent)  # what its signed part names
            untold(estate, answer, said, f"{method} {path} {body!r}")


def test_bulk_changes_that_name_anothers_things_change_nothing_of_ones_own_either(estate: Estate) -> None:
    names, rival = estate.names, estate.rival
    before = estate.dump()
    with estate.caller(estate.keys["rival", "admin"]) as client:
        for method, address, body in (
            ("POST", "/groups/rival-crew/devices", {"devices": ["rival-1", names["device"]]}),
            ("POST", "/groups/rival-crew/devices", {"devices": [f"{WORD}-2", f"{WORD}-3"]}),
            ("PATCH", "/devices/rival-1", {"groups": ["rival-crew", names["group"]], "tags": {"a": "b"}}),
            ("DELETE", f"/groups/rival-crew/devices/{names['device']}", None),
            ("DELETE", f"/groups/{names['group']}/devices/rival-1", None),
            (
                "POST",
                "/rollouts?dry_run=true",
                {"model": rival["model"], "bundle": rival["bundle"], "group": names["group"]},
            ),
        ):
            rivals = client.get("/api/v1/audit").json()
            answer = client.request(method, f"/api/v1{address}", json=body)
            refused(answer, 404, f"{method} {address} {body}")
            assert client.get("/api/v1/audit").json() == rivals, "half of it was done"
            untold(estate, answer, address + repr(body), address)
        assert client.get("/api/v1/devices/rival-1").json()["tags"] == {}
        seen = client.get("/api/v1/overview").json()
        assert (seen["devices"]["total"], seen["models"], seen["active_rollouts"], seen["messages_per_s"]) == (
            1,
            [],
            0,
            0,
        )
    assert estate.dump() == before


def test_a_devices_token_opens_what_its_own_tenants_devices_may_have(estate: Estate) -> None:
    before = estate.dump()
    wrong = (None, estate.tokens["rival"], estate.keys["default", "admin"], estate.keys["rival", "admin"])
    for method, path, visit in visits(estate, pages=False):
        if visit.role != "device":
            continue
        address = filled(estate, visit, path + "".join(visit.empty))
        for key in wrong:
            with estate.caller(key) as client:
                answer = client.request(method, address, **asked(estate, visit, visit.sent, form=False))
                refused(answer, 401, f"{method} {path}")
        with estate.caller(estate.tokens["default"]) as client:
            answer = client.request(method, address, **asked(estate, visit, visit.sent, form=False))
            assert answer.status_code == 200 or answer.status_code in visit.own, f"{path}: {answer.text}"
    assert estate.dump() == before


def test_pages_lead_strangers_to_the_sign_in_and_show_nobody_anothers_things(estate: Estate) -> None:
    before = estate.dump()
    with httpx.Client(base_url=estate.url, trust_env=False) as client:
        for method, path, visit in visits(estate, pages=True):
            if visit.role is None:
                continue
            form = asked(estate, visit, visit.sent, form=method == "POST")
            answer = client.request(method, filled(estate, visit, path), **form)
            assert answer.status_code == (401 if method == "POST" or path in STREAMS else 303), path
            untold(estate, answer, filled(estate, visit, path), path)
    for tenant, role in estate.keys:
        if role == "revoked":
            continue
        with estate.visitor(estate.keys[tenant, role]) as (client, token):
            for method, path, visit in visits(estate, pages=True):
                if visit.role is not None and path not in STREAMS | OWN:
                    _page(estate, client, token, (tenant, Role(role)), method, path, visit)
    changed = {name: rows for name, rows in estate.dump().items() if rows != before[name]}
    assert set(changed) <= {"audit", "audit_head"}, "only that people signed in"


def _page(
    estate: Estate, client: httpx.Client, token: str, who: tuple[str, Role], method: str, path: str, visit: Visit
) -> None:
    """Look at one page, or send its form, as somebody who must not."""
    tenant, role = who
    assert isinstance(visit.role, Role)
    address, words = filled(estate, visit, path), f"{method} {path} as {tenant}'s {role}"
    if not role.covers(visit.role):
        form = asked(estate, visit, visit.sent, form=True, token=token)
        assert client.request(method, address, **form).status_code == 403, words
        return
    if method == "POST":
        forged = client.post(address, **asked(estate, visit, visit.sent, form=True, token="0" * 64))
        assert forged.status_code == 403, f"{words}, with a forged token"
    if tenant == "default":
        return
    if "{" in path:
        form = asked(estate, visit, visit.sent, form=method == "POST", token=token)
        answer = client.request(method, address, **form)
        assert answer.status_code == 404, words
        untold(estate, answer, address, words)
    elif method == "GET":
        for query in ("", *visit.foreign, *visit.empty):
            answer = client.get(address + filled(estate, visit, query))
            assert answer.status_code == (404 if query in visit.foreign else 200), words + query
            untold(estate, answer, filled(estate, visit, query), words + query)


@pytest.mark.parametrize("path", sorted(STREAMS))
def test_a_stream_of_events_tells_each_tenant_its_own(estate: Estate, path: str) -> None:
    """Both hear; each of its own. The rival's group comes last, so whatever it was to hear before has come."""
    fleet, now = estate.fleet, estate.bench.clock()
    with estate.visitor(estate.keys["rival", "viewer"]) as (client, _):
        headers = {"authorization": f"Bearer {estate.keys['rival', 'viewer']}"} if path.startswith("/api") else {}
        with client.stream("GET", path, headers=headers) as stream:
            lines = stream.iter_lines()
            assert next(lines) == ": skerry"
            with fleet.database.write() as session:
                announce(session, "default", "rollout", rollout=estate.names["rollout"], status="running")
                announce(session, "default", "alert", alert=1, subject=estate.names["device"])
            with fleet.database.write() as session:
                announce(session, "rival", "drift", model="rival-model", at=now)
            heard = []
            for line in lines:
                heard.append(line)
                if "drift" in line:
                    break
    kinds = {line.partition(": ")[2] for line in heard if line.startswith("event:")}
    assert kinds == ({"drift"} if path.startswith("/api") else {"changed"}), heard
    assert not any(mark in line for line in heard for mark in (*estate.marks(), "rollout", "alert")), heard


def test_the_owner_can_do_all_of_it_with_the_role_that_is_asked_for(estate: Estate) -> None:
    """Else a route that answers everybody 404 would pass every test above. Last: this changes things."""
    for method, path, visit in visits(estate, pages=False):
        if path in STREAMS or visit.role in ("device", "broker"):
            continue
        key = None if visit.role is None else estate.keys["default", visit.role]
        with estate.caller(key) as client:
            answer = client.request(method, filled(estate, visit, path), **asked(estate, visit, visit.sent, form=False))
            good = answer.status_code < 400 or answer.status_code in visit.own
            assert good, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
    for method, path, visit in visits(estate, pages=True):
        if path in STREAMS or not isinstance(visit.role, Role):
            continue
        with estate.visitor(estate.keys["default", visit.role]) as (client, token):
            form = asked(estate, visit, visit.sent, form=method == "POST", token=token)
            answer = client.request(method, filled(estate, visit, path), **form)
            wanted = 303 if method == "POST" else 200
            assert answer.status_code == wanted or answer.status_code in visit.own, f"{path}: {answer.text[:600]}"
