"""Answers that are kept for requests that may come twice; see `once.py`. Rules: see `tables.py`."""

from __future__ import annotations

from sqlmodel import Field, SQLModel

from skerry_fleet.tables import big


class RequestOnce(SQLModel, table=True):
    """What one caller was answered under one idempotency key, of which only the SHA-256 is kept."""

    __tablename__ = "request_once"

    tenant: str = Field(primary_key=True)
    caller: str = Field(primary_key=True)
    key_sha256: str = Field(primary_key=True)
    path: str
    body_sha256: str
    answer: bytes
    created_ms: int = big()
