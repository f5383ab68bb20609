"""Accuracy repair: trained networks compiled for this machine, and how many of them have a candidate in bytes, or in
bytes and float32, that keeps the answers on held-out rows and is faster than generated float32 and than the original.

The networks are trained here (extra `torch`; without it they are left out, and this is said) and looked for in the
folder of shared models. `naive` is ONNX Runtime's own static quantiser (unsigned activations, signed weights per
channel, min-max): what one has without repair.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, the folder beside it is not a package yet
from benchmarks import compiler_edge

Say = Callable[[str], None]
NAIVE = "ort-int8"
BUDGET = "90s"
FAST = 0.97  # of the other's time: less than the noise between two runs is no gain


def networks(work: Path, say: Say, only: str) -> Iterator[tuple[str, Path, Path, Path]]:
    """Return name, model, calibration and evaluation rows of each network, trained ones first."""
    if importlib.util.find_spec("torch") and importlib.util.find_spec("onnxscript"):
        from benchmarks import training

        for name in training.NETWORKS:
            if only in name:
                folder = work / name.replace(" ", "-")
                if not (folder / "score").exists():
                    folder.mkdir(exist_ok=True)
                    score = training.trained(name, folder)
                    (folder / "score").write_text(f"{score:.3f}")
                say(f"{name}: trained, {(folder / 'score').read_text()} on held-out rows")
                yield name, folder / "model.onnx", folder / "calibration.npz", folder / "evaluation.npz"
    else:
        say("PyTorch is missing, so nothing is trained here: pip install 'skerry[torch]'. Shared models only.")
    for name in compiler_edge.here():
        if only in name:
            yield name, *compiler_edge.build(name, work)


def evidence(model: Path, calibration: Path, evaluation: Path, work: Path) -> dict[str, Any]:
    """Compile a network and return the evidence in its bundle."""
    bundle = work / "model.skerry"
    skerry = [sys.executable, "-m", "skerry"]
    words = ["--target", "host", "--model", "repair", "--version", "1", "--release", "1", "-o", str(bundle)]
    words += ["--calibration", str(calibration), "--evaluation", str(evaluation), "--budget", BUDGET, "--quiet"]
    subprocess.run([*skerry, "compile", str(model), *words], check=True, stdout=subprocess.DEVNULL)
    shown = subprocess.run([*skerry, "bundle", "show", str(bundle), "--json"], check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def judged(found: dict[str, Any]) -> dict[str, Any]:
    """Return what the evidence says of repair: `naive` (its verdict), `best` (the fastest candidate in bytes that
    passed, or None), `speed` against the original and `gain` against generated float32 (or the original, where that
    has no such candidate), `repaired`.
    """
    candidates = found["evidence"]["candidates"]
    by_id = {each["id"]: each for each in candidates}
    passed = [each for each in candidates if each["precision"] != "fp32" and each["verdict"] in ("chosen", "runner-up")]
    passed = [each for each in passed if each.get("measurement")]
    best = min(passed, key=lambda each: float(each["measurement"]["cpu_ms"]), default=None)
    floats = [each for each in candidates if each["precision"] == "fp32" and each["engine"] == "native"]
    times = [each["measurement"]["cpu_ms"] for each in floats if each.get("measurement")]
    original = float(found["evidence"]["original"]["cpu_ms"])
    naive = by_id.get(NAIVE, {"verdict": "none", "reason": "not drafted"})
    answer: dict[str, Any] = {"naive": naive["verdict"], "best": best, "speed": 0.0, "gain": 0.0, "repaired": False}
    if best is not None:
        spent = float(best["measurement"]["cpu_ms"])
        answer["speed"], answer["gain"] = original / spent, min([*times, original]) / spent
        answer["repaired"] = spent < FAST * min([*times, original])
    return answer


def line(name: str, each: dict[str, Any], found: dict[str, Any]) -> str:
    """Return one network's result in words."""
    best = each["best"]
    if best is None:
        refused = [c for c in found["evidence"]["candidates"] if c["id"].startswith("native-int8")]
        said = "; ".join(f"{c['id']}: {c['reason']}" for c in refused) or "no candidate in bytes"
        return f"{name:<18} naive {each['naive']:<11} not repaired: {said}"
    agrees = best["agreement"]
    label = "" if agrees.get("accuracy") is None else f" accuracy {agrees['accuracy']:.4f}"
    word = "repaired" if each["repaired"] else "no gain "
    return (
        f"{name:<18} naive {each['naive']:<11} {word} {best['id']:<32} cosine {agrees['cosine']:.5f} "
        f"same {agrees['top1']:.3f}{label}  {each['speed']:.2f}x the original, {each['gain']:.2f}x float32"
    )


def figures(work: Path, say: Say, only: str = "") -> dict[str, float]:
    """Return repaired_share, naive_share (of ONNX Runtime's quantiser, passed and faster than the original) and the
    number of networks whose names hold `only`.
    """
    repaired, naive, count = 0, 0, 0
    place = work / "repair"
    place.mkdir(exist_ok=True)
    for name, model, calibration, evaluation in networks(place, say, only):
        found = evidence(model, calibration, evaluation, place)
        each = judged(found)
        count += 1
        repaired += each["repaired"]
        naive += each["naive"] in ("chosen", "runner-up")
        say(line(name, each, found))
        for note in found["evidence"]["notes"]:
            if note.startswith("repair"):
                say(f"    {note}")
    if not count:
        say("no network to repair")
        return {}
    return {"repaired_share": repaired / count, "naive_share": naive / count, "repair_networks": float(count)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="only the figures, on the last line")
    parser.add_argument("--only", default="", metavar="PART", help="networks whose names hold this")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the trained networks here, to use them again")
    arguments = parser.parse_args()

    def say(words: str) -> None:
        if not arguments.json:
            print(words, flush=True)

    with tempfile.TemporaryDirectory(prefix="skerry-") as fresh:
        work = arguments.keep or Path(fresh)
        work.mkdir(parents=True, exist_ok=True)
        found = figures(work, say, arguments.only)
    print(json.dumps({"figures": {key: round(value, 4) for key, value in found.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
