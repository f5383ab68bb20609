"""Which boards may be measured on, and why one may not just now.

A board takes part where it is a member of the group `measuring`: whoever runs it has agreed. It is free while it is
online, in no rollout that is under way, leased to nobody else, and served nothing since its last heartbeat (a board
that is named may serve: it yields by itself).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections import Counter
from collections.abc import Iterable

from sqlmodel import Session, col, select

from skerry_contracts import codec
from skerry_contracts.bundle import Predicates
from skerry_contracts.device import Hardware
from skerry_contracts.measuring import MeasureOrder
from skerry_fleet.errors import ConflictError, MissingError
from skerry_fleet.lease_machine import ACTIVE, LeaseStatus
from skerry_fleet.measure_tables import MeasureLease
from skerry_fleet.rollout_words import BLOCKING
from skerry_fleet.tables import Device, DeviceState, DeviceStatus, GroupMember, Rollout, RolloutDevice
from skerry_targets import fit, shelf

GROUP = "measuring"
JOIN = f"skerry fleet group create {GROUP}; skerry fleet group add {GROUP} DEVICE"


@dataclasses.dataclass(frozen=True, slots=True)
class Board:
    """A board that takes part; `busy` says why it is not free (empty: it is), `serves` how much it was asked lately."""

    device: str
    hardware: Hardware
    online: bool
    busy: str = ""
    serves: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What a lease asks for: a profile, what its programs require, and a board by name (empty: any)."""

    profile: str
    requires: Predicates
    device: str = ""

    def suits(self, board: Board) -> bool:
        """Return whether a board is of the profile; a profile that is on no shelf (`host`, one's own) is any board that
        fits, and one that is named need only fit.
        """
        if fit.missing(self.requires, board.hardware):
            return False
        if self.device:
            return board.device == self.device
        return board.hardware.profile == self.profile or self.profile not in shelf.ids()


def boards(session: Session, tenant: str) -> list[Board]:
    """Return every board that takes part, the idle ones first, then by name."""
    joined = (col(DeviceState.tenant) == col(Device.tenant)) & (col(DeviceState.name) == col(Device.name))
    member = (
        (col(GroupMember.tenant) == col(Device.tenant))
        & (col(GroupMember.device) == col(Device.name))
        & (col(GroupMember.group) == GROUP)
    )
    rows = session.exec(
        select(Device, DeviceState)
        .join(DeviceState, joined)
        .join(GroupMember, member)
        .where(Device.tenant == tenant, Device.status == DeviceStatus.ACTIVE.value)
    ).all()
    held, rolling = _held(session, tenant), _rolling(session, tenant)
    found = []
    for device, state in rows:
        hardware = codec.decode(Hardware, device.hardware.encode())
        serves = _served(state.heartbeat)
        busy = ""
        if not state.online or state.silent:
            busy = "is offline"
        elif device.name in held:
            busy = f"measures for lease {held[device.name]}"
        elif device.name in rolling:
            busy = f"is in rollout {rolling[device.name]}"
        found.append(Board(device.name, hardware, state.online and not state.silent, busy, serves))
    return sorted(found, key=lambda each: (each.serves, each.device))


def free(here: list[Board], wanted: Wanted) -> Board | None:
    """Return the board that a lease gets; None: none is free."""
    suited = [each for each in here if wanted.suits(each) and not each.busy]
    return next((each for each in suited if wanted.device or not each.serves), None)


def waits_for(here: list[Board], wanted: Wanted) -> str:
    """Return in words why no board is free."""
    suited = [each for each in here if wanted.suits(each)]
    told = [f"{each.device} {each.busy or f'served {each.serves} predictions since its heartbeat'}" for each in suited]
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    return f"no board is free: {', '.join(told[:3])}{more}" if told else "no board takes part any more"


def check(session: Session, tenant: str, wanted: Wanted) -> None:
    """Refuse what no board here could ever do.

    Raises:
        MissingError: no such device, or no board of the profile; the nearest is named.
        ConflictError: there is one, but it does not take part or does not fit.
    """
    here = boards(session, tenant)
    if any(wanted.suits(each) for each in here):
        return
    rows = session.exec(
        select(Device.name, Device.hardware).where(Device.tenant == tenant, Device.status == DeviceStatus.ACTIVE.value)
    ).all()
    known = [Board(name, codec.decode(Hardware, hardware.encode()), True) for name, hardware in rows]
    if wanted.device:
        named = next((each for each in known if each.device == wanted.device), None)
        if named is None:
            raise MissingError(
                f"no device {wanted.device!r:.80}", hint="`skerry fleet device list` shows what there is"
            )
        if lacks := fit.missing(wanted.requires, named.hardware):
            raise ConflictError(
                f"{named.device} is no {wanted.profile}: {'; '.join(lacks)}",
                hint=f"it is a {named.hardware.profile}: compile for that, or name another device",
            )
        raise ConflictError(
            f"{named.device} does not take part in measuring", hint=JOIN.replace("DEVICE", named.device)
        )
    if suited := [each.device for each in known if wanted.suits(each)]:
        raise ConflictError(
            f"of {len(suited)} boards that are {wanted.profile} none takes part in measuring",
            hint=JOIN.replace("DEVICE", suited[0]),
        )
    raise MissingError(f"no board here is a {wanted.profile}", hint=_nearest(here or known, wanted.profile))


def orders(session: Session, tenant: str, devices: Iterable[str]) -> dict[str, MeasureOrder]:
    """Return what devices are to measure now, for their assignments."""
    query = select(MeasureLease.device, MeasureLease.terms).where(
        MeasureLease.tenant == tenant, MeasureLease.status == LeaseStatus.MEASURING.value
    )
    inside = set(devices)
    rows = session.exec(query).all()
    return {device: codec.decode(MeasureOrder, terms.encode()) for device, terms in rows if device in inside}


def _nearest(known: list[Board], profile: str) -> str:
    """Return in words what comes nearest, and how to get a board."""
    how = f"enrol one (skerry agent enroll) and {JOIN}"
    count = Counter(each.hardware.profile for each in known)
    near = difflib.get_close_matches(profile, count, 1, 0.0)
    if not near:
        return how
    return f"the nearest here is {near[0]} ({count[near[0]]}); or {how}"


def _served(heartbeat: str) -> int:
    """Return how many predictions a device answered before its newest heartbeat."""
    models = json.loads(heartbeat).get("models", []) if heartbeat else []
    return sum(int(each.get("predictions", 0)) for each in models)


def _held(session: Session, tenant: str) -> dict[str, str]:
    query = select(MeasureLease.device, MeasureLease.id).where(
        MeasureLease.tenant == tenant, col(MeasureLease.status).in_([each.value for each in ACTIVE])
    )
    return dict(session.exec(query).all())


def _rolling(session: Session, tenant: str) -> dict[str, str]:
    joined = (col(Rollout.tenant) == col(RolloutDevice.tenant)) & (col(Rollout.id) == col(RolloutDevice.rollout))
    members = select(GroupMember.device).where(GroupMember.tenant == tenant, GroupMember.group == GROUP)
    query = (
        select(RolloutDevice.device, Rollout.id)
        .join(Rollout, joined)
        .where(
            RolloutDevice.tenant == tenant,
            col(RolloutDevice.active).is_(True),
            col(RolloutDevice.device).in_(members),
            col(Rollout.status).in_([each.value for each in BLOCKING]),
        )
    )
    return dict(session.exec(query).all())
