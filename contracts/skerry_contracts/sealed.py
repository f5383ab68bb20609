"""Tensors that only the owner of a key can read: sealed on the device, opened where the private key is.

AES-256-GCM (NIST SP 800-38D) under a data key of the device, which is wrapped for the owner's RSA key (RSAES-OAEP with
SHA-256 and MGF1, RFC 8017) and not kept: once its data key is gone, the device cannot read its own samples back. The
authenticated data is `aad`: a seal does not open under another prediction's name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from skerry_contracts import codec, names
from skerry_contracts.errors import MismatchError
from skerry_contracts.tensor import DType, Tensor, TensorSpec

EXPONENT = 65537
NONCE_BYTES = 12
TAG_BYTES = 16


@dataclasses.dataclass(frozen=True, slots=True)
class SealKey:
    """An RSA public key of 2048 to 4096 bits: its modulus, big-endian. The exponent is 65537."""

    modulus: bytes

    def __post_init__(self) -> None:
        if not (256 <= len(self.modulus) <= 512 and self.modulus[0] >= 128 and self.modulus[-1] % 2):
            raise MismatchError("modulus", "an RSA modulus of 2048 to 4096 bits")

    @property
    def keyid(self) -> str:
        """The key's name: SHA-256 of its modulus."""
        return codec.digest(self.modulus)


@dataclasses.dataclass(frozen=True, slots=True)
class Sealed:
    """`key`: the wrapped data key; `data`: packed tensors (`pack`), encrypted, and the tag of 16 bytes."""

    keyid: str
    key: bytes
    nonce: bytes
    data: bytes

    def __post_init__(self) -> None:
        names.sha256(self.keyid, "keyid")
        if len(self.nonce) != NONCE_BYTES or len(self.data) < TAG_BYTES or not 256 <= len(self.key) <= 512:
            raise MismatchError("nonce", "12 bytes; data holds a tag; key is as long as the RSA key")


@dataclasses.dataclass(frozen=True, slots=True)
class PackedHead:
    """What packed tensors are; the bytes of those without `ref` follow in this order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    refs: dict[str, str] = dataclasses.field(default_factory=dict)


def aad(prediction: str, bundle: str) -> bytes:
    """Return what a seal is bound to."""
    return f"{prediction}\n{bundle}".encode()


def pack(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> bytes:
    """Return tensors as bytes: length of the head (4 bytes, little-endian), head as JSON, the tensors' bytes."""
    refs = {
        f"{side}:{i}": tensor.ref
        for side, tensors in (("inputs", inputs), ("outputs", outputs))
        for i, tensor in enumerate(tensors)
        if tensor.ref is not None
    }
    head = codec.encode(PackedHead(tuple(map(_spec, inputs)), tuple(map(_spec, outputs)), refs))
    return b"".join([len(head).to_bytes(4, "little"), head, *(each.data or b"" for each in (*inputs, *outputs))])


def unpack(packed: bytes) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the inputs and outputs that `pack` was given.

    Raises:
        MalformedError, MismatchError: not packed tensors.
    """
    at = 4 + int.from_bytes(packed[:4], "little")
    head = codec.decode(PackedHead, packed[4:at])
    sides: list[tuple[Tensor, ...]] = []
    for side, specs in (("inputs", head.inputs), ("outputs", head.outputs)):
        tensors = []
        for i, spec in enumerate(specs):
            ref = head.refs.get(f"{side}:{i}")
            size = 0 if ref is not None else spec.size_bytes
            data = None if ref is not None else packed[at : at + size]
            tensors.append(Tensor(spec.name, DType(spec.dtype), spec.shape, data, ref))
            at += size
        sides.append(tuple(tensors))
    if at != len(packed):
        raise MismatchError("data", f"{len(packed) - at} bytes too many")
    return sides[0], sides[1]


def _spec(tensor: Tensor) -> TensorSpec:
    return TensorSpec(tensor.name, tensor.dtype, tensor.shape)
