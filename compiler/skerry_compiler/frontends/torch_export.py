"""The PyTorch front end: a program that `torch.export.save` wrote, to ONNX by `torch.onnx.export`, with a parity check.

Reading such a file runs what is in it (torch unpickles parts of it, and evaluates its expressions over symbolic shapes
as Python), so it needs --trust-pickle. Runs inside the sandbox (skerry_compiler.prepare).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from skerry_compiler import data
from skerry_compiler.errors import ModelError, ToolError, UnsupportedError
from skerry_compiler.frontends import onnx as onnx_frontend
from skerry_compiler.frontends.opening import Opening
from skerry_compiler.graph import walk

OPSET = 18  # the one that the exporter's own operators are written in
PARITY_ROWS = 32
MAX_RANGE_SHARE = 1e-4  # of an output's range: how far float answers may be off
MIN_SAME = 0.999  # share of integer answers that must be the same

Feed = list[NDArray[Any]]


def read(opening: Opening) -> ModelProto:
    """Return the program of a file as ONNX, with its inputs' names and symbolic extents.

    Raises:
        ModelError: a file without trust, no exported program, one in training mode, or one that answers otherwise once
            it is converted.
        UnsupportedError: operators that have no form in ONNX, or inputs that are no tensors.
        ToolError: PyTorch is not installed.
    """
    program = load(opening.path, trusted=opening.trust_pickle)
    refuse_state(program, opening.path.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = convert(program, opening.path.name)
        model = onnx_frontend.parse(model.SerializeToString(deterministic=True), opening.path.name)
        check_parity(program, model, opening.arrays)
    return model


def load(path: Path, *, trusted: bool) -> Any:
    """Return the `torch.export.ExportedProgram` in a file.

    Raises:
        ModelError: no trust, or no such file.
        ToolError: PyTorch is not installed.
    """
    if not trusted:
        raise ModelError(
            f"{path.name} is an exported PyTorch program: reading it runs what is inside it",
            hint="pass --trust-pickle if you made it yourself, or convert it with torch.onnx.export and compile that",
        )
    try:
        import torch
    except ImportError as error:
        raise ToolError("PyTorch is not installed here", hint="pip install skerry[torch]") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(path)
    except Exception as error:  # an archive may raise anything; it is mapped here, at the seam
        raise ModelError(
            f"{path.name} is no exported program, or is cut short: {_words(error)}",
            hint="write it with torch.export.save(torch.export.export(model.eval(), inputs), path)",
        ) from error
    return program


def refuse_state(program: Any, name: str) -> None:
    """Refuse what a device cannot serve: state that changes from call to call, and inputs that are no tensors.

    Raises:
        ModelError: it changes its own buffers, as in training mode.
        UnsupportedError: names the input.
    """
    import torch

    signature = program.graph_signature
    changed = {*signature.buffers_to_mutate.values(), *signature.user_inputs_to_mutate.values()}
    for node in program.graph.nodes:
        schema = getattr(node.target, "_schema", None)
        for value, argument in zip(node.args, () if schema is None else schema.arguments, strict=False):
            if value is True and argument.name in ("train", "training"):
                raise ModelError(
                    f"{name} was exported in training mode ({node.target} at {node.name!r:.60})",
                    hint="call model.eval() before torch.export.export",
                )
            written = argument.alias_info is not None and argument.alias_info.is_write
            if written and isinstance(value, torch.fx.Node) and value.op == "placeholder":
                changed.add(signature.inputs_to_buffers.get(value.name, value.name))
    if changed:
        raise ModelError(
            f"{name} changes {min(changed)!r:.80} at every call",
            hint="a device serves functions: return what is to be kept, and pass it in again",
        )
    values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
    for given in signature.user_inputs:
        if not isinstance(values.get(given), torch.Tensor):
            raise UnsupportedError(f"{name}: input {given!r:.80} is no tensor", hint="make it a constant of the module")


def convert(program: Any, name: str) -> ModelProto:
    """Return the program as ONNX, without the exporter's notes on where its lines stood.

    Raises:
        UnsupportedError: an operator has no form in ONNX.
    """
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        exported = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, external_data=False, optimize=True, verbose=False
        )
        assert exported is not None  # it is None only where a file was asked for
        model: ModelProto = exported.model_proto
    except Exception as error:  # the exporter raises what its passes raise; mapped here, at the seam
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise UnsupportedError(f"{name} does not convert to ONNX: {_words(cause)}") from error
    del model.metadata_props[:]
    model.doc_string = ""
    for graph in walk(model.graph):
        graph.doc_string = ""
        del graph.metadata_props[:]
        for each in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
            each.doc_string = ""
            del each.metadata_props[:]
    return model


def check_parity(program: Any, model: ModelProto, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Compare ONNX Runtime's answers on the converted model with the program's own, on the rows at hand and on the
    inputs that it was exported with.

    Raises:
        ModelError: answers differ by more than the limits above.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    shapes = {each.name: each.shape for each in session.get_inputs()}
    for feed in _feeds(program, names, shapes, arrays):
        expected = _answers(program, feed)
        found = session.run(None, dict(zip(names, feed, strict=True)))
        if len(expected) != len(found):
            raise ModelError(f"the converted model has {len(found)} outputs, the program {len(expected)}")
        for output, one, two in zip(session.get_outputs(), expected, found, strict=True):
            problem = difference(one, np.asarray(two))
            if problem:
                raise ModelError(f"the converted model answers otherwise than PyTorch: {output.name!r:.60} {problem}")


def difference(expected: NDArray[Any], found: NDArray[Any]) -> str | None:
    """Return how far two answers are apart if that is too far, in words.

    >>> difference(np.array([0.0, 2.0]), np.array([0.0, 2.1]))
    'is off by 0.05 of its range (at most 0.0001)'
    >>> difference(np.array([1, 2]), np.array([1, 2])) is None
    True
    """
    if expected.shape != found.shape:
        return f"is of the shape {list(found.shape)}, not {list(expected.shape)}"
    if not expected.size:
        return None
    if expected.dtype.kind != "f":
        same = float(np.mean(expected == found))
        return None if same >= MIN_SAME else f"is the same in {same:.1%} of its values only"
    wide, other = expected.astype(np.float64), found.astype(np.float64)
    both = (np.isnan(wide) & np.isnan(other)) | (wide == other)
    spread = max(float(np.max(np.abs(wide), where=np.isfinite(wide), initial=0.0)), 1e-6)
    with np.errstate(invalid="ignore"):
        worst = float(np.max(np.where(both, 0.0, np.abs(wide - other)))) / spread
    return None if worst <= MAX_RANGE_SHARE else f"is off by {worst:.2g} of its range (at most {MAX_RANGE_SHARE:g})"


def _feeds(
    program: Any, names: Sequence[str], shapes: Mapping[str, list[Any]], arrays: Mapping[str, NDArray[Any]]
) -> Iterator[Feed]:
    """Yield what to compare on: the inputs that the program was exported with (made-up ones where the file holds none),
    then rows of the calibration data.
    """
    import torch
    from torch.utils import _pytree as pytree

    examples = pytree.tree_leaves(program.example_inputs or ())
    if len(examples) == len(names) and all(isinstance(each, torch.Tensor) for each in examples):
        yield [each.detach().numpy() for each in examples]
    else:
        yield _made_up(_kinds(program), [shapes[name] for name in names])
    given = {name: array for name, array in arrays.items() if name != data.LABELS}
    rows = [given.get(name) for name in names]
    if len(names) == 1 and len(given) == 1:
        rows = list(given.values())
    kinds = dict(zip(names, _kinds(program), strict=True))
    for row in range(min(PARITY_ROWS, *(0 if each is None else len(each) for each in rows))):
        feed = []
        for name, array in zip(names, rows, strict=True):
            assert array is not None
            each = array[row].astype(kinds[name])
            feed.append(each if each.ndim == len(shapes[name]) else each[np.newaxis])
        if all(_fits(each, shapes[name]) for each, name in zip(feed, names, strict=True)):
            yield feed  # what does not fit is refused with its own words once the signature is known


def _made_up(kinds: Sequence[Any], shapes: Sequence[Sequence[Any]]) -> Feed:
    draw = np.random.default_rng(0)
    extents = [[each if isinstance(each, int) else 2 for each in shape] for shape in shapes]
    return [draw.uniform(0, 2, shape).astype(kind) for kind, shape in zip(kinds, extents, strict=True)]


def _kinds(program: Any) -> list[Any]:
    """Return the element type of each input, in order."""
    import torch

    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    return [torch.empty(0, dtype=values[name].dtype).numpy().dtype for name in program.graph_signature.user_inputs]


def _fits(array: NDArray[Any], shape: Sequence[Any]) -> bool:
    extents = zip(array.shape, shape, strict=False)
    return array.ndim == len(shape) and all(not isinstance(two, int) or one == two for one, two in extents)


def _answers(program: Any, feed: Feed) -> Feed:
    """Return the program's own outputs, in order."""
    import torch
    from torch.utils import _pytree as pytree

    positional, named = pytree.tree_unflatten([torch.from_numpy(each) for each in feed], program.call_spec.in_spec)
    try:
        with torch.no_grad():
            outputs = pytree.tree_leaves(program.module()(*positional, **named))
    except Exception as error:  # whatever its operators raise; mapped here, at the seam
        raise ModelError(
            f"the program fails on the rows: {_words(error)}", hint="do the calibration data fit its inputs?"
        ) from error
    return [np.asarray(each.detach()) if isinstance(each, torch.Tensor) else np.asarray(each) for each in outputs]


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
