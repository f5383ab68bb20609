"""What a pass is, and how passes run: a plain list, one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from onnx import ModelProto

from skerry_compiler.errors import CompileError


class Pass(Protocol):
    """One change of the graph. A pass may change the model it is given and returns it, or another."""

    name: str

    def requires(self, model: ModelProto) -> str | None:
        """Return why the pass cannot run on this model, or None."""

    def run(self, model: ModelProto) -> ModelProto:
        """Return the changed model.

        Raises:
            CompileError: the model cannot be brought into the form that the pass ensures.
        """

    def ensures(self, model: ModelProto) -> str | None:
        """Return what is not as the pass promises, or None."""


def run_all(model: ModelProto, passes: Iterable[Pass]) -> ModelProto:
    """Return the model after all passes.

    Raises:
        CompileError: a pass cannot run, fails, or did not do what it promises (a mistake in the pass).
    """
    for each in passes:
        problem = each.requires(model)
        if problem:
            raise CompileError(f"pass {each.name}: {problem}")
        model = each.run(model)
        problem = each.ensures(model)
        if problem:
            raise CompileError(f"pass {each.name} did not do its work: {problem}", hint="please report this model")
    return model
