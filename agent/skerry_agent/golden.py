"""Golden vectors: does a variant give the known answers on this very device, and how fast and large is it here?

A row of a golden blob is the tensors' bytes in the signature's order. Every number must be within `atol + rtol *
|expected|`; where `same_label` is asked, the best score must be the same class, and a label output must hold the same
label.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from pathlib import Path

from skerry_agent.blobs import open_checked
from skerry_agent.errors import WorkerError
from skerry_agent.latency import percentile_ms
from skerry_agent.slot import Slot
from skerry_contracts.bundle import Blob, Golden, Manifest, Signature
from skerry_contracts.device import Reason
from skerry_contracts.tensor import STRUCT_CODE, TensorSpec

_TOLD = 5  # failures told in words


@dataclasses.dataclass(frozen=True, slots=True)
class GoldenResult:
    """How the golden vectors went.

    `failures` tells the first few; latencies are the worker's, memory its resident size after.
    """

    count: int
    passed: int
    failures: tuple[str, ...]
    runs: int
    latency_p50_ms: float
    latency_p95_ms: float
    rss_bytes: int
    load_ms: float

    @property
    def ok(self) -> bool:
        """Whether every vector passed."""
        return self.passed == self.count


async def run_golden(slot: Slot, manifest: Manifest, blob_dir: Path, *, runs: int) -> GoldenResult:
    """Run every golden vector once, and cycle through them until at least `runs` inferences are measured.

    Raises:
        WorkerError: the blobs are damaged or of another size (CORRUPT), or the worker crashed or hung. A model that
        fails or says NaN
            on a vector is a failure of that vector.
    """
    golden, signature = manifest.golden, manifest.signature
    inputs = rows(blob_dir, golden.inputs, golden.count, signature.inputs)
    expected = rows(blob_dir, golden.outputs, golden.count, signature.outputs)
    failures: list[str] = []
    failed = 0
    measured: list[int] = []
    for number in range(max(golden.count, runs)):
        row = number % golden.count
        try:
            answer = (await slot.run(inputs[row])).answer
        except WorkerError as error:
            if error.reason is not Reason.UNHEALTHY:
                raise
            fault: str | None = str(error)
        else:
            measured.append(answer.elapsed_ns)
            fault = compare(golden, signature, answer.outputs, expected[row]) if number < golden.count else None
        if fault is not None and number < golden.count:
            failed += 1
            failures.append(f"vector {row}: {fault}")
    # The first inference touches memory for the first time: it belongs to the start, not to the latency.
    steady = sorted(measured[1:] or measured)
    return GoldenResult(
        count=golden.count,
        passed=golden.count - failed,
        failures=tuple(failures[:_TOLD]),
        runs=len(steady),
        latency_p50_ms=percentile_ms(steady, 0.5),
        latency_p95_ms=percentile_ms(steady, 0.95),
        rss_bytes=slot.rss_bytes(),
        load_ms=slot.load_ms,
    )


def compare(golden: Golden, signature: Signature, outputs: Sequence[bytes], expected: Sequence[bytes]) -> str | None:
    """Return why an answer is not the known one, None where it passes."""
    for spec, found_bytes, known_bytes in zip(signature.outputs, outputs, expected, strict=True):
        form = f"<{spec.elements}{STRUCT_CODE[spec.dtype]}"
        found, known = struct.unpack(form, found_bytes), struct.unpack(form, known_bytes)
        if spec.name == signature.label_output:
            if golden.same_label and found != known:
                return f"label {found[:4]}, not {known[:4]}"
            continue
        for place, (a, b) in enumerate(zip(found, known, strict=True)):
            # Written so that NaN fails; equal infinities pass.
            if not (a == b or abs(a - b) <= golden.atol + golden.rtol * abs(b)):
                return f"{spec.name}[{place}] is {a:.6g}, not {b:.6g}"
        if golden.same_label and spec.name == signature.score_output and _best(spec, found) != _best(spec, known):
            return f"best class {_best(spec, found)}, not {_best(spec, known)}"
    return None


def _best(spec: TensorSpec, scores: Sequence[float]) -> list[int]:
    """Return the best class of each row of the last axis."""
    width = spec.shape[-1] if spec.shape else 1
    rows = [scores[at : at + width] for at in range(0, len(scores), width)]
    return [max(range(width), key=row.__getitem__) for row in rows]


def rows(blob_dir: Path, blob: Blob, count: int, specs: Sequence[TensorSpec]) -> list[list[bytes]]:
    """Return the vectors of a golden blob, each as its tensors' bytes."""
    width = sum(spec.size_bytes for spec in specs)
    if count < 1 or blob.size_bytes != count * width:
        raise WorkerError(
            f"golden vectors of {blob.size_bytes} bytes, {count} rows take {count * width}", reason=Reason.CORRUPT
        )
    with open(open_checked(blob_dir, blob), "rb") as file:  # noqa: PTH123 opens a descriptor, not a path
        return [[file.read(spec.size_bytes) for spec in specs] for _ in range(count)]
