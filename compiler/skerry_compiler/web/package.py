"""A bundle's variant as a web package: the model, an ES module with its types, golden vectors, a page that runs them.

The page needs nothing from elsewhere and no inline script, so that it works under a Content Security Policy (W3C CSP
Level 3) that allows scripts of its own origin and WebAssembly. The same bundle gives the same files.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from skerry_compiler.errors import CompileError, UnsupportedError
from skerry_contracts.bundle import Blob, Manifest, Signature, Variant
from skerry_contracts.container import Container
from skerry_contracts.tensor import DType, TensorSpec

FILES = Path(__file__).parent / "files"
NATIVE, RUNTIME = "native", "onnxruntime"
PACKAGE = "onnxruntime-web"
LOCK = "package-lock.json"
MACHINE = "wasm32"
SCRIPT = f"{PACKAGE}/wasm"
ENTRY = f"node_modules/{PACKAGE}/dist/ort.wasm.min.mjs"
# Laid out for one processor: no browser has it.
NOT_PORTABLE = "com.microsoft.nchwc"
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'{}; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'"
)
ARRAYS = {
    DType.BOOL: "Uint8Array",
    DType.FP16: "Uint16Array",
    DType.FP32: "Float32Array",
    DType.FP64: "Float64Array",
    DType.INT64: "BigInt64Array",
    DType.UINT64: "BigUint64Array",
}
_LEVELS = {"none": "disabled", "basic": "basic", "extended": "extended", "all": "all"}
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?")


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """A web package: its files by path, what its variant's engine is, and what it takes and gives."""

    files: dict[str, bytes]
    variant: str
    engine: str
    signature: Signature


def package(bundle: Container, chosen: str | None = None) -> Made:
    """Return a bundle's web package; of its best variant that runs in a browser, or of the one named.

    Raises:
        CompileError: the bundle is for no browser, has no such variant, or it cannot run there.
    """
    return assembled(bundle.manifest, bundle.bundle_id, _variant(bundle.manifest, chosen), bundle.read_blob)


def assembled(manifest: Manifest, bundle_id: str, variant: Variant, read: Callable[[str], bytes]) -> Made:
    """Return a variant's web package; `read` gives a blob by its digest.

    Raises:
        UnsupportedError: no browser runs it.
    """
    role, name, script = (
        ("library", "model.wasm", NATIVE) if variant.engine == NATIVE else ("model", "model.onnx", RUNTIME)
    )
    content = read(variant.blobs[role].sha256)
    if variant.engine == RUNTIME:
        _refuse_layouts(content)
    golden = manifest.golden
    files = {
        name: content,
        "model.js": (FILES / f"{script}.js").read_bytes(),
        "about.js": _about(manifest, bundle_id, variant, name, role),
        "model.d.ts": _types(manifest.signature, variant.engine).encode(),
        "golden.inputs": read(golden.inputs.sha256),
        "golden.outputs": read(golden.outputs.sha256),
        "index.html": page(manifest.model, variant.engine, "demo.js"),
        "README.md": _readme(manifest, variant).encode(),
        **{each: (FILES / each).read_bytes() for each in ("tensors.js", "golden.js", "demo.js", "demo.css")},
    }
    files |= _manifests(manifest, variant.engine, sorted(files))
    return Made(files, variant.id, variant.engine, manifest.signature)


def page(title: str, engine: str, script: str, more: str = "") -> bytes:
    """Return a page that runs a script; `more` is what its policy allows beyond."""
    imports = json.dumps({"imports": {SCRIPT: f"./{ENTRY}"}}) if engine == RUNTIME else ""
    digest = base64.b64encode(hashlib.sha256(imports.encode()).digest()).decode()
    words = {
        "POLICY": POLICY.format(f" 'sha256-{digest}'" if imports else "") + more,
        "TITLE": html.escape(title),
        "IMPORTS": f'<script type="importmap">{imports}</script>\n' if imports else "",
        "SCRIPT": script,
    }
    text = (FILES / "index.html").read_text()
    return re.sub("|".join(words), lambda found: words[found[0]], text).encode()


def runtime_version() -> str:
    """Return the version of onnxruntime-web that packages name."""
    version: str = _lock()["packages"][f"node_modules/{PACKAGE}"]["version"]
    return version


def _lock() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FILES / "onnxruntime-lock.json").read_bytes())
    return found


def _variant(manifest: Manifest, chosen: str | None) -> Variant:
    if not any(each.requires.machine == MACHINE for each in manifest.variants):
        raise CompileError(
            f"the bundle is for {manifest.target}, not for browsers", hint="skerry compile MODEL --target browser …"
        )
    found = [each for each in manifest.variants if chosen in (None, each.id)]
    if not found:
        names = ", ".join(each.id for each in manifest.variants)
        raise CompileError(f"the bundle has no variant {chosen!r:.80}", hint=f"it has {names}")
    usable = [
        each for each in found if each.engine == NATIVE or (each.engine == RUNTIME and set(each.blobs) == {"model"})
    ]
    if not usable:
        raise CompileError(f"{found[0].id} does not run in a browser", hint="native and ONNX Runtime's own do")
    return usable[0]


