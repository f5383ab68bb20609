"""What the routes of claims, keys, people and the audit answer; a part of `answers.py`."""

from __future__ import annotations

from skerry_fleet.apikeys import Role
from skerry_fleet.audit_file import MEDIA
from skerry_fleet.openapi.shapes import ANYTHING, FLAG, TEXT, TEXTS, WHOLE, Answer, Schema, maybe, one, page, row
from skerry_fleet.passwords import LONGEST, SHORTEST
from skerry_fleet.records import Audit
from skerry_fleet.tables import ApiKey, Claim
from skerry_fleet.user_tables import User

_V1 = "/api/v1"
ROLE: Schema = {"type": "string", "enum": list(Role)}
_CLAIM = row(Claim, "secret_sha256", tags=TEXTS, named=WHOLE)
_KEY = row(ApiKey, "secret_sha256 stamp")
_USER = row(User, "id password stamp", has_password=FLAG)
_PASSWORD: Schema = {"minLength": SHORTEST, "maxLength": LONGEST}

ANSWERS: dict[tuple[str, str], Answer] = {
    ("GET", f"{_V1}/claims"): Answer(page(_CLAIM)),
    ("POST", f"{_V1}/claims"): Answer(row(Claim, "secret_sha256", tags=TEXTS, named=WHOLE, token=TEXT)),
    ("DELETE", f"{_V1}/claims/{{claim}}"): Answer(_CLAIM),
    ("GET", f"{_V1}/keys"): Answer(page(_KEY)),
    ("POST", f"{_V1}/keys"): Answer(row(ApiKey, "secret_sha256 stamp", key=TEXT)),
    ("DELETE", f"{_V1}/keys/{{key_id}}"): Answer(_KEY),
    ("GET", f"{_V1}/users"): Answer(page(_USER)),
    ("POST", f"{_V1}/users"): Answer(_USER),
    ("PATCH", f"{_V1}/users/{{user}}"): Answer(_USER),
    ("POST", f"{_V1}/users/{{user}}/sign-out"): Answer(_USER),
    ("GET", f"{_V1}/audit"): Answer(page(row(Audit, before=ANYTHING, after=ANYTHING))),
    ("GET", f"{_V1}/audit/export"): Answer(None, MEDIA, refuses=(404,)),
    ("GET", f"{_V1}/audit/verify"): Answer(one(records=WHOLE, head=TEXT, broken_at=maybe(WHOLE), problem=TEXT)),
}
FIELDS: dict[str, dict[str, Schema]] = {
    "UserRequest": {"name": {"pattern": "^[a-z0-9][a-z0-9._@+-]{0,99}$"}, "role": ROLE, "password": _PASSWORD},
}
