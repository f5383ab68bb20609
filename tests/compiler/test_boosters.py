"""LightGBM and XGBoost files, read without the libraries, answer as the libraries do; hostile ones are refused."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import onnx
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.compiler import native_cases as cases

from skerry_compiler.engines.native import emit_forest
from skerry_compiler.errors import ModelError, UnsupportedError
from skerry_compiler.frontends import lightgbm as lgb_reader
from skerry_compiler.frontends import ubjson
from skerry_compiler.frontends import xgboost as xgb_reader

LIGHTGBM: list[dict[str, Any]] = [
    {"objective": "regression"},
    {"objective": "regression", "reg_sqrt": True},
    {"objective": "regression", "use_missing": False},
    {"objective": "regression", "max_cat_to_onehot": 1, "min_data_per_group": 1, "cat_smooth": 1},
    {"objective": "gamma"},
    {"objective": "binary", "sigmoid": 2.0},
    {"objective": "binary", "zero_as_missing": True},
    {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7},
    {"objective": "multiclass", "num_class": 3},
    {"objective": "multiclassova", "num_class": 3},
    {"objective": "cross_entropy_lambda"},
]
XGBOOST: list[dict[str, Any]] = [
    {"objective": "reg:squarederror", "num_parallel_tree": 3},
    {"objective": "reg:squarederror", "booster": "dart", "rate_drop": 0.5},
    {"objective": "reg:logistic"},
    {"objective": "binary:logistic", "base_score": 0.3},
    {"objective": "binary:logitraw"},
    {"objective": "binary:hinge"},
    {"objective": "count:poisson"},
    {"objective": "multi:softprob", "num_class": 3},
]


def table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features with categories, missing values and zeros, a target, and rows that provoke."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 6)).astype(np.float32)
    rows[:, 3], rows[:, 4] = random.integers(0, 9, 300), random.integers(0, 40, 300)
    rows[random.random(rows.shape) < 0.1] = np.nan
    rows[random.random(rows.shape) < 0.1] = 0
    clean = np.nan_to_num(rows)
    target = clean[:, 0] + (clean[:, 3] == 2) + np.isin(clean[:, 4], [1, 5, 7, 30])
    test = rows[:150].copy()
    test[0] = np.nan
    test[1], test[2] = [0, -0.0, 1e-40, -0.5, 3.7, -1e-36], [3e38, -3e38, 1e-35, 1e6, -1, 1e-30]
    return rows, target, test


def target_for(objective: str, target: np.ndarray) -> np.ndarray:
    if objective.startswith("multi"):
        classes: np.ndarray = np.digitize(target, [0, 1])
        return classes
    if objective in ("regression", "reg:squarederror"):
        return target
    if objective in ("gamma", "count:poisson"):
        found: np.ndarray = np.abs(target) + 0.1
        return found
    positive: np.ndarray = (target > 0.5).astype(float)
    return positive


def same(model: onnx.ModelProto, test: np.ndarray, expected: np.ndarray, form: str = emit_forest.TABLE) -> None:
    """Compare both ONNX Runtime and generated C with the library's own answers."""
    model = cases.prepared(model)
    for answers in (cases.reference(model, test[:, None]), cases.native(model, test[:, None], cases.HOST, form)):
        scores = answers[-1].reshape(len(test), -1)
        wanted = expected.reshape(len(test), -1).astype(np.float64)
        if len(answers) > 1 and wanted.shape[1] == 1:
            wanted = np.concatenate([1 - wanted, wanted], axis=1)
        np.testing.assert_allclose(scores, wanted, rtol=2e-6, atol=2e-6)
        if len(answers) > 1:
            np.testing.assert_array_equal(answers[0].reshape(-1), wanted.argmax(axis=1))


@pytest.mark.parametrize("categories", [[], [3, 4]], ids=["numbers", "categories"])
@pytest.mark.parametrize("options", LIGHTGBM, ids=lambda each: " ".join(map(str, each.values())))
def test_lightgbm(tmp_path: Path, options: dict[str, Any], categories: list[int]) -> None:
    rows, target, test = table()
    options = {"verbose": -1, "num_leaves": 9, "min_data_in_leaf": 5, "seed": 1, "num_threads": 1, **options}
    data = lightgbm.Dataset(
        rows, target_for(options["objective"], target), categorical_feature=categories, params={"verbose": -1}
    )
    booster = lightgbm.train(options, data, 6)
    expected = np.asarray(booster.predict(test))
    booster.save_model(tmp_path / "m.txt")
    (tmp_path / "m.json").write_text(json.dumps(booster.dump_model()))
    same(lgb_reader.read(tmp_path / "m.txt", "x"), test, expected, emit_forest.VECTOR)
    same(lgb_reader.read(tmp_path / "m.json", "x"), test, expected)


