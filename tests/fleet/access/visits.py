"""Every route once: what it needs, how it is asked, and where a stranger's things can be named in it.

A route that is not here fails the walk. `{words}` are filled with the estate's names.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.fleet.conftest import HARDWARE

from skerry_fleet.apikeys import Role

V, M, P, A = Role.VIEWER, Role.MEASURER, Role.OPERATOR, Role.ADMIN


@dataclasses.dataclass(frozen=True)
class Visit:
    """One route. `role` None: open to all; "device": asked with a download token; "broker": with the brokers' secret.

    `sent` is a body that fits (bytes: as it is; forms of pages get their token). `foreign` are bodies, or queries
    (`?...`), in which a stranger names the first tenant's things beside its own: each is answered like a thing that is
    not there. `empty` are queries that find nothing. `own`: what its owner may be answered besides success.
    """

    role: Role | str | None
    sent: Any = None
    foreign: tuple[Any, ...] = ()
    empty: tuple[str, ...] = ()
    own: tuple[int, ...] = ()
    names: dict[str, str] = dataclasses.field(default_factory=dict)


def _ui(role: Role | None, sent: Any = None, name: str = "", **more: Any) -> Visit:
    return Visit(role, sent, names={"name": name, "number": "{mute}"}, **more)


_LEASE = {"profile": HARDWARE.profile, "source_sha256": "5" * 64, "requires": {"os": "linux", "machine": "x86_64"}}
_ROLLOUT = {"model": "{model}", "bundle": "{bundle}", "group": "{group}"}
_THEIRS = {"model": "rival-model", "bundle": "{rival_bundle}"}
_STALE = (409,)
_NO_PASSWORD = (403,)  # of a key

VISITS: dict[tuple[str, str], Visit] = {
    ("GET", "/healthz"): Visit(None),
    ("GET", "/readyz"): Visit(None, own=(503,)),
    ("GET", "/openapi.json"): Visit(None),
    ("GET", "/broker/v1/revoked.crl"): Visit(None),
    ("POST", "/broker/v1/join"): Visit("broker", {"shard": 0, "csr_pem": ""}),
    ("GET", "/metrics"): Visit(V),
    ("GET", "/api/v1/overview"): Visit(V),
    ("GET", "/api/v1/whoami"): Visit(V),
    ("GET", "/api/v1/events"): Visit(V),
    ("GET", "/api/v1/devices"): Visit(V, foreign=("?group={group}",), empty=("?q=harbour", "?query=name=={device}")),
    ("GET", "/api/v1/devices/{device}"): Visit(V),
    ("GET", "/api/v1/devices/{device}/events"): Visit(V),
    ("GET", "/api/v1/devices/{device}/state"): Visit(V),
    ("PATCH", "/api/v1/devices/{device}"): Visit(P, {"tags": {"a": "b"}}),
    ("POST", "/api/v1/devices/{device}/update"): Visit(P),
    ("POST", "/api/v1/carried"): Visit(P, b"{carried}", own=(422,), foreign=(b"{carried}",)),
    ("GET", "/api/v1/groups"): Visit(V),
    ("GET", "/api/v1/groups/{group}"): Visit(V),
    ("POST", "/api/v1/groups"): Visit(
        P, {"name": "harbour-new", "query": "name==h*"}, foreign=({"name": "x", "query": "group=={group}"},)
    ),
    ("PATCH", "/api/v1/groups/{group}"): Visit(P, {"description": "ours"}),
    ("POST", "/api/v1/groups/{group}/devices"): Visit(P, {"devices": ["{device}"]}),
    ("DELETE", "/api/v1/groups/{group}/devices/{device}"): Visit(P),
    ("GET", "/api/v1/claims"): Visit(P),
    ("POST", "/api/v1/claims"): Visit(P, {"group": "{group}"}, foreign=({"group": "{group}"},)),
    ("DELETE", "/api/v1/claims/{claim}"): Visit(P),
    ("GET", "/api/v1/keys"): Visit(A),
    ("POST", "/api/v1/keys"): Visit(A, {"name": "new", "role": "viewer"}),
    ("DELETE", "/api/v1/keys/{key_id}"): Visit(A),
    ("GET", "/api/v1/users"): Visit(A),
    ("POST", "/api/v1/users"): Visit(A, {"name": "harbour-new", "role": "viewer", "password": "a tide of many words"}),
    ("PATCH", "/api/v1/users/{user}"): Visit(A, {"role": "operator"}),
    ("POST", "/api/v1/users/{user}/sign-out"): Visit(A),
    ("GET", "/api/v1/audit"): Visit(V, empty=("?object=device/{device}", "?object=rollout/{rollout}")),
    ("GET", "/api/v1/audit/verify"): Visit(V),
    ("GET", "/api/v1/audit/export"): Visit(V, foreign=("?after=999999",)),
    ("GET", "/api/v1/models"): Visit(V),
    ("POST", "/api/v1/models"): Visit(P, {"name": "harbour-model"}),
    ("GET", "/api/v1/models/{model}/bundles"): Visit(V),
    ("POST", "/api/v1/models/{model}/bundles"): Visit(P, b"{file}"),
    ("GET", "/api/v1/models/{model}/drift"): Visit(V),
    ("PUT", "/api/v1/models/{model}/drift"): Visit(P, {"drifting": True}),
    ("GET", "/api/v1/models/{model}/health"): Visit(V),
    ("GET", "/api/v1/bundles/{bundle}"): Visit(V),
    ("POST", "/api/v1/bundles/{bundle}/publish"): Visit(P),
    ("POST", "/api/v1/bundles/{bundle}/withdraw"): Visit(P, own=_STALE),
    ("GET", "/api/v1/samples"): Visit(P),
    ("GET", "/api/v1/sketches"): Visit(P),
    ("GET", "/api/v1/dead-letters"): Visit(P),
    ("GET", "/api/v1/rollouts"): Visit(V, empty=("?model=digits", "?status=active")),
    ("POST", "/api/v1/rollouts"): Visit(
        P, _ROLLOUT, own=_STALE, foreign=(_ROLLOUT, _THEIRS | {"group": "{group}"}, _THEIRS | {"bundle": "{bundle}"})
    ),
    ("GET", "/api/v1/rollouts/{rollout}"): Visit(V),
    ("GET", "/api/v1/rollouts/{rollout}/devices"): Visit(V),
    ("GET", "/api/v1/rollouts/{rollout}/evidence"): Visit(V),
    ("POST", "/api/v1/rollouts/{rollout}/{order}"): Visit(P, {}, own=_STALE),
    ("GET", "/api/v1/alerts"): Visit(V, foreign=("?incident={incident}",)),
    ("POST", "/api/v1/alerts/{alert}/ack"): Visit(P, own=_STALE),
    ("GET", "/api/v1/incidents"): Visit(V),
    ("GET", "/api/v1/incidents/{incident}"): Visit(V),
    ("POST", "/api/v1/incidents/{incident}/ack"): Visit(P, own=_STALE),
    ("GET", "/api/v1/mutes"): Visit(V),
    ("POST", "/api/v1/mutes"): Visit(
        P, {"hours": 1.0, "group": "{group}"}, foreign=({"hours": 1.0, "group": "{group}"},)
    ),
    ("DELETE", "/api/v1/mutes/{mute}"): Visit(P),
    ("GET", "/api/v1/routes"): Visit(V),
    ("POST", "/api/v1/routes"): Visit(
        A,
        {"name": "harbour-horn", "target": "http://127.0.0.1:9/x"},
        foreign=({"name": "x", "target": "http://127.0.0.1:9/x", "group": "{group}"},),
    ),
    ("POST", "/api/v1/routes/{route}/test"): Visit(A, own=(503,)),
    ("DELETE", "/api/v1/routes/{route}"): Visit(A),
    ("GET", "/api/v1/notices"): Visit(V),
    ("GET", "/api/v1/shadows"): Visit(V, empty=("?model=digits",)),
    ("POST", "/api/v1/shadows"): Visit(
        P,
        {"model": "{model}", "bundle": "{bundle}", "devices": ["{device}"]},
        own=_STALE,
        foreign=(
            {"model": "{model}", "bundle": "{bundle}"},
            _THEIRS | {"devices": ["rival-1", "{device}"]},
            _THEIRS | {"devices": ["{device}"]},
            _THEIRS | {"group": "{group}"},
        ),
    ),
    ("GET", "/api/v1/shadows/{shadow}"): Visit(V),
    ("GET", "/api/v1/shadows/{shadow}/devices"): Visit(V),
    ("GET", "/api/v1/shadows/{shadow}/samples"): Visit(P),
    ("POST", "/api/v1/shadows/{shadow}/end"): Visit(P, {}),
    ("POST", "/api/v1/shadows/{shadow}/promote"): Visit(P, {"group": "{group}"}, own=_STALE),
    ("GET", "/api/v1/leases"): Visit(V),
    ("POST", "/api/v1/leases"): Visit(M, _LEASE, foreign=(_LEASE | {"device": "{device}"},)),
    ("GET", "/api/v1/leases/{lease}"): Visit(V),
    ("POST", "/api/v1/leases/{lease}/renew"): Visit(M, {}, own=(403, 409)),  # 403: leased with another key
    ("POST", "/api/v1/leases/{lease}/bundle"): Visit(M, b"{carried}", own=(403, 409)),
    ("POST", "/api/v1/leases/{lease}/cancel"): Visit(M, {}, own=(403, 409)),
    ("GET", "/api/v1/measurements"): Visit(V, empty=("?device=harbour-3", "?lease={lease}")),
    ("GET", "/api/v1/measurements/{number}"): Visit(V),
    ("POST", "/api/v1/devices/{device}/revoke"): Visit(P, names={"device": "harbour-2"}),
    ("DELETE", "/api/v1/devices/{device}"): Visit(P, names={"device": "harbour-2"}),
    ("GET", "/api/v1/decommissioned"): Visit(V),
    ("DELETE", "/api/v1/decommissioned/{device}"): Visit(A, names={"device": "harbour-2"}, own=_STALE),
    ("GET", "/api/v1/tags"): Visit(V),
    ("POST", "/api/v1/tags"): Visit(
        P,
        {"set": {"a": "b"}, "devices": ["{device}"]},
        foreign=({"set": {"a": "b"}, "devices": ["{device}"]}, {"set": {"a": "b"}, "group": "{group}"}),
    ),
    ("GET", "/device/v1/trust"): Visit(None),
    ("POST", "/device/v1/enrol"): Visit(None, {}, own=(422,)),
    ("POST", "/device/v1/renew"): Visit("device", b"{carried}", own=(401,)),
    ("GET", "/tuf/metadata/{name}"): Visit("device", names={"name": "1.root.json"}),
    ("GET", "/tuf/targets/{path:path}"): Visit("device", names={"path:path": "digits/{bundle}.{bundle}.json"}),
    ("GET", "/blobs/{sha256}"): Visit("device"),
    ("GET", "/deltas/{sha256}"): Visit("device", empty=("?base={bundle}&method=zstd",), own=(404,)),
    ("GET", "/"): Visit(None),
    ("GET", "/ui"): Visit(None),
    ("GET", "/ui/static/{name}"): _ui(None, name="style.css"),
    ("GET", "/ui/sign-in"): Visit(None),
    ("POST", "/ui/sign-in"): Visit(None, {}, own=(403,)),
    ("GET", "/ui/sign-in/oidc"): Visit(None, own=(404,)),
    ("GET", "/ui/sign-in/oidc/callback"): Visit(None, own=(404,)),
    ("GET", "/ui/"): _ui(V),
    ("GET", "/ui/events"): _ui(V),
    ("GET", "/ui/devices"): _ui(V, foreign=("?group={group}",)),
    ("GET", "/ui/devices/{name}"): _ui(V, name="{device}"),
    ("GET", "/ui/models"): _ui(V),
    ("GET", "/ui/models/{name}"): _ui(V, name="digits"),
    ("GET", "/ui/bundles/{bundle}"): _ui(V),
    ("GET", "/ui/rollouts"): _ui(V),
    ("GET", "/ui/rollouts/{name}"): _ui(V, name="{rollout}"),
    ("GET", "/ui/rollouts/{rollout}/{order}"): _ui(P),
    ("POST", "/ui/rollouts/{rollout}/{order}"): _ui(P, {}, own=_STALE),
    ("GET", "/ui/rollouts/new"): _ui(P, empty=("?bundle={bundle}&group={group}",)),
    ("POST", "/ui/rollouts/new"): _ui(P, {}, own=(422,)),
    ("GET", "/ui/sites"): _ui(V),
    ("GET", "/ui/trends"): _ui(V),
    ("GET", "/ui/search"): _ui(V, empty=("?q={device}", "?q={rollout}", "?q={group}", "?q={bundle}")),
    ("GET", "/ui/drift"): _ui(V),
    ("GET", "/ui/drift/{name}"): _ui(V, name="digits"),
    ("GET", "/ui/alerts"): _ui(V, foreign=("?incident={incident}",)),
    ("POST", "/ui/alerts/{alert}/ack"): _ui(P, {}, own=_STALE),
    ("POST", "/ui/incidents/{incident}/ack"): _ui(P, {}, own=_STALE),
    ("POST", "/ui/mutes"): _ui(P, {"kind": "device-silent", "hours": "1"}),
    ("POST", "/ui/mutes/{number}/end"): _ui(P, {}, own=(404,)),  # the API's walk has ended it
    ("GET", "/ui/shadows/{shadow}"): _ui(V),
    ("GET", "/ui/shadows/{shadow}/{step}"): _ui(P),
    ("POST", "/ui/shadows/{shadow}/{step}"): _ui(P, {}, own=_STALE),
    ("GET", "/ui/audit"): _ui(V, empty=("?object=device/{device}",)),
    ("GET", "/ui/measurements"): _ui(V, empty=("?device=harbour-3", "?lease={lease}")),
    ("GET", "/ui/audit/export"): _ui(V, foreign=("?after=999999",)),
    ("GET", "/ui/{rest:path}"): _ui(V, own=(404,)),
    ("GET", "/ui/account"): _ui(V),
    ("GET", "/ui/people"): _ui(A),
    ("POST", "/ui/people"): _ui(A, {"name": "harbour-mate", "role": "viewer", "password": "a tide of many words"}),
    ("POST", "/ui/people/{user}/{change}"): _ui(A, {}),
    ("POST", "/ui/keys"): _ui(A, {"name": "harbour key", "role": "viewer"}, own=(201,)),
    ("POST", "/ui/keys/{key_id}/revoke"): _ui(A, {}),
    ("POST", "/ui/account/password"): _ui(V, {}, own=_NO_PASSWORD),
    ("POST", "/ui/account/sign-out"): _ui(V, {}),
    ("POST", "/ui/sign-out"): _ui(V, {}),
}
