"""The ONNX front end: read a file as if an enemy wrote it, and name everything that is wrong with it.

Runs inside the sandbox (skerry_compiler.prepare). Nothing outside the file is ever opened: external data is refused.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from skerry_compiler.errors import LimitError, ModelError, UnsupportedError
from skerry_compiler.graph import walk

MAX_MODEL_BYTES = (1 << 31) - 1  # protobuf's own limit
MAX_NODES = 200_000
MAX_GRAPHS = 4096  # branches and loop bodies: each is a graph of its own, and nesting doubles them at no cost in bytes
MAX_NAME_CHARACTERS = 512
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_NAMED = 12  # problems named one by one before "and N more"


def load(path: Path) -> ModelProto:
    """Return the model in a file, checked.

    Raises:
        ModelError: not ONNX, cut short, external data, unsound graph.
        UnsupportedError: operators that do not exist in the opset; all are named.
        LimitError: too large.
    """
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_MODEL_BYTES else b""
    except OSError as error:
        raise ModelError(f"cannot read {path.name}: {error.strerror}") from error
    if size > MAX_MODEL_BYTES:
        raise LimitError(f"{path.name} has {size} bytes; ONNX allows at most {MAX_MODEL_BYTES}")
    return parse(content, path.name)


def parse(content: bytes, name: str) -> ModelProto:
    """Return the model in a file's bytes, checked; see `load`."""
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ModelError(f"{name} is not an ONNX model, or is cut short", hint="export it again") from error
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise ModelError(f"{name} is not an ONNX model: it has no graph", hint="export it again")
    refuse_bytes(model)
    refuse_external(model)
    refuse_names(model)
    refuse_operators(model)
    refuse_training(model)
    model = _inlined(model)
    try:
        _check(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        words = str(error).split("==> Context", maxsplit=1)[0]
        words = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
        if "topologically sorted" in words:
            words = f"the graph has a cycle, or a value that nothing makes: {words}"
        raise ModelError(f"{name} is not a sound model: {words[:300]}") from error
    return model


def _check(model: ModelProto) -> None:
    """Have ONNX check a model. Outputs without a shape are sound enough: many tools leave it to be inferred."""
    open_ = [value.type.tensor_type for value in model.graph.output if value.type.HasField("tensor_type")]
    open_ = [kind for kind in open_ if not kind.HasField("shape")]
    for kind in open_:
        kind.shape.SetInParent()
    onnx.checker.check_model(model, full_check=False)
    for kind in open_:
        kind.ClearField("shape")


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Yield every tensor a model stores, in graphs, attributes and functions."""
    for graph in walk(model.graph):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            yield from _in_attributes(node)
    for function in model.functions:
        for node in function.node:
            yield from _in_attributes(node)


def _in_attributes(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        yield from attribute.tensors
        for sparse in (*attribute.sparse_tensors, attribute.sparse_tensor):
            yield from (sparse.values, sparse.indices)
        if attribute.type == AttributeProto.TENSOR:
            yield attribute.t


def refuse_bytes(model: ModelProto) -> None:
    """Refuse names that are no UTF-8: protobuf hands them out as bytes, which nothing after this expects.

    Raises:
        ModelError: names the first.
    """
    names: list[object] = [each.domain for each in model.opset_import]
    for graph in walk(model.graph):
        values = (*graph.input, *graph.output, *graph.value_info)
        names += [each.name for each in (*values, *graph.initializer)]
        names += [extent.dim_param for each in values for extent in each.type.tensor_type.shape.dim]
        for node in graph.node:
            names += [node.op_type, node.domain, node.name, *node.input, *node.output]
            names += [attribute.name for attribute in node.attribute]
    for name in names:
        if not isinstance(name, str):
            raise ModelError(f"the name {name!r:.80} is not text", hint="is the file damaged? export it again")


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def refuse_external(model: ModelProto) -> None:
    """Refuse tensors kept in other files (their paths are the model's choice, not the user's), and those of unknown
    elements.

    Raises:
        ModelError: names the first tensor and the file it asks for.
    """
    for tensor in tensors(model):
        if tensor.data_type not in TensorProto.DataType.values():
            raise ModelError(
                f"tensor {tensor.name!r:.80} has elements of a type {tensor.data_type} that does not exist"
            )
        if not all(_is_text(each) for each in tensor.string_data):
            raise ModelError(f"tensor {tensor.name!r:.80} holds text that is not UTF-8", hint="export it again")
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            where = next((entry.value for entry in tensor.external_data if entry.key == "location"), "?")
            raise ModelError(
                f"tensor {tensor.name!r:.80} lies in another file ({where!r:.80})",
                hint="save the model with its weights inside: onnx.save(model, path, save_as_external_data=False)",
            )


def refuse_names(model: ModelProto) -> None:
    """Refuse names of inputs and outputs that are no text for one line, and absurd sizes.

    Raises:
        ModelError: names the first.
    """
    nodes = [len(graph.node) for graph in walk(model.graph)]
    for what, count, most in (("nodes", sum(nodes), MAX_NODES), ("branches and loops", len(nodes), MAX_GRAPHS)):
        if count > most:
            raise LimitError(f"{count} {what}, at most {most}", hint="is the file what it should be?")
    for value in [*model.graph.input, *model.graph.output]:
        if not value.name or len(value.name) > MAX_NAME_CHARACTERS or not value.name.isprintable():
            raise ModelError(
                f"the name {value.name!r:.80} cannot name an input or output", hint="rename it and export again"
            )
        if ".." in value.name.split("/") or value.name.startswith("/"):
            raise ModelError(f"the name {value.name!r:.80} is a path", hint="rename it and export again")
    for values in (model.graph.input, model.graph.output):
        twice = [name for name, count in Counter(value.name for value in values).items() if count > 1]
        if twice:
            raise ModelError(f"two inputs or two outputs are called {twice[0]!r:.80}", hint="rename one")
    for each in walk(model.graph):  # exporters put slashes into inner names, but nobody honest climbs in them
        for tensor in each.initializer:
            if ".." in tensor.name.split("/"):
                raise ModelError(f"the name {tensor.name!r:.80} is a path", hint="rename it and export again")


def refuse_operators(model: ModelProto) -> None:
    """Refuse operators that no engine can know: foreign domains, and names that the opset does not have.

    Raises:
        UnsupportedError: names every one, with its node, its opset and the nearest that exists.
    """
    versions = {each.domain: each.version for each in model.opset_import}
    local = {(each.domain, each.name) for each in model.functions}
    newest = onnx.defs.onnx_opset_version()
    if versions.get("", 0) > newest:
        raise UnsupportedError(f"opset {versions['']} is newer than {newest}, the newest this compiler reads")
    said = []
    for graph in walk(model.graph):
        for index, node in enumerate(graph.node):
            if (node.domain, node.op_type) not in local:
                problem = _unknown(node, versions)
                if problem:
                    said.append(f"{node.op_type!r:.60} (node {node.name or index!r:.60}, {problem})")
    if said:
        more = f" and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
        raise UnsupportedError(
            f"{len(said)} of {len(model.graph.node)} nodes cannot be compiled: {', '.join(said[:_NAMED])}{more}",
            hint="replace them by standard ONNX operators and export again",
        )


def refuse_training(model: ModelProto) -> None:
    """Refuse models that drop values at random, as in training: no two answers would be the same.

    Raises:
        UnsupportedError: names the first node.
    """
    for graph in walk(model.graph):
        known = {each.name: each for each in graph.initializer}
        known |= {node.output[0]: attribute.t for node in graph.node if node.op_type == "Constant" and node.output
                  for attribute in node.attribute if attribute.type == AttributeProto.TENSOR}  # fmt: skip
        for node in graph.node:
            mode = known.get(node.input[2]) if node.op_type == "Dropout" and len(node.input) > 2 else None
            if mode is not None and onnx.numpy_helper.to_array(mode).any():
                raise UnsupportedError(
                    f"Dropout at node {node.name or node.output[0]!r:.80} is in training mode",
                    hint="export the model in inference mode (PyTorch: model.eval())",
                )


def _unknown(node: NodeProto, versions: dict[str, int]) -> str | None:
    """Return why an operator cannot exist, or None."""
    if node.domain not in DOMAINS:
        return f"domain {node.domain!r:.60} is not known"
    version = versions.get(node.domain, 1 if node.domain else 0)
    if node.domain == "com.microsoft":
        return None  # ONNX Runtime's own; it is asked when the candidate is built
    if onnx.defs.has(
        node.op_type, max_inclusive_version=version, domain=node.domain if node.domain != "ai.onnx" else ""
    ):
        return None
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == node.domain}
    near = difflib.get_close_matches(node.op_type, known, 1, 0.6)
    where = f"not in {node.domain or 'ai.onnx'} opset {version}"
    return where + (f", nearest {near[0]}" if near else "")


def _inlined(model: ModelProto) -> ModelProto:
    if not model.functions:
        return model
    from onnx import inliner

    refuse_expansion(model)
    flat: ModelProto = inliner.inline_local_functions(model)
    return flat


def refuse_expansion(model: ModelProto) -> None:
    """Refuse functions that call themselves, and those that grow beyond the limit when written out: forty of them, each
    calling the one before twice, are a trillion nodes.

    Raises:
        ModelError, LimitError: name the function.
    """
    bodies = {(each.domain, each.name): each for each in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    waiting = [(key, False) for key in bodies]
    inside: set[tuple[str, str]] = set()
    while waiting:
        key, seen = waiting.pop()
        if key in sizes:
            continue
        calls = [(node.domain, node.op_type) for node in bodies[key].node]
        if not seen:
            if key in inside:
                raise ModelError(f"the function {key[1]!r:.80} calls itself", hint="write it as a Loop")
            inside.add(key)
            waiting.append((key, True))
            waiting += [(each, False) for each in set(calls) if each in bodies and each not in sizes]
            continue
        inside.discard(key)
        sizes[key] = sum(sizes.get(each, 1) for each in calls)
        if sizes[key] > MAX_NODES:
            raise LimitError(f"the function {key[1]!r:.80} is more than {MAX_NODES} nodes when written out")
    total = sum(sizes.get((node.domain, node.op_type), 1) for graph in walk(model.graph) for node in graph.node)
    if total > MAX_NODES:
        raise LimitError(f"{total} nodes once functions are written out, at most {MAX_NODES}")
