"""`skerry bundle web`: a bundle for browsers as a folder, a zip or an npm package, checked in a headless browser."""

from __future__ import annotations

import argparse
import json
from typing import Any

from skerry_compiler import data, files
from skerry_compiler.errors import CompileError
from skerry_compiler.web import check, writing
from skerry_compiler.web.judging import wrong
from skerry_compiler.web.package import package


def run(arguments: argparse.Namespace) -> None:
    """Write the package; with --check only one whose answers are right.

    Raises:
        CompileError: the bundle is not for browsers, the package cannot be written, or it fails its check.
    """
    writing.refuse_unwritable(arguments.output, arguments.bundle)
    with files.opened(arguments.bundle) as bundle:
        made = package(bundle, arguments.variant)
        golden, model = bundle.manifest.golden, bundle.manifest.model
        vectors = bundle.read_blob(golden.inputs.sha256), bundle.read_blob(golden.outputs.sha256)
    found: dict[str, Any] = {"variant": made.variant, "engine": made.engine, "files": sorted(made.files)}
    found |= {"size_bytes": sum(map(len, made.files.values()))}
    words = [f"{arguments.output}: {made.variant}, {len(made.files)} files, {found['size_bytes']} bytes"]
    if arguments.check:
        seen = check.check(made, vectors[0], near=arguments.output)
        answers, known = (
            data.outputs_of(each, made.signature.outputs, golden.count) for each in (seen.answers, vectors[1])
        )
        fault = wrong(golden, made.signature, answers, known)
        if fault or not seen.passed:
            raise CompileError(f"in {seen.browser}: {fault or seen.outcome}", hint="nothing was written")
        figures = {"load_ms": round(seen.load_ms, 2), "run_ms": round(seen.run_ms, 5)}
        found |= {"browser": seen.browser, "golden": golden.count, **figures}
        words.append(f"checked in {seen.browser}: {golden.count} of {golden.count} golden answers right")
        words.append(f"loaded in {seen.load_ms:.0f} ms, one inference in {seen.run_ms:.4f} ms there")
    writing.write(arguments.output, made.files, model)
    print(json.dumps(found) if arguments.json else "\n".join(words))