def _refuse_layouts(content: bytes) -> None:
    from onnx import ModelProto

    from skerry_compiler import graph

    model = ModelProto.FromString(content)
    nodes = [node for each in graph.walk(model.graph) for node in each.node]
    found = sorted({node.op_type for node in nodes if node.domain == NOT_PORTABLE})
    if found:
        raise UnsupportedError(
            f"the model is laid out for one processor ({NOT_PORTABLE} {', '.join(found)}): no browser runs it",
            hint="compile it for browsers: --target browser",
        )


def _about(manifest: Manifest, bundle_id: str, variant: Variant, name: str, role: str) -> bytes:
    signature, golden, options = manifest.signature, manifest.golden, variant.options
    about: dict[str, Any] = {
        "model": manifest.model,
        "version": manifest.version,
        "release": manifest.release,
        "bundle": bundle_id,
        "variant": variant.id,
        "engine": variant.engine if variant.engine == NATIVE else f"{PACKAGE} {runtime_version()}",
        "precision": variant.precision,
        "file": _file(name, variant.blobs[role]),
        "inputs": [_spec(each) for each in signature.inputs],
        "outputs": [_spec(each) for each in signature.outputs],
        "labels": signature.labels,
        "labelOutput": signature.label_output,
        "scoreOutput": signature.score_output,
        "golden": {
            "count": golden.count,
            "inputs": _file("golden.inputs", golden.inputs),
            "outputs": _file("golden.outputs", golden.outputs),
            "atol": golden.atol,
            "rtol": golden.rtol,
            "sameLabel": golden.same_label,
        },
    }
    if variant.engine == RUNTIME:
        extra = {"session": {"disable_prepacking": "1"}} if options.get("prepack") == "0" else {}
        about["session"] = {"graphOptimizationLevel": _LEVELS.get(options.get("graph", "all"), "all"), "extra": extra}
    return f"export default {json.dumps(about, indent=1)};\n".encode()


def _file(name: str, blob: Blob) -> dict[str, Any]:
    return {"name": name, "bytes": blob.size_bytes, "sha256": blob.sha256}


def _spec(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": spec.shape, "bytes": spec.size_bytes}


def _array(spec: TensorSpec) -> str:
    return ARRAYS.get(spec.dtype) or f"{spec.dtype.title()}Array"


def _types(signature: Signature, engine: str) -> str:
    words = {
        "INPUTS": _fields(signature.inputs, given=True),
        "OUTPUTS": _fields(signature.outputs, given=False),
        "OPTIONS": ""
        if engine == NATIVE
        else "\n  /** More than one takes a cross-origin isolated page. */\n  threads?: number;",
    }
    text = (FILES / "model.d.ts").read_text()
    return re.sub("|".join(words), lambda found: words[found[0]], text)


def _fields(specs: Iterable[TensorSpec], *, given: bool) -> str:
    lines = []
    for each in specs:
        number = "bigint | number" if each.dtype in (DType.INT64, DType.UINT64) else "number"
        kind = f"{_array(each)} | readonly ({number})[]" if given else _array(each)
        lines.append(f"  /** {each.dtype}[{', '.join(map(str, each.shape))}] */\n  {json.dumps(each.name)}: {kind};")
    return "\n".join(lines)


def _manifests(manifest: Manifest, engine: str, names: list[str]) -> dict[str, bytes]:
    """Return npm's own files: package.json, and where something is to be installed, a lock without addresses."""
    whole = _SEMVER.fullmatch(manifest.version)
    version = manifest.version if whole else f"{manifest.release}.0.0"
    needs = {} if engine == NATIVE else {PACKAGE: runtime_version()}
    plain: dict[str, Any] = {
        "name": manifest.model,
        "version": version,
        "description": f"the model {manifest.model} {manifest.version} for browsers",
        "private": True,
        "type": "module",
        "exports": {".": {"types": "./model.d.ts", "default": "./model.js"}, "./*": "./*"},
        "types": "./model.d.ts",
        "files": names,
        "sideEffects": False,
    }
    if not needs:
        return {"package.json": _json(plain)}
    lock = _lock()
    lock |= {"name": manifest.model, "version": version}
    lock["packages"][""] |= {"name": manifest.model, "version": version}
    return {"package.json": _json({**plain, "dependencies": needs}), LOCK: _json(lock)}


def _json(plain: Mapping[str, Any]) -> bytes:
    return (json.dumps(plain, indent=2) + "\n").encode()


def _readme(manifest: Manifest, variant: Variant) -> str:
    text = (FILES / "README.md").read_text()
    install = (
        f"\n    npm ci --ignore-scripts    # {PACKAGE} {runtime_version()}, by the lock"
        if variant.engine == RUNTIME
        else ""
    )
    feeds = ", ".join(
        f"{json.dumps(each.name)}: new {_array(each)}({each.elements})" for each in manifest.signature.inputs
    )
    words = {"MODEL": manifest.model, "VERSION": manifest.version, "INSTALL": install, "FEEDS": feeds}
    return re.sub("|".join(words), lambda found: words[found[0]], text)
