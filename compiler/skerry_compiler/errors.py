"""What can go wrong in a compile.

CompileError
 ├── ModelError          the model file cannot be used: not a model, cut short, external data, untrusted, unfixed
 shapes │    └── UnsupportedError    operators that no engine here runs; every one is named
 ├── DataError           calibration, evaluation or input data that does not fit the model
 ├── LimitError          out of time or memory; says in which step
 └── ToolError           the C compiler or a measuring process failed
"""

from __future__ import annotations


class CompileError(Exception):
    """A compile that was refused. `hint` is the reader's next step."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ModelError(CompileError):
    """The model file cannot be used as it is."""


class UnsupportedError(ModelError):
    """The model has operators that cannot be compiled; the message names each with its node and opset."""


class DataError(CompileError):
    """Rows of the wrong shape, type or number."""


class LimitError(CompileError):
    """A step used more time or memory than it may."""


class ToolError(CompileError):
    """A tool that the compiler calls failed; the message holds what it said."""


KINDS = {each.__name__: each for each in (CompileError, ModelError, UnsupportedError, DataError, LimitError, ToolError)}
