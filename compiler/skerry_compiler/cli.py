"""`skerry compile`, `bench`, `run` and `bundle`: the compiler from the command line."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from skerry_compiler.errors import CompileError
from skerry_contracts.errors import ContractError
from skerry_targets.errors import TargetError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from skerry_compiler.request import Request
    from skerry_contracts.bundle import Manifest


def main(argv: Sequence[str]) -> int:
    """Run the command; its first word is compile, bench, run or bundle.

    Returns 0 done, 1 refused, 2 wrong usage, or the error's own code (skerry_compiler.errors).
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except (CompileError, TargetError, ContractError) as error:
        hint = f" ({error.hint})" if error.hint else ""
        print(f"skerry: error: {error}{hint}", file=sys.stderr)
        return getattr(error, "code", 1)
    except KeyboardInterrupt:
        print("skerry: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="skerry")
    words = parser.add_subparsers(dest="word", required=True)
    _compile_words(
        words.add_parser("compile", help="make a model into the fastest bundle for a target that keeps its accuracy")
    )
    bench = words.add_parser(
        "bench", help="a bundle and the original side by side: latency, memory, cold start, agreement"
    )
    bench.add_argument("bundle", type=Path)
    bench.add_argument("--against", type=Path, required=True, metavar="MODEL", help="the original model")
    bench.add_argument(
        "--evaluation", type=Path, metavar="F.npz", help="rows to feed (default: the bundle's golden vectors)"
    )
    bench.add_argument("--trust-pickle", action="store_true", help="the original is a pickle that you made yourself")
    bench.add_argument("--html", type=Path, metavar="F.html", help="write the result as one HTML page, too")
    bench.add_argument("--json", action="store_true", help="print the result as JSON")
    bench.set_defaults(run=_bench)
    run = words.add_parser("run", help="run a bundle here, in the device's own runtime")
    run.add_argument("bundle", type=Path)
    run.add_argument(
        "--input", type=Path, required=True, metavar="IN.npz", help="arrays named as the inputs; first axis: rows"
    )
    run.add_argument("--output", type=Path, required=True, metavar="OUT.npz")
    run.set_defaults(run=_run)
    bundle = words.add_parser("bundle", help="what is in a bundle, and is it whole").add_subparsers(
        dest="verb", required=True
    )
    for verb, text, function in (("show", "what is in it", _show), ("verify", "read and check every byte", _verify)):
        each = bundle.add_parser(verb, help=text)
        each.add_argument("bundle", type=Path)
        each.add_argument("--json", action="store_true", help="print it as JSON")
        each.set_defaults(run=function)
        if verb == "show":
            each.add_argument("--html", type=Path, metavar="F.html", help="write the report as one HTML page, too")
    each.add_argument("--rebuild", type=Path, metavar="MODEL", help="make it again from its model and compare bytes")
    each.add_argument("--calibration", type=Path, metavar="F.npz", help="the calibration data it was made with")
    each.add_argument("--trust-pickle", action="store_true", help="the model is a pickle that you made yourself")
    each.add_argument("--quiet", action="store_true", help="say nothing while working")
    return parser


def _compile_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", type=Path, metavar="MODEL", help=".onnx, .tflite, .skops; .pt2, .joblib with --trust-pickle"
    )
    parser.add_argument("--target", help="skerry targets list; host is this machine")
    parser.add_argument("--model", help="what the fleet calls the model: lower-case letters, digits, hyphens")
    parser.add_argument("--version", help="of the model, for people")
    parser.add_argument("--release", type=int, help="counts upward; devices refuse to go back")
    parser.add_argument(
        "--calibration", type=Path, metavar="F.npz", help="rows of real inputs: 8-bit ranges and drift baseline"
    )
    parser.add_argument("--evaluation", type=Path, metavar="F.npz", help="held-out rows; a key `labels` gives accuracy")
    parser.add_argument("--objective", choices=("latency", "memory", "size", "balanced"), default="latency")
    parser.add_argument(
        "--engines",
        metavar="NAME,NAME",
        help="which may compete, openvino and tvm only so (default: all others of the target)",
    )
    parser.add_argument("--recipe", type=Path, metavar="B.skerry", help="make this bundle again, byte for byte")
    parser.add_argument(
        "--budget", default="60s", metavar="TIME", help="for building and measuring: 90s, 5m (default: 60s)"
    )
    parser.add_argument(
        "--shape", action="append", default=[], metavar="INPUT=1,3,224,224", help="where the model leaves it open"
    )
    parser.add_argument(
        "--input-name", help="of a scikit-learn model's input (default: the calibration file's key, or X)"
    )
    parser.add_argument(
        "--trust-pickle", action="store_true", help="run the code inside a pickle that you made yourself"
    )
    parser.add_argument(
        "--qat-handover",
        type=Path,
        metavar="F.json",
        help="write what a trainer needs to retrain for 8 bits, with .onnx",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="B.skerry")
    parser.add_argument("--report", type=Path, metavar="F.html", help="write the report as one HTML page, too")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="say nothing while working")
    parser.set_defaults(run=_compile, parser=parser)


