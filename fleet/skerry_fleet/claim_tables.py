"""What a claim asks of devices and gives them, besides its uses. Rules: see `tables.py`."""

from __future__ import annotations

from sqlmodel import Field, SQLModel

from skerry_fleet.tables import big, text


class ClaimTags(SQLModel, table=True):
    """The tags (JSON) that a claim's devices get. A claim without a row gives none."""

    __tablename__ = "claim_tags"

    tenant: str = Field(primary_key=True)
    claim: str = Field(primary_key=True)
    tags: str = text(default="{}")


class ClaimDevice(SQLModel, table=True):
    """A device that a claim is for, once: `enrolled_ms` is when it came. A claim without such rows is for any."""

    __tablename__ = "claim_device"

    tenant: str = Field(primary_key=True)
    claim: str = Field(primary_key=True)
    device: str = Field(primary_key=True)
    enrolled_ms: int | None = big(default=None)
