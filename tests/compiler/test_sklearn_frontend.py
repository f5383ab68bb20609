"""scikit-learn files: skops is read, pickles only on trust, and what converts is checked against the estimator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import Ridge
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import SplineTransformer
from sklearn.random_projection import SparseRandomProjection
from sklearn.svm import NuSVC
from tests.compiler.conftest import Models

from skerry_compiler.errors import ModelError, UnsupportedError
from skerry_compiler.frontends import parity
from skerry_compiler.frontends import sklearn as frontend


class Foreign(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    n_features_in_ = 3


def test_skops_and_trusted_pickles_are_read(models: Models) -> None:
    found = frontend.load(models.folder / "mlp.skops", trust_pickle=False)
    model = frontend.convert(found, input_name="image", opset_max=15, rows=np.load(models.calibration)["image"])
    assert model.graph.input[0].name == "image"
    assert max(each.version for each in model.opset_import if not each.domain) <= 15
    assert frontend.load(models.folder / "forest.joblib", trust_pickle=True).n_features_in_ == 64


def test_splines_and_sparse_matrices_are_trusted(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    for transformer in (SplineTransformer(3), SparseRandomProjection(2, random_state=0)):
        skops.io.dump(transformer.fit(rows), tmp_path / "m.skops")
        found = frontend.load(tmp_path / "m.skops", trust_pickle=False)
        assert frontend.convert(found, input_name="x", opset_max=17, rows=rows).graph.output[0].name == "variable"


def test_a_pickle_is_not_opened_without_trust(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(f"cpathlib\nPosixPath.touch\n(cpathlib\nPosixPath\n(S{str(tmp_path / 'ran')!r}\ntRtR.".encode())
    with pytest.raises(ModelError, match="runs the code inside it") as caught:
        frontend.load(path, trust_pickle=False)
    assert "--trust-pickle" in caught.value.hint and not (tmp_path / "ran").exists()


def test_foreign_types_and_other_files_are_refused(tmp_path: Path) -> None:
    skops.io.dump(Foreign(), tmp_path / "a.skops")
    with pytest.raises(ModelError, match=r"beyond scikit-learn: .*Foreign"):
        frontend.load(tmp_path / "a.skops", trust_pickle=False)
    (tmp_path / "b.skops").write_bytes(b"no zip")
    with pytest.raises(ModelError, match="not a skops file"):
        frontend.load(tmp_path / "b.skops", trust_pickle=False)
    (tmp_path / "c.joblib").write_bytes(b"no pickle")
    with pytest.raises(ModelError, match="cannot be unpickled"):
        frontend.load(tmp_path / "c.joblib", trust_pickle=True)


def test_what_does_not_convert_is_said() -> None:
    rows = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    with pytest.raises(ModelError, match="no fitted estimator"):
        frontend.convert(RandomForestClassifier(), input_name="x", opset_max=None, rows=None)
    with pytest.raises(ModelError, match="no fitted estimator"):
        frontend.convert({"a": 1}, input_name="x", opset_max=None, rows=None)
    outliers = LocalOutlierFactor(novelty=True, n_neighbors=3).fit(rows)
    outliers.__class__ = type("OwnEstimator", (LocalOutlierFactor,), {})
    with pytest.raises(UnsupportedError):
        frontend.convert(outliers, input_name="x", opset_max=None, rows=rows)


def test_parity_is_checked() -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    one, two = Ridge().fit(rows, rows[:, 0]), Ridge().fit(rows, rows[:, 1])
    model = frontend.convert(one, input_name="x", opset_max=None, rows=rows)
    with pytest.raises(ModelError, match="off by"):
        parity.check(two, model, rows)
    forest = RandomForestClassifier(5).fit(rows, rows[:, 0] > 0)
    other = NuSVC().fit(rows, rows[:, 1] > 0)
    converted = frontend.convert(forest, input_name="x", opset_max=None, rows=rows)
    with pytest.raises(ModelError, match="other labels"):
        parity.check(other, converted, rows)
