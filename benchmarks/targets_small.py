"""What models take on a microcontroller, and whether they answer there as they do elsewhere: parts of
benchmarks/targets.py.

Each is compiled as a person would, linked with a start for the emulated board, and runs there. Flash is all that is
programmed, the start included; memory is what is reserved, rows and answers included, without the stack.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from benchmarks import compiler_edge, compiler_trees
from numpy.typing import NDArray

from skerry_compiler.emulators import boards
from skerry_compiler.errors import CompileError
from skerry_compiler.firmware.footprint import footprint
from skerry_contracts import container
from skerry_contracts.bundle import Signature
from skerry_targets import shelf

BOARD = "cortex-m4"
KILOBYTE = 1024
FLOAT_LIMIT, COSINE = 1e-5, 0.99  # of float answers; of those in bytes
FOREST = "digits forest 20 depth 6"
Say = Callable[[str], None]


def kws(work: Path, say: Say) -> dict[str, float]:
    """Return what keyword spotting takes in floats and in bytes.

    Raises:
        CompileError: it answers wrongly on the board.
        OSError: the network is not here.
    """
    model, calibration, evaluation = compiler_edge.build("kws", work)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (name,) = (each.name for each in session.get_inputs())
    rows = np.load(evaluation)[name]
    right = np.concatenate([session.run(None, {name: row[None]})[0] for row in rows])
    found: dict[str, float] = {}
    data = ("--calibration", str(calibration), "--evaluation", str(evaluation), "--objective", "size")
    for kind, words in (("kws_m4", ()), ("kws_m4_int8", data)):
        flash, ram, answers = _on_board(model, rows, work / f"{kind}.skerry", words)
        given = np.frombuffer(answers, np.float32).reshape(right.shape)
        far, classes = float(np.abs(given - right).max()), int((given.argmax(1) == right.argmax(1)).sum())
        say(f"{kind}: {flash} and {ram} bytes; worst difference {far:.2g}, {classes} of {len(right)} classes equal")
        cosine = float(((given * right).sum(1) / np.linalg.norm(given, axis=1) / np.linalg.norm(right, axis=1)).min())
        if (far > FLOAT_LIMIT) if kind == "kws_m4" else (cosine < COSINE):
            raise CompileError(f"{kind} answers wrongly on the board: off by {far:.2g}, worst cosine {cosine:.3f}")
        found |= {f"{kind}_flash_kb": flash / KILOBYTE, f"{kind}_ram_kb": ram / KILOBYTE}
    return found


def trees(work: Path, say: Say) -> dict[str, float]:
    """Return what a forest of twenty trees takes, and the share of labels that are scikit-learn's.

    Raises:
        CompileError: it does not run on the board.
    """
    model, rows, labels = compiler_trees.trained(FOREST, work)
    flash, ram, answers = _on_board(model, rows, work / "trees.skerry", ("--input-name", "x"))
    record = np.dtype([("label", "<i8"), ("shares", "<f4", 10)])
    same = float(np.mean(np.frombuffer(answers, record)["label"] == labels))
    say(f"{flash} and {ram} bytes; {same:.3f} of {len(labels)} labels equal")
    return {"trees_m4_flash_kb": flash / KILOBYTE, "trees_m4_ram_kb": ram / KILOBYTE, "trees_m4_same_labels": same}


def _on_board(model: Path, rows: NDArray[np.float32], bundle: Path, words: tuple[str, ...]) -> tuple[int, int, bytes]:
    """Compile a model for the board; return its bytes of flash and memory, and its answers there."""
    command = [sys.executable, "-m", "skerry", "compile", str(model), "--target", BOARD, "--model", "m"]
    command += ["--version", "1", "--release", "1", "-o", str(bundle), "--quiet", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    profile = shelf.get(BOARD)
    library, signature = _library(bundle)
    found = footprint(library, profile, signature)
    answers = boards.outputs(library, profile, signature, rows.astype(np.float32).tobytes())
    return found.flash_bytes, found.ram_bytes, answers


def _library(bundle: Path) -> tuple[bytes, Signature]:
    """Return the object file of the best variant, and the signature."""
    with bundle.open("rb") as file:
        opened = container.open_container(file)
        manifest = opened.manifest
        return opened.read_blob(manifest.variants[0].blobs["library"].sha256), manifest.signature
