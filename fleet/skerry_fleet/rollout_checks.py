"""May this bundle go to these devices? Asked before a rollout starts, so that the answer is one clear line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from sqlmodel import Session, col, select

from skerry_contracts import codec
from skerry_contracts.bundle import Manifest
from skerry_contracts.device import Hardware
from skerry_fleet import groups, registry
from skerry_fleet.errors import ConflictError
from skerry_fleet.rollout_rows import RolloutRequest
from skerry_fleet.rollout_words import BLOCKING, State
from skerry_fleet.tables import Bundle, BundleState, Desired, Device, DeviceState
from skerry_targets import fit
from skerry_targets.fit import fitting


def usable(session: Session, tenant: str, request: RolloutRequest) -> Bundle:
    """Return the bundle of a request, if a rollout may use it.

    Raises:
        MissingError: no such bundle or group.
        ConflictError: of another model, or not published.
    """
    bundle = registry.get(session, tenant, request.bundle)
    if bundle.model != request.model:
        raise ConflictError(f"bundle {bundle.id[:12]} is of model {bundle.model}, not {request.model}")
    if bundle.state != BundleState.PUBLISHED:
        raise ConflictError(f"bundle {bundle.id[:12]} is {bundle.state}", hint="publish it first")
    if request.group is not None:
        groups.get(session, tenant, request.group)
    return bundle


def fitting_devices(session: Session, tenant: str, group: str, bundle: Bundle) -> list[tuple[str, bool]]:
    """Return the devices of a group (empty: all) that can run the bundle, and whether each is within reach.

    Raises:
        ConflictError: there is none.
    """
    members = groups.members(session, tenant, group)
    if not members:
        raise ConflictError(f"no device in {group or 'the fleet'}", hint="enrol devices, or add them to the group")
    joined = (col(DeviceState.tenant) == col(Device.tenant)) & (col(DeviceState.name) == col(Device.name))
    rows = session.exec(
        select(Device.name, Device.hardware, DeviceState.online)
        .join(DeviceState, joined, isouter=True)
        .where(Device.tenant == tenant)
    )
    inside, cache, found = set(members), {}, []
    kinds: Counter[str] = Counter()
    manifest = codec.decode(Manifest, bundle.manifest.encode())
    for name, hardware, online in rows:
        if name in inside:
            kinds[hardware] += 1
            if hardware not in cache:
                cache[hardware] = bool(fitting(manifest.variants, codec.decode(Hardware, hardware.encode())))
            if cache[hardware]:
                found.append((name, bool(online)))
    if not found:
        raise _nobody(bundle, manifest, len(members), kinds)
    return sorted(found)


def _nobody(bundle: Bundle, manifest: Manifest, members: int, kinds: Counter[str]) -> ConflictError:
    """Return the error for a bundle that no device can run: what most of them lack, and what to compile for."""
    words = f"none of {members} devices can run this bundle, made for {bundle.target}"
    for plain, _ in kinds.most_common(1):
        hardware = codec.decode(Hardware, plain.encode())
        lacks = fit.why_not(manifest.variants, hardware)
        return ConflictError(f"{words}: {lacks[:300]}", hint=fit.instead(hardware))
    return ConflictError(words, hint="compile for the devices' own target")


def check_release(
    session: Session, tenant: str, bundle: Bundle, devices: list[tuple[str, bool]], request: RolloutRequest
) -> None:
    """Refuse to go back by accident.

    Raises:
        ConflictError: a device is to run a newer release, and the request does not allow it.
    """
    if request.allow_downgrade:
        return
    joined = (col(Bundle.tenant) == col(Desired.tenant)) & (col(Bundle.id) == col(Desired.bundle))
    inside = {device for device, _ in devices}
    query = select(Desired.device, Bundle.release).join(Bundle, joined)
    rows = session.exec(
        query.where(Desired.tenant == tenant, Desired.model == bundle.model, Bundle.release > bundle.release)
    )
    for device, release in rows:
        if device in inside:
            raise ConflictError(
                f"release {bundle.release} is older than release {release} on {device}",
                hint="set allow_downgrade to go back on purpose",
            )


def fits(bundle: Bundle, hardware: Hardware) -> bool:
    """Return whether a device can run at least one variant of a bundle."""
    return bool(fitting(codec.decode(Manifest, bundle.manifest.encode()).variants, hardware))


def check_free(others: Iterable[State], devices: Collection[str], request: RolloutRequest) -> None:
    """Refuse devices that another rollout of the model holds, if nobody asked to take them over.

    Raises:
        ConflictError: some are held.
    """
    for state in others:
        if state.status not in BLOCKING or request.supersede:
            continue
        shared = sum(device in state.members for device in devices)
        if shared:
            raise ConflictError(
                f"{shared} of these devices are in rollout {state.rollout}, which is {state.status}",
                hint="wait, abort it, or set supersede",
            )
