"""A board with little room: what does not fit is refused with what, by how much, and where it would fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from skerry_compiler import cli
from skerry_compiler.firmware.footprint import footprint, too_large
from skerry_compiler.proof.prove import compiled
from skerry_compiler.proof.references import references
from skerry_targets import nearest, shelf

ABOUT = ["--model", "kws", "--version", "1.0", "--release", "1", "--quiet"]


def dense(path: Path, inputs: int, outputs: int) -> Path:
    weights = (np.random.default_rng(1).normal(size=(inputs, outputs)) / inputs**0.5).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "large_one"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, outputs])],
        [numpy_helper.from_array(weights, "large_one")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def board(path: Path, base: str, artifact_bytes: int, memory_bytes: int) -> Path:
    budget = f"[budget]\nartifact_bytes = {artifact_bytes}\nmemory_bytes = {memory_bytes}\n"
    path.write_text(f'id = "mine"\ntitle = "Mine"\nextends = "{base}"\n\n{budget}')
    return path


def refused(capsys: pytest.CaptureFixture[str], out: Path, *words: str) -> str:
    assert cli.main(["compile", *words, *ABOUT, "-o", str(out)]) == 6
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("skerry: error: ") and not out.exists()
    return said


@pytest.mark.boards
def test_a_microcontroller_gets_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = dense(tmp_path / "m.onnx", 64, 32), tmp_path / "out.skerry"
    assert cli.main(["compile", str(model), "--target", "cortex-m4", *ABOUT, "-o", str(out)]) == 0
    assert "right answers in the emulator" in capsys.readouterr().out and out.is_file()


def test_more_than_the_flash(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = dense(tmp_path / "m.onnx", 512, 512)  # a megabyte of weights
    said = refused(capsys, tmp_path / "out", str(model), "--target", "cortex-m4")
    assert "kB of flash" in said and "more than the 512.0 kB" in said
    assert "mostly constants, 1024" in said and "'large_one' 512x512" in said
    assert "(stm32h7 is the nearest with room: 1536.0 kB and 384.0 kB)" in said


def test_more_than_the_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = board(tmp_path / "mine.toml", "cortex-m4", 1 << 20, 2048)
    said = refused(capsys, tmp_path / "out", str(dense(tmp_path / "m.onnx", 256, 256)), "--target", str(mine))
    assert "kB of memory" in said and "more than the 2.0 kB" in said and "is the nearest with room" in said


def test_more_than_a_measured_board_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = board(tmp_path / "mine.toml", "x86-64-v2", 1000, 1 << 30)
    model = dense(tmp_path / "m.onnx", 64, 64)
    said = refused(capsys, tmp_path / "out", str(model), "--target", str(mine), "--budget", "0.5s")
    assert "the target allows 1000" in said and "is the nearest with room" in said


@pytest.mark.boards
def test_bytes_ship_where_floats_have_no_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = dense(tmp_path / "m.onnx", 128, 128)  # 64 kB in floats
    rows = tmp_path / "rows.npz"
    np.savez(rows, x=np.random.default_rng(2).normal(size=(64, 128)).astype(np.float32))
    mine = board(tmp_path / "mine.toml", "cortex-m4", 40_000, 1 << 17)
    words = ["compile", str(model), "--target", str(mine), "--calibration", str(rows), *ABOUT]
    assert cli.main([*words, "-o", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "native-int8" in shown.splitlines()[2] and "more than the 39.1 kB" in shown


def test_a_footprint_is_what_is_linked() -> None:
    profile = shelf.get("cortex-m4")
    float_one, bytes_one = (footprint(compiled(each, profile), profile, each.signature) for each in references()[:2])
    weights = 4 * (64 * 48 + 48 * 10)
    assert weights < float_one.flash["constants"] < weights + 4096 and float_one.ram["inputs and outputs"] == 4 * 74
    assert bytes_one.flash["constants"] < float_one.flash["constants"] / 2
    assert too_large(float_one, profile) is None


def test_the_nearest_board_with_room_is_like_the_one_that_has_none() -> None:
    profile = shelf.get("cortex-m4")
    found = nearest.roomier(profile, 600_000, 100_000)
    assert found is not None and found.cpu.compiler == profile.cpu.compiler
    larger = nearest.roomier(profile, 10 << 20, 1 << 20)
    assert larger is not None and larger.abi.os == "linux"
    assert nearest.roomier(profile, 1 << 50, 0) is None
    assert "no board" in nearest.with_room(profile, 1 << 50, 0)
