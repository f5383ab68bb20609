"""Web packages in the real browser: right answers pass, wrong ones, wrong files and browsers without SIMD do not."""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from tests.compiler.web.bundles import BROWSER, DENSE, bundle, native

from skerry_compiler import cli, files
from skerry_compiler.errors import CompileError
from skerry_compiler.proof import browser, prove
from skerry_compiler.web import check, package, writing
from skerry_compiler.web.judging import wrong
from skerry_contracts.container import Container

ROWS = DENSE.rows.tobytes()


def saved(found: Container, path: Path) -> Path:
    blobs = {each: found.read_blob(each) for each in found.manifest.blobs()}
    files.write(path, found.manifest_bytes, blobs, None)
    return path


@pytest.mark.browser
def test_generated_code_answers_in_the_browser_under_its_own_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(bundle(), tmp_path / "b.skerry")
    assert cli.main(["bundle", "web", str(path), "-o", str(tmp_path / "site.zip"), "--check", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["browser"].startswith("chromium ") and found["golden"] == len(DENSE.rows)
    assert (tmp_path / "site.zip").is_file()
    seen = check.check(package.package(bundle()), ROWS)
    answers = np.frombuffer(seen.answers, np.float32).reshape(len(DENSE.rows), -1)
    assert abs(answers - prove.originals(DENSE.name)).max() < prove.FLOAT_LIMIT
    assert seen.passed and "8 of 8" in seen.outcome


@pytest.mark.browser
def test_wrong_answers_are_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = (prove.originals(DENSE.name)[::-1] + np.float32(0.5)).tobytes()
    path = saved(bundle(answers=other), tmp_path / "b.skerry")
    assert cli.main(["bundle", "web", str(path), "-o", str(tmp_path / "site"), "--check"]) == 1
    assert "rows of y are beyond" in capsys.readouterr().err and not (tmp_path / "site").exists()


@pytest.mark.browser
def test_another_file_and_a_browser_without_simd_are_refused_in_words() -> None:
    made = package.package(bundle())
    longer = dataclasses.replace(made, files={**made.files, "model.wasm": made.files["model.wasm"] + b"\0"})
    with pytest.raises(CompileError, match=r"model\.wasm is not the file of this package"):
        check.check(longer, ROWS)
    turned = bytearray(made.files["model.wasm"])
    turned[-1] ^= 1
    with pytest.raises(CompileError, match="another digest"):
        check.check(dataclasses.replace(made, files={**made.files, "model.wasm": bytes(turned)}), ROWS)
    gone = {name: each for name, each in made.files.items() if name != "model.wasm"}
    with pytest.raises(CompileError, match="the server says 404"):
        check.check(dataclasses.replace(made, files=gone), ROWS)
    if platform.machine() == "x86_64":
        with pytest.raises(CompileError, match="no WebAssembly SIMD here"):
            check.check(made, ROWS, simd=False)


@pytest.mark.browser
@pytest.mark.ortweb
def test_onnxruntime_web_answers_in_the_browser_and_names_what_it_lacks() -> None:
    seen = check.check(package.package(bundle(), "ort"), ROWS)
    answers = np.frombuffer(seen.answers, np.float32).reshape(len(DENSE.rows), -1)
    assert abs(answers - prove.originals(DENSE.name)).max() < prove.FLOAT_LIMIT and seen.passed
    shape = [1, 64]
    lacking = helper.make_model(
        helper.make_graph(
            [helper.make_node("Inverted", ["x"], ["y"], domain="com.microsoft")],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        ),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
        ir_version=8,
    )
    with pytest.raises(CompileError, match=r"model\.onnx does not load: .*Inverted"):
        check.check(package.package(bundle(onnx=lacking.SerializeToString()), "ort"), ROWS)


USE = """
import {readFileSync} from "node:fs";
import {load, about} from "./model.js";
const source = readFileSync(about.file.name), model = await load({source});
const right = Array(64).fill(0), said = [];
const texts = Array(64).fill("a");
const wrong = [{}, {x: [1]}, {x: new Float64Array(64)}, {x: right, z: right}, null, {x: [right]}, {x: texts}];
for (const inputs of wrong)
  said.push(await model.run(inputs).then(() => "answered", error => `${error.name}: ${error.message}`));
said.push(Object.keys(await model.run({x: right})).join());
await model.close();
said.push(await model.run({x: right}).then(() => "answered", error => error.message));
said.push(await load({source: source.subarray(0, 40)}).then(() => "loaded", error => error.message));
console.log(JSON.stringify(said));
"""


@pytest.mark.node
def test_inputs_that_do_not_fit_are_named(tmp_path: Path) -> None:
    writing.write(tmp_path / "site", package.package(bundle()).files, "dense")
    (tmp_path / "site" / "use.js").write_text(USE)
    done = subprocess.run(["node", "use.js"], cwd=tmp_path / "site", capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said == [
        "ModelError: the input x is missing: FP32[1,64]",
        "ModelError: the input x has 1 elements, FP32[1,64] takes 64",
        "ModelError: the input x is no Float32Array and no list of numbers",
        "ModelError: no input z; there are x",
        "ModelError: inputs are an object of arrays by name",
        "ModelError: the input x is no flat list of FP32",
        "ModelError: the input x is no flat list of FP32",
        "y",
        "the model is closed",
        f"model.wasm is not the file of this package: 40 bytes, not {len(native())}",
    ]


def test_answers_are_judged_as_a_device_judges_them() -> None:
    golden, signature = bundle().manifest.golden, bundle().manifest.signature
    known = prove.originals(DENSE.name)[:, None]
    assert wrong(golden, signature, [known], [known]) == ""
    holed = known.copy()
    holed[3, 0, 2] = np.nan
    assert "1 of 8 rows of y" in wrong(golden, signature, [holed], [known])
    loose = dataclasses.replace(golden, atol=2.0)
    assert "8 best classes differ" in wrong(loose, signature, [1 - known], [known])


@pytest.mark.browser
@pytest.mark.ortweb
def test_the_browser_is_proven_on_onnxruntime_web_too() -> None:
    right = prove.originals(DENSE.name)
    ran, parity = browser.checks(BROWSER, DENSE, right, prove.FLOAT_LIMIT)
    assert ran.held and parity.held and "chromium " in ran.seen
    assert not browser.checks(BROWSER, DENSE, right + np.float32(0.1), prove.FLOAT_LIMIT)[1].held
