"""The update repository's metadata on disk, and the one order in which it is written.

Every version is its own file (`7.snapshot.json`), written before anything names it; `timestamp.json` is replaced last
and in one step. So a cut at any write leaves either the old repository or the new one, plus at most some files that
nothing names: the next commit overwrites those. Formats: theupdateframework.github.io/specification.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
from pathlib import Path
from typing import TypeVar

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, Targets, Timestamp
from tuf.api.serialization import DeserializationError
from tuf.api.serialization.json import JSONSerializer

from skerry_fleet.trust import durable, keys
from skerry_fleet.trust.errors import RepositoryError

# How long each role's word holds: short where the key is online and renewal automatic. Expiry stops installing, never
# running.
ROOT_DAYS = 3 * 365
TARGETS_DAYS = 365
MODEL_DAYS = 365
SNAPSHOT_DAYS = 30
TIMESTAMP_DAYS = 14
KEPT_VERSIONS = 8  # a device in the middle of an update still finds the files it was told of

S = TypeVar("S", Root, Timestamp, Snapshot, Targets)
_SERIALIZER = JSONSerializer(compact=True)


@dataclasses.dataclass(slots=True)
class State:
    """What `timestamp.json` names: the whole repository at one version. `models` maps a role's name to its metadata."""

    root: Metadata[Root]
    timestamp: Metadata[Timestamp]
    snapshot: Metadata[Snapshot]
    targets: Metadata[Targets]
    models: dict[str, Metadata[Targets]]


def role_of(model: str) -> str:
    """Return the name of a model's role. The prefix keeps a model called `root` or `targets` out of TUF's own names."""
    return f"model-{model}"


def expiry(now_s: float, days: float) -> dt.datetime:
    """Return the moment `days` after `now_s`, to the second as TUF wants it."""
    return dt.datetime.fromtimestamp(int(now_s), dt.UTC) + dt.timedelta(days=days)


def share_left(signed: Signed, now_s: float, days: float) -> float:
    """Return how much of its life a document still has, 1 when fresh, 0 or less when expired."""
    return (signed.expires.timestamp() - now_s) / (days * 86400)


def root_path(folder: Path, version: int) -> Path:
    """Return where a version of the root lies."""
    return folder / f"{version}.root.json"


def load_root(folder: Path) -> Metadata[Root]:
    """Return the newest root, each version checked against the one before, as a device walks them.

    Raises:
        RepositoryError: there is none, or one that the version before it does not vouch for.
    """
    if not root_path(folder, 1).exists():
        raise RepositoryError(f"no update repository in {folder}", hint="start the fleet once: it makes one")
    root = _read(root_path(folder, 1), Root)
    _verify(root.signed, "root", root)
    while root_path(folder, root.signed.version + 1).exists():
        following = _read(root_path(folder, root.signed.version + 1), Root)
        _verify(root.signed, "root", following)
        _verify(following.signed, "root", following)
        root = following
    return root


def load(folder: Path, *, check_online: bool = True) -> State:
    """Return the repository as devices see it, every signature and version checked.

    `check_online=False` leaves out the signatures by the online key, for the moment when that key is being replaced.

    Raises:
        RepositoryError: a file is missing, unreadable, or not what the file before it vouches for.
    """
    root = load_root(folder)
    timestamp = _read(folder / "timestamp.json", Timestamp)
    snapshot = _read(folder / f"{timestamp.signed.snapshot_meta.version}.snapshot.json", Snapshot)
    found: dict[str, Metadata[Targets]] = {}
    for name, meta in snapshot.signed.meta.items():
        role = name.removesuffix(".json")
        found[role] = _read(folder / f"{meta.version}.{role}.json", Targets)
        if found[role].signed.version != meta.version:
            raise RepositoryError(
                f"{meta.version}.{name} holds version {found[role].signed.version}", hint="restore the repository"
            )
    if "targets" not in found:
        raise RepositoryError("the snapshot names no targets", hint="restore the repository")
    state = State(root, timestamp, snapshot, found.pop("targets"), found)
    if check_online:
        _verify(root.signed, "timestamp", timestamp)
        _verify(root.signed, "snapshot", snapshot)
    _verify(root.signed, "targets", state.targets)
    for role, metadata in state.models.items():
        _verify(state.targets.signed, role, metadata)
    return state