def _compile(arguments: argparse.Namespace) -> None:
    from skerry_compiler import compiling, files, progress, rebuilding
    from skerry_compiler.reports import output, page, summary, terminal
    from skerry_contracts import codec

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
    from skerry_compiler.request import Request
    from skerry_contracts import names
    from skerry_targets import catalogue
    from skerry_targets.profile import chosen_engines

    for flag in ("target", "model", "version", "release"):
        if getattr(arguments, flag) is None:
            arguments.parser.error(f"the following arguments are required: --{flag}")
    names.name(arguments.model, "--model")
    names.version(arguments.version, "--version")
    if arguments.release < 0:
        raise CompileError("--release counts upward from 0")
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
    )


def _recipe_request(arguments: argparse.Namespace, manifest: Manifest) -> Request:
    from skerry_compiler import rebuilding

    return rebuilding.request_of(manifest, arguments.source, arguments.calibration, trust_pickle=arguments.trust_pickle)


def _shapes(words: Sequence[str]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for word in words:
        name, _, extents = word.rpartition("=")
        try:
            shapes[name] = tuple(int(each) for each in extents.split(","))
        except ValueError as error:
            raise CompileError(f"--shape {word!r:.80} is not INPUT=1,3,224,224") from error
    return shapes


def _bench(arguments: argparse.Namespace) -> None:
    from skerry_compiler import bench
    from skerry_compiler.reports import output, page, terminal

    found = bench.bench(arguments.bundle, arguments.against, arguments.evaluation, trust_pickle=arguments.trust_pickle)
    if arguments.html is not None:
        output.save(arguments.html, page.bench_page(found, arguments.bundle.name))
    output.put(json.dumps(found) if arguments.json else terminal.bench_text(found))


def _run(arguments: argparse.Namespace) -> None:
    import numpy as np

    from skerry_compiler import bench

    outputs = bench.run(arguments.bundle, arguments.input)
    try:
        np.savez(arguments.output, **outputs)  # type: ignore[arg-type]  # numpy's stub reads ** as its flag
    except OSError as error:
        raise CompileError(f"cannot write {arguments.output}: {error.strerror}") from error


def _show(arguments: argparse.Namespace) -> None:
    from skerry_compiler import files
    from skerry_compiler.reports import output, page, summary, terminal
    from skerry_contracts import codec
    from skerry_contracts.evidence import Evidence

    with files.opened(arguments.bundle) as bundle:
        evidence = None if bundle.evidence is None else codec.decode(Evidence, bundle.evidence)
        found = summary.summary(bundle.manifest, bundle.bundle_id, evidence)
        plain = {"manifest": codec.to_plain(bundle.manifest), "evidence": codec.to_plain(evidence)}
    if arguments.html is not None:
        output.save(arguments.html, page.page(found))
    output.put(json.dumps({**found, **plain}) if arguments.json else terminal.text(found))


def _verify(arguments: argparse.Namespace) -> None:
    from skerry_compiler import files, progress, rebuilding

    with files.opened(arguments.bundle) as bundle:
        bundle.verify()
        found = {"bundle": bundle.bundle_id, "whole": True, "blobs": len(bundle.manifest.blobs())}
        if arguments.rebuild is not None:
            request = rebuilding.request_of(
                bundle.manifest, arguments.rebuild, arguments.calibration, trust_pickle=arguments.trust_pickle
            )
            with progress.shown(quiet=arguments.quiet) as say:
                result = rebuilding.rebuild(request, bundle, say)
            _refuse_differences(bundle.manifest, result.manifest, "it was not made from this model alone")
            found["rebuilt"] = True
    words = f"whole: {found['blobs']} blobs, bundle {found['bundle']}"
    print(json.dumps(found) if arguments.json else words + ("\nrebuilt: every byte is the same" * ("rebuilt" in found)))
