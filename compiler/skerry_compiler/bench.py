"""`skerry bench`: a bundle and the original side by side in one run, and `skerry run`: a bundle in the device's own
runtime.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from skerry_compiler import agreement, compiling, data, files
from skerry_compiler.engines.threads import recorded
from skerry_compiler.errors import CompileError
from skerry_compiler.measure import Process, baseline_command, engines_here, probe_command
from skerry_compiler.request import Request
from skerry_contracts import codec
from skerry_contracts.bundle import Manifest, Variant
from skerry_contracts.container import Container
from skerry_targets import catalogue, fit, host

Say = Callable[[str], None]

ROUNDS = 10
MAX_ROWS = 512


def bench(
    bundle_path: Path,
    original: Path,
    evaluation: Path | None,
    *,
    trust_pickle: bool,
    say: Say = lambda words: None,
) -> dict[str, Any]:
    """Return latency, memory, cold start and size of both, their ratios, and how far the answers agree.

    Latency ratios compare processor time in the quietest of interleaved rounds; above 1 the bundle is faster. A bundle
    made for several threads is compared by the clock, and the original has as many. Memory
    and cold-start ratios are the bundle's share: below 1 it is smaller or quicker. `say` hears what is being done.

    Raises:
        CompileError: the bundle does not run here, or the original is not the same model.
    """
    with files.opened(bundle_path) as bundle, tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        manifest = bundle.manifest
        variant = runnable(manifest)
        files.unpack(bundle, folder)
        say("reading the original")
        model = _original(original, manifest, folder, trust_pickle=trust_pickle)
        rows = _rows(bundle, evaluation)
        threads = recorded(manifest.recipe.options)
        (folder / "rows").write_bytes(rows.to_bytes())
        (folder / "signature.json").write_text(json.dumps(codec.to_plain(manifest.signature)))
        outputs = {"original": folder / "original.out", "bundle": folder / "bundle.out"}
        commands = {
            "original": baseline_command(
                model, folder / "signature.json", folder / "rows", outputs["original"], threads
            ),
            "bundle": probe_command(folder, variant.id, folder / "rows", outputs["bundle"]),
        }
        sizes = {"original": original.stat().st_size, "bundle": sum(blob.size_bytes for blob in variant.blobs.values())}
        sides, best = _measure(commands, sizes, threads, say)
        answers = [
            data.outputs_of(path.read_bytes(), manifest.signature.outputs, len(rows)) for path in outputs.values()
        ]
    agrees = agreement.compare(manifest.signature, answers[0], answers[1], rows.labels)
    one, two = sides["original"], sides["bundle"]
    return {
        "original": one,
        "bundle": {**two, "variant": variant.id, "engine": variant.engine, "precision": variant.precision},
        "ratio": {
            "latency": best["original"] / best["bundle"],
            "memory": two["rss_mb"] / one["rss_mb"],
            "cold_start": two["cold_start_ms"] / one["cold_start_ms"],
        },
        "agreement": {"cosine": agrees.cosine, "max_abs": agrees.max_abs, "top1": agrees.top1},
    }


def run(bundle_path: Path, inputs: Path) -> dict[str, np.ndarray]:
    """Return a bundle's outputs on every row of a file, by output name.

    Raises:
        CompileError: the bundle does not run here, or the rows do not fit.
    """
    with files.opened(bundle_path) as bundle, tempfile.TemporaryDirectory(prefix="skerry-") as name:
        folder = Path(name)
        signature = bundle.manifest.signature
        rows = data.inputs_of(data.read_npz(inputs), signature.inputs, inputs.name)
        variant = runnable(bundle.manifest)
        files.unpack(bundle, folder)
        (folder / "rows").write_bytes(rows.to_bytes())
        process = Process(probe_command(folder, variant.id, folder / "rows", folder / "out"), variant.id)
        process.finish()
        tensors = data.outputs_of((folder / "out").read_bytes(), signature.outputs, len(rows))
    return {
        spec.name: tensor.reshape(len(rows), *spec.shape[1:]) if spec.shape[:1] == (1,) else tensor
        for spec, tensor in zip(signature.outputs, tensors, strict=True)
    }


def runnable(manifest: Manifest) -> Variant:
    """Return the first variant that this machine can run.

    Raises:
        CompileError: none; says what the first one lacks.
    """
    facts = host.hardware(engines_here(), "")
    found = fit.fitting(manifest.variants, facts)
    if not found:
        lacks = "; ".join(fit.missing_for(manifest.variants[0], facts))
        raise CompileError(f"this machine cannot run a bundle for {manifest.target}: {lacks}", hint=fit.instead(facts))
    return found[0]


def _measure(
    commands: dict[str, list[str]], sizes: dict[str, int], threads: int, say: Say
) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Run both in interleaved rounds; return each side's figures and its best time in nanoseconds."""
    running: dict[str, Process] = {}
    try:
        for side, command in commands.items():
            running[side] = Process(command, f"the {side}", threads=threads)
        for process in running.values():
            process.warm()
        for step in range(ROUNDS):
            say(f"measuring the bundle beside the original: round {step + 1}/{ROUNDS}")
            for process in running.values():
                process.round()
        for process in running.values():
            process.finish()
    finally:
        for process in running.values():
            process.stop()
    sides = {}
    for side, process in running.items():
        figures = process.samples.measurement(process.peak_rss_bytes, process.cold_start_ms, sizes[side])
        sides[side] = {
            "latency_ms": {"p50": figures.latency_p50_ms, "p95": figures.latency_p95_ms},
            "cpu_ms": None if threads > 1 else process.samples.best_ns / 1e6,
            "rss_mb": figures.rss_mb,
            "cold_start_ms": figures.cold_start_ms,
            "size_bytes": figures.size_bytes,
        }
    return sides, {side: process.samples.best_ns for side, process in running.items()}


def _original(path: Path, manifest: Manifest, folder: Path, *, trust_pickle: bool) -> Path:
    """Return an ONNX file of the original; a scikit-learn file is converted as it was for the bundle.

    Raises:
        CompileError: it has other inputs or outputs than the bundle.
    """
    options = manifest.recipe.options
    shapes = {name: tuple(extents) for name, extents in json.loads(options.get("shapes", "{}")).items()}
    for spec in manifest.signature.inputs:
        shapes.setdefault(spec.name, spec.shape)
    request = Request(
        path,
        catalogue.get(catalogue.HOST),
        manifest.model,
        manifest.version,
        manifest.release,
        trust_pickle=trust_pickle,
        input_name=manifest.signature.inputs[0].name,
        shapes=shapes,
    )
    prepared = compiling.prepare(request, folder, drafts=False)
    theirs, ours = prepared.signature, manifest.signature
    if theirs.outputs != ours.outputs or theirs.inputs != ours.inputs:
        raise CompileError(
            f"{path.name} has other inputs or outputs than the bundle", hint="is it the model it was made from?"
        )
    return prepared.original


def _rows(bundle: Container, evaluation: Path | None) -> data.Rows:
    """Return the rows to feed: from a file, or the bundle's own golden vectors."""
    signature = bundle.manifest.signature
    if evaluation is not None:
        return data.inputs_of(data.read_npz(evaluation), signature.inputs, evaluation.name).head(MAX_ROWS)
    golden = bundle.manifest.golden
    content = bundle.read_blob(golden.inputs.sha256)
    return data.Rows(data.outputs_of(content, signature.inputs, golden.count))
