"""Which front end reads which files. A front end returns ONNX (opset at most 21, all weights inside) and is loaded only
when a file of its kind comes.
"""

from __future__ import annotations

from collections.abc import Callable

from onnx import ModelProto

from skerry_compiler.frontends.opening import Opening


def _onnx(opening: Opening) -> ModelProto:
    from skerry_compiler.frontends import onnx

    return onnx.load(opening.path)


def _sklearn(opening: Opening) -> ModelProto:
    from skerry_compiler.frontends import sklearn

    return sklearn.read(opening)


def _tflite(opening: Opening) -> ModelProto:
    from skerry_compiler.frontends import tflite

    return tflite.read(opening)


def _lightgbm(opening: Opening) -> ModelProto:
    from skerry_compiler.frontends import lightgbm

    return lightgbm.read(opening.path, opening.only_input())


def _xgboost(opening: Opening) -> ModelProto:
    from skerry_compiler.frontends import xgboost

    return xgboost.read(opening.path, opening.only_input())


def _json(opening: Opening) -> ModelProto:
    from skerry_compiler.frontends import xgboost

    return _xgboost(opening) if xgboost.is_model(opening.path) else _lightgbm(opening)


def _torch(opening: Opening) -> ModelProto:
    from skerry_compiler.frontends import torch_export

    return torch_export.read(opening)


# Form, the suffixes of its files, its reader. What no line names is taken for ONNX, which says so if it is not.
FRONT_ENDS: tuple[tuple[str, tuple[str, ...], Callable[[Opening], ModelProto]], ...] = (
    ("onnx", (".onnx",), _onnx),
    ("tflite", (".tflite",), _tflite),
    ("lightgbm", (".txt",), _lightgbm),
    ("xgboost", (".ubj",), _xgboost),
    ("boosters-json", (".json",), _json),
    ("torch-export", (".pt2",), _torch),
    ("sklearn", (".skops", ".joblib", ".pkl", ".pickle"), _sklearn),
)

# What the evidence says about a form whose own runtime is not what its bundle was measured against.
NOTES = {"torch-export": "the original is the program converted to ONNX, in ONNX Runtime: PyTorch was not timed"}


def read(opening: Opening) -> tuple[ModelProto, str]:
    """Return the model of a file, and the form that it was in.

    Raises:
        CompileError: see the front ends.
    """
    suffix = opening.path.suffix.lower()
    for form, suffixes, reader in FRONT_ENDS:
        if suffix in suffixes:
            return reader(opening), form
    return _onnx(opening), "onnx"
