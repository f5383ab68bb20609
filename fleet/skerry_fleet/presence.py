"""Who is there: wills, sessions and silence.

A device says `online` on every connection and leaves a will that says `offline`; both carry (boot_id, session), which
only rises, so the late will of an old session changes nothing, and within one session offline is the last word.
Messages sent while the fleet was down are gone (clean sessions): therefore a heartbeat, which is only ever live, also
shows that a device is there.
"""

from __future__ import annotations

import dataclasses

from sqlmodel import Session, col, select

from skerry_contracts.device import Heartbeat, Presence
from skerry_fleet import alerts, placement
from skerry_fleet.alerts import Kind
from skerry_fleet.database import announce
from skerry_fleet.tables import DeviceState

SWEPT = 100
"""Devices that may fall silent in one transaction: an alert takes about a millisecond, and others wait to write."""


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one device's presence. `silent`: unheard for too long, and an alert says so. `lost_ms`: when its
    will said that the connection was lost, until it is back; 0 for a device that left on purpose.
    """

    boot_id: str = ""
    session: int = 0
    online: bool = False
    silent: bool = False
    last_seen_ms: int = 0
    lost_ms: int = 0


def heard(seen: Seen, now_ms: int) -> Seen:
    """Take in any message of the device's own."""
    # Written out here and below: `dataclasses.replace` costs ten times as much, and this is done for every message.
    return Seen(seen.boot_id, seen.session, seen.online, False, max(now_ms, seen.last_seen_ms), seen.lost_ms)


def said(seen: Seen, presence: Presence, now_ms: int) -> Seen:
    """Take in a presence message; an offline one is the broker's word and no sign of life."""
    told, known = (presence.boot_id, presence.session), (seen.boot_id, seen.session)
    if told < known or (told == known and presence.online):
        # An old session's word, or a redelivery: the device lives, but what is known of the newest session stands.
        return heard(seen, now_ms) if presence.online else seen
    if presence.online:
        return Seen(presence.boot_id, presence.session, True, False, max(now_ms, seen.last_seen_ms))
    lost_ms = 0 if presence.leaving else (now_ms if seen.online else seen.lost_ms)
    return Seen(presence.boot_id, presence.session, False, seen.silent, seen.last_seen_ms, lost_ms)


def beat(seen: Seen, heartbeat: Heartbeat, now_ms: int) -> Seen:
    """Take in a heartbeat."""
    if heartbeat.boot_id < seen.boot_id:
        return seen
    session = seen.session if heartbeat.boot_id == seen.boot_id else 0
    return Seen(heartbeat.boot_id, session, True, False, max(now_ms, seen.last_seen_ms))


def sweep(session: Session, now: float, silent_after_s: float, most: int = SWEPT) -> list[tuple[str, str]]:
    """Mark devices that have been unheard for too long, with an alert each; return them as (tenant, device)."""
    before_ms = int((now - silent_after_s) * 1000)
    rows = session.exec(
        select(DeviceState)
        .where(col(DeviceState.silent).is_(False), DeviceState.last_seen_ms < before_ms)
        .order_by(col(DeviceState.last_seen_ms))
        .limit(most)
    ).all()
    shards = {
        tenant: placement.shards_of(session, tenant, {row.name for row in rows if row.tenant == tenant})
        for tenant in {row.tenant for row in rows}
    }
    with session.no_autoflush:  # an alert is written by itself; its device's row with all the others
        for row in rows:
            quiet_s = now - row.last_seen_ms / 1000
            text = f"{row.name} has been silent for {quiet_s:.0f} s"
            scope = f"shard/{shards[row.tenant].get(row.name, 0)}"
            alerts.raise_alert(session, row.tenant, now, Kind.DEVICE_SILENT, row.name, text, scope=scope)
            announce(session, row.tenant, "device", device=row.name, change="silent")
    for row in rows:
        row.silent, row.online = True, False
        session.add(row)
    return [(row.tenant, row.name) for row in rows]


def returned(session: Session, tenant: str, device: str, now: float) -> None:
    """Close the alert of a device that is heard again."""
    alerts.resolve(session, tenant, now, Kind.DEVICE_SILENT, device)
