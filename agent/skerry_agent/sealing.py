"""Sealing samples before they are written: AES-256-GCM by the OpenSSL library that this process has loaded anyway.

Python's own `ssl` (for the link to the broker) brings libcrypto along; it is called through ctypes, so that sealing
costs the supervisor no memory worth naming. The wrapping of the data key (RSAES-OAEP, RFC 8017 section 7.1) is
public-key arithmetic on a key made here a moment ago: plain Python. Where Python carries its OpenSSL inside itself,
there is no library to call, and samples that must be sealed are not kept at all.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import hashlib
import ssl  # noqa: F401  # loads libcrypto, as the link does
from pathlib import Path

from skerry_agent.clock import Rng
from skerry_contracts.sample import Sample
from skerry_contracts.sealed import EXPONENT, NONCE_BYTES, TAG_BYTES, Sealed, SealKey, aad, pack

KEY_BYTES = 32
HASH_BYTES = 32
RENEW = 256  # samples under one data key; the key is in memory for no longer
OVERHEAD_BYTES = 1000  # a wrapped key of 4096 bits, its id and a nonce, as JSON
_GET_TAG = 0x10
_MAPS = Path("/proc/self/maps")
# Test case 14 of McGrew and Viega's "The Galois/Counter Mode of Operation" (2005): key, nonce, plain, bound, answer.
_KNOWN = (
    bytes(32),
    bytes(12),
    bytes(16),
    b"",
    bytes.fromhex("cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
)


class Aes256Gcm:
    """libcrypto's AES-256-GCM, encryption only."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
        library.EVP_CIPHER_CTX_new.restype = library.EVP_aes_256_gcm.restype = pointer
        library.EVP_CIPHER_CTX_free.argtypes = [pointer]
        library.EVP_CIPHER_CTX_free.restype = None
        library.EVP_EncryptInit_ex.argtypes = [pointer, pointer, pointer, text, text]
        library.EVP_EncryptUpdate.argtypes = [pointer, text, ctypes.POINTER(number), text, number]
        library.EVP_EncryptFinal_ex.argtypes = [pointer, text, ctypes.POINTER(number)]
        library.EVP_CIPHER_CTX_ctrl.argtypes = [pointer, number, number, text]

    def encrypt(self, key: bytes, nonce: bytes, plain: bytes, bound: bytes) -> bytes:
        """Return the ciphertext and the tag of 16 bytes.

        Raises:
            OSError: the library refuses.
        """
        library, done = self._library, ctypes.c_int(0)
        context = library.EVP_CIPHER_CTX_new()
        if not context:
            raise OSError("libcrypto has no memory")
        out, tag = ctypes.create_string_buffer(len(plain) + 16), ctypes.create_string_buffer(TAG_BYTES)
        try:
            good = library.EVP_EncryptInit_ex(context, library.EVP_aes_256_gcm(), None, key, nonce) == 1
            good = good and library.EVP_EncryptUpdate(context, None, ctypes.byref(done), bound, len(bound)) == 1
            good = good and library.EVP_EncryptUpdate(context, out, ctypes.byref(done), plain, len(plain)) == 1
            good = good and done.value == len(plain)
            good = good and library.EVP_EncryptFinal_ex(context, tag, ctypes.byref(done)) == 1
            good = good and library.EVP_CIPHER_CTX_ctrl(context, _GET_TAG, TAG_BYTES, tag) == 1
        finally:
            library.EVP_CIPHER_CTX_free(context)
        if not good:
            raise OSError("libcrypto does not encrypt")
        return out.raw[: len(plain)] + tag.raw


@functools.cache
def cipher() -> Aes256Gcm | None:
    """Return the cipher, tried once; None where this Python brings no library that can be called."""
    try:
        found = {line.split()[-1] for line in _MAPS.read_text().splitlines() if "/libcrypto" in line}
        aes = Aes256Gcm(ctypes.CDLL(min(found))) if found else None
        return aes if aes is not None and aes.encrypt(*_KNOWN[:-1]) == _KNOWN[-1] else None
    except (OSError, AttributeError):
        return None


class Sealer:
    """Seals samples for one key; each data key for `RENEW` of them."""

    def __init__(self, key: SealKey, aes: Aes256Gcm, rng: Rng) -> None:
        self.key = key
        self._aes, self._rng = aes, rng
        self._data_key, self._wrapped = b"", b""
        self._used = RENEW

    def seal(self, sample: Sample) -> Sample:
        """Return a sample whose tensors are sealed.

        Raises:
            OSError: the library refuses.
        """
        if self._used >= RENEW:
            self._data_key, self._used = self._rng.randbytes(KEY_BYTES), 0
            self._wrapped = wrap(self.key, self._data_key, self._rng.randbytes(HASH_BYTES))
        nonce = self._used.to_bytes(NONCE_BYTES, "little")  # never twice under one key
        self._used += 1
        plain, bound = pack(sample.inputs, sample.outputs), aad(sample.prediction, sample.bundle)
        data = self._aes.encrypt(self._data_key, nonce, plain, bound)
        sealed = Sealed(self.key.keyid, self._wrapped, nonce, data)
        # A candidate's answer is not among what is packed: it stays here, and only that it disagreed is said.
        shadow = None if sample.shadow is None else dataclasses.replace(sample.shadow, outputs=())
        return dataclasses.replace(sample, inputs=(), outputs=(), sealed=sealed, shadow=shadow)


def wrap(key: SealKey, message: bytes, seed: bytes) -> bytes:
    """Return `message` encrypted by RSAES-OAEP with SHA-256, MGF1 and no label; `seed` is 32 fresh random bytes."""
    size = len(key.modulus)
    block = hashlib.sha256(b"").digest() + bytes(size - len(message) - 2 * HASH_BYTES - 2) + b"\1" + message
    masked = _mix(block, seed)
    padded = b"\0" + _mix(seed, masked) + masked
    number = pow(int.from_bytes(padded, "big"), EXPONENT, int.from_bytes(key.modulus, "big"))
    return number.to_bytes(size, "big")


def _mix(data: bytes, seed: bytes) -> bytes:
    """Return data with the mask that MGF1 makes of a seed."""
    rounds = range(-(-len(data) // HASH_BYTES))
    mask = b"".join(hashlib.sha256(seed + i.to_bytes(4, "big")).digest() for i in rounds)
    return bytes(a ^ b for a, b in zip(data, mask, strict=False))
