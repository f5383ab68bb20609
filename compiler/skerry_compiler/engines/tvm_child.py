"""The child that runs TVM: `python -m skerry_compiler.engines.tvm_child TRIPLE CPU [FEATURE ...]` reads the model in
the current folder and leaves the object files of its library, or the reason why there are none.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skerry_compiler.engines.tvm import MODEL, OBJECTS, REASON

# What TVM raises of a model; its own errors are RuntimeErrors.
REFUSALS = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def main(argv: Sequence[str]) -> int:
    """Compile; see the module's text."""
    import onnx
    import tvm
    from tvm.relax.frontend.onnx import from_onnx

    triple, cpu, *features = argv
    target: dict[str, Any] = {"kind": "llvm", "mtriple": triple, "mcpu": cpu}
    if features:
        target["mattr"] = [f"+{each}" for each in features]
    try:
        module = from_onnx(onnx.load(MODEL))
        made = tvm.compile(module, target=tvm.target.Target(target))
    except REFUSALS as error:
        Path(REASON).write_text(" ".join(f"{type(error).__name__}: {error}".split())[:300])
        return 0
    Path("work").mkdir()
    made.export_library("model.so", fcompile=_keep, workspace_dir="work")
    return 0


def _keep(output: str, files: Sequence[str], options: object = None, **more: object) -> None:
    """Stand in for the linker: keep what it is given."""
    for number, each in enumerate(sorted(files)):
        shutil.copy(each, Path(OBJECTS) / f"{number}{Path(each).suffix}")
    Path(output).touch()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
