"""`skerry compile`, `bench`, `run` and `bundle`: the compiler from the command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from skerry_compiler import options, stopping
from skerry_compiler.errors import CompileError, LimitError, UsageError
from skerry_contracts.codec import MAX_INT
from skerry_contracts.errors import ContractError
from skerry_targets.errors import TargetError

MAX_EXTENT = (1 << 31) - 1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry_compiler.request import OnDevice, Request
    from skerry_contracts.bundle import Manifest


def main(argv: Sequence[str]) -> int:
    """Run the command; its first word is compile, bench, run or bundle.

    Returns 0 done, 1 refused, 2 wrong usage, or the error's own code (skerry_compiler.errors).
    """
    words = {"compile": _compile, "bench": _bench, "run": _run, "show": _show, "verify": _verify, "web": _web}
    arguments = options.parser(words).parse_args(argv)
    try:
        with stopping.politely():
            arguments.run(arguments)
    except (CompileError, TargetError, ContractError) as error:
        hint = f" ({error.hint})" if error.hint else ""
        print(f"skerry: error: {error}{hint}", file=sys.stderr)
        return getattr(error, "code", 1)
    except MemoryError:
        print("skerry: error: out of memory (close other programs, or use a larger machine)", file=sys.stderr)
        return LimitError.code
    except KeyboardInterrupt:
        print("skerry: stopped; no bundle was written", file=sys.stderr)
        return 130
    return 0


def _compile(arguments: argparse.Namespace) -> None:
    from skerry_compiler import compiling, files, progress, rebuilding
    from skerry_compiler.reports import output, page, summary, terminal
    from skerry_contracts import codec

    read = [
        arguments.source,
        arguments.calibration,
        arguments.evaluation,
        arguments.scales,
        arguments.recipe,
        arguments.like,
    ]
    handover = arguments.qat_handover
    beside = None if handover is None else handover.with_suffix(".onnx")
    files.refuse_unwritable([arguments.output, arguments.report, handover, beside], read)
    with progress.shown(quiet=arguments.quiet) as say:
        if arguments.recipe is not None:
            with files.opened(arguments.recipe) as bundle:
                manifest = bundle.manifest
                result = rebuilding.rebuild(_recipe_request(arguments, manifest), bundle, say)
        else:
            result = compiling.compile_model(_request(arguments), time.time(), say)
    evidence = None if result.evidence is None else codec.encode(result.evidence)
    files.write(arguments.output, result.manifest_bytes, result.blobs, evidence)
    if arguments.recipe is not None:
        _refuse_differences(manifest, result.manifest, f"{arguments.output} was written for comparison")
    found = summary.summary(result.manifest, codec.digest(result.manifest_bytes), result.evidence)
    if arguments.recipe is not None:
        found["identical"] = True
    if arguments.report is not None:
        output.save(arguments.report, page.page(found))
    output.put(json.dumps(found) if arguments.json else terminal.text(found))


def _refuse_differences(wanted: Manifest, made: Manifest, hint: str) -> None:
    from skerry_compiler import rebuilding
    from skerry_compiler.errors import DiffersError

    found = rebuilding.differences(wanted, made)
    if found:
        more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
        raise DiffersError(f"the rebuilt bundle differs: {'; '.join(found[:3])}{more}", hint=hint)


def _request(arguments: argparse.Namespace) -> Request:
    from skerry_compiler import durations
    from skerry_compiler.engines.threads import MAX_THREADS
    from skerry_compiler.request import Request
    from skerry_contracts import names
    from skerry_targets import catalogue
    from skerry_targets.profile import chosen_engines

    missing = [f"--{flag}" for flag in ("target", "model", "version", "release") if getattr(arguments, flag) is None]
    if missing:
        arguments.parser.error(f"the following arguments are required: {', '.join(missing)}")
    try:
        names.name(arguments.model, "--model")
        names.version(arguments.version, "--version")
    except ContractError as error:
        raise UsageError(str(error), hint=error.hint) from error
    if not 0 <= arguments.release <= MAX_INT:
        raise UsageError(f"--release counts upward from 0 to {MAX_INT}")
    if not 1 <= arguments.threads <= MAX_THREADS:
        raise UsageError(f"--threads {arguments.threads}: whole numbers from 1 to {MAX_THREADS} are expected")
    profile = catalogue.get(arguments.target)
    engines = None if arguments.engines is None else [each.strip() for each in arguments.engines.split(",")]
    return Request(
        source=arguments.source,
        profile=profile,
        model=arguments.model,
        version=arguments.version,
        release=arguments.release,
        calibration=arguments.calibration,
        evaluation=arguments.evaluation,
        objective=arguments.objective,
        time_s=durations.seconds(arguments.budget),
        trust_pickle=arguments.trust_pickle,
        input_name=arguments.input_name,
        shapes=_shapes(arguments.shape),
        retrain=arguments.qat_handover,
        engines=None if engines is None else chosen_engines(profile, engines),
        threads=arguments.threads,
        scales=arguments.scales,
        like=None if arguments.like is None else _candidates(arguments.like),
        on=_on_device(arguments),
    )


def _on_device(arguments: argparse.Namespace) -> OnDevice | None:
    """Return where to measure, where that is not here."""
    from skerry_compiler.remote import fleet_of
    from skerry_compiler.request import ANY, OnDevice
    from skerry_contracts import names

    if arguments.on_device is None:
        if arguments.fleet or arguments.fleet_key:
            raise UsageError("--fleet is for --on-device", hint="add --on-device to measure on a board")
        return None
    if arguments.on_device != ANY:
        try:
            names.name(arguments.on_device, "--on-device")
        except ContractError as error:
            raise UsageError(str(error), hint="a device's name, or any") from error
    return OnDevice(fleet_of(arguments.fleet, arguments.fleet_key, dict(os.environ)), arguments.on_device)


def _candidates(path: Path) -> frozenset[str]:
    from skerry_compiler import files

    with files.opened(path) as bundle:
        return frozenset(bundle.manifest.recipe.candidates)


def _recipe_request(arguments: argparse.Namespace, manifest: Manifest) -> Request:
    from skerry_compiler import rebuilding

    return rebuilding.request_of(
        manifest,
        arguments.source,
        arguments.calibration,
        trust_pickle=arguments.trust_pickle,
        scales=arguments.scales,
    )


def _shapes(words: Sequence[str]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for word in words:
        name, _, extents = word.rpartition("=")
        try:
            shapes[name] = tuple(int(each) for each in extents.split(","))
        except ValueError as error:
            raise UsageError(f"--shape {word!r:.80} is not INPUT=1,3,224,224") from error
        if not name or not all(0 < each <= MAX_EXTENT for each in shapes[name]):
            raise UsageError(f"--shape {word!r:.80}: INPUT= and whole numbers from 1 to {MAX_EXTENT} are expected")
    return shapes


def _bench(arguments: argparse.Namespace) -> None:
    from skerry_compiler import bench, files, progress
    from skerry_compiler.reports import output, page, terminal

    files.refuse_unwritable([arguments.html], [arguments.bundle, arguments.against, arguments.evaluation])
    with progress.shown(quiet=arguments.quiet) as say:
        found = bench.bench(
            arguments.bundle,
            arguments.against,
            arguments.evaluation,
            trust_pickle=arguments.trust_pickle,
            say=say,
        )
    if arguments.html is not None:
        output.save(arguments.html, page.bench_page(found, arguments.bundle.name))
    output.put(json.dumps(found) if arguments.json else terminal.bench_text(found))


def _run(arguments: argparse.Namespace) -> None:
    import numpy as np

    from skerry_compiler import bench, files

    files.refuse_unwritable([arguments.output], [arguments.bundle, arguments.input])
    outputs = bench.run(arguments.bundle, arguments.input)
    with files.replaced(arguments.output) as file:
        np.savez(file, **outputs)  # type: ignore[arg-type]  # numpy's stub reads ** as its flag


def _show(arguments: argparse.Namespace) -> None:
    from skerry_compiler import files
    from skerry_compiler.reports import output, page, summary, terminal
    from skerry_contracts import codec
    from skerry_contracts.evidence import Evidence

    files.refuse_unwritable([arguments.html], [arguments.bundle])
    with files.opened(arguments.bundle) as bundle:
        evidence = None if bundle.evidence is None else codec.decode(Evidence, bundle.evidence)
        found = summary.summary(bundle.manifest, bundle.bundle_id, evidence)
        plain = {"manifest": codec.to_plain(bundle.manifest), "evidence": codec.to_plain(evidence)}
    if arguments.html is not None:
        output.save(arguments.html, page.page(found))
    output.put(json.dumps({**found, **plain}) if arguments.json else terminal.text(found))


def _web(arguments: argparse.Namespace) -> None:
    from skerry_compiler.web import cli

    cli.run(arguments)


def _verify(arguments: argparse.Namespace) -> None:
    from skerry_compiler import files, progress, rebuilding

    with files.opened(arguments.bundle) as bundle:
        bundle.verify()
        found = {"bundle": bundle.bundle_id, "whole": True, "blobs": len(bundle.manifest.blobs())}
        if arguments.rebuild is not None:
            request = rebuilding.request_of(
                bundle.manifest,
                arguments.rebuild,
                arguments.calibration,
                trust_pickle=arguments.trust_pickle,
                scales=arguments.scales,
            )
            with progress.shown(quiet=arguments.quiet) as say:
                result = rebuilding.rebuild(request, bundle, say)
            _refuse_differences(bundle.manifest, result.manifest, "it was not made from this model alone")
            found["rebuilt"] = True
    words = f"whole: {found['blobs']} blobs, bundle {found['bundle']}"
    print(json.dumps(found) if arguments.json else words + ("\nrebuilt: every byte is the same" * ("rebuilt" in found)))
