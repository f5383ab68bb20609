"""Bytes in the scales of an earlier release: the old network gives the old bytes, a retrained one bytes beside them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.compiler.repair.nets import material, network, rows, signature

from skerry_compiler import compiling, pack, rebuilding
from skerry_compiler.engines.candidate import FROZEN, Draft
from skerry_compiler.errors import CompileError
from skerry_compiler.repair import frozen, offers
from skerry_compiler.repair.layers import Model, plain
from skerry_compiler.request import Request
from skerry_contracts import codec
from skerry_targets import catalogue

FEEDS = {"x": np.concatenate([row["x"] for row in rows(8, 3)])}


@pytest.fixture(scope="module")
def first() -> onnx.ModelProto:
    return network(["separable", "residual"], "gemm", 2, softmax=True)


@pytest.fixture(scope="module")
def handed(first: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = offers.offers(material(first, FEEDS, time_s=0.0), signature(first), lambda _: None, retrain=True)
    assert found.handover is not None
    path = tmp_path_factory.mktemp("scales") / "scales.json"
    path.write_text(json.dumps(found.handover.plain))
    return path


def trained_on(proto: onnx.ModelProto, share: float) -> onnx.ModelProto:
    """Return the network with every weight moved by up to a share of its layer's largest."""
    model, dice = Model(plain(proto)), np.random.default_rng(5)
    for layer in model.layers():
        weight = model.array(layer.weight)
        model.put(layer.weight, weight + np.abs(weight).max() * share * dice.uniform(-1, 1, weight.shape).astype("f4"))
    return model.written()


def draft(proto: onnx.ModelProto, scales: Path | None) -> Draft:
    given = dataclasses.replace(material(proto, FEEDS), scales=scales)
    (made,) = offers.offers(given, signature(proto), lambda _: None).drafts
    return made


def test_the_old_network_in_its_own_scales_is_the_old_candidate(first: onnx.ModelProto, handed: Path) -> None:
    name = json.loads(handed.read_text())["candidate"]
    wanted = dataclasses.replace(material(first, FEEDS), wanted=frozenset({name}))
    (old,) = offers.offers(wanted, signature(first), lambda _: None).drafts
    again = draft(first, handed)
    assert again.id == FROZEN and again.precision == "int8"
    assert again.c_text == old.c_text
    differing = np.frombuffer(again.files["weights"], "i1") != np.frombuffer(old.files["weights"], "i1")
    assert differing.mean() < 0.01, "scales went through JSON as float32: single bytes of factors at most"


def test_a_retrained_network_keeps_its_code_and_most_of_its_bytes(first: onnx.ModelProto, handed: Path) -> None:
    old, new = draft(first, handed), draft(trained_on(first, 0.002), handed)
    assert new.c_text == old.c_text and len(new.files["weights"]) == len(old.files["weights"])
    one, two = (np.frombuffer(each.files["weights"], "i1").astype(int) for each in (old, new))
    free = dataclasses.replace(
        material(trained_on(first, 0.002), FEEDS),
        wanted=frozenset({json.loads(handed.read_text())["candidate"]}),
    )
    (own,) = offers.offers(free, signature(first), lambda _: None).drafts
    three = np.frombuffer(own.files["weights"], "i1").astype(int)
    assert 0 < (one != two).mean() < (one != three).mean()


def test_a_bundle_in_given_scales_answers_right_and_is_made_again(
    first: onnx.ModelProto, handed: Path, tmp_path: Path
) -> None:
    source, calibration = tmp_path / "new.onnx", tmp_path / "cal.npz"
    onnx.save(trained_on(first, 0.01), source)
    np.savez(calibration, x=FEEDS["x"])
    request = Request(
        source, catalogue.get("x86-64-v3"), "m", "2", 2, calibration, time_s=2.0, engines=("native",), scales=handed
    )
    made = compiling.compile_model(request, 1_800_000_000.0, lambda words: None)
    assert len(made.manifest.variants) == 1, "an update that is to be small carries no runners-up"
    assert made.evidence is not None and FROZEN in {each.id for each in made.evidence.candidates}
    assert made.manifest.recipe.options["scales-sha256"] == codec.digest(handed.read_bytes())
    again = rebuilding.request_of(made.manifest, source, calibration, trust_pickle=False, scales=handed)
    pack.check_sources(again, made.manifest.recipe)
    without = dataclasses.replace(again, scales=None)
    with pytest.raises(CompileError, match="scales are not those"):
        pack.check_sources(without, made.manifest.recipe)
    wanted = compiling.prepare(again, tmp_path, wanted=frozenset({FROZEN}))
    assert [each.id for each in wanted.drafts if each.precision == "int8"] == [FROZEN]


def test_only_the_candidates_of_a_like_release_compete(first: onnx.ModelProto, tmp_path: Path) -> None:
    source = tmp_path / "new.onnx"
    onnx.save(first, source)
    request = Request(source, catalogue.get("x86-64-v3"), "m", "2", 2, time_s=1.0, like=frozenset({"native-network"}))
    made = compiling.compile_model(request, 1_800_000_000.0, lambda words: None)
    assert made.evidence is not None and [each.id for each in made.evidence.candidates] == ["native-network"]


def test_scales_of_another_network_are_refused(handed: Path) -> None:
    other = network(["separable", "pool", "residual"], "gemm", 3, softmax=True)
    with pytest.raises(CompileError, match="another network's"):
        draft(other, handed)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plain: {**plain, "format": "other"},
        lambda plain: {**plain, "candidate": "native-int8-none"},
        lambda plain: {**plain, "layers": []},
        lambda plain: {**plain, "layers": 3},
        lambda plain: {**plain, "activations": {"x": {"scale": 0, "zero_point": 0}}},
        lambda plain: {**plain, "activations": {"x": {"scale": 1, "zero_point": 300}}},
        lambda plain: {
            **plain,
            "layers": [{**each, "weight": {"scales": [-1.0]}} for each in plain["layers"] if each["bytes"]],
        },
        lambda plain: [],
    ],
)
def test_what_holds_no_scales_is_refused_in_one_line(handed: Path, tmp_path: Path, spoil: Any) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(spoil(json.loads(handed.read_text()))))
    with pytest.raises(CompileError, match="holds no scales") as caught:
        frozen.read(path)
    assert "\n" not in str(caught.value) and "--qat-handover" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(CompileError, match="holds no scales"):
        frozen.read(path)
    with pytest.raises(CompileError, match="No such file"):
        frozen.read(tmp_path / "none.json")
