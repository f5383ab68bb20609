"""What can go wrong in a compile, and the exit code of the command that says so.

CompileError (1)
 ├── UsageError (2)            a flag whose value cannot be meant
 ├── ModelError (3)            the model file cannot be used: not a model, cut short, external data, untrusted
 │    └── UnsupportedError (4) operators that no engine here runs; every one is named
 ├── DataError (5)             calibration, evaluation or input data that does not fit the model
 ├── LimitError (6)            out of time, memory or room on the board; says in which step, and with which candidate
 ├── ToolError (7)             the C compiler or a measuring process failed
 └── DiffersError (8)          a rebuilt bundle is not the one that its recipe promises
"""

from __future__ import annotations

from skerry_contracts.evidence import Unsupported


class CompileError(Exception):
    """A compile that was refused. `hint` is the reader's next step, `code` the command's exit code."""

    code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(CompileError):
    """A flag whose value cannot be meant."""

    code = 2


class ModelError(CompileError):
    """The model file cannot be used as it is."""

    code = 3


class UnsupportedError(ModelError):
    """The model has operators that cannot be compiled; the message names each with its node and opset. `nodes` holds
    them as evidence does, where an engine found them.
    """

    code = 4

    def __init__(self, message: str, *, hint: str = "", nodes: tuple[Unsupported, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.nodes = nodes


class DataError(CompileError):
    """Rows of the wrong shape, type or number."""

    code = 5


class LimitError(CompileError):
    """A step used more time or memory than it may."""

    code = 6


class ToolError(CompileError):
    """A tool that the compiler calls failed; the message holds what it said."""

    code = 7


class DiffersError(CompileError):
    """A bundle was made again, and some bytes are not the recipe's."""

    code = 8


KINDS = {each.__name__: each for each in (CompileError, ModelError, UnsupportedError, DataError, LimitError, ToolError)}
