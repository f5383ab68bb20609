"""A web package of a variant that is in no bundle yet, to try it in a browser."""

from __future__ import annotations

from collections.abc import Mapping

from skerry_compiler.web import package
from skerry_contracts import codec
from skerry_contracts.bundle import FORMAT, Blob, Contract, Golden, Manifest, Recipe, Signature, Variant


def made(
    target: str, signature: Signature, variant: Variant, blobs: Mapping[str, bytes], row: bytes, answer: bytes
) -> package.Made:
    """Return the package.

    Args:
        target: the board's id.
        signature: of the model.
        variant: what is tried.
        blobs: its files by role.
        row: one row's inputs.
        answer: the original's to that row, which the package holds as its golden one.

    Raises:
        UnsupportedError: no browser runs it.
    """
    golden = Golden(1, Blob(codec.digest(row), len(row)), Blob(codec.digest(answer), len(answer)), 0, 0, False)
    nothing = codec.digest(b"")
    recipe = Recipe("", nothing, "", target, nothing)
    manifest = Manifest(FORMAT, "candidate", "0", 0, target, signature, (variant,), golden, Contract(), (), recipe)
    content = {codec.digest(each): each for each in (*blobs.values(), row, answer)}
    return package.assembled(manifest, nothing, variant, content.__getitem__)
