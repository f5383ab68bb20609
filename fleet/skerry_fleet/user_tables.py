"""People who sign in; see `users.py`. Rules: see `tables.py`."""

from __future__ import annotations

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from skerry_fleet.tables import big, text


class User(SQLModel, table=True):
    """A person. Rows stay for ever, so that a name in the audit always means the same one.

    `password` is Argon2id's encoded hash (empty: none). `issuer` and `subject` are who vouches for them (OpenID
    Connect; empty: nobody). `stamp` rises with every change that ends their sessions.
    """

    __tablename__ = "fleet_user"
    __table_args__ = (UniqueConstraint("tenant", "name", name="fleet_user_once"),)

    id: str = Field(primary_key=True)
    tenant: str
    name: str
    role: str
    password: str = text(default="")
    issuer: str = ""
    subject: str = ""
    stamp: int = big(default=0)
    created_ms: int = big()
    created_by: str = ""
    disabled_ms: int | None = big(default=None)
    seen_ms: int | None = big(default=None)
