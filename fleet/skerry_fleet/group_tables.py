"""The table of dynamic groups: whose members the fleet chooses by a query. Rules: see `tables.py`."""

from __future__ import annotations

from sqlmodel import Field, SQLModel

from skerry_fleet.tables import big, text


class GroupQuery(SQLModel, table=True):
    """What makes a device a member of a group. A group without a row has the members that people put into it."""

    __tablename__ = "device_group_query"

    tenant: str = Field(primary_key=True)
    group: str = Field(primary_key=True)
    query: str = text()
    changed_ms: int = big()
    changed_by: str = ""