@pytest.mark.parametrize("categories", [False, True], ids=["numbers", "categories"])
@pytest.mark.parametrize("options", XGBOOST, ids=lambda each: " ".join(map(str, each.values())))
def test_xgboost(tmp_path: Path, options: dict[str, Any], categories: bool) -> None:
    rows, target, test = table()
    kinds = ["q", "q", "q", "c", "c", "q"] if categories else ["q"] * 6
    data = xgboost.DMatrix(
        rows, target_for(options["objective"], target), feature_types=kinds, enable_categorical=categories
    )
    options = {"max_depth": 4, "seed": 1, "nthread": 1, "max_cat_to_onehot": 4, **options}
    booster = xgboost.train(options, data, 6)
    expected = booster.predict(xgboost.DMatrix(test, feature_types=kinds, enable_categorical=categories))
    for name, form in (("m.json", emit_forest.BRANCHY), ("m.ubj", emit_forest.VECTOR)):
        booster.save_model(tmp_path / name)
        same(xgb_reader.read(tmp_path / name, "x"), test, expected, form)


def small(tmp_path: Path) -> tuple[str, dict[str, Any]]:
    rows, target, _ = table()
    options = {"objective": "regression", "verbose": -1, "num_leaves": 4, "num_threads": 1}
    text: str = lightgbm.train(options, lightgbm.Dataset(rows, target, params={"verbose": -1}), 2).model_to_string()
    booster = xgboost.train({"max_depth": 2, "nthread": 1}, xgboost.DMatrix(rows, target), 2)
    plain: dict[str, Any] = json.loads(booster.save_raw("json"))
    return text, plain


def test_damaged_lightgbm_models_are_refused(tmp_path: Path) -> None:
    text, _ = small(tmp_path)
    path = tmp_path / "m.txt"
    changes = [
        ("", "begins with the word tree"),
        (text[: len(text) // 4], "cut short"),
        (re.sub(r"left_child=\S+", "left_child=0", text, count=1), "meet again"),
        (re.sub(r"left_child=\S+", "left_child=77", text, count=1), "damaged"),
        (re.sub(r"split_feature=\S+", "split_feature=99", text, count=1), "feature 99"),
        (text.replace("num_leaves=4", "num_leaves=999999999", 1), "leaves"),
        (text.replace("leaf_value=", "leaf_value=nan ", 1), "values"),
        (text.replace("max_feature_idx=5", "max_feature_idx=99999999999", 1), "features"),
        (text.replace("num_tree_per_iteration=1", "num_tree_per_iteration=0", 1), "outputs"),
    ]
    for content, said in changes:
        path.write_text(content)
        with pytest.raises(ModelError, match=said):
            lgb_reader.read(path, "x")
    path.write_text(text.replace("objective=regression", "objective=own", 1))
    with pytest.raises(UnsupportedError, match="own"):
        lgb_reader.read(path, "x")
    path.write_text('{"a":' * 100_000)
    with pytest.raises(ModelError):
        lgb_reader.read(path, "x")


def test_damaged_xgboost_models_are_refused(tmp_path: Path) -> None:
    _, plain = small(tmp_path)
    path = tmp_path / "m.json"

    def refused(change: str, value: Any, said: str) -> None:
        copy = json.loads(json.dumps(plain))
        place = copy["learner"]
        *way, last = change.split(".")
        for step in way:
            place = place[int(step)] if step.isdigit() else place[step]
        place[last] = value
        path.write_text(json.dumps(copy))
        with pytest.raises(ModelError, match=said):
            xgb_reader.read(path, "x")

    tree = "gradient_booster.model.trees.0"
    refused(f"{tree}.left_children", [0, 0, 0, -1, -1, -1, -1], "meet again")
    refused(f"{tree}.left_children", [10**9, 1, 1, -1, -1, -1, -1], "nowhere")
    refused(f"{tree}.split_indices", [99] * 7, "feature 99")
    refused(f"{tree}.split_conditions", [float("nan")] * 7, "no number")
    refused("learner_model_param.num_feature", str(1 << 62), "features")
    refused("learner_model_param.num_class", "2000000000", "outputs")
    refused("learner_model_param.base_score", "[1,2,3]", "base_score")
    refused("gradient_booster.model.tree_info", [5, 5], "output 5")
    refused("objective.name", "own", "not known")
    refused("gradient_booster.name", "gblinear", "no tree")


def test_ubjson_reads_every_type() -> None:
    body = b"{i\x01a[$l#i\x02\x00\x00\x00\x01\x00\x00\x00\x02i\x01bSi\x02xyi\x01cTi\x01dZi\x01e[dNd]i\x01fCqi\x01gD"
    body = body.replace(b"[dNd]", b"[" + b"d" + struct.pack(">f", 0.5) + b"F]") + struct.pack(">d", 0.25) + b"}"
    found = ubjson.parse(body)
    assert found["a"].tolist() == [1, 2]
    assert {key: found[key] for key in "bcdefg"} == {
        "b": "xy",
        "c": True,
        "d": None,
        "e": [0.5, False],
        "f": "q",
        "g": 0.25,
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 10_000,
        b"[$l#L\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"[$i",
        b"Si\x7f",
        b"{i\x01aTi\x01aT}",
        b"TT",
        b"?",
    ],
)
def test_hostile_ubjson_is_refused(content: bytes) -> None:
    with pytest.raises(ModelError):
        ubjson.parse(content)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_refused(content: bytes) -> None:
    try:
        ubjson.parse(content)
    except ModelError as error:
        assert str(error)
