"""A bundle: a content-addressed set of blobs and one canonical manifest whose SHA-256 is the bundle's id.

Flat: no folders, links or external data. The manifest says what the model takes and gives, which variants there are
(best first), what each needs from a device, how to check it there (golden vectors, contract), what its inputs looked
like (baseline), and the recipe from which the same bytes can be made again. What was measured stands beside it as
evidence and never changes the id.
"""

from __future__ import annotations

import dataclasses

from skerry_contracts import names
from skerry_contracts.errors import MismatchError
from skerry_contracts.tensor import TensorSpec

FORMAT = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Blob:
    """A file by its content."""

    sha256: str
    size_bytes: int

    def __post_init__(self) -> None:
        names.sha256(self.sha256)
        if not 0 <= self.size_bytes <= 1 << 40:
            raise MismatchError("size_bytes", "from 0 to 2^40")


@dataclasses.dataclass(frozen=True, slots=True)
class Signature:
    """What the model takes and gives. A model without inputs gives the same answer every time.

    `labels` names the classes in the order of `score_output` (the output that holds one score a class, last axis);
    `label_output` is the output that holds the chosen class's index or value. Both are None where the model is no
    classifier.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...] = ()
    label_output: str | None = None
    score_output: str | None = None

    def __post_init__(self) -> None:
        if not self.outputs:
            raise MismatchError("outputs", "at least one output")
        outputs = {spec.name for spec in self.outputs}
        if len(outputs) != len(self.outputs) or len({spec.name for spec in self.inputs}) != len(self.inputs):
            raise MismatchError("outputs", "a name stands twice")
        for chosen in (self.label_output, self.score_output):
            if chosen is not None and chosen not in outputs:
                raise MismatchError("label_output", f"{chosen!r:.80} is no output")


@dataclasses.dataclass(frozen=True, slots=True)
class Predicates:
    """What a device must be to run a variant. `cpu_features` use Linux's names (/proc/cpuinfo: avx2, avx512_vnni,
    asimddp).
    """

    os: str
    machine: str
    cpu_features: tuple[str, ...] = ()
    libc: str | None = None
    libc_min: str | None = None
    engine_min: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Variant:
    """One way to run the model. `blobs` maps a role the engine knows (library, model, weights) to its content.

    `memory_bytes` is what the engine is expected to add to a bare worker process; `options` are the engine's own
    settings.
    """

    id: str
    engine: str
    precision: str
    blobs: dict[str, Blob]
    requires: Predicates
    memory_bytes: int
    options: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        names.name(self.id, "id")
        names.name(self.engine, "engine")
        for role in self.blobs:
            names.name(role, "blobs")


@dataclasses.dataclass(frozen=True, slots=True)
class Golden:
    """Vectors with known answers. Each blob is `count` rows; a row is the tensors' bytes in the signature's order.

    A variant passes where every float is within `atol + rtol * |expected|` and, if `same_label`, the best score is
    the same class.
    """

    count: int
    inputs: Blob
    outputs: Blob
    atol: float
    rtol: float
    same_label: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Contract:
    """What the maker promises and a device may hold the bundle to. None: no promise."""

    accuracy_floor: float | None = None
    latency_p95_ms: float | None = None
    memory_bytes: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Baseline:
    """One histogram of the training or calibration data, the yardstick of drift.

    `source` says what is counted: `input:NAME:INDEX` (one element), `input:NAME:mean|std` (of one whole input),
    `confidence`, `label`. `edges` rise; `counts` has one entry more than edges (below the first, between each two,
    above the last).
    """

    source: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.edges or any(a >= b for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise MismatchError("edges", "must rise")
        if len(self.counts) != len(self.edges) + 1 or any(count < 0 for count in self.counts):
            raise MismatchError("counts", "one more than edges, none negative")


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that went in: with these inputs the same compiler makes the same bytes on any machine."""

    compiler: str
    source_sha256: str
    source_format: str
    target: str
    target_sha256: str
    calibration_sha256: str | None = None
    candidates: tuple[str, ...] = ()
    options: dict[str, str] = dataclasses.field(default_factory=dict)
    tools: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """The bundle's one document. `release` counts a model's releases upward: devices refuse to go back."""

    format: int
    model: str
    version: str
    release: int
    target: str
    signature: Signature
    variants: tuple[Variant, ...]
    golden: Golden
    contract: Contract
    baseline: tuple[Baseline, ...]
    recipe: Recipe

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise MismatchError("format", f"{self.format} is not {FORMAT}, the format this version reads")
        names.name(self.model, "model")
        names.version(self.version)
        names.name(self.target, "target")
        if not self.variants or len({variant.id for variant in self.variants}) != len(self.variants):
            raise MismatchError("variants", "at least one, each with its own id")
        if self.release < 0:
            raise MismatchError("release", "counts upward from 0")

    def blobs(self) -> dict[str, Blob]:
        """Return every blob the bundle needs, by digest."""
        found = [self.golden.inputs, self.golden.outputs]
        found += [blob for variant in self.variants for blob in variant.blobs.values()]
        return {blob.sha256: blob for blob in found}
