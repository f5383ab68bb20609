"""How large an update is by difference, over the same without: bytes that a device receives, in all.

Real networks are trained, released, trained on and released again; both releases are compiled, published to the
fleet's own delta maker, and fetched by the agent's own download into a real store that holds the first. What counts is
the manifest (or its delta), every offer's answer, every delta and every blob; against them all blobs and the manifest.

head    trained on only in its last layer, compiled with the candidates of the first (`--like`)
int8    trained on in all layers for one epoch, both releases in 8 bits in the scales of the first (`--scales`)
"""

from __future__ import annotations

import copy
import dataclasses
import io
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median

import numpy as np
import onnx
from benchmarks.numpy_training import Network
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits

from skerry_agent.disk import RealDisk
from skerry_agent.errors import NetworkError
from skerry_agent.store import Store
from skerry_agent.trust import deltas as device_deltas
from skerry_agent.trust.fetch import fetch_bundle
from skerry_agent.trust.transfer import MAX_ANSWER_BYTES, Fleet
from skerry_compiler import cli, files
from skerry_contracts import codec
from skerry_contracts.container import Container
from skerry_fleet.blobs import BlobStore
from skerry_fleet.database import Database
from skerry_fleet.deltas import Deltas
from skerry_fleet.tables import Bundle, BundleState, Model

Array = NDArray[np.float32]
Widths = list[tuple[int, int]]
FIRST, MORE = 0.45, 0.28  # shares of the rows: of the first release, and those that came since; the rest is held out


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """A network and its data: shape of a row, (channels, stride; 0 is dense) of each layer."""

    shape: tuple[int, ...]
    widths: Widths
    data: str


CASES = {
    "perceptron digits": Case((64,), [(512, 0), (256, 0), (10, 0)], "digits"),
    "convolutions digits": Case((1, 8, 8), [(32, 2), (64, 1), (128, 1), (128, 2), (10, 0)], "digits"),
    "perceptron cells": Case((30,), [(384, 0), (384, 0), (2, 0)], "cells"),
}


def rows(case: Case) -> tuple[Array, NDArray[np.int64]]:
    """Return all rows of a case's data and their labels, shuffled once."""
    found = load_digits() if case.data == "digits" else load_breast_cancer()
    x = np.asarray(found.data, np.float64)
    x = x / 16 if case.data == "digits" else (x - x.mean(0)) / x.std(0)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order].astype(np.float32).reshape(-1, *case.shape), np.asarray(found.target, np.int64)[order]


class Served(Fleet):
    """The fleet's answers to the agent's download, without a socket; counts what it gives."""

    def __init__(self, deltas: Deltas, blobs: BlobStore) -> None:
        self.given_bytes = 0
        self._deltas, self._blobs = deltas, blobs

    def get(self, path: str, *, max_bytes: int = MAX_ANSWER_BYTES) -> bytes:
        """Return a document: an offer, or a blob."""
        return b"".join(self.stream(path, max_bytes=max_bytes)[1])

    def stream(self, path: str, *, max_bytes: int, offset: int = 0) -> tuple[int, Iterator[bytes]]:
        """Return a blob or an offer."""
        route, _, query = path.partition("?")
        _, kind, digest = route.split("/")
        if kind == "blobs":
            content = self._blobs.path(digest).read_bytes()
        else:
            said = [each.split("=") for each in query.split("&")]
            found = self._deltas.offer(
                digest, [v for k, v in said if k == "base"], [v for k, v in said if k == "method"]
            )
            if found is None:
                raise NetworkError("no delta was prepared")
            content = codec.encode(found)
        self.given_bytes += len(content) - offset
        return offset, iter([content[offset:]])


def update_ratio(folder: Path, old: Path, new: Path) -> float:
    """Return the bytes of an update from one bundle to another over those without anything to start from."""
    folder.mkdir()
    database = Database(f"sqlite:///{folder}/fleet.db")
    blobs = BlobStore(folder / "blobs")
    with files.opened(old) as first, files.opened(new) as second, database.write() as session:
        session.add(Model(tenant="default", name=first.manifest.model))
        for each in (first, second):
            session.add(_row(each))
            for digest in each.manifest.blobs():
                blobs.put(digest, [each.read_blob(digest)])
        manifests = [each.manifest for each in (first, second)]
    deltas = Deltas(folder / "deltas", blobs, database)
    contents = [codec.encode(each) for each in manifests]
    for content in contents:
        deltas.prepare("default", codec.digest(content))
    deltas.close()
    store, served = Store(RealDisk(folder)), Served(deltas, blobs)
    fetch_bundle(store, served, contents[0], list(manifests[0].blobs().values()), lambda *_: None)
    served.given_bytes = 0
    bundle, size = codec.digest(contents[1]), len(contents[1])
    made = device_deltas.manifest(store, served, manifests[1].model, bundle, size)
    if made is None:
        served.given_bytes += size
    fetch_bundle(store, served, contents[1], list(manifests[1].blobs().values()), lambda *_: None)
    for variant in manifests[1].variants:
        store.check(manifests[1], variant)
    full = size + sum(blob.size_bytes for blob in manifests[1].blobs().values())
    return served.given_bytes / full


