"""A stream of bytes encrypted for a passphrase: nothing of it can be read, altered, reordered or cut off unseen.

The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015) over AES-256-GCM: chunks of 64 KiB, each under a
nonce that counts them and says which is the last; the key comes from the passphrase by scrypt (RFC 7914).
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from skerry_fleet.errors import InputError

MAGIC = b"SKERRY-SEALED-1\n"
CHUNK = 1 << 16
SALT_BYTES, TAG_BYTES = 16, 16
COST, BLOCK, LANES = 1 << 15, 8, 1  # 32 MiB and about a tenth of a second


class SealedWriter:
    """Encrypts what is written to it; `close` writes the end, without which the whole is refused."""

    def __init__(self, file: BinaryIO, passphrase: bytes) -> None:
        salt = os.urandom(SALT_BYTES)
        file.write(MAGIC + salt)
        self._file, self._cipher = file, _cipher(passphrase, salt)
        self._waiting, self._count = bytearray(), 0

    def write(self, data: bytes) -> int:
        """Take in bytes."""
        self._waiting += data
        while len(self._waiting) > CHUNK:  # the last chunk is never sent before it is known to be the last
            self._put(bytes(self._waiting[:CHUNK]), last=False)
            del self._waiting[:CHUNK]
        return len(data)

    def close(self) -> None:
        """Write the last chunk; the file stays open."""
        self._put(bytes(self._waiting), last=True)

    def _put(self, chunk: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._count, last), chunk, None))
        self._count += 1


class SealedReader:
    """Decrypts what `SealedWriter` wrote, from behind its magic bytes.

    Raises (on reading):
        InputError: another passphrase, or the file was altered or cut off.
    """

    def __init__(self, file: BinaryIO, passphrase: bytes) -> None:
        self._file, self._cipher = file, _cipher(passphrase, file.read(SALT_BYTES))
        self._ready, self._count, self._over = bytearray(), 0, False
        self._next = file.read(CHUNK + TAG_BYTES)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes; fewer only at the end."""
        while len(self._ready) < size and not self._over:
            chunk, self._next = self._next, self._file.read(CHUNK + TAG_BYTES)
            self._over = not self._next
            try:
                self._ready += self._cipher.decrypt(_nonce(self._count, self._over), chunk, None)
            except InvalidTag as error:
                what = "the file was altered or cut off" if self._count else "another passphrase, or an altered file"
                raise InputError(f"cannot be decrypted: {what}", hint="try another copy") from error
            self._count += 1
        found = bytes(self._ready[:size])
        del self._ready[:size]
        return found


def _cipher(passphrase: bytes, salt: bytes) -> AESGCM:
    return AESGCM(Scrypt(salt, 32, COST, BLOCK, LANES).derive(passphrase))


def _nonce(count: int, last: bool) -> bytes:
    return struct.pack(">3xQB", count, last)
