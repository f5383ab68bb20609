"""Keys for sealed samples: devices encrypt for the public one, only the holder of the private one reads them.

Private keys lie under `<root>/seal/`, one PEM file each; the public one travels in the sampling policy of a rollout.
Several may be there: an old key opens what was sealed before the change.
"""

from __future__ import annotations

import base64
import dataclasses
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from skerry_cloud.errors import ConfigError, DataError
from skerry_contracts.errors import ContractError
from skerry_contracts.sample import Sample
from skerry_contracts.sealed import EXPONENT, SealKey, aad, unpack

BITS = 3072
DATA_KEYS = 1024
_OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


class Opener:
    """Opens samples with the private keys of a folder; knows no other keys."""

    def __init__(self, folder: Path) -> None:
        self._keys = {public_key(key).keyid: key for path in sorted(folder.glob("*.pem")) if (key := _read(path))}
        self._unwrapped: dict[bytes, bytes] = {}

    def open(self, sample: Sample) -> Sample:
        """Return a sample with its tensors; one that is not sealed as it is.

        Raises:
            DataError: the key is not here, or the seal is broken.
        """
        sealed = sample.sealed
        if sealed is None:
            return sample
        private = self._keys.get(sealed.keyid)
        if private is None:
            raise DataError(
                f"sample {sample.prediction} is sealed for key {sealed.keyid[:12]}, which is not here",
                hint="put the key's PEM file into the cloud's seal folder",
            )
        try:
            key = self._unwrapped.get(sealed.key) or private.decrypt(sealed.key, _OAEP)
            plain = AESGCM(key).decrypt(sealed.nonce, sealed.data, aad(sample.prediction, sample.bundle))
            inputs, outputs = unpack(plain)
        except (ValueError, InvalidTag, ContractError) as error:
            raise DataError(f"sample {sample.prediction}: its seal does not open: {error or 'wrong tag'}") from error
        if len(self._unwrapped) >= DATA_KEYS:
            self._unwrapped.clear()
        self._unwrapped[sealed.key] = key
        return dataclasses.replace(sample, sealed=None, inputs=inputs, outputs=outputs)


def create(folder: Path) -> SealKey:
    """Make a key pair; the private one is written for its owner alone, the public one returned.

    Raises:
        DataError: the folder cannot be written.
    """
    private = rsa.generate_private_key(public_exponent=EXPONENT, key_size=BITS)
    public = public_key(private)
    data = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{public.keyid[:12]}.pem"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror}", hint="name a --root that you may write") from error
    return public


def policy_words(key: SealKey) -> dict[str, Any]:
    """Return what a sampling policy says to make devices seal for a key."""
    return {"seal": {"modulus": base64.b64encode(key.modulus).decode("ascii")}}


def public_key(private: rsa.RSAPrivateKey) -> SealKey:
    """Return the public half, as devices know it."""
    numbers = private.public_key().public_numbers()
    return SealKey(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8, "big"))


def _read(path: Path) -> rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is no private key: {error}", hint="take it out of the seal folder") from error
    if not isinstance(key, rsa.RSAPrivateKey) or key.public_key().public_numbers().e != EXPONENT:
        raise ConfigError(f"{path} is no RSA key with exponent 65537", hint="make one: skerry cloud seal create")
    return key
