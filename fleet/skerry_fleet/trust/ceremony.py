"""What needs the root's keys: the repository's first day, its renewal, and a new online key.

A cut at any point leaves either nothing that devices see, or what `Repository.create` finishes at the next start.
"""

from __future__ import annotations

import copy

from cryptography.hazmat.primitives.asymmetric import ed25519
from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.metadata import Delegations, Metadata, Root, Snapshot, Targets, Timestamp

from skerry_fleet.trust import keys, metadata
from skerry_fleet.trust.errors import KeyMissingError

ONLINE_ROLES = ("snapshot", "timestamp")


def create(committer: metadata.Committer, store: keys.KeyStore, now_s: float) -> None:
    """Make all keys, the first root and an empty list of models; what a cut left behind is used again."""
    roots = [store.ed25519(name, create=True) for name in keys.ROOTS]
    targets_key = store.ed25519(keys.TARGETS, create=True)
    online_key = store.ed25519(keys.REPOSITORY, create=True)
    if not metadata.root_path(committer.folder, 1).exists():
        root = Root(expires=metadata.expiry(now_s, metadata.ROOT_DAYS), consistent_snapshot=True)
        for key in roots:
            root.add_key(_public(key), "root")
        root.roles["root"].threshold = keys.ROOT_THRESHOLD
        root.add_key(_public(targets_key), "targets")
        for role in ONLINE_ROLES:
            root.add_key(_public(online_key), role)
        committer.write_root(Metadata(root), [CryptoSigner(key) for key in roots])
    targets = Targets(expires=metadata.expiry(now_s, metadata.TARGETS_DAYS), delegations=Delegations(keys={}, roles={}))
    snapshot = Snapshot(expires=metadata.expiry(now_s, metadata.SNAPSHOT_DAYS), meta={})
    timestamp = Timestamp(expires=metadata.expiry(now_s, metadata.TIMESTAMP_DAYS))
    state = metadata.State(
        metadata.load_root(committer.folder), Metadata(timestamp), Metadata(snapshot), Metadata(targets), {}
    )
    committer.commit(state, {"targets": CryptoSigner(targets_key)}, now_s)


def renew_root(
    committer: metadata.Committer, store: keys.KeyStore, root: Metadata[Root], now_s: float
) -> Metadata[Root]:
    """Write and return the next root: the same keys, a new life.

    Raises:
        KeyMissingError: fewer than two root keys are here.
    """
    signers = root_signers(store)
    following = copy.deepcopy(root)
    following.signed.version += 1
    following.signed.expires = metadata.expiry(now_s, metadata.ROOT_DAYS)
    committer.write_root(following, signers)
    return following


def replace_online_key(committer: metadata.Committer, store: keys.KeyStore, now_s: float) -> None:
    """Make a fresh online key, name it in a new root, and sign snapshot and timestamp with it.

    Between the new root and the new timestamp devices that ask are refused and ask again later.

    Raises:
        KeyMissingError: fewer than two root keys are here.
    """
    signers = root_signers(store)
    root = metadata.load_root(committer.folder)
    old, new = store.ed25519(keys.REPOSITORY), store.ed25519(keys.REPOSITORY_NEXT, create=True)
    root.signed.version += 1
    root.signed.expires = metadata.expiry(now_s, metadata.ROOT_DAYS)
    for role in ONLINE_ROLES:
        root.signed.revoke_key(_public(old).keyid, role)
        root.signed.add_key(_public(new), role)
    committer.write_root(root, signers)
    finish_replacement(committer, store, now_s)


def finish_replacement(committer: metadata.Committer, store: keys.KeyStore, now_s: float) -> None:
    """Take a replacement of the online key to its end, or drop it if no root names the new key yet."""
    if not store.has(keys.REPOSITORY_NEXT):
        return
    named = metadata.load_root(committer.folder).signed.roles["timestamp"].keyids
    if _public(store.ed25519(keys.REPOSITORY_NEXT)).keyid in named:
        store.copy(keys.REPOSITORY_NEXT, keys.REPOSITORY)
        committer.commit(metadata.load(committer.folder, check_online=False), {}, now_s)
    store.discard(keys.REPOSITORY_NEXT)


def root_signers(store: keys.KeyStore) -> list[CryptoSigner]:
    """Return signers for the root keys that are here.

    Raises:
        KeyMissingError: fewer than two.
    """
    here = [name for name in keys.ROOTS if store.has(name)]
    if len(here) < keys.ROOT_THRESHOLD:
        raise KeyMissingError(
            f"{len(here)} of {keys.ROOT_THRESHOLD} needed root keys are on this machine",
            hint=f"copy root keys back to {store.path(keys.ROOTS[0]).parent} for this step",
        )
    return [CryptoSigner(store.ed25519(name)) for name in here]


def _public(key: ed25519.Ed25519PrivateKey) -> SSlibKey:
    return SSlibKey.from_crypto(key.public_key())