class Committer:
    """Writes new versions in the order that no cut can hurt."""

    def __init__(self, folder: Path, store: keys.KeyStore, write: durable.Writer) -> None:
        self.folder = folder
        self._store = store
        self._write = write

    def write_root(self, root: Metadata[Root], signers: list[CryptoSigner]) -> None:
        """Sign and write one version of the root."""
        root.signatures.clear()
        for signer in signers:
            root.sign(signer, append=True)
        self._put(root_path(self.folder, root.signed.version), root)

    def commit(self, state: State, changed: dict[str, CryptoSigner], now_s: float) -> None:
        """Write the roles in `changed` (role to signer) as new versions, then the snapshot, then the timestamp."""
        for role, signer in changed.items():
            metadata = state.targets if role == "targets" else state.models[role]
            days = TARGETS_DAYS if role == "targets" else MODEL_DAYS
            first = f"{role}.json" not in state.snapshot.signed.meta
            metadata.signed.version = 1 if first else metadata.signed.version + 1
            metadata.signed.expires = expiry(now_s, days)
            metadata.sign(signer)
            self._put_version(role, metadata)
            state.snapshot.signed.meta[f"{role}.json"] = MetaFile(metadata.signed.version)
        self.commit_snapshot(state, now_s)
        self.commit_timestamp(state, now_s)

    def commit_snapshot(self, state: State, now_s: float) -> None:
        """Write a new version of the snapshot; nothing names it before the timestamp does."""
        state.snapshot.signed.version += 1
        state.snapshot.signed.expires = expiry(now_s, SNAPSHOT_DAYS)
        state.snapshot.sign(self._online())
        self._put_version("snapshot", state.snapshot)

    def commit_timestamp(self, state: State, now_s: float) -> None:
        """Replace the timestamp: from here on devices see `state`."""
        state.timestamp.signed.version += 1
        state.timestamp.signed.expires = expiry(now_s, TIMESTAMP_DAYS)
        state.timestamp.signed.snapshot_meta = MetaFile(state.snapshot.signed.version)
        state.timestamp.sign(self._online())
        self._put(self.folder / "timestamp.json", state.timestamp)

    def _online(self) -> CryptoSigner:
        return CryptoSigner(self._store.ed25519(keys.REPOSITORY))

    def _put_version(self, role: str, metadata: Metadata[S]) -> None:
        self._put(self.folder / f"{metadata.signed.version}.{role}.json", metadata)
        (self.folder / f"{metadata.signed.version - KEPT_VERSIONS}.{role}.json").unlink(missing_ok=True)

    def _put(self, path: Path, metadata: Metadata[S]) -> None:
        self._write(path, metadata.to_bytes(_SERIALIZER), 0o644)


def _read(path: Path, kind: type[S]) -> Metadata[S]:
    try:
        metadata: Metadata[S] = Metadata.from_bytes(path.read_bytes())
    except OSError as error:
        raise RepositoryError(
            f"{path} cannot be read: {error.strerror}", hint="restore the repository from a copy"
        ) from error
    except DeserializationError as error:
        raise RepositoryError(f"{path} is damaged: {error}", hint="restore the repository from a copy") from error
    if not isinstance(metadata.signed, kind):
        raise RepositoryError(f"{path} holds a {metadata.signed.type}", hint="restore the repository from a copy")
    return metadata


def _verify(delegator: Root | Targets, role: str, metadata: Metadata[S]) -> None:
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (TufError, ValueError) as error:
        raise RepositoryError(
            f"{role} is not signed as it must be: {error}", hint="restore the repository from a copy"
        ) from error