def _row(bundle: Container) -> Bundle:
    manifest = bundle.manifest
    return Bundle(
        tenant="default",
        id=bundle.bundle_id,
        model=manifest.model,
        version=manifest.version,
        release=manifest.release,
        target=manifest.target,
        state=BundleState.PUBLISHED.value,
        size_bytes=sum(blob.size_bytes for blob in manifest.blobs().values()),
        manifest=codec.encode(manifest).decode(),
        created_ms=0,
    )


def compiled(folder: Path, model: onnx.ModelProto, release: int, budget: str, *more: str) -> Path:
    """Compile a release with the folder's data and return the bundle's path."""
    source, out = folder / f"{release}.onnx", folder / f"{'-'.join(('b', str(release), *map(_word, more)))}.skerry"
    onnx.save(model, source)
    words = ["compile", str(source), "--target", "host", "--model", "m", "--version", str(release)]
    words += ["--release", str(release), "--calibration", str(folder / "calibration.npz"), "--quiet", "--json"]
    words += ["--evaluation", str(folder / "evaluation.npz"), "--budget", budget, "-o", str(out), *more]
    with redirect_stdout(io.StringIO()):
        code = cli.main(words)
    if code:
        raise RuntimeError(f"the compile of release {release} ended with {code}")
    return out


def _word(text: str) -> str:
    return Path(text).stem.strip("-")


def measured(name: str, seed: int, budget: str) -> tuple[float, float]:
    """Return the ratios of a head-only update and of a warm start in 8 bits, of one network and seed."""
    case = CASES[name]
    x, labels = rows(case)
    first, more = int(FIRST * len(x)), int((FIRST + MORE) * len(x))
    network = Network(case.shape, case.widths, seed)
    network.train(x[:first], labels[:first], epochs=8, rate=1e-3, seed=seed)
    head, warm = copy.deepcopy(network), copy.deepcopy(network)
    head.train(x[:more], labels[:more], epochs=3, rate=1e-3, seed=seed + 1, head=True)
    warm.train(x[:more], labels[:more], epochs=1, rate=1e-4, seed=seed + 1)
    with tempfile.TemporaryDirectory(prefix="skerry-") as where:
        folder = Path(where)
        np.savez(folder / "calibration.npz", x=x[:64])
        np.savez(folder / "evaluation.npz", x=x[more:], labels=labels[more:])
        scales = folder / "scales.json"
        plain = compiled(folder, network.model(), 1, budget, "--qat-handover", str(scales))
        bytes_ = compiled(folder, network.model(), 1, budget, "--scales", str(scales))
        head_file = compiled(folder, head.model(), 2, budget, "--like", str(plain))
        warm_file = compiled(folder, warm.model(), 2, budget, "--scales", str(scales))
        with files.opened(warm_file) as found:
            if found.manifest.variants[0].precision != "int8":
                raise RuntimeError(f"{name}: 8 bits in old scales were not what shipped")
        found_head = update_ratio(folder / "head", plain, head_file)
        found_warm = update_ratio(folder / "warm", bytes_, warm_file)
    shares = [each.accuracy(x[more:], labels[more:]) for each in (network, head, warm)]
    told = "accuracy {:.4f}, head {:.4f}, all {:.4f}".format(*shares)
    print(f"delta: {name} {seed}: head {found_head:.4f}, int8 {found_warm:.4f}; {told}", file=sys.stderr, flush=True)
    return found_head, found_warm


def figures(seeds: int, budget: str = "10s") -> dict[str, float]:
    """Return the largest and the median ratios over all networks and seeds."""
    found = [measured(name, seed, budget) for name in CASES for seed in range(1, seeds + 1)]
    heads, bytes_ = [each[0] for each in found], [each[1] for each in found]
    return {
        "delta_head_ratio": max(heads),
        "delta_int8_ratio": max(bytes_),
        "delta_head_ratio_median": median(heads),
        "delta_int8_ratio_median": median(bytes_),
        "delta_updates": 2 * len(found),
    }


if __name__ == "__main__":
    print(figures(int(sys.argv[1])))
