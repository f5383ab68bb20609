"""Web packages as files: whole, small, the same every time, free of addresses, and refused for what no browser runs."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from tests.compiler.web.bundles import DENSE, bundle, native

from skerry_compiler import cli
from skerry_compiler.errors import CompileError, ToolError, UnsupportedError
from skerry_compiler.web import package, runtime, writing
from skerry_contracts.bundle import Predicates, Signature
from skerry_contracts.tensor import ITEM_BYTES, DType, TensorSpec


def about(made: package.Made) -> dict[str, object]:
    found: dict[str, object] = json.loads(made.files["about.js"].decode().removeprefix("export default ").rstrip(";\n"))
    return found


class Page(HTMLParser):
    """What a policy without inline scripts would stop."""

    def __init__(self) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.script: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        self.inline += [name for name in names if name.startswith("on") or name == "style"]
        self.inline += ["style"] if tag == "style" else []
        self.script = "" if tag == "script" and "src" not in names else None

    def handle_data(self, data: str) -> None:
        if self.script is not None:
            self.script += data
            self.inline += [self.script]
            self.script = None


def test_a_package_of_generated_code_is_whole_and_needs_nothing() -> None:
    made = package.package(bundle())
    assert made.engine == "native" and made.files["model.wasm"] == native()
    found = about(made)
    assert found["file"] == {
        "name": "model.wasm", "bytes": len(native()), "sha256": hashlib.sha256(native()).hexdigest()
    }  # fmt: skip
    manifest = json.loads(made.files["package.json"])
    assert manifest["version"] == "3.0.0" and "dependencies" not in manifest  # "1.0" is no version to npm
    assert set(manifest["files"]) <= set(made.files)
    page = Page()
    page.feed(made.files["index.html"].decode())
    assert page.inline == []
    assert made.files == package.package(bundle()).files


def test_a_package_for_onnxruntime_web_names_its_version_and_locks_it_without_addresses() -> None:
    made = package.package(bundle(), "ort")
    version = package.runtime_version()
    assert json.loads(made.files["package.json"])["dependencies"] == {"onnxruntime-web": version}
    lock = json.loads(made.files["package-lock.json"])
    assert lock["packages"]["node_modules/onnxruntime-web"]["version"] == version
    others = [each for path, each in lock["packages"].items() if path]
    assert all(each["integrity"].startswith("sha512-") and "resolved" not in each for each in others)
    page = Page()
    page.feed(made.files["index.html"].decode())
    (imports,) = page.inline  # allowed by its digest alone
    assert json.loads(imports)["imports"]["onnxruntime-web/wasm"].startswith("./node_modules/")
    allowed = package.page("x", package.RUNTIME, "demo.js").decode()
    assert "unsafe-inline" not in allowed and "'unsafe-eval'" not in allowed


def test_no_file_asks_for_another_server() -> None:
    for chosen in ("native", "ort"):
        for name, content in package.package(bundle(), chosen).files.items():
            assert name.startswith(("model.", "golden.")) or not re.search(rb"(?:https?|wss?):", content), name


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.text(min_size=1, max_size=8), st.sampled_from(DType)), max_size=4, unique_by=lambda each: each[0]
    )
)
def test_types_name_every_tensor_whatever_it_is_called(tensors: list[tuple[str, DType]]) -> None:
    named = [(name, kind) for name, kind in tensors if all(ord(letter) >= 32 for letter in name)]
    specs = tuple(TensorSpec(name, kind, (1, 2)) for name, kind in named)
    text = package._types(Signature(specs, (TensorSpec("y", DType.FP32, (1,)),)), "native")
    for name, kind in named:
        width = re.search(rf"^  {re.escape(json.dumps(name))}: [A-Za-z]+?(\d+)Array \|", text, re.MULTILINE)
        assert width is not None and int(width[1]) == 8 * ITEM_BYTES[kind]
    assert text.isascii()


def test_what_no_browser_runs_is_refused() -> None:
    with pytest.raises(CompileError, match="not for browsers"):
        package.package(bundle(needs=Predicates("linux", "x86_64")))
    with pytest.raises(CompileError, match="no variant 'ort-int8'"):
        package.package(bundle(), "ort-int8")
    with pytest.raises(CompileError, match="does not run in a browser"):
        package.package(bundle(extra={"weights": b"mapped"}), "ort")
    node = helper.make_node("Conv", ["x", "w"], ["y"], domain=package.NOT_PORTABLE)
    laid_out = helper.make_model(helper.make_graph([node], "g", [], []))
    with pytest.raises(UnsupportedError, match="laid out for one processor"):
        package.package(bundle(onnx=laid_out.SerializeToString()), "ort")


def test_archives_open_as_what_they_are(tmp_path: Path) -> None:
    made = package.package(bundle())
    for suffix in writing.ARCHIVES:
        writing.write(tmp_path / f"one{suffix}", made.files, "dense")
        writing.write(tmp_path / f"two{suffix}", made.files, "dense")
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert {name: archive.read(f"dense/{name}") for name in made.files} == made.files
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "one.tgz").read_bytes())) as tar:
        assert {each.name for each in tar} == {f"package/{name}" for name in made.files}


def test_a_folder_is_replaced_only_if_it_is_a_package(tmp_path: Path) -> None:
    made, site = package.package(bundle()), tmp_path / "site"
    writing.refuse_unwritable(site, tmp_path / "b.skerry")
    writing.write(site, made.files, "dense")
    (site / "node_modules").mkdir()
    writing.refuse_unwritable(site, tmp_path / "b.skerry")
    writing.write(site, made.files, "dense")
    assert (site / "node_modules").is_dir()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    (tmp_path / "file").write_text("")
    for place, words in (("mine", "holds other things"), ("file", "it is a file"), ("no/where", "no folder")):
        with pytest.raises(CompileError, match=words):
            writing.refuse_unwritable(tmp_path / place, tmp_path / "b.skerry")


def test_the_command_refuses_what_is_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "b.skerry").write_bytes(b"PK")
    assert cli.main(["bundle", "web", str(tmp_path / "b.skerry"), "-o", str(tmp_path / "site")]) == 1
    assert "b.skerry" in capsys.readouterr().err and not (tmp_path / "site").exists()


def test_another_or_a_damaged_onnxruntime_web_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(runtime.VARIABLE, str(tmp_path))
    for content, words in (
        (None, "is no whole"),
        ('{"version": "1.2.3"}', "1.2.3 is installed"),
        ("[]", "is no whole"),
    ):
        if content is not None:
            (tmp_path / "package.json").write_text(content)
        with pytest.raises(ToolError, match=words) as caught:
            runtime.served()
        assert f"npm install onnxruntime-web@{package.runtime_version()}" in caught.value.hint
    monkeypatch.delenv(runtime.VARIABLE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runtime, "GLOBAL", ())
    (tmp_path / "package.json").unlink()
    with pytest.raises(ToolError, match="not installed here"):
        runtime.served()


def test_the_rows_of_the_reference_are_what_the_golden_file_holds() -> None:
    made = package.package(bundle())
    assert made.files["golden.inputs"] == DENSE.rows.tobytes()
