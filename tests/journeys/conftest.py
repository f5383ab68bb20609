"""A real street for journeys: fleet with broker, agents, and bundles compiled here; all by command line, all real."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from skerry_simulators.demo import street as parts
from skerry_simulators.demo.data import INPUT, Deal, deal
from skerry_simulators.demo.processes import Children, run, skerry
from skerry_simulators.demo.street import Street

MakeBundle = Callable[[str, int], Path]


@pytest.fixture(scope="session")
def dealt() -> Deal:
    return deal(0, (8, 9))


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory, dealt: Deal) -> MakeBundle:
    """Compile a digits model for this machine; each version is trained differently, and made once."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.linear_model import LogisticRegression

    made: dict[str, Path] = {}

    def make(version: str, release: int) -> Path:
        if version not in made:
            folder = tmp_path_factory.mktemp(f"bundle-{version}")
            model = LogisticRegression(C=float(release), max_iter=60, tol=1e-2)
            model.fit(dealt.train.images, dealt.train.labels)
            inputs = [(INPUT, FloatTensorType([None, 64]))]
            onnx = to_onnx(model, initial_types=inputs, options={"zipmap": False})
            (folder / "model.onnx").write_bytes(onnx.SerializeToString())
            np.savez(folder / "rows.npz", image=dealt.train.images[:100])
            words = ["compile", str(folder / "model.onnx"), "--target", "host"]
            words += ["--calibration", str(folder / "rows.npz"), "--model", parts.MODEL, "--version", version]
            made[version] = folder / "digits.skerry"
            run("compile", skerry(*words, "--release", str(release), "-o", str(made[version])), folder)
        return made[version]

    return make


@pytest.fixture
def street(tmp_path: Path) -> Iterator[Street]:
    """A fleet with its broker, and no devices yet."""
    street = Street(tmp_path, Children(tmp_path / "logs"))
    try:
        parts.start_fleet(street)
        street.fleet("model", "register", parts.MODEL)
        yield street
    finally:
        street.children.stop()
