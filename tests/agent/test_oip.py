"""Open Inference Protocol documents: golden bytes of the binary extension, and everything a request can have wrong."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry_agent import oip
from skerry_agent.errors import RequestError
from skerry_contracts.bundle import Signature
from skerry_contracts.tensor import DType, Tensor, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec("a", DType.FP32, (1, 2)), TensorSpec("b", DType.UINT8, (3,))),
    outputs=(TensorSpec("y", DType.FP32, (2,)), TensorSpec("label", DType.INT64, (1,))),
)
ONE = Signature((TensorSpec("a", DType.FP32, (1, 2)),), (TensorSpec("y", DType.FP32, (2,)),))
A, B = struct.pack("<2f", 1.5, -2), bytes((1, 2, 3))
OUTPUTS = (
    Tensor("y", DType.FP32, (2,), struct.pack("<2f", 0.5, 2)),
    Tensor("label", DType.INT64, (1,), struct.pack("<q", 7)),
)


def a(**more: Any) -> dict[str, Any]:
    return {"name": "a", "shape": [1, 2], "datatype": "FP32", **more}


def b(**more: Any) -> dict[str, Any]:
    return {"name": "b", "shape": [3], "datatype": "UINT8", **more}


def read(document: Any, binary: bytes = b"", signature: Signature = SIGNATURE) -> oip.InferRequest:
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = {oip.HEADER_LENGTH: str(len(head))} if binary else {}
    return oip.read_infer(signature, headers, head + binary)


def test_json_in_flat_and_nested() -> None:
    for data in ([1.5, -2], [[1.5, -2]]):
        request = read({"id": "7", "inputs": [a(data=data), b(data=[1, 2, 3])]})
        assert [tensor.data for tensor in request.inputs] == [A, B]
        assert (request.id, request.keep, request.outputs) == ("7", True, (("y", False), ("label", False)))


def test_binary_request_golden_bytes() -> None:
    head = (
        b'{"id":"q","inputs":[{"name":"b","shape":[3],"datatype":"UINT8","parameters":{"binary_data_size":3}},'
        b'{"name":"a","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}],'
        b'"parameters":{"binary_data_output":true,"sample":false}}'
    )
    request = read(head, b"\x01\x02\x03\x00\x00\xc0\x3f\x00\x00\x00\xc0")
    assert {tensor.name: tensor.data for tensor in request.inputs} == {"a": A, "b": B}
    assert request.outputs == (("y", True), ("label", True)) and not request.keep


def test_binary_answer_golden_bytes() -> None:
    request = oip.InferRequest("q", (), (("label", False), ("y", True)), True)
    body, head_bytes = oip.write_infer(request, "toy", "3", OUTPUTS, {"prediction_id": "dev/00000001-00000000/1"})
    head = (
        b'{"model_name":"toy","model_version":"3","id":"q","parameters":{"prediction_id":"dev/00000001-00000000/1"},'
        b'"outputs":[{"name":"label","datatype":"INT64","shape":[1],"data":[7]},'
        b'{"name":"y","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}]}'
    )
    assert (body, head_bytes) == (head + b"\x00\x00\x00\x3f\x00\x00\x00\x40", len(head))


def test_json_answer_and_no_id() -> None:
    request = oip.InferRequest(None, (), (("y", False),), True)
    body, head_bytes = oip.write_infer(request, "toy", "3", OUTPUTS, {})
    assert head_bytes is None and "id" not in json.loads(body)
    assert json.loads(body)["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [2], "data": [0.5, 2.0]}]


def test_json_and_binary_inputs_mix() -> None:
    request = read({"inputs": [a(data=[1.5, -2]), b(parameters={"binary_data_size": 3})]}, B)
    assert [tensor.data for tensor in request.inputs] == [A, B]


def test_outputs_are_chosen_one_by_one() -> None:
    inputs = [a(data=[0, 0]), b(data=[1, 2, 3])]
    chosen = [{"name": "label", "parameters": {"binary_data": True}}]
    assert read({"inputs": inputs, "outputs": chosen}).outputs == (("label", True),)
    mixed = [{"name": "y"}, {"name": "label", "parameters": {"binary_data": False}}]
    request = read({"inputs": inputs, "outputs": mixed, "parameters": {"binary_data_output": True}})
    assert request.outputs == (("y", True), ("label", False))


def test_a_raw_binary_request_is_the_one_input() -> None:
    request = oip.read_infer(ONE, {oip.HEADER_LENGTH: "0"}, A)
    assert request.inputs[0].data == A and request.outputs == (("y", True),)
    for signature, body in ((ONE, A + b"x"), (SIGNATURE, A + B)):
        with pytest.raises(RequestError):
            oip.read_infer(signature, {oip.HEADER_LENGTH: "0"}, body)


GOOD = b(data=[1, 2, 3])


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"not json",
        b"\xff",
        b"[]",
        b'{"inputs":[],"inputs":[]}',
        b'{"inputs":NaN}',
        b'{"inputs":' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        {},
        {"inputs": {}},
        {"inputs": ["a"]},
        {"inputs": [{"name": 3}]},
        {"inputs": [a()]},
        {"inputs": [a(data=[1, 2], parameters={"binary_data_size": 8})]},
        {"inputs": [a(data=[1, 2], shape=[2, 1])]},
        {"inputs": [a(data=[1, 2], shape=2)]},
        {"inputs": [a(data=[1, 2], shape=[1.0, 2.5])]},
        {"inputs": [a(data=[1, 2], shape=["1", "2"])]},
        {"inputs": [a(data=[1, 2], datatype="FP64")]},
        {"inputs": [a(data=[1, 2], datatype=32)]},
        {"inputs": [a(data=[1, 2, 3])]},
        {"inputs": [a(data="12")]},
        {"inputs": [a(data=[1, 2], name="c")]},
        {"inputs": [a(data=[1, 2])], "id": 7},
        {"inputs": [a(data=[1, 2])], "parameters": []},
        {"inputs": [a(data=[1, 2])], "parameters": {"sample": "no"}},
        {"inputs": [a(data=[1, 2])], "outputs": [{"name": "z"}]},
        {"inputs": [a(data=[1, 2])], "outputs": [{"name": ["y"]}]},
        {"inputs": [a(data=[1, 2])], "outputs": [{"name": "y", "parameters": {"classification": 3}}]},
        {"inputs": [a(data=[1, 2], parameters=3)]},
    ],
)
def test_what_is_wrong_is_refused_with_400(document: Any) -> None:
    with pytest.raises(RequestError) as caught:
        read(document)
    assert caught.value.status == 400 and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "binary"),
    [
        ({"binary_data_size": 8}, A[:7]),
        ({"binary_data_size": 8}, A + b"x"),
        ({"binary_data_size": 9}, A + b"x"),
        ({"binary_data_size": -8}, A),
        ({"binary_data_size": True}, A),
        ({"binary_data_size": "8"}, A),
        ({"binary_data_size": 8.0}, A),
    ],
)
def test_binary_sizes_must_be_exact(parameters: dict[str, Any], binary: bytes) -> None:
    with pytest.raises(RequestError):
        read({"inputs": [a(parameters=parameters)]}, binary, ONE)


@pytest.mark.parametrize("said", ["-1", "99999", "9" * 400, "x", "1e2", "٣", ""])
def test_header_lengths_must_fit(said: str) -> None:
    with pytest.raises(RequestError):
        oip.read_infer(ONE, {oip.HEADER_LENGTH: said}, b"{}")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "id", "binary_data_size"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(PLAIN, st.binary(max_size=12))
def test_no_document_trips_the_reader(document: Any, binary: bytes) -> None:
    try:
        request = read(document, binary, ONE)
    except RequestError as error:
        assert error.status == 400
    else:
        assert all(tensor.data is not None for tensor in request.inputs)
