"""What every route answers. A test walks the routes and this table, and holds real answers against it."""

from __future__ import annotations

from typing import Any

from skerry_contracts.assignment import Envelope
from skerry_contracts.delta import DeltaOffer
from skerry_contracts.device import Hardware, Heartbeat
from skerry_contracts.enrolment import Enrolment, EnrolmentRequest, Renewal, Trust
from skerry_fleet.claims import MAX_LIFE_S, MAX_USES
from skerry_fleet.device_state import PLACE, Difference
from skerry_fleet.incident_tables import Incident, Mute, Notice, Route
from skerry_fleet.measure_tables import MeasureLease, MeasurementRow
from skerry_fleet.openapi import answers_access as access
from skerry_fleet.openapi.answers_access import ROLE
from skerry_fleet.openapi.shapes import (
    ANYTHING,
    BYTES,
    COUNTS,
    FLAG,
    HEX,
    NAME,
    OBJECT,
    REAL,
    TEXT,
    TEXTS,
    WHOLE,
    Answer,
    Schema,
    many,
    maybe,
    one,
    page,
    part,
    record,
    row,
    some,
)
from skerry_fleet.records import Alert, DeadLetter, Drift, ProgressRow
from skerry_fleet.rollout_pairs import RolloutPair
from skerry_fleet.rollup_tables import HealthHour
from skerry_fleet.shadow_tables import Shadow, ShadowDevice
from skerry_fleet.tables import Bundle, Desired, DeviceModel, Group, Model, Rollout, RolloutDevice

