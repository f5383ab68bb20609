"""Generated trees against ONNX Runtime, bit for bit: scikit-learn's ensembles, hand-made nodes of every kind, missing
values.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn import ensemble, tree
from sklearn.datasets import load_breast_cancer, load_digits
from tests.compiler import native_cases as cases

from skerry_compiler.engines.native import emit_forest
from skerry_compiler.errors import UnsupportedError

FORMS = [emit_forest.TABLE, emit_forest.BRANCHY, emit_forest.VECTOR, emit_forest.SMALL]
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
ESTIMATORS: dict[str, Any] = {
    "forest": ensemble.RandomForestClassifier(13, random_state=0),
    "extra": ensemble.ExtraTreesClassifier(5, max_depth=4, random_state=0),
    "boosting": ensemble.GradientBoostingClassifier(n_estimators=3, random_state=0),
    "one tree": tree.DecisionTreeClassifier(random_state=0),
    "regressor": ensemble.RandomForestRegressor(9, max_depth=7, random_state=0),
    "two targets": tree.DecisionTreeRegressor(max_depth=5, random_state=0),
}


def converted(estimator: Any, features: int) -> onnx.ModelProto:
    options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "classes_") else None
    types = [("x", FloatTensorType([None, features]))]
    model: onnx.ModelProto = to_onnx(
        estimator, initial_types=types, options=options, target_opset={"": 17, "ai.onnx.ml": 3}
    )
    return model


def noisy(rows: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(0)
    found: np.ndarray = (rows + random.normal(size=rows.shape) * rows.std() / 4).astype(np.float32)[:, None]
    found[0, 0, :5] = np.nan
    found[1, 0, :5] = [np.inf, -np.inf, 0.0, -0.0, 1e-40]
    return found


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_ensembles_of_digits(name: str, form: str) -> None:
    features, labels = load_digits(return_X_y=True)
    target = np.stack([labels, labels % 3], axis=1) if name == "two targets" else labels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = converted(ESTIMATORS[name].fit(features[:200], target[:200]), 64)
    cases.agree(model, noisy(features[200:300]), cases.HOST, form, rtol=1e-6)


@pytest.mark.parametrize(
    "estimator", [ensemble.RandomForestClassifier(7), ensemble.GradientBoostingClassifier(n_estimators=9)]
)
def test_two_classes(estimator: Any) -> None:
    features, labels = load_breast_cancer(return_X_y=True)
    random = np.random.default_rng(0)
    model = converted(estimator.fit(features[:300] + random.normal(size=(300, 30)), labels[:300]), 30)
    cases.agree(model, noisy(features[300:400]), cases.V2, rtol=1e-6)


class Nodes:
    """Random trees written node by node."""

    def __init__(self, random: np.random.Generator, modes: list[str], missing: bool) -> None:
        self.random, self.modes, self.missing = random, modes, missing
        self.lists: dict[str, list[Any]] = {
            key: []
            for key in (
                "treeids",
                "nodeids",
                "featureids",
                "values",
                "modes",
                "truenodeids",
                "falsenodeids",
                "missing_value_tracks_true",
            )
        }
        self.leaves: dict[str, list[Any]] = {key: [] for key in ("treeids", "nodeids", "ids", "weights")}

    def tree(self, number: int, depth: int, columns: int) -> None:
        count = 0

        def grow(level: int) -> int:
            nonlocal count
            node = count
            count += 1
            at = len(self.lists["nodeids"])
            leaf = level == 0 or self.random.random() < 0.2
            row = {"treeids": number, "nodeids": node, "modes": "LEAF", "values": 0.0, "featureids": 0}
            for key, each in self.lists.items():
                each.append(row.get(key, 0))
            if leaf:
                for column in range(columns):
                    for key, item in zip(
                        self.leaves, (number, node, column, float(np.float32(self.random.normal()))), strict=True
                    ):
                        self.leaves[key].append(item)
                return node
            self.lists["modes"][at] = str(self.random.choice(self.modes))
            self.lists["featureids"][at] = int(self.random.integers(0, 4))
            self.lists["values"][at] = float(self.random.integers(-2, 3))
            self.lists["missing_value_tracks_true"][at] = int(self.missing and self.random.random() < 0.5)
            yes, no = grow(level - 1), grow(level - 1)
            self.lists["truenodeids"][at], self.lists["falsenodeids"][at] = yes, no
            return node

        grow(depth)

    def model(self, columns: int, **attributes: Any) -> onnx.ModelProto:
        lists: dict[str, Any] = {f"nodes_{key}": each for key, each in self.lists.items()}
        leaves: dict[str, Any] = {f"target_{key}": each for key, each in self.leaves.items()}
        node = helper.make_node(
            "TreeEnsembleRegressor",
            ["x"],
            ["y"],
            domain="ai.onnx.ml",
            n_targets=columns,
            **lists,
            **leaves,
            **attributes,
        )
        return cases.simple([node], [1, 4], {"y": FLOAT})


@settings(max_examples=8, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 30),
    st.integers(0, 7),
    st.integers(1, 3),
    st.sampled_from([["BRANCH_LEQ"], ["BRANCH_LT"], ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GT", "BRANCH_GTE"]]),
    st.booleans(),
    st.sampled_from(FORMS),
    st.sampled_from(["SUM", "AVERAGE"]),
)
def test_trees_of_any_making(
    seed: int, trees: int, depth: int, columns: int, modes: list[str], missing: bool, form: str, aggregate: str
) -> None:
    random = np.random.default_rng(seed)
    nodes = Nodes(random, modes, missing)
    for number in range(trees):
        nodes.tree(number, depth, columns)
    # Whole numbers meet the thresholds exactly: x <= t and x < t differ there.
    rows = random.integers(-3, 4, size=(30, 1, 4)).astype(np.float32)
    if len(modes) == 1:  # of NaN in mixed modes ONNX Runtime's own forms disagree
        rows[random.random(rows.shape) < 0.1] = np.nan
    model = nodes.model(columns, base_values=[0.5] * columns, aggregate_function=aggregate)
    cases.agree(model, rows, cases.HOST, form, rtol=2e-6)


def test_what_trees_cannot_be_is_said() -> None:
    nodes = Nodes(np.random.default_rng(0), ["BRANCH_EQ"], False)
    nodes.tree(0, 3, 1)
    with pytest.raises(UnsupportedError, match="BRANCH_EQ"):
        cases.text(cases.prepared(nodes.model(1)), cases.HOST)
    nodes = Nodes(np.random.default_rng(0), ["BRANCH_LEQ"], False)
    nodes.tree(0, 3, 1)
    nodes.lists["truenodeids"][0] = 0
    with pytest.raises(UnsupportedError, match="branches meet again"):
        cases.text(cases.prepared(nodes.model(1)), cases.HOST)
    nodes.lists["truenodeids"][0] = 999
    with pytest.raises(UnsupportedError, match="does not have"):
        cases.text(cases.prepared(nodes.model(1)), cases.HOST)
