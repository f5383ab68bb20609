"""The bundles of the false world: real manifests and real blobs by digest, whose networks exist only as a kind of
behaviour.
"""

from __future__ import annotations

import dataclasses
import random
import struct
from enum import StrEnum
from pathlib import Path

from skerry_agent.config import AgentConfig
from skerry_contracts import codec
from skerry_contracts.bundle import (
    FORMAT,
    Baseline,
    Blob,
    Contract,
    Golden,
    Manifest,
    Predicates,
    Recipe,
    Signature,
    Variant,
)
from skerry_contracts.device import Hardware
from skerry_contracts.tensor import DType, Tensor, TensorSpec

MODEL = "digits"
TENANT = "default"
TARGET = "x86-64-v3"
LABELS = ("zero", "one", "two")
INPUT = TensorSpec("image", DType.FP32, (1, 4))
OUTPUT = TensorSpec("scores", DType.FP32, (1, 3))
HARDWARE = Hardware(
    "linux", "x86_64", "simulated", ("avx2",), 2, 1 << 30, "glibc", "2.36", TARGET, "0.1.0", {"native": "1"}
)
CONFIG = AgentConfig(
    root=Path("/simulated"),
    heartbeat_s=600.0,
    observe_s=180.0,
    spool_quota_bytes=1 << 20,
    redeliver_s=300.0,
    reserve_free_bytes=64 << 10,
    retry_failed_s=900.0,
)
"""The agent's settings in these worlds; the rest are its defaults."""
_GOLDEN_ROWS = 8


class Kind(StrEnum):
    """How a bundle behaves on a device."""

    GOOD = "good"
    GOLDEN = "golden"  # wrong answers to the golden vectors
    CRASHES = "crashes"  # its worker dies at the first real input
    NAN = "nan"  # answers the golden vectors well, real inputs with NaN


@dataclasses.dataclass(frozen=True, slots=True)
class MadeBundle:
    """A bundle with everything that belongs to it."""

    id: str
    kind: Kind
    manifest: Manifest
    manifest_bytes: bytes
    blobs: dict[str, bytes]


def make_bundle(version: str, release: int, kind: Kind, rng: random.Random, library: bytes | None = None) -> MadeBundle:
    """Return a new bundle: a library (nine kilobytes or so, where none is given) in two variants, golden vectors and a
    baseline.
    """
    made, spare = rng.randbytes(rng.randrange(8600, 9800)), rng.randbytes(rng.randrange(400, 900))
    library = made if library is None else library
    golden_inputs = rng.randbytes(_GOLDEN_ROWS * INPUT.size_bytes)
    golden_outputs = rng.randbytes(_GOLDEN_ROWS * OUTPUT.size_bytes)
    blobs = {codec.digest(data): data for data in (library, spare, golden_inputs, golden_outputs)}
    requires = Predicates("linux", "x86_64", ("avx2",))
    variants = (
        Variant("native-i8", "native", "int8", {"library": _blob(library)}, requires, 1 << 16),
        Variant("native-f32", "native", "fp32", {"library": _blob(spare)}, Predicates("linux", "x86_64"), 1 << 16),
    )
    manifest = Manifest(
        FORMAT,
        MODEL,
        version,
        release,
        TARGET,
        Signature((INPUT,), (OUTPUT,), LABELS, None, OUTPUT.name),
        variants,
        Golden(_GOLDEN_ROWS, _blob(golden_inputs), _blob(golden_outputs), 1e-5, 1e-4, True),
        Contract(),
        (
            Baseline("confidence", (0.4, 0.6, 0.8), (1, 2, 3, 4)),
            Baseline("input:image:mean", (-0.5, 0.0, 0.5), (1, 4, 4, 1)),
        ),
        Recipe("0.1.0", codec.digest(library), "onnx", TARGET, codec.digest(spare)),
    )
    data = codec.encode(manifest)
    return MadeBundle(codec.digest(data), kind, manifest, data, blobs)


def trained_on(bundle: MadeBundle, rng: random.Random) -> bytes:
    """Return a bundle's library as training on leaves it: of the same length, a few bytes another."""
    changed = bytearray(bundle.blobs[bundle.manifest.variants[0].blobs["library"].sha256])
    for _ in range(60):
        place = rng.randrange(len(changed))
        changed[place] = (changed[place] + rng.choice((1, 255))) % 256
    return bytes(changed)


class Inputs:
    """A stock of inputs and of answers to them, made once, because a simulation asks for millions."""

    def __init__(self, rng: random.Random, stock: int = 64) -> None:
        self._stock = []
        for _ in range(stock):
            image = [rng.uniform(-1, 1) for _ in range(INPUT.elements)]
            best = rng.uniform(0.4, 0.99) if rng.random() < 0.15 else rng.uniform(0.8, 0.99)
            scores = [best, 0.8 * (1 - best), 0.2 * (1 - best)]
            rng.shuffle(scores)
            self._stock.append((_tensor(INPUT, image), _tensor(OUTPUT, scores)))
        self._nan = _tensor(OUTPUT, [float("nan")] * OUTPUT.elements)

    def draw(self, rng: random.Random, kind: Kind) -> tuple[Tensor, Tensor]:
        """Return an input, and what a bundle of that kind makes of it."""
        image, scores = self._stock[int(rng.random() * len(self._stock))]
        return image, self._nan if kind is Kind.NAN else scores


def _blob(data: bytes) -> Blob:
    return Blob(codec.digest(data), len(data))


def _tensor(spec: TensorSpec, values: list[float]) -> Tensor:
    return Tensor(spec.name, spec.dtype, spec.shape, struct.pack(f"<{len(values)}f", *values))
