"""Small real models: trained on scikit-learn's digits once a session, saved in the formats that people have."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pytest
import skops.io
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

TRAIN = 400


@dataclasses.dataclass(frozen=True)
class Models:
    """Files: two models as ONNX, as skops and as joblib; rows to calibrate and evaluate on."""

    folder: Path
    forest: Path
    mlp: Path
    calibration: Path
    evaluation: Path


def save_onnx(estimator: Any, path: Path, name: str = "image") -> None:
    features = estimator.n_features_in_
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None
    model = to_onnx(
        estimator,
        initial_types=[(name, FloatTensorType([None, features]))],
        options=options,
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    onnx.save(model, path)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    features, labels = load_digits(return_X_y=True)
    features = (features / 16).astype(np.float32)
    found = Models(folder, *(folder / name for name in ("forest.onnx", "mlp.onnx", "cal.npz", "eval.npz")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forest = RandomForestClassifier(12, random_state=0).fit(features[:TRAIN], labels[:TRAIN])
        mlp = make_pipeline(
            StandardScaler(), MLPClassifier((24,), max_iter=150, learning_rate_init=0.005, random_state=0)
        )
        mlp.fit(features[:TRAIN], labels[:TRAIN].astype(str))
        save_onnx(forest, found.forest)
        save_onnx(mlp, found.mlp)
    skops.io.dump(mlp, folder / "mlp.skops")
    joblib.dump(forest, folder / "forest.joblib")
    np.savez(found.calibration, image=features[:100])
    np.savez(found.evaluation, image=features[TRAIN : TRAIN + 200], labels=labels[TRAIN : TRAIN + 200])
    return found
