"""Requests that may come twice: the answer is kept under the caller's `Idempotency-Key`, in the same transaction as
what it made, and the same request gets it again.

Answers may hold secrets (a new key, a claim's token) that the database keeps nowhere else. So they are sealed
(AES-256-GCM) for the caller's API key and the idempotency key together, of which the database has only hashes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable
from typing import Any

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlmodel import Session, col, delete

from skerry_fleet.apikeys import Caller
from skerry_fleet.errors import ConflictError, InputError
from skerry_fleet.once_tables import RequestOnce

KEPT_S = 86_400.0
MAX_KEY = 200
_NONCE_BYTES = 12


@dataclasses.dataclass(frozen=True, slots=True)
class Once:
    """One request: its path, the digest of its body, who asks with which secret, and under which key (None: none)."""

    path: str
    body_sha256: str
    secret: str
    key: str | None

    def __post_init__(self) -> None:
        if self.key is not None and not 0 < len(self.key) <= MAX_KEY:
            raise InputError(f"idempotency-key: 1 to {MAX_KEY} characters")

    def do(self, session: Session, caller: Caller, now: float, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what `make` returns, or what it returned when this request came before.

        Raises:
            ConflictError: the key was used for another request.
        """
        if self.key is None:
            return make()
        at = (caller.tenant, caller.key, hashlib.sha256(self.key.encode()).hexdigest())
        cipher = AESGCM(hashlib.sha256(f"skerry once\0{self.secret}\0{self.key}".encode()).digest())
        known = session.get(RequestOnce, at)
        if known is not None and known.created_ms > (now - KEPT_S) * 1000:
            if (known.path, known.body_sha256) != (self.path, self.body_sha256):
                raise ConflictError("this idempotency key was used for another request", code="key-reused")
            answer = cipher.decrypt(known.answer[:_NONCE_BYTES], known.answer[_NONCE_BYTES:], None)
            again: dict[str, Any] = msgspec.json.decode(answer)
            return again
        made = make()
        nonce = os.urandom(_NONCE_BYTES)
        old_ms = int((now - KEPT_S) * 1000)
        session.exec(delete(RequestOnce).where(col(RequestOnce.created_ms) <= old_ms))
        tenant, asker, key_sha256 = at
        session.add(
            RequestOnce(
                tenant=tenant,
                caller=asker,
                key_sha256=key_sha256,
                path=self.path,
                body_sha256=self.body_sha256,
                answer=nonce + cipher.encrypt(nonce, msgspec.json.encode(made), None),
                created_ms=int(now * 1000),
            )
        )
        return made
