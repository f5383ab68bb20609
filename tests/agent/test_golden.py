"""Golden vectors: the comparison by itself, and on real workers."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import re
import struct
from pathlib import Path

import pytest
from tests.agent.serving_parts import SOURCE, Parts, bundle, compiled, put

from skerry_agent.errors import WorkerError
from skerry_agent.golden import GoldenResult, compare
from skerry_agent.runtime import Runtime
from skerry_contracts.bundle import Blob, Golden, Signature
from skerry_contracts.device import Reason
from skerry_contracts.tensor import DType, TensorSpec

NONE = Blob("0" * 64, 0)
GOLDEN = Golden(1, NONE, NONE, atol=0.01, rtol=0.1, same_label=True)
SIGNATURE = Signature(
    inputs=(TensorSpec("x", DType.FP32, (1,)),),
    outputs=(TensorSpec("scores", DType.FP32, (1, 3)), TensorSpec("label", DType.INT64, (1,))),
    labels=("a", "b", "c"),
    label_output="label",
    score_output="scores",
)


def answer(scores: tuple[float, ...], label: int) -> list[bytes]:
    return [struct.pack("<3f", *scores), struct.pack("<q", label)]


KNOWN = answer((0.2, 0.6, 0.5), 1)


@pytest.mark.parametrize(
    ("scores", "label", "words"),
    [
        ((0.2, 0.6, 0.5), 1, None),
        ((0.22, 0.65, 0.55), 1, None),
        ((0.25, 0.6, 0.5), 1, r"scores\[0\] is 0.25, not 0.2"),
        ((0.2, math.nan, 0.5), 1, r"scores\[1\] is nan"),
        ((0.2, math.inf, 0.5), 1, r"scores\[1\] is inf"),
        ((0.2, 0.54, 0.55), 1, "best class"),
        ((0.2, 0.6, 0.5), 2, "label"),
    ],
)
def test_every_number_must_be_near_and_the_label_the_same(
    scores: tuple[float, ...], label: int, words: str | None
) -> None:
    fault = compare(GOLDEN, SIGNATURE, answer(scores, label), KNOWN)
    assert fault is None if words is None else fault is not None and re.search(words, fault), fault


def test_labels_may_differ_where_they_are_not_asked_for() -> None:
    golden = dataclasses.replace(GOLDEN, same_label=False)
    assert compare(golden, SIGNATURE, answer((0.2, 0.54, 0.55), 2), KNOWN) is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blobs")


def judge(toy: Parts, blob_dir: Path | None = None) -> GoldenResult:
    async def body() -> GoldenResult:
        runtime = Runtime()
        try:
            await runtime.start("toy@trial", toy.folder, toy.variant, toy.manifest)
            return await runtime.golden("toy@trial", toy.manifest, blob_dir or toy.folder, runs=20)
        finally:
            await runtime.close()

    return asyncio.run(body())


def test_a_right_model_passes_and_is_measured(folder: Path) -> None:
    result = judge(bundle(folder, compiled(folder)))
    assert result.ok and (result.count, result.passed, result.runs, result.failures) == (2, 2, 19, ())
    assert 0 < result.latency_p50_ms <= result.latency_p95_ms and result.rss_bytes > 0 and result.load_ms > 0


def test_a_wrong_model_fails_in_words(folder: Path) -> None:
    result = judge(bundle(folder, compiled(folder, FACTOR=3), factor=2))
    assert not result.ok and result.passed == 0
    assert result.failures[0] == "vector 0: y[2] is 3, not 2"


def test_a_model_that_says_nan_fails_its_vectors_and_measures_nothing(folder: Path) -> None:
    result = judge(bundle(folder, compiled(folder, SOURCE.replace("FACTOR * x[i]", "NAN"))))
    assert (result.passed, result.runs, result.latency_p50_ms) == (0, 0, 0)
    assert "NaN" in result.failures[0]


def test_damaged_vectors_are_the_bundle_s_fault(folder: Path, tmp_path: Path) -> None:
    toy = bundle(folder, compiled(folder))
    for blob in toy.manifest.blobs().values():
        (tmp_path / blob.sha256).write_bytes(b"x" * blob.size_bytes)
    with pytest.raises(WorkerError, match="digest") as caught:
        judge(toy, tmp_path)
    assert caught.value.reason is Reason.CORRUPT
    short = dataclasses.replace(toy.manifest.golden, inputs=put(folder, b"short"))
    with pytest.raises(WorkerError, match="golden vectors of 5 bytes"):
        judge(Parts(folder, dataclasses.replace(toy.manifest, golden=short)))


def test_a_slot_that_is_not_there_cannot_be_judged(folder: Path) -> None:
    toy = bundle(folder, compiled(folder))

    async def body() -> None:
        with pytest.raises(WorkerError, match="no slot"):
            await Runtime().golden("toy", toy.manifest, folder)

    asyncio.run(body())
