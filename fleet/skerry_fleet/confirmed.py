"""What each group's devices should run: the releases that finished rollouts brought, read once a round."""

from __future__ import annotations

import dataclasses

import sqlalchemy
from sqlmodel import Session, select

from skerry_fleet.tables import GroupMember

_ROLLOUTS = sqlalchemy.text(
    'SELECT r.tenant, r.number, r.model, r."group", b.target, b.release,'
    " (SELECT max(a.time_ms) FROM audit a WHERE a.tenant = r.tenant AND a.object = 'rollout/' || r.id"
    " AND a.action = 'rollout.complete') AS complete_ms"
    " FROM rollout r JOIN bundle b ON b.tenant = r.tenant AND b.id = r.bundle"
    " WHERE r.status = 'complete' AND r.number = (SELECT max(o.number) FROM rollout o JOIN bundle p"
    " ON p.tenant = o.tenant AND p.id = o.bundle WHERE o.tenant = r.tenant AND o.status = 'complete'"
    ' AND o.model = r.model AND o."group" = r."group" AND p.target = b.target)'
)
_RELEASES = sqlalchemy.text("SELECT tenant, id, target, release FROM bundle")


@dataclasses.dataclass(frozen=True, slots=True)
class _Finished:
    """The newest finished rollout of one model to one group (empty: everybody) for one target."""

    number: int
    group: str
    release: int
    since_s: float


class Confirmations:
    """The releases that finished rollouts brought to groups."""

    def __init__(self) -> None:
        self._finished: dict[tuple[str, str, str], list[_Finished]] = {}
        self._releases: dict[tuple[str, str], tuple[str, int]] = {}
        self._members: set[tuple[str, str, str]] = set()

    def load(self, session: Session) -> None:
        """Read them anew."""
        connection = session.connection()
        self._releases = {(row.tenant, row.id): (row.target, row.release) for row in connection.execute(_RELEASES)}
        self._finished = {}
        groups = set()
        for tenant, number, model, group, target, release, complete_ms in connection.execute(_ROLLOUTS):
            found = _Finished(number, group, release, (complete_ms or 0) / 1000)
            self._finished.setdefault((tenant, model, target), []).append(found)
            groups.add(group)
        wanted = [group for group in groups if group]
        query = select(GroupMember).where(sqlalchemy.column("group").in_(wanted))
        self._members = {(row.tenant, row.group, row.device) for row in session.exec(query)} if wanted else set()

    def of(self, tenant: str, device: str, model: str, bundle: str) -> tuple[int | None, int | None, float]:
        """Return the release that a device runs, the one it should run, and since when; None: unknown, or none."""
        target, release = self._releases.get((tenant, bundle), ("", None))
        fitting = [
            each
            for each in self._finished.get((tenant, model, target), ())
            if not each.group or (tenant, each.group, device) in self._members
        ]
        if not fitting:
            return release, None, 0.0
        newest = max(fitting, key=lambda each: each.number)  # which of several groups orders is the latest word
        return release, newest.release, newest.since_s
