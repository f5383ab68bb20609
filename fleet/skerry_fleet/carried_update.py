"""An update for one device as a file: its newest assignment, and everything that it would fetch on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from skerry_contracts import codec
from skerry_contracts.assignment import Assignment, Envelope
from skerry_contracts.bundle import Manifest
from skerry_contracts.carried_update import CHUNK_BYTES, head
from skerry_fleet import devices
from skerry_fleet.errors import ConflictError, UnavailableError
from skerry_fleet.fleet import Fleet
from skerry_fleet.tables import DeviceState, SignedAssignment

METADATA = "/tuf/metadata/"


def hand_out(fleet: Fleet, tenant: str, device: str) -> Iterator[bytes]:
    """Return the pieces of an update file for a device. Whoever carries it is the link: rollouts that wait for it
    make their offers now, as far as their waves and budgets allow.

    Raises:
        MissingError: no such device.
        ConflictError: it was never assigned anything.
        UnavailableError: a file of the update repository or a blob cannot be read.
    """
    with fleet.rollouts.open() as session:
        devices.get(session, tenant, device)
        state = session.get(DeviceState, (tenant, device))
        if state is None or not state.online:
            for there in (True, False):
                fleet.rollouts.observe(session, fleet.clock(), (), [(tenant, device, there)])
            session.flush()
        row = session.get(SignedAssignment, (tenant, device))
        if row is None or not row.envelope:
            raise ConflictError(
                f"{device} has no assignment", hint="start a rollout that covers it, or wait for its wave"
            )
        envelope = row.envelope.encode()
    try:
        files: list[tuple[str, Path | str]] = [*_metadata(fleet), *_bundles(fleet, envelope)]
        sizes = [(path, _size(fleet, file)) for path, file in files]
    except OSError as error:
        raise UnavailableError(f"{error.filename}: {error.strerror}", hint="check the fleet's folder") from error
    return _pieces(fleet, head(envelope, sizes), [file for _, file in files])


def _size(fleet: Fleet, file: Path | str) -> int:
    if isinstance(file, Path):
        return file.stat().st_size
    size = fleet.blobs.size(file)
    if size is None:
        raise UnavailableError(f"blob {file[:12]} is gone", hint="upload its bundle again")
    return size


def _pieces(fleet: Fleet, first: bytes, files: list[Path | str]) -> Iterator[bytes]:
    yield first
    for each in files:
        if isinstance(each, str):
            yield from fleet.blobs.pieces(each)
            continue
        with each.open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                yield piece


def _metadata(fleet: Fleet) -> Iterator[tuple[str, Path]]:
    """Yield every root, and what the timestamp names: all but the timestamp itself never change."""
    folder = fleet.office.repository.metadata_dir
    names = sorted(each.name for each in folder.glob("*.root.json"))
    snapshot = f"{_meta(folder / 'timestamp.json')['snapshot.json']}.snapshot.json"
    names += ["timestamp.json", snapshot]
    names += [f"{version}.{name}" for name, version in sorted(_meta(folder / snapshot).items())]
    for name in names:
        yield f"{METADATA}{name}", folder / name


def _meta(path: Path) -> dict[str, int]:
    signed = json.loads(path.read_bytes())["signed"]
    return {str(name): int(each["version"]) for name, each in signed["meta"].items()}


def _bundles(fleet: Fleet, envelope: bytes) -> Iterator[tuple[str, Path | str]]:
    """Yield the manifests that the assignment names, candidates in the shadow too, then every blob of theirs once, by
    its digest.
    """
    assignment = codec.decode(Assignment, codec.decode(Envelope, envelope).payload)
    blobs: dict[str, None] = {}
    named = [(each.model, each.bundle) for each in assignment.models]
    named += [(each.model, each.shadow.bundle) for each in assignment.models if each.shadow is not None]
    for model, bundle in named:
        name = f"{model}/{bundle}.{bundle}.json"
        path = fleet.office.repository.targets_dir / name
        blobs |= dict.fromkeys(codec.decode(Manifest, path.read_bytes()).blobs())
        yield f"/tuf/targets/{name}", path
    for sha256 in blobs:
        yield f"/blobs/{sha256}", sha256
