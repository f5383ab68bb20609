"""What a driver, nvidia-smi, a profile and a cubin say, judged: on what real ones have said."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_compiler.errors import ToolError
from skerry_compiler.proof import headers
from skerry_compiler.proof.cuda import judge, models, prove, session
from skerry_compiler.proof.references import references
from skerry_targets import levels, shelf
from skerry_targets.levels import Check, Kind, Level

# The first 64 bytes of cubins: ptxas 12.9 (the older ABI of cubins), then nvcc 13.0.
CUBINS = {
    (
        "7f454c460201013307000000000000000200be00810000000000000000000000"
        "000900000000000000060000000000004b054b0040003800030040000c000100"
    ): "sm_75",
    (
        "7f454c460201013307000000000000000200be00810000000000000000000000"
        "800a000000000000800700000000000057054b0040003800030040000c000100"
    ): "sm_87",
    (
        "7f454c460201013307000000000000000200be00810000000000000000000000"
        "180a00000000000018070000000000005a054b0040003800050040000c000100"
    ): "sm_90",
    (
        "7f454c460201014108000000000000000200be00010000000000000000000000"
        "000b0000000000008007000000000000044b000640003800030040000e000100"
    ): "sm_75",
    (
        "7f454c460201014108000000000000000200be00010000000000000000000000"
        "d80c0000000000001809000000000000045a000640003800050040000f000100"
    ): "sm_90",
    (
        "7f454c460201014108000000000000000200be00010000000000000000000000"
        "0013000000000000800d00000000000002780006400038000500400016000100"
    ): "sm_120",
}
H100 = "NVIDIA H100 80GB HBM3, 550.54.15, 9.0, 345, 1980\n"


@pytest.mark.parametrize(("content", "arch"), CUBINS.items())
def test_a_cubin_says_whose_it_is_in_either_abi(content: str, arch: str) -> None:
    header = headers.read(bytes.fromhex(content))
    assert header is not None and str(header).startswith(f"cubin, {arch}, 64 bits")
    assert headers.wrong_cubin(header, arch) == ""
    assert "not a cubin for sm_80" in headers.wrong_cubin(header, "sm_80")
    assert headers.wrong(header, shelf.get("cuda-sm90"))  # nor is it a library
    cut = headers.read(bytes.fromhex(content)[:40])
    assert cut is None and headers.wrong_cubin(cut, arch) == "it is of no known format"


def test_a_library_is_no_cubin() -> None:
    from skerry_compiler.proof.prove import compiled
    from skerry_compiler.proof.refusals import PLAIN_BOARD

    library = headers.read(compiled(references()[0], shelf.get(PLAIN_BOARD)))
    assert "not a cubin" in headers.wrong_cubin(library, "sm_90")


def test_the_device_must_be_the_profiles() -> None:
    known, hopper = shelf.load_all(), shelf.get("cuda-sm90")
    smi = judge.parse_smi(H100)
    assert smi is not None and (smi.driver, smi.clock_max_mhz) == ("550.54.15", "1980")
    judge.refuse_other(hopper, judge.arch((9, 0)), smi, known)
    with pytest.raises(ToolError, match="cuda-sm90 is sm_90, the device here is sm_86") as caught:
        judge.refuse_other(hopper, judge.arch((8, 6)), None, known)
    assert "cuda-sm86" in caught.value.hint
    with pytest.raises(ToolError, match="the device here is sm_70") as caught:
        judge.refuse_other(hopper, judge.arch((7, 0)), None, known)
    assert "no profile is of this kind" in caught.value.hint
    with pytest.raises(ToolError, match="raspberry-pi-4 is no graphics processor"):
        judge.refuse_other(shelf.get("raspberry-pi-4"), "sm_90", None, known)
    with pytest.raises(ToolError, match=r"the driver says sm_86, nvidia-smi 9\.0"):
        judge.refuse_other(shelf.get("cuda-sm86"), "sm_86", smi, known)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        "No devices were found",
        "NVIDIA H100, 550.54.15, [N/A], 345, 1980",
    ],
)
def test_an_nvidia_smi_that_says_nothing_of_use_is_not_believed(text: str) -> None:
    assert judge.parse_smi(text) is None


def test_the_foreign_cubin_is_of_another_major_version_than_any_device() -> None:
    for profile in shelf.load_all():
        if profile.gpu is not None:
            other = judge.foreign(profile.gpu.arch)
            assert other[:-1] != profile.gpu.arch[:-1]  # the last digit is the minor version


def recorded() -> bytes:
    """Return a profile that ONNX Runtime wrote just now, of a model with a shape computation in it."""
    reference = models.floats()[1]
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        found = onnxruntime.InferenceSession(
            reference.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found.run(None, {"x": reference.rows[:1]})
        return Path(found.end_profiling()).read_bytes()


def test_a_profile_says_where_each_node_ran() -> None:
    profile = recorded()
    found = judge.nodes(profile)
    assert sum(found["CPUExecutionProvider"].values()) >= 5
    assert judge.strays(found) == f"nothing ran on {judge.PROVIDER}"
    moved = profile.replace(b"CPUExecutionProvider", judge.PROVIDER.encode())
    assert judge.strays(judge.nodes(moved)) == ""
    events = json.loads(moved)
    place = next(at for at, each in enumerate(events) if str(each["name"]).endswith("_kernel_time"))
    events[place]["args"]["provider"] = "CPUExecutionProvider"
    stray = judge.strays(judge.nodes(json.dumps(events).encode()))
    assert stray == f"1 {events[place]['args']['op_name']} on CPUExecutionProvider"
    events[place]["args"]["op_name"] = "Shape"
    assert judge.strays(judge.nodes(json.dumps(events).encode())) == ""


@given(
    st.binary(max_size=60) | st.sampled_from([b"{}", b"null", b'[1, "a", {"cat": "Node"}, {"cat": "Node", "args": 3}]'])
)
def test_what_is_no_profile_proves_nothing(content: bytes) -> None:
    try:
        found = judge.nodes(content)
    except ToolError:
        return
    assert judge.strays(found).startswith("nothing ran")


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=300))
def test_percentiles_are_times_that_were_measured(times: list[float]) -> None:
    p50, p99 = judge.percentile(times, 0.5), judge.percentile(times, 0.99)
    assert p50 in times and p50 <= p99 <= max(times)
    assert sum(each <= p99 for each in times) >= 0.99 * len(times)


def test_answers_that_are_off_or_not_numbers_are_no_parity() -> None:
    right = np.eye(4, 10, dtype=np.float32)
    assert prove._parity("m", "x", right + np.float32(1e-4), right, prove.FLOAT_LIMIT).held
    holed = right.copy()
    holed[2, 5] = np.nan
    for wrong in (right + np.float32(0.1), right[:, ::-1], right[:2], holed):
        assert not prove._parity("m", "x", wrong, right, prove.FLOAT_LIMIT).held


def test_half_precision_is_half_precision_throughout() -> None:
    for reference in models.floats():
        model = models.half(reference.model)
        kinds = {each.data_type for each in model.graph.initializer}
        assert kinds == {10} and reference.model.graph.initializer[0].data_type == 1
        rows = reference.rows.astype(np.float16)
        found = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        answers = np.concatenate([found.run(None, {"x": row[None]})[0] for row in rows])
        right = onnxruntime.InferenceSession(reference.model.SerializeToString(), providers=["CPUExecutionProvider"])
        known = np.concatenate([right.run(None, {"x": row[None]})[0] for row in reference.rows])
        assert answers.dtype == np.float16
        assert prove._parity(reference.name, "float16", answers, known, prove.HALF_LIMIT).held


def test_evidence_reaches_no_further_than_what_was_tried() -> None:
    profile = shelf.get("cuda-sm90")
    looked = [Check(Kind.HEADER, "dense", True, ""), Check(Kind.BUDGET, "dense", True, "")]
    loaded = [*looked, Check(Kind.LOAD, "dense", True, "")]
    ran = [*loaded, Check(Kind.RUN, "dense", True, "")]
    parity = [*ran, Check(Kind.PARITY, "dense", True, "")]
    base = levels.on_file(profile.id)
    assert base is not None
    reached = [
        levels.level(profile, dataclasses.replace(base, checks=tuple(each))) for each in (looked, loaded, ran, parity)
    ]
    assert reached == [Level.COMPILED, Level.LOADED, Level.EXECUTED, Level.PARITY]
    took_foreign = [*parity, Check(Kind.REFUSAL, "dense", False, "a cubin for sm_75: CUDA_SUCCESS")]
    assert levels.level(profile, dataclasses.replace(base, checks=tuple(took_foreign))) is Level.DECLARED


def test_what_is_on_file_claims_no_more_than_compiled() -> None:
    for profile in shelf.load_all():
        if profile.family == "cuda":
            evidence = levels.on_file(profile.id)
            assert evidence is not None
            assert levels.of(profile) is Level.COMPILED or "cuda-driver" in evidence.tools, profile.id


def test_strictness_refuses_an_onnxruntime_without_cuda() -> None:
    if judge.PROVIDER in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(ToolError, match="built without CUDA") as caught:
        session.strict(models.floats()[0].model, models.floats()[0].rows)
    assert "onnxruntime-gpu" in caught.value.hint
    ran = session.plain(models.floats()[0].model, models.floats()[0].rows)
    assert ran.answers.shape == (8, 10) and 0 < ran.p50_ms <= ran.p99_ms and ran.nodes == {}


def test_nodes_count_kernels_and_nothing_else() -> None:
    events = [
        {"cat": "Session", "name": "model_run", "args": {}},
        {"cat": "Node", "name": "a_fence_before", "args": {"op_name": "Conv", "provider": judge.PROVIDER}},
        {"cat": "Node", "name": "a_kernel_time", "args": {"op_name": "Conv", "provider": judge.PROVIDER}},
    ]
    assert judge.nodes(json.dumps(events).encode()) == {judge.PROVIDER: Counter({"Conv": 1})}
