"""HistGradientBoosting by our own converter: labels and values as scikit-learn's own, categories and NaN included."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier as Classifier
from sklearn.ensemble import HistGradientBoostingRegressor as Regressor
from tests.compiler import native_cases as cases
from tests.compiler.test_boosters import table

from skerry_compiler.engines.native import emit_forest
from skerry_compiler.errors import UnsupportedError
from skerry_compiler.frontends import hist_boosting
from skerry_compiler.frontends import sklearn as frontend

CASES: list[tuple[Any, str]] = [
    (Classifier(max_iter=6), "two"),
    (Classifier(max_iter=6), "three"),
    (Classifier(max_iter=6), "text"),
    (Classifier(max_iter=20, categorical_features=[3, 4]), "three"),
    (Regressor(max_iter=6), "number"),
    (Regressor(max_iter=20, categorical_features=[3, 4]), "number"),
    (Regressor(max_iter=6, loss="poisson"), "count"),
    (Regressor(max_iter=6, loss="quantile", quantile=0.4), "number"),
]


@pytest.mark.parametrize(("estimator", "kind"), CASES)
def test_answers_are_scikit_learns(tmp_path: Path, estimator: Any, kind: str) -> None:
    rows, target, test = table()
    classes = np.digitize(target, [0, 1])
    targets = {"two": target > 0.5, "three": classes, "text": np.array(["a", "b", "c"])[classes], "number": target}
    estimator.fit(rows, targets.get(kind, np.abs(target)))
    skops.io.dump(estimator, tmp_path / "m.skops")
    loaded = frontend.load(tmp_path / "m.skops", trust_pickle=False)
    model = cases.prepared(frontend.convert(loaded, input_name="x", opset_max=17, rows=rows))
    answers = cases.native(model, test[:, None], cases.HOST, emit_forest.VECTOR)
    cases.agree(model, test[:, None], cases.HOST, rtol=2e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = estimator.predict(test)
    if kind in ("number", "count"):
        np.testing.assert_allclose(answers[0].reshape(-1), expected, rtol=1e-6, atol=1e-6)
        return
    np.testing.assert_array_equal(estimator.classes_[answers[0].reshape(-1)], expected)
    np.testing.assert_allclose(answers[1].reshape(len(test), -1), estimator.predict_proba(test), atol=1e-6)


def test_categories_of_text_are_refused() -> None:
    class Encoder:
        categories_ = (np.array(["a", "b"]),)

    class Preprocessor:
        named_transformers_ = {"encoder": Encoder()}

    class Estimator:
        is_categorical_ = np.array([True])
        _preprocessor = Preprocessor()

    with pytest.raises(UnsupportedError, match="categories of text"):
        hist_boosting.convert(Estimator(), "x")
