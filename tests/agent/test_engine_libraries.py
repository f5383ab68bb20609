"""Engines that are libraries on the device: one that is missing, broken, of another kind or too old is refused in one
line, and a variant that needs it is not eligible.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from skerry_agent.engines import catalogue, library
from skerry_agent.engines.base import EngineError, Job, Spec
from skerry_contracts.bundle import Blob, Predicates, Variant
from skerry_contracts.device import Hardware
from skerry_targets import fit

ENGINES = [name for name in catalogue.ENGINES if name != "native"]


def refused(engine: str, folder: Path) -> EngineError:
    model = folder / "model"
    model.write_bytes(b"no model")
    with pytest.raises(EngineError) as caught:
        catalogue.start(Job(engine, {"model": str(model)}, [Spec("x", "FP32", (1, 4))], [Spec("y", "FP32", (1,))], {}))
    assert "\n" not in str(caught.value) and "\n" not in caught.value.hint
    return caught.value


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_library_is_named_with_the_cure(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.variable(engine), str(tmp_path / "nowhere.so"))
    error = refused(engine, tmp_path)
    assert "not installed" in str(error)
    assert engine in error.hint and library.variable(engine) in error.hint
    assert engine not in catalogue.available()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_broken_library_is_refused(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"\x7fELF" + bytes(60))
    monkeypatch.setenv(library.variable(engine), str(broken))
    assert "does not load" in str(refused(engine, tmp_path))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_library_of_another_kind_is_refused(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Path(sys.modules["_ctypes"].__file__ or "")
    assert other.suffix == ".so"
    monkeypatch.setenv(library.variable(engine), str(other))
    refused(engine, tmp_path)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_variant_is_not_eligible_without_its_engine_or_with_an_older_one(engine: str) -> None:
    device = Hardware(
        os="linux",
        machine="x86_64",
        cpu="any",
        cpu_features=(),
        cores=1,
        memory_bytes=1 << 30,
        libc="glibc",
        libc_version="2.36",
        profile="unknown",
        agent_version="1",
        engines={"native": "1"},
    )
    requires = Predicates("linux", "x86_64", (), "glibc", "2.28", "3.5.0")
    variant = Variant("one", engine, "fp32", {"model": Blob("0" * 64, 1)}, requires, 1 << 20)
    assert fit.missing_for(variant, device) == (f"the engine {engine} is not there",)
    older = dataclasses.replace(device, engines={engine: "3.4.9"})
    assert fit.missing_for(variant, older) == (f"needs {engine} 3.5.0, this has 3.4.9",)
    assert fit.missing_for(variant, dataclasses.replace(device, engines={engine: "3.10.0"})) == ()