_STATE = {
    "device": TEXT,
    "online": FLAG,
    "silent": FLAG,
    "last_seen_ms": WHOLE,
    "profile": TEXT,
    "agent_version": TEXT,
    "tags": TEXTS,
    "groups": many(TEXT),
}
_RUNS = one(model=TEXT, version=TEXT, bundle=TEXT, state=TEXT)
DEVICE = one(
    **_STATE,
    boot_id=TEXT,
    created_ms=WHOLE,
    claim=TEXT,
    hardware=record(Hardware),
    heartbeat=maybe(record(Heartbeat)),
    models=many(row(DeviceModel, "name")),
    desired=many(row(Desired, "device")),
    shard=WHOLE,
    certificate=maybe(one(serial=TEXT, begins_ms=WHOLE, expires_ms=WHOLE)),
    assignment=maybe(one(sequence=WHOLE, issued_ms=WHOLE, expires_ms=WHOLE, published=FLAG)),
)
_PART = maybe(one(id=TEXT, version=TEXT, release=WHOLE, target=TEXT))
STATE = one(
    device=TEXT,
    online=FLAG,
    silent=FLAG,
    last_seen_ms=WHOLE,
    sequence=WHOLE,
    published=FLAG,
    adopted=maybe(WHOLE),
    agrees=FLAG,
    models=many(
        one(
            model=TEXT,
            desired=_PART,
            confirmed=_PART,
            back=FLAG,
            reported=maybe(row(DeviceModel, "name model")),
            rollout=maybe(part(Rollout, "id status created_ms created_by reason", group=maybe(TEXT))),
            place=maybe(part(RolloutDevice, " ".join(PLACE))),
            agrees=FLAG,
            difference={"type": "string", "enum": list(Difference)},
            since_ms=maybe(WHOLE),
        )
    ),
)
GROUP = row(Group, "created_ms", devices=WHOLE, query=maybe(TEXT))
MODEL = row(Model)
BUNDLE = row(Bundle, "manifest evidence")
ROLLOUT = row(
    Rollout,
    "plan options counts",
    group=maybe(TEXT),
    stage_name=TEXT,
    stages=WHOLE,
    counts=COUNTS,
    devices=WHOLE,
    exposure=WHOLE,
    limit=WHOLE,
    plan=OBJECT,
    options=OBJECT,
)
PREVIEW = one(
    model=TEXT,
    bundle=TEXT,
    devices=WHOLE,
    reachable=WHOLE,
    excluded=many(one(why=TEXT, devices=WHOLE, such_as=many(TEXT))),
    starts=FLAG,
    bytes_each=many(one(bytes=WHOLE, devices=WHOLE)),
    bytes_total=WHOLE,
    stages=many(one(stage=TEXT, devices=WHOLE)),
    least_s=maybe(REAL),
)
_AGREEMENT = maybe(one(rate=REAL, low=REAL, high=REAL, effect=REAL))
_SUMS = dict.fromkeys(("chosen", "compared", "disagreed", "dropped", "failed"), WHOLE)
SHADOW = row(
    Shadow,
    "terms chosen number",
    group=maybe(TEXT),
    rollout=maybe(TEXT),
    version=TEXT,
    terms=OBJECT,
    devices=WHOLE,
    active=WHOLE,
    states=COUNTS,
    **_SUMS,
    cpu_s=REAL,
    agreement=_AGREEMENT,
    latency={"type": "object", "additionalProperties": maybe(REAL)},
    against=many(one(bundle=TEXT, version=TEXT, devices=WHOLE, agreement=_AGREEMENT)),
)
LEASE = some(
    row(
        MeasureLease,
        "number requires terms told_boot told_seq told_notes told_state artifacts",
        state=maybe(TEXT),
        notes=ANYTHING,
        hardware=maybe(record(Hardware)),
        final=FLAG,
    ),
    results=many(OBJECT),
)
MEASUREMENT = row(MeasurementRow, "boot_id seq record")
ALERT = row(Alert)
INCIDENT = row(Incident)
MUTE = row(Mute)
ROUTE = row(Route, "secret shown", kinds=many(TEXT))
VERDICT = row(Drift, record=OBJECT)
_FED = one(id=WHOLE, device=TEXT, received_ms=WHOLE, record=OBJECT)
_HOUR = part(
    HealthHour,
    "version hour_ms beats predictions errors restarts",
    latency_p50_ms=REAL,
    latency_p95_ms=REAL,
    rss_bytes=WHOLE,
    mean_confidence=maybe(REAL),
)
_PAIRS = page(
    row(RolloutPair, "rollout", figures=OBJECT),
    alpha=REAL,
    needed=maybe(REAL),
    value=REAL,
    measures={
        "type": "object",
        "additionalProperties": one(worse=WHOLE, better=WHOLE, same=WHOLE, value=REAL),
    },
)
_OVERVIEW = one(
    tenant=TEXT,
    devices=one(total=WHOLE, online=WHOLE),
    models=many(one(model=TEXT, version=TEXT, devices=WHOLE, predictions=WHOLE)),
    open_alerts=WHOLE,
    active_rollouts=WHOLE,
    messages_per_s=REAL,
    broker=one(host=TEXT, port=WHOLE, connected=FLAG),
    uptime_s=REAL,
)
_READY = one(database=FLAG, migrated=FLAG, broker=FLAG)
_VERDICT_IN: Schema = {
    "type": "object",
    "properties": {"drifting": FLAG, "monitor": {**TEXT, **NAME, "default": "data"}},
    "required": ["drifting"],
    "description": "Besides these, `score`, `threshold` and whatever else the monitor says is kept as it came.",
}
_FILE: dict[str, Any] = {"media": BYTES, "refuses": (400, 404, 416)}
_V1 = "/api/v1"

