"""nvcc, TVM and the driver: what they make where they are, and one line with the next step where they are not."""

from __future__ import annotations

import ctypes.util
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from skerry_compiler.errors import ToolError
from skerry_compiler.proof import cli, headers
from skerry_compiler.proof.cuda import driver, models, nvcc, prove
from skerry_targets import levels, shelf
from skerry_targets.levels import Kind, Level

KERNEL = 'extern "C" __global__ void twice(float *x) { x[threadIdx.x] *= 2; }\n'
no_tvm = pytest.mark.skipif(importlib.util.find_spec("tvm") is None, reason="pip install skerry[cuda]")


@pytest.fixture
def without_nvcc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv(nvcc.VARIABLE, str(tmp_path / "nvcc"))
    nvcc.find.cache_clear()
    yield
    nvcc.find.cache_clear()


@pytest.mark.usefixtures("without_nvcc")
def test_an_nvcc_that_is_not_there_is_named_with_the_next_step() -> None:
    with pytest.raises(ToolError, match="nvcc does not start") as caught:
        nvcc.cubin(KERNEL, "sm_90")
    assert "pip install skerry[cuda]" in caught.value.hint


@pytest.mark.nvcc
def test_machine_code_is_for_the_capability_that_was_asked_for_and_always_the_same() -> None:
    for arch in ("sm_75", "sm_90"):
        made = nvcc.cubin(KERNEL, arch)
        assert headers.wrong_cubin(headers.read(made), arch) == "" and made == nvcc.cubin(KERNEL, arch)
    with pytest.raises(ToolError, match="makes no code for sm_20") as caught:
        nvcc.cubin(KERNEL, "sm_20")
    assert "sm_90" in caught.value.hint
    with pytest.raises(ToolError, match="nvcc failed with code"):
        nvcc.cubin("__global__ void broken(", "sm_90")


@pytest.mark.nvcc
@no_tvm
def test_a_graphics_processor_is_compiled_for_anywhere() -> None:
    profile = shelf.get("cuda-sm90")
    found = prove.compiled(profile, lambda _: None)
    assert all(each.held for each in found.checks) and levels.level(profile, found) is Level.COMPILED
    assert {"apache-tvm", "nvcc"} <= set(found.tools)


@pytest.mark.skipif(importlib.util.find_spec("tvm") is not None, reason="TVM is here")
def test_without_tvm_the_next_step_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["cuda-sm90"]) == 1
    assert "TVM is not installed here" in capsys.readouterr().err


def test_a_board_without_a_graphics_processor_is_refused() -> None:
    with pytest.raises(ToolError, match="has no NVIDIA graphics processor"):
        prove.compiled(shelf.get("raspberry-pi-4"), lambda _: None)


def test_no_driver_and_what_is_none_are_refused() -> None:
    with pytest.raises(ToolError, match="no NVIDIA driver here: libcuda-of-nobody"):
        driver.Driver("libcuda-of-nobody.so.1")
    other = ctypes.util.find_library("c")
    assert other is not None
    with pytest.raises(ToolError, match="missing or not whole"):
        driver.Driver(other)


def test_without_a_device_the_command_claims_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if ctypes.util.find_library("cuda"):
        pytest.skip("an NVIDIA driver is here")
    for words in (["--gpu"], ["--gpu", "cuda-sm90", "jetson-orin-nano"]):
        assert cli.main([*words, "-o", str(tmp_path / "evidence")]) == 1
        assert "no NVIDIA driver here: libcuda.so.1" in capsys.readouterr().err
    assert not (tmp_path / "evidence").exists()
    assert cli.main(["--gpu", "cuda-sm91"]) == 1 and "did you mean" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        cli.main(["--gpu", "--all"])
    assert caught.value.code == 2


@pytest.mark.gpu
@pytest.mark.nvcc
@no_tvm
def test_this_machines_graphics_processor_is_proven() -> None:
    for found in prove.on_device([], lambda _: None):
        assert [each for each in found.checks if not each.held] == []
        assert {each.kind for each in found.checks} == set(Kind)


def test_references_in_bytes_are_not_what_tvm_gets() -> None:
    assert {each.name for each in models.floats()} == {"dense", "convolutions"}
