"""Damaged files through every reader that the compiler has: each is read, or refused by one of its own errors.

    python benchmarks/compiler_fuzz.py [--seconds S] [--seed N] [--only KIND ...]

Real files of every kind are changed at random: bits, extreme numbers, pieces cut out, doubled or taken from elsewhere.
Any other exception, and any file that takes longer than a few seconds, is a defect; the file is kept and named.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parents[1]))  # run as a file, the folder beside it is not a package yet
from benchmarks import compiler_edge, compiler_trees

from skerry_compiler import data
from skerry_compiler.errors import CompileError
from skerry_compiler.frontends import lightgbm, ubjson, xgboost
from skerry_compiler.frontends import onnx as onnx_frontend
from skerry_compiler.tflite import from_onnx, to_onnx
from skerry_compiler.tflite import model as tflite
from skerry_contracts.errors import ContractError

LIMIT_S = 10
MEMORY_BYTES = 6 << 30
MOST_CHANGES = 8
EXTREMES = (b"\xff", b"\x00", b"\x7f", b"\x80", b"\xff\xff\xff\x7f", b"\xff" * 8, b"\x00\x00\x00\x80", b"1e999", b"-1")
REFUSALS = (CompileError, ContractError)


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """Files of one kind: sound ones, and what reads them."""

    name: str
    suffix: str
    sound: tuple[bytes, ...]
    read: Callable[[Path], object]


def _tflite(path: Path) -> None:
    model = to_onnx.convert(tflite.read(path.read_bytes(), path.name))
    onnx_frontend.parse(model.SerializeToString(), path.name)


def network() -> bytes:
    """Return a small network as ONNX: a convolution, a normalisation, a pool, a product."""
    random_ = np.random.default_rng(0)
    shapes = {"w": (4, 2, 3, 3), "scale": (4,), "shift": (4,), "mean": (4,), "variance": (4,), "v": (16, 3)}
    stored = [
        numpy_helper.from_array(np.abs(random_.normal(size=shape)).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(*each) for each in (("x", 1, [1, 2, 4, 4]), ("y", 1, [1, 3]))]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], stored)
    opset = helper.make_opsetid("", 17)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())


def kinds(work: Path) -> list[Kind]:
    """Return every kind of file, with sound ones made here or found among the real networks."""
    small = network()
    folder = compiler_edge.folder()
    flat = [path.read_bytes() for name in ("ad_i8", "kws_i8") if (path := folder / f"{name}.tflite").is_file()]
    named = {"lightgbm": "cancer lightgbm 60", "xgboost": "cancer xgboost 60"}
    boosters = {
        kind: compiler_trees.trained(name, work)[0].read_bytes()
        for kind, name in named.items()
        if compiler_trees.trainable(name)
    }
    rows = io.BytesIO()
    np.savez(rows, x=np.ones((4, 5), np.float32), labels=np.array(["a", "b", "c", "d"]))
    found = [
        Kind("onnx", ".onnx", (small,), lambda path: onnx_frontend.load(path)),
        Kind("tflite", ".tflite", (*flat, from_onnx.convert(onnx_frontend.parse(small, "m"))), _tflite),
        Kind("npz", ".npz", (rows.getvalue(),), data.read_npz),
        Kind("ubjson", ".ubj", (boosters.get("xgboost", b"{}"),), lambda path: ubjson.parse(path.read_bytes())),
    ]
    if "lightgbm" in boosters:
        found.append(Kind("lightgbm", ".txt", (boosters["lightgbm"],), lambda path: lightgbm.read(path, "x")))
    if "xgboost" in boosters:
        plain = json.dumps(ubjson.parse(boosters["xgboost"]), default=np.ndarray.tolist).encode()
        found.append(Kind("xgboost", ".ubj", (boosters["xgboost"],), lambda path: xgboost.read(path, "x")))
        found.append(Kind("xgboost-json", ".json", (plain,), lambda path: xgboost.read(path, "x")))
    return found


def damaged(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """Return a file with one to eight changes."""
    made = bytearray(content)
    for _ in range(chance.randint(1, MOST_CHANGES)):
        at = chance.randrange(len(made) + 1)
        size = min(len(made) - at, chance.choice((1, 4, 8, 100, 5000)))
        match chance.randrange(6):
            case 0 if at < len(made):
                made[at] ^= 1 << chance.randrange(8)
            case 1:
                extreme = chance.choice(EXTREMES)
                made[at : at + len(extreme)] = extreme
            case 2:
                del made[at : at + size]
            case 3:
                made[at:at] = made[at : at + size]
            case 4:
                start = chance.randrange(len(other) + 1)
                made[at : at + size] = other[start : start + size]
            case _:
                made[at:] = made[at:] if chance.randrange(4) else b""
    return bytes(made)


@contextlib.contextmanager
def in_time(seconds: int) -> Iterator[None]:
    """Raise TimeoutError where the body takes longer."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tried(kind: Kind, content: bytes, path: Path) -> str | None:
    """Read one file; return what is wrong with how it was refused, None where it was read or refused properly."""
    path.write_bytes(content)
    try:
        with in_time(LIMIT_S):
            kind.read(path)
    except REFUSALS as error:
        said = str(error)
        return None if said.isprintable() and len(said) < 2000 else f"refused in more than one line: {said[:100]!r}"
    except MemoryError:
        return None  # what the sandbox makes of it is LimitError
    except Exception as error:  # noqa: BLE001  whatever it is, it is a defect to report
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None


def fuzz(kind: Kind, count: int | None, seconds: float, seed: int, work: Path) -> tuple[int, list[str]]:
    """Try damaged files of a kind until a number or a time is reached; return how many, and the defects."""
    chance = random.Random(f"{kind.name} {seed}")
    path, done, defects = work / f"damaged{kind.suffix}", 0, []
    until = time.monotonic() + seconds
    while (count is None or done < count) and time.monotonic() < until:
        content = damaged(chance.choice(kind.sound), chance.choice(kind.sound), chance)
        said = tried(kind, content, path)
        done += 1
        if said is not None:
            kept = work / f"{kind.name}-{seed}-{done}{kind.suffix}"
            shutil.copyfile(path, kept)
            defects.append(f"{kept.name}: {said}")
    return done, defects


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="for each kind of file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], metavar="KIND")
    parser.add_argument("--keep", type=Path, help="a folder for the files that show a defect")
    arguments = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, hard))
    count = 0
    with tempfile.TemporaryDirectory(prefix="skerry-") as name:
        work = arguments.keep or Path(name)
        work.mkdir(parents=True, exist_ok=True)
        for kind in kinds(Path(name)):
            if not arguments.only or kind.name in arguments.only:
                done, defects = fuzz(kind, None, arguments.seconds, arguments.seed, work)
                count += len(defects)
                print(f"{kind.name:<14} {done:>7} damaged files, {len(defects)} defects", flush=True)
                for each in defects[:10]:
                    print(f"  {each}")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
