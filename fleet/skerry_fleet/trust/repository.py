"""The update repository (TUF): what may be installed at all, for any device.

    root      2 of 3 offline keys     names every other key
    targets   one offline key         names one role a model, and that model's paths `<model>/*`
    model-M   M's publisher key       lists the manifests of M's bundles, with their custom fields
    snapshot, timestamp   online      which versions belong together, and that they are fresh

A target is a bundle's manifest at `<model>/<bundle id>.json`; the blobs follow from its digests. The state lives on
disk alone, and every change happens under a file lock, so that the server and a command may both publish.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, TargetFile, Targets

from skerry_contracts import names
from skerry_contracts.assignment import target_path as path_of
from skerry_contracts.errors import MismatchError
from skerry_fleet.trust import ceremony, durable, keys, metadata
from skerry_fleet.trust.errors import KeyMissingError, RepositoryError

MAX_MANIFEST_BYTES = 8 * 1024 * 1024
RENEW_SNAPSHOT_AT = 0.5
WARN_AT = 0.3  # of a document's life left


class Repository:
    """An update repository in `folder`: `metadata/` and `targets/` are what devices fetch, byte for byte."""

    def __init__(self, folder: Path, store: keys.KeyStore, write: durable.Writer = durable.write_file) -> None:
        self.metadata_dir = folder / "metadata"
        self.targets_dir = folder / "targets"
        self._folder = folder
        self._store = store
        self._write = write
        self._committer = metadata.Committer(self.metadata_dir, store, write)

    def create(self, now_s: float) -> None:
        """Make the repository if it is not there; a creation or a key rotation cut short is finished."""
        for folder in (self.metadata_dir, self.targets_dir):
            durable.make_dirs(folder)
        with self.locked():
            if not (self.metadata_dir / "timestamp.json").exists():
                ceremony.create(self._committer, self._store, now_s)
            ceremony.finish_replacement(self._committer, self._store, now_s)
            metadata.load(self.metadata_dir)  # a damaged repository is told of now, not at the first publication

    def bootstrap_root(self) -> bytes:
        """Return the first root: what a device pins for ever and walks forward from."""
        try:
            return metadata.root_path(self.metadata_dir, 1).read_bytes()
        except OSError as error:
            raise RepositoryError(
                f"no update repository in {self._folder}", hint="start the fleet once: it makes one"
            ) from error

    def models(self) -> tuple[str, ...]:
        """Return the models that have a role, sorted."""
        roles = metadata.load(self.metadata_dir).models
        return tuple(sorted(role.removeprefix(metadata.role_of("")) for role in roles))

    def custom_of(self, target_path: str) -> Mapping[str, object] | None:
        """Return the custom fields of a listed target, None if it is not listed."""
        model, _ = _split(target_path)
        state = metadata.load(self.metadata_dir)
        listed = state.models.get(metadata.role_of(model))
        found = listed.signed.targets.get(target_path) if listed else None
        return None if found is None else dict(found.custom or {})

    def register_model(self, model: str, now_s: float) -> bool:
        """Give a model its own role and publisher key. Returns False if it has one already.

        Raises:
            KeyMissingError: the targets key is kept offline: bring it for this step.
            RepositoryError: no such name, or a damaged repository.
        """
        _model_name(model)
        role = metadata.role_of(model)
        with self.locked():
            state = metadata.load(self.metadata_dir)
            if role in state.models:
                return False
            if not self._store.has(keys.TARGETS):
                raise KeyMissingError(
                    f"a new model needs the targets key, and {self._store.path(keys.TARGETS)} is not on this machine",
                    hint="copy targets.pem back there, register the model, and take it away again",
                )
            targets_signer = CryptoSigner(self._store.ed25519(keys.TARGETS))
            key = self._store.ed25519(keys.publisher(model), create=True)
            delegations = state.targets.signed.delegations or Delegations(keys={}, roles={})
            if delegations.roles is None:
                raise RepositoryError("the targets role uses hashed bins", hint="restore the repository from a copy")
            delegations.roles[role] = DelegatedRole(role, [], 1, True, paths=[f"{model}/*"])
            state.targets.signed.delegations = delegations
            state.targets.signed.add_key(SSlibKey.from_crypto(key.public_key()), role)
            state.models[role] = Metadata(Targets(expires=metadata.expiry(now_s, metadata.MODEL_DAYS)))
            self._committer.commit(state, {role: CryptoSigner(key), "targets": targets_signer}, now_s)
        return True

    def publish(self, target_path: str, manifest_bytes: bytes, custom: Mapping[str, object], now_s: float) -> bool:
        """List a bundle's manifest, so that devices may install it. Returns False if it is listed just so already.

        Raises:
            KeyMissingError: the model's publisher key is kept elsewhere.
            RepositoryError: the path is not `<model>/<sha256 of the bytes>.json`, or the model is not registered.
        """
        model, bundle = _split(target_path)
        if hashlib.sha256(manifest_bytes).hexdigest() != bundle:
            raise RepositoryError(f"{target_path} does not name these {len(manifest_bytes)} bytes")
        if len(manifest_bytes) > MAX_MANIFEST_BYTES:
            raise RepositoryError(f"a manifest of {len(manifest_bytes)} bytes, at most {MAX_MANIFEST_BYTES} are listed")
        with self.locked():
            state = metadata.load(self.metadata_dir)
            role = self._role(state, model)
            entry = TargetFile.from_data(target_path, manifest_bytes, ["sha256"])
            entry.unrecognized_fields["custom"] = dict(custom)
            if state.models[role].signed.targets.get(target_path) == entry:
                return False
            signer = CryptoSigner(self._store.ed25519(keys.publisher(model)))
            durable.make_dirs(self.targets_dir / model)
            self._write(self.targets_dir / model / f"{bundle}.{bundle}.json", manifest_bytes, 0o644)
            state.models[role].signed.targets[target_path] = entry
            self._committer.commit(state, {role: signer}, now_s)
        return True

    def withdraw(self, target_path: str, now_s: float) -> bool:
        """Take a bundle off the list: no device installs it any more, those that have it keep it. False if not listed.

        Raises:
            KeyMissingError, RepositoryError: see `publish`.
        """
        model, _ = _split(target_path)
        with self.locked():
            state = metadata.load(self.metadata_dir)
            role = self._role(state, model)
            if state.models[role].signed.targets.pop(target_path, None) is None:
                return False
            self._committer.commit(state, {role: CryptoSigner(self._store.ed25519(keys.publisher(model)))}, now_s)
        return True

    def overtake(self, now_s: float, by: int = 10_000) -> None:
        """Number far above what was published: devices refuse versions below those they have seen, and a repository
        that was restored from a copy may have published more since.
        """
        with self.locked():
            state = metadata.load(self.metadata_dir)
            signers = {}
            for role in state.models:
                name = keys.publisher(role.removeprefix(metadata.role_of("")))
                if self._store.has(name):
                    state.models[role].signed.version += by
                    signers[role] = CryptoSigner(self._store.ed25519(name))
            state.snapshot.signed.version += by
            state.timestamp.signed.version += by
            self._committer.commit(state, signers, now_s)

    def refresh_timestamp(self, now_s: float) -> None:
        """Say again that this is the newest state; renew the snapshot at half its life too. Call it at least daily."""
        with self.locked():
            state = metadata.load(self.metadata_dir)
            if metadata.share_left(state.snapshot.signed, now_s, metadata.SNAPSHOT_DAYS) < RENEW_SNAPSHOT_AT:
                self._committer.commit_snapshot(state, now_s)
            self._committer.commit_timestamp(state, now_s)

    def maintain(self, now_s: float) -> tuple[str, ...]:
        """Renew what is past 70 % of its life and whose key is here; return a line for each that needs a person."""
        wanting = []
        with self.locked():
            state = metadata.load(self.metadata_dir)
            if metadata.share_left(state.root.signed, now_s, metadata.ROOT_DAYS) < WARN_AT:
                try:
                    state.root = ceremony.renew_root(self._committer, self._store, state.root, now_s)
                except KeyMissingError as error:
                    wanting.append(f"root.json ends {state.root.signed.expires:%Y-%m-%d}: {error}")
            due = {"targets": (keys.TARGETS, state.targets)} | {
                role: (keys.publisher(role.removeprefix(metadata.role_of(""))), listed)
                for role, listed in state.models.items()
            }
            changed = {}
            for role, (name, listed) in due.items():
                if metadata.share_left(listed.signed, now_s, metadata.MODEL_DAYS) >= WARN_AT:
                    continue
                if self._store.has(name):
                    changed[role] = CryptoSigner(self._store.ed25519(name))
                else:
                    wanting.append(f"{role} ends {listed.signed.expires:%Y-%m-%d}: bring {self._store.path(name)}")
            if changed:
                self._committer.commit(state, changed, now_s)
        return tuple(wanting)

    def replace_online_key(self, now_s: float) -> None:
        """Replace the key of snapshot and timestamp by a fresh one, as after a break-in. Needs two root keys."""
        with self.locked():
            ceremony.replace_online_key(self._committer, self._store, now_s)

    def _role(self, state: metadata.State, model: str) -> str:
        role = metadata.role_of(model)
        if role not in state.models:
            raise RepositoryError(f"model {model} has no role", hint="register the model first")
        return role

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """One writer at a time, across processes; the kernel frees the lock when its holder dies."""
        if not self.metadata_dir.is_dir():
            raise RepositoryError(f"no update repository in {self._folder}", hint="start the fleet once: it makes one")
        descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _split(target_path: str) -> tuple[str, str]:
    model, _, file = target_path.partition("/")
    bundle = file.removesuffix(".json")
    try:
        names.name(model, "model")
        names.sha256(bundle, "bundle")
    except MismatchError as error:
        raise RepositoryError(f"{target_path!r:.120} is no target path: {error}") from error
    if target_path != path_of(model, bundle):
        raise RepositoryError(f"{target_path!r:.120} is no target path: <model>/<bundle>.json expected")
    return model, bundle


def _model_name(model: str) -> None:
    try:
        names.name(model, "model")
    except MismatchError as error:
        raise RepositoryError(str(error)) from error
