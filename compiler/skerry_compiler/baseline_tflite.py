"""A .tflite original in its default runtime: LiteRT's Python interpreter, seen as ONNX Runtime's session is."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """An output's name, as `onnxruntime.NodeArg` has it."""

    name: str


class Session:
    """`ai_edge_litert.interpreter.Interpreter` with its defaults, on so many threads. Tensors keep the file's order;
    their names are the signature's.
    """

    def __init__(self, model: str, signature: dict[str, Any], threads: int = 1) -> None:
        """Open the file.

        Raises:
            ValueError: LiteRT does not read it, or is not installed.
        """
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ValueError("LiteRT, which runs the original, is not installed: pip install skerry[litert]") from error
        self._interpreter = Interpreter(model_path=model, num_threads=threads)
        self._interpreter.allocate_tensors()
        details = self._interpreter.get_input_details()
        self._inputs = {spec["name"]: each["index"] for spec, each in zip(signature["inputs"], details, strict=True)}
        self._outputs = [each["index"] for each in self._interpreter.get_output_details()]
        self._names = [Output(spec["name"]) for spec in signature["outputs"]]

    def get_outputs(self) -> list[Output]:
        """Return the outputs in order."""
        return self._names

    def run(self, names: object, feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run once, as a user would: set, invoke, get."""
        interpreter = self._interpreter
        for name, array in feed.items():
            interpreter.set_tensor(self._inputs[name], array)
        interpreter.invoke()
        return [np.asarray(interpreter.get_tensor(index)) for index in self._outputs]
