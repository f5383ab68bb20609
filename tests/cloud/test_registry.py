from __future__ import annotations

from pathlib import Path

import pytest
from tests.cloud.world import BUNDLE, manifest, sample

from skerry_cloud.config import LabelConfig
from skerry_cloud.database import Database
from skerry_cloud.errors import DataError, NotFoundError
from skerry_cloud.files import FileStore, fresh_folder
from skerry_cloud.labels.jobs import Jobs
from skerry_cloud.lake.lake import Lake
from skerry_cloud.registry import Registry
from skerry_contracts.errors import MismatchError

PREDICTION = "cam-1/00000001-0a0b0c0d/0"


@pytest.fixture
def registry(database: Database, tmp_path: Path) -> Registry:
    return Registry(database, FileStore(tmp_path / "files"), lambda: 7.0)


def test_a_prediction_is_traced_to_every_label(registry: Registry, lake: Lake, tmp_path: Path) -> None:
    import numpy as np

    jobs = Jobs(registry.database, lambda: 5.0)
    lake.append_samples([("cam-1", sample(i, np.full(64, i))) for i in range(3)])
    jobs.create("job", "digits", ["0"], LabelConfig())
    jobs.add("job", 0, [(PREDICTION, "train")])
    jobs.vote("job", PREDICTION, "ann", "8")
    assert jobs.consolidate("job")
    first = registry.add_dataset(b"first", model="digits", rows=10)
    items = [(PREDICTION, "8", "train")]
    second = registry.add_dataset(b"second", model="digits", rows=11, parent=first, job="job", items=items)
    (tmp_path / "m.onnx").write_bytes(b"model")
    (tmp_path / "m.skops").write_bytes(b"skops")
    onnx = registry.add_run(
        "run-2",
        model="digits",
        dataset=second,
        onnx=tmp_path / "m.onnx",
        skops=tmp_path / "m.skops",
        detail={"seed": 0},
    )
    before = registry.lineage(PREDICTION)
    assert before["bundle"] == BUNDLE and before["run"] is None and before["datasets"] == [] and before["labels"] == []
    registry.add_bundle(BUNDLE, manifest(source=onnx, release=4))
    found = registry.lineage(PREDICTION)
    assert found["run"] == "run-2" and found["release"] == 4 and found["source"] == onnx
    assert [each["sha256"] for each in found["datasets"]] == [second, first]
    assert found["labels"][0]["votes"] == [{"worker": "ann", "label": "8", "time_s": 5.0}]
    assert found["own_label"] == "8" and found["run_detail"] == {"seed": 0}
    assert registry.next_release("digits") == 5 and registry.next_release("faces") == 1
    deployed = registry.deployed_run("digits")
    assert deployed["id"] == "run-2" and registry.unknown_bundles() == []
    with pytest.raises(NotFoundError, match="was not kept"):
        registry.lineage("cam-1/00000001-0a0b0c0d/9")
    with pytest.raises(MismatchError):
        registry.lineage("nonsense")


def test_registering_twice_is_registering_once(registry: Registry, tmp_path: Path) -> None:
    for _ in range(2):
        sha256 = registry.add_dataset(b"d", model="digits", rows=1)
        (tmp_path / "m").write_bytes(b"m")
        registry.add_run("r", model="digits", dataset=sha256, onnx=tmp_path / "m", skops=tmp_path / "m", detail={})
        registry.add_bundle(BUNDLE, manifest())
        registry.add_rollout("one", model="digits", bundle=BUNDLE, pipeline="p", state="running")
        registry.add_rollout("one", model="digits", bundle=BUNDLE, pipeline="p", state="complete")
    listing = registry.listing()
    assert {kind: len(rows) for kind, rows in listing.items()} == dict.fromkeys(listing, 1)
    assert listing["rollouts"][0]["state"] == "complete" and registry.manifest(BUNDLE) == manifest()
    assert registry.run("r")["id"] == "r"
    with pytest.raises(NotFoundError):
        registry.run("s")
    with pytest.raises(NotFoundError, match="was trained"):
        registry.deployed_run("faces")


def test_a_damaged_file_is_noticed(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    sha256 = store.put(b"content")
    assert store.read(sha256) == b"content" == store.path(sha256).read_bytes()
    store.path(sha256).write_bytes(b"other")
    with pytest.raises(DataError, match="damaged"):
        store.read(sha256)
    with pytest.raises(NotFoundError):
        store.read("0" * 64)
    with pytest.raises(MismatchError):
        store.path("../../etc/passwd")


def test_every_attempt_gets_its_own_folder(tmp_path: Path) -> None:
    one = fresh_folder(tmp_path, "job")
    other = fresh_folder(tmp_path, "job-2")
    again = fresh_folder(tmp_path, "job")
    assert one != again and not one.exists() and again.is_dir() and other.is_dir()
