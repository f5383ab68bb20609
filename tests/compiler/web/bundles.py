"""Bundles for browsers, made quickly: a reference model's generated code, and the model itself for ONNX Runtime."""

from __future__ import annotations

import dataclasses
import functools
import io

import numpy as np

from skerry_compiler.proof import prove
from skerry_compiler.proof.references import Reference, references
from skerry_contracts import codec, container
from skerry_contracts.bundle import FORMAT, Blob, Contract, Golden, Manifest, Predicates, Recipe, Variant
from skerry_contracts.container import Container
from skerry_targets import shelf

BROWSER = shelf.get("browser")
DENSE, CONVOLUTIONS = references()[0], references()[2]
NEEDS = Predicates("browser", "wasm32", ("bulk-memory", "simd128"))


def blob(content: bytes) -> Blob:
    return Blob(codec.digest(content), len(content))


@functools.cache
def native(reference: Reference = DENSE) -> bytes:
    return prove.compiled(reference, BROWSER)


def bundle(
    *,
    onnx: bytes | None = None,
    answers: bytes | None = None,
    extra: dict[str, bytes] | None = None,
    needs: Predicates = NEEDS,
) -> Container:
    """Return a bundle of the dense model: variants `native` and `ort`; `extra` adds blobs to the latter."""
    inputs = DENSE.rows.tobytes()
    known = prove.originals(DENSE.name).astype(np.float32).tobytes() if answers is None else answers
    model = DENSE.model.SerializeToString(deterministic=True) if onnx is None else onnx
    files = {"model": model, **(extra or {})}
    variants = (
        Variant("native", "native", "fp32", {"library": blob(native())}, needs, 1 << 20),
        Variant("ort", "onnxruntime", "fp32", {role: blob(each) for role, each in files.items()}, needs, 1 << 25),
    )
    golden = Golden(len(DENSE.rows), blob(inputs), blob(known), 1e-4, 1e-3, True)
    recipe = Recipe("skerry", "0" * 64, "onnx", "browser", "0" * 64)
    signature = dataclasses.replace(DENSE.signature, labels=tuple("0123456789"), score_output="y")
    manifest = Manifest(FORMAT, "dense", "1.0", 3, "browser", signature, variants, golden, Contract(), (), recipe)
    buffer = io.BytesIO()
    content = {codec.digest(each): each for each in (native(), *files.values(), inputs, known)}
    container.write_container(buffer, codec.encode(manifest), content.items())
    return container.open_container(io.BytesIO(buffer.getvalue()))
