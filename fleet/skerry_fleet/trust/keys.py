"""Private keys as files of mode 0600: `online/` stays with the fleet, `offline/` a person may carry away.

keys/offline/root-1.pem  root-2.pem  root-3.pem   the update repository's root, any two of three
keys/offline/targets.pem                           adds models to the update repository
keys/offline/director-spare.pem                    devices trust it too: for the day director.pem is lost
keys/online/director.pem                           signs assignments
keys/online/repository.pem                         signs the repository's snapshot and timestamp
keys/online/authority.pem                          the certificate authority (P-256; the others are Ed25519)
keys/publishers/<model>.pem                        signs what may be installed as that model
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from skerry_fleet.trust import durable
from skerry_fleet.trust.errors import KeyMissingError, KeyUnfitError

PrivateKey: TypeAlias = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey

ROOTS = ("offline/root-1", "offline/root-2", "offline/root-3")
ROOT_THRESHOLD = 2
TARGETS = "offline/targets"
DIRECTOR = "online/director"
DIRECTOR_SPARE = "offline/director-spare"
REPOSITORY = "online/repository"
REPOSITORY_NEXT = "online/repository-next"  # only while the key is being replaced
AUTHORITY = "online/authority"


def publisher(model: str) -> str:
    """Return the name of a model's publisher key."""
    return f"publishers/{model}"


class KeyStore:
    """The folder of private keys. Each name is a relative path without its suffix, as in the table above."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Return where a key lies, whether or not it is there."""
        return self.root / f"{name}.pem"

    def has(self, name: str) -> bool:
        """Say whether a key is here."""
        return self.path(name).is_file()

    def ed25519(self, name: str, *, create: bool = False) -> ed25519.Ed25519PrivateKey:
        """Return an Ed25519 key; make it first if `create` and it is missing.

        Raises:
            KeyMissingError, KeyUnfitError: see `skerry_fleet.trust.errors`.
        """
        if create and not self.has(name):
            self._write(name, ed25519.Ed25519PrivateKey.generate())
        key = self._load(name)
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise KeyUnfitError(
                f"{self.path(name)} holds no Ed25519 key", hint="put the file that the fleet wrote back there"
            )
        return key

    def discard(self, name: str) -> None:
        """Remove a key if it is there."""
        self.path(name).unlink(missing_ok=True)

    def copy(self, name: str, new_name: str) -> None:
        """Let a key stand under another name too, durably."""
        self._write(new_name, self.ed25519(name))

    def p256(self, name: str, *, create: bool = False) -> ec.EllipticCurvePrivateKey:
        """Return a P-256 key; make it first if `create` and it is missing.

        Raises:
            KeyMissingError, KeyUnfitError: see `skerry_fleet.trust.errors`.
        """
        if create and not self.has(name):
            self._write(name, ec.generate_private_key(ec.SECP256R1()))
        key = self._load(name)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise KeyUnfitError(
                f"{self.path(name)} holds no P-256 key", hint="put the file that the fleet wrote back there"
            )
        return key

    def _write(self, name: str, key: PrivateKey) -> None:
        path = self.path(name)
        durable.make_dirs(path.parent, 0o700)
        durable.write_file(path, private_pem(key), 0o600)

    def _load(self, name: str) -> object:
        path = self.path(name)
        try:
            data = path.read_bytes()
            mode = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            raise KeyMissingError(
                f"the key {path} is not on this machine", hint=f"copy it back to {path} for this step"
            ) from None
        if mode & 0o077:
            raise KeyUnfitError(f"{path} can be read by others (mode {mode:03o})", hint=f"chmod 600 {path}")
        try:
            return serialization.load_pem_private_key(data, password=None)
        except (ValueError, TypeError) as error:
            raise KeyUnfitError(f"{path} holds no private key: {error}", hint="restore it from a copy") from error


def private_pem(key: PrivateKey) -> bytes:
    """Return a private key as unencrypted PKCS#8 PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_pem(key: PublicKey) -> str:
    """Return a public key as SubjectPublicKeyInfo PEM."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode("ascii")
