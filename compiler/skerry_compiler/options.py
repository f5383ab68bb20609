"""The words of the command line: every command and flag, with one line of help each."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

Run = Callable[[argparse.Namespace], None]

_CODES = (
    "exit codes: 0 done; 1 refused; 2 wrong usage; 3 not a usable model; 4 operators without a form; 5 data that does "
    "not fit; 6 out of time, memory or room; 7 a tool failed; 8 a rebuilt bundle differs; 130 stopped"
)


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        """End the program with code 2."""
        self.exit(2, f"skerry: error: {message} (`{self.prog} --help` lists the flags)\n")


def parser(run: Mapping[str, Run]) -> argparse.ArgumentParser:
    """Return the parser; `run` holds what answers to compile, bench, run, show, verify and web."""
    parser = Parser(prog="skerry")
    words = parser.add_subparsers(dest="word", required=True)
    compile_ = words.add_parser(
        "compile", help="make a model into the fastest bundle for a target that keeps its accuracy", epilog=_CODES
    )
    _compile_words(compile_)
    compile_.set_defaults(run=run["compile"], parser=compile_)
    bench = words.add_parser(
        "bench", help="a bundle and the original side by side: latency, memory, cold start, agreement", epilog=_CODES
    )
    _bench_words(bench)
    bench.set_defaults(run=run["bench"])
    device = words.add_parser("run", help="run a bundle here, in the device's own runtime", epilog=_CODES)
    device.add_argument("bundle", type=Path)
    device.add_argument(
        "--input", type=Path, required=True, metavar="IN.npz", help="arrays named as the inputs; first axis: rows"
    )
    device.add_argument("--output", type=Path, required=True, metavar="OUT.npz", help="the answers, a row each")
    device.set_defaults(run=run["run"])
    verbs = words.add_parser("bundle", help="what is in a bundle, and is it whole")
    bundle = verbs.add_subparsers(dest="verb", required=True)
    show = bundle.add_parser("show", help="what is in it, and how it was chosen", epilog=_CODES)
    verify = bundle.add_parser("verify", help="read and check every byte", epilog=_CODES)
    web = bundle.add_parser("web", help="a folder, zip or npm package for web developers", epilog=_CODES)
    for name, each in (("show", show), ("verify", verify), ("web", web)):
        each.add_argument("bundle", type=Path)
        each.add_argument("--json", action="store_true", help="print it as JSON")
        each.set_defaults(run=run[name])
    web.add_argument("-o", "--output", type=Path, required=True, metavar="SITE", help="a folder, F.zip or F.tgz")
    web.add_argument("--variant", metavar="ID", help="which one (default: the best that a browser runs)")
    web.add_argument("--check", action="store_true", help="run it in headless Chromium first, and refuse wrong answers")
    show.add_argument("--html", type=Path, metavar="F.html", help="write the report as one HTML page, too")
    verify.add_argument("--rebuild", type=Path, metavar="MODEL", help="make it again from its model and compare bytes")
    verify.add_argument("--calibration", type=Path, metavar="F.npz", help="the calibration data it was made with")
    verify.add_argument("--scales", type=Path, metavar="F.json", help="the scales it was made in, if any were given")
    verify.add_argument("--trust-pickle", action="store_true", help="the model is a pickle that you made yourself")
    verify.add_argument("--quiet", action="store_true", help="say nothing while working")
    return parser


def _bench_words(bench: argparse.ArgumentParser) -> None:
    bench.add_argument("bundle", type=Path)
    bench.add_argument("--against", type=Path, required=True, metavar="MODEL", help="the original model")
    bench.add_argument(
        "--evaluation", type=Path, metavar="F.npz", help="rows to feed (default: the bundle's golden vectors)"
    )
    bench.add_argument("--trust-pickle", action="store_true", help="the original is a pickle that you made yourself")
    bench.add_argument("--html", type=Path, metavar="F.html", help="write the result as one HTML page, too")
    bench.add_argument("--json", action="store_true", help="print the result as JSON")
    bench.add_argument("--quiet", action="store_true", help="say nothing while working")


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
    parser.add_argument(
        "--objective",
        choices=("latency", "memory", "size", "balanced"),
        default="latency",
        help="what decides among candidates that passed (default: latency)",
    )
    parser.add_argument(
        "--engines",
        metavar="NAME,NAME",
        help="which may compete, openvino and tvm only so (default: all others of the target)",
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="that may share one inference on the device (default: 1)"
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
    parser.add_argument(
        "--scales",
        type=Path,
        metavar="F.json",
        help="a hand-over of an earlier release: 8 bits in its scales, for a small update",
    )
    parser.add_argument("--like", type=Path, metavar="B.skerry", help="a release whose candidates alone compete")
    _device_words(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="B.skerry", help="the bundle")
    parser.add_argument("--report", type=Path, metavar="F.html", help="write the report as one HTML page, too")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.add_argument("--quiet", action="store_true", help="say nothing while working")


def _device_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--on-device",
        nargs="?",
        const="any",
        metavar="DEVICE",
        help="measure on an enrolled board of the target: one by name, or any that is free",
    )
    parser.add_argument("--fleet", metavar="URL", help="the fleet that lends the board (default: SKERRY_FLEET_URL)")
    parser.add_argument(
        "--fleet-key", metavar="KEY", help="an API key, or a file that holds it (default: SKERRY_FLEET_KEY)"
    )