ANSWERS: dict[tuple[str, str], Answer] = {
    ("GET", "/openapi.json"): Answer(OBJECT),
    ("GET", "/healthz"): Answer(one(status=TEXT)),
    ("GET", "/readyz"): Answer(_READY, others={503: _READY}),
    ("GET", "/metrics"): Answer(None, "text/plain", refuses=(403,)),
    ("GET", f"{_V1}/overview"): Answer(_OVERVIEW),
    ("GET", f"{_V1}/whoami"): Answer(one(tenant=TEXT, key=TEXT, name=TEXT, role=ROLE)),
    ("GET", f"{_V1}/events"): Answer(None, "text/event-stream"),
    ("GET", f"{_V1}/devices"): Answer(page(one(**_STATE, models=many(_RUNS))), refuses=(404,)),
    ("GET", f"{_V1}/devices/{{device}}"): Answer(DEVICE),
    ("GET", f"{_V1}/devices/{{device}}/state"): Answer(STATE),
    ("PATCH", f"{_V1}/devices/{{device}}"): Answer(DEVICE),
    ("DELETE", f"{_V1}/devices/{{device}}"): Answer(one(device=TEXT, status=TEXT)),
    ("POST", f"{_V1}/devices/{{device}}/revoke"): Answer(one(device=TEXT, certificates=WHOLE)),
    ("GET", f"{_V1}/decommissioned"): Answer(page(one(device=TEXT, created_ms=WHOLE, claim=TEXT, profile=TEXT))),
    ("DELETE", f"{_V1}/decommissioned/{{device}}"): Answer(one(device=TEXT, status=TEXT, rows=COUNTS)),
    ("GET", f"{_V1}/tags"): Answer(page(one(key=TEXT, devices=WHOLE, values=WHOLE))),
    ("POST", f"{_V1}/tags"): Answer(one(devices=WHOLE, changed=WHOLE, such_as=many(TEXT)), refuses=(404,)),
    ("GET", f"{_V1}/devices/{{device}}/events"): Answer(page(row(ProgressRow, "device"))),
    ("POST", f"{_V1}/devices/{{device}}/update"): Answer(None, BYTES),
    ("POST", f"{_V1}/carried"): Answer(
        one(device=TEXT, messages=WHOLE, refused=WHOLE, acknowledged=WHOLE, ack=TEXT), takes=record(Envelope)
    ),
    ("GET", f"{_V1}/groups"): Answer(page(GROUP)),
    ("POST", f"{_V1}/groups"): Answer(GROUP, refuses=(404,)),
    ("PATCH", f"{_V1}/groups/{{group}}"): Answer(GROUP),
    ("GET", f"{_V1}/groups/{{group}}"): Answer(GROUP),
    ("POST", f"{_V1}/groups/{{group}}/devices"): Answer(one(group=TEXT, added=many(TEXT))),
    ("DELETE", f"{_V1}/groups/{{group}}/devices/{{device}}"): Answer(one(group=TEXT, removed=TEXT)),
    **access.ANSWERS,
    ("GET", f"{_V1}/models"): Answer(page(row(Model, bundles=WHOLE, release=maybe(WHOLE)))),
    ("POST", f"{_V1}/models"): Answer(MODEL),
    ("GET", f"{_V1}/models/{{model}}/bundles"): Answer(page(BUNDLE)),
    ("POST", f"{_V1}/models/{{model}}/bundles"): Answer(BUNDLE, takes={}, takes_media=BYTES),
    ("GET", f"{_V1}/models/{{model}}/drift"): Answer(one(model=TEXT, drifting=FLAG, monitors=many(VERDICT))),
    ("PUT", f"{_V1}/models/{{model}}/drift"): Answer(VERDICT, takes=_VERDICT_IN),
    ("GET", f"{_V1}/models/{{model}}/health"): Answer(one(items=many(_HOUR))),
    ("GET", f"{_V1}/bundles/{{bundle}}"): Answer(
        row(Bundle, "manifest evidence", manifest=OBJECT, evidence=maybe(OBJECT))
    ),
    ("POST", f"{_V1}/bundles/{{bundle}}/publish"): Answer(BUNDLE),
    ("POST", f"{_V1}/bundles/{{bundle}}/withdraw"): Answer(BUNDLE),
    ("GET", f"{_V1}/samples"): Answer(page(_FED)),
    ("GET", f"{_V1}/sketches"): Answer(page(_FED)),
    ("GET", f"{_V1}/dead-letters"): Answer(page(row(DeadLetter, payload=TEXT))),
    ("GET", f"{_V1}/rollouts"): Answer(page(ROLLOUT)),
    ("POST", f"{_V1}/rollouts"): Answer(ROLLOUT, others={200: PREVIEW}),
    ("GET", f"{_V1}/rollouts/{{rollout}}"): Answer(ROLLOUT),
    ("GET", f"{_V1}/rollouts/{{rollout}}/devices"): Answer(page(row(RolloutDevice, "rollout model baseline active"))),
    ("GET", f"{_V1}/rollouts/{{rollout}}/evidence"): Answer(_PAIRS),
    ("POST", f"{_V1}/rollouts/{{rollout}}/{{order}}"): Answer(ROLLOUT),
    ("GET", f"{_V1}/alerts"): Answer(page(ALERT), refuses=(404,)),
    ("POST", f"{_V1}/alerts/{{alert}}/ack"): Answer(ALERT),
    ("GET", f"{_V1}/incidents"): Answer(page(INCIDENT)),
    ("GET", f"{_V1}/incidents/{{incident}}"): Answer(INCIDENT),
    ("POST", f"{_V1}/incidents/{{incident}}/ack"): Answer(INCIDENT),
    ("GET", f"{_V1}/mutes"): Answer(page(MUTE)),
    ("POST", f"{_V1}/mutes"): Answer(MUTE),
    ("DELETE", f"{_V1}/mutes/{{mute}}"): Answer(MUTE),
    ("GET", f"{_V1}/routes"): Answer(page(ROUTE)),
    ("POST", f"{_V1}/routes"): Answer(some(ROUTE, signing_secret=TEXT)),
    ("DELETE", f"{_V1}/routes/{{route}}"): Answer(ROUTE),
    ("POST", f"{_V1}/routes/{{route}}/test"): Answer(one(route=TEXT, event=TEXT, delivered=FLAG)),
    ("GET", f"{_V1}/notices"): Answer(page(row(Notice, "body"))),
    ("GET", f"{_V1}/shadows"): Answer(page(SHADOW)),
    ("POST", f"{_V1}/shadows"): Answer(SHADOW),
    ("GET", f"{_V1}/shadows/{{shadow}}"): Answer(SHADOW),
    ("GET", f"{_V1}/shadows/{{shadow}}/devices"): Answer(
        page(some(row(ShadowDevice, "shadow model told_boot told_seq", **_SUMS), cpu_s=REAL))
    ),
    ("GET", f"{_V1}/shadows/{{shadow}}/samples"): Answer(page(some(_FED, prediction=TEXT))),
    ("POST", f"{_V1}/shadows/{{shadow}}/end"): Answer(SHADOW),
    ("POST", f"{_V1}/shadows/{{shadow}}/promote"): Answer(ROLLOUT),
    ("GET", f"{_V1}/leases"): Answer(page(LEASE)),
    ("POST", f"{_V1}/leases"): Answer(LEASE),
    ("GET", f"{_V1}/leases/{{lease}}"): Answer(LEASE),
    ("POST", f"{_V1}/leases/{{lease}}/renew"): Answer(LEASE),
    ("POST", f"{_V1}/leases/{{lease}}/bundle"): Answer(LEASE, takes={}, takes_media=BYTES),
    ("POST", f"{_V1}/leases/{{lease}}/cancel"): Answer(LEASE),
    ("GET", f"{_V1}/measurements"): Answer(page(MEASUREMENT)),
    ("GET", f"{_V1}/measurements/{{number}}"): Answer(row(MeasurementRow, "boot_id seq record", record=OBJECT)),
    ("GET", "/device/v1/trust"): Answer(record(Trust)),
    ("POST", "/device/v1/enrol"): Answer(record(Enrolment), takes=record(EnrolmentRequest), refuses=(401,)),
    ("POST", "/device/v1/renew"): Answer(record(Renewal), takes=record(Envelope)),
    ("POST", "/broker/v1/join"): Answer(one(certificate_pem=TEXT, probe_pem=TEXT, ca_pem=TEXT)),
    ("GET", "/broker/v1/revoked.crl"): Answer(None, media="application/pkix-crl"),
    ("GET", "/tuf/metadata/{name}"): Answer(OBJECT, refuses=(400, 416)),
    ("GET", "/tuf/targets/{path}"): Answer(OBJECT, refuses=(400, 416)),
    ("GET", "/blobs/{sha256}"): Answer(None, **_FILE),
    ("GET", "/deltas/{sha256}"): Answer(record(DeltaOffer)),
}
KINDS = [DeltaOffer, Enrolment, EnrolmentRequest, Envelope, Hardware, Heartbeat, Renewal, Trust]
"""The contracts' records that answers and bodies name."""

FIELDS: dict[str, dict[str, Schema]] = {
    "GroupRequest": {"name": NAME},
    "ModelRequest": {"name": NAME},
    "RouteRequest": {"name": NAME, "level": {"minimum": 0, "maximum": 9}},
    "LeaseRequest": {"profile": NAME, "source_sha256": HEX},
    "KeyRequest": {"name": {"minLength": 1, "maxLength": 100, "pattern": "^[ -~]*$"}, "role": ROLE},
    **access.FIELDS,
    "ClaimRequest": {"uses": {"minimum": 1, "maximum": MAX_USES}, "expires_s": {"minimum": 1, "maximum": MAX_LIFE_S}},
}
"""What services demand of fields of bodies, beyond their types."""
