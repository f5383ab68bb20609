"""What can go wrong with keys, certificates, signatures and the update repository.

TrustError
 ├── KeyMissingError      a private key is not where it is needed (perhaps it is kept offline)
 ├── KeyUnfitError        a key file that others may read, or that holds no key of the right kind
 ├── CertificateError     a certificate or a certificate request is refused
 ├── SignatureError       a signature, its key or what it covers is not what it must be
 └── RepositoryError      the update repository refuses, or its files contradict each other
"""

from __future__ import annotations


class TrustError(Exception):
    """Something about trust is refused. `hint` is the reader's next step."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class KeyMissingError(TrustError):
    """A private key is not on this machine."""


class KeyUnfitError(TrustError):
    """A key file cannot be used as it is."""


class CertificateError(TrustError):
    """A certificate or certificate request is refused."""


class SignatureError(TrustError):
    """A signature does not hold."""


class RepositoryError(TrustError):
    """The update repository refuses an operation or is damaged."""
