"""gRPC's messages against the documents of the local API: tensors keep their bytes, and our own file is protobuf's."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("google.protobuf", reason="gRPC is an extra: pip install skerry[grpc]")
pytest.importorskip("grpc", reason="gRPC is an extra: pip install skerry[grpc]")

from google.protobuf.message import DecodeError  # after the skip

from skerry_agent.errors import RequestError
from skerry_agent.grpc_front import schema, words
from skerry_contracts.tensor import DType

MESSAGES = schema.load().messages
FIELDS = {
    "BOOL": ("bool_contents", np.bool_),
    "INT8": ("int_contents", np.int8),
    "INT16": ("int_contents", np.int16),
    "INT32": ("int_contents", np.int32),
    "INT64": ("int64_contents", np.int64),
    "UINT8": ("uint_contents", np.uint8),
    "UINT16": ("uint_contents", np.uint16),
    "UINT32": ("uint_contents", np.uint32),
    "UINT64": ("uint64_contents", np.uint64),
    "FP32": ("fp32_contents", np.float32),
    "FP64": ("fp64_contents", np.float64),
}


def request(datatype: str, field: str = "", values: Any = ()) -> Any:
    made = MESSAGES["ModelInferRequest"](model_name="m")
    tensor = made.inputs.add(name="x", datatype=datatype, shape=[len(values)])
    if field:
        getattr(tensor.contents, field).extend(values)
    return made


@given(st.data())
@settings(derandomize=True, max_examples=150)
def test_typed_contents_become_the_bytes_that_numpy_makes_of_them(data: st.DataObject) -> None:
    datatype = data.draw(st.sampled_from(sorted(FIELDS)))
    field, kind = FIELDS[datatype]
    if datatype == "BOOL":
        elements: Any = st.booleans()
    elif datatype.startswith("FP"):
        elements = st.floats(width=32 if datatype == "FP32" else 64)
    else:
        limits = np.iinfo(kind)
        elements = st.integers(int(limits.min), int(limits.max))
    values = data.draw(st.lists(elements, min_size=1, max_size=20))
    head, chunks = words.read_infer(request(datatype, field, values))
    assert chunks == [np.array(values, kind).astype(kind).tobytes()]
    (entry,) = json.loads(head)["inputs"]
    assert entry == {
        "name": "x",
        "datatype": datatype,
        "shape": [len(values)],
        "parameters": {"binary_data_size": len(chunks[0])},
    }


def test_every_type_of_the_contracts_has_a_list_or_is_known_to_have_none() -> None:
    assert {each.value for each in DType} - set(FIELDS) == {"FP16"}


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("INT8", "int_contents", [128]),
        ("INT16", "int_contents", [-40000]),
        ("UINT8", "uint_contents", [256]),
        ("FP32", "fp64_contents", [1.0]),
        ("INT32", "int64_contents", [1]),
        ("BYTES", "bytes_contents", [b"a"]),
        ("", "fp32_contents", [1.0]),
        ("FP16", "fp32_contents", [1.0]),
    ],
)
def test_contents_that_do_not_fit_their_type_are_refused(datatype: str, field: str, values: list[Any]) -> None:
    with pytest.raises(RequestError) as caught:
        words.read_infer(request(datatype, field, values))
    assert caught.value.status == 400 and "'x'" in str(caught.value)


def test_nobody_overrides_how_tensors_travel() -> None:
    made = request("FP32", "fp32_contents", [1.0])
    made.parameters["binary_data_output"].bool_param = False
    made.inputs[0].parameters["binary_data_size"].int64_param = 1 << 60
    made.outputs.add(name="y").parameters["binary_data"].bool_param = False
    head = json.loads(words.read_infer(made)[0])
    assert head["parameters"] == {"binary_data_output": True}
    assert head["inputs"][0]["parameters"] == {"binary_data_size": 4}
    assert head["outputs"] == [{"name": "y", "parameters": {"binary_data": True}}]


@given(st.binary(max_size=200))
@settings(derandomize=True, max_examples=300)
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    made = MESSAGES["ModelInferRequest"]()
    try:
        made.ParseFromString(data)
        words.read_infer(made)
    except (DecodeError, RequestError):
        pass


@pytest.mark.parametrize("name", sorted(MESSAGES))
def test_every_message_survives_the_wire(name: str) -> None:
    assert MESSAGES[name].FromString(MESSAGES[name]().SerializeToString()) == MESSAGES[name]()


@pytest.mark.parametrize(
    "text",
    [
        "option a = 1;",
        "enum A { a; }",
        "message A { string a = ; }",
        "message A { x",
        "service S { rpc A(B) }",
        "message ! {}",
    ],
)
def test_what_is_not_read_is_said(text: str) -> None:
    with pytest.raises(ValueError):
        schema.describe(text)


def test_our_fields_are_those_of_nvidias_client() -> None:
    """Numbers and types are the protocol: compared with the file that tritonclient brings, where it is installed."""
    why = "tritonclient[grpc] is installed by hand for this check"
    found = [
        pytest.importorskip(f"tritonclient.grpc.{name}", reason=why).DESCRIPTOR
        for name in ("service_pb2", "model_config_pb2")
    ]
    theirs: dict[str, Any] = {name: each for file in found for name, each in file.message_types_by_name.items()}
    only_ours = {"RepositoryModelLoadResponse", "RepositoryModelUnloadResponse"}  # KServe's fields
    for name in set(MESSAGES) - only_ours:
        ours = _fields(MESSAGES[name].DESCRIPTOR)
        assert ours.items() <= _fields(theirs[name]).items(), name
    ours, kinds = MESSAGES["ModelInput"].DESCRIPTOR, theirs["ModelInput"]
    assert _values(ours, "data_type") == _values(kinds, "data_type")
    ours, kinds = MESSAGES["ModelInstanceGroup"].DESCRIPTOR, theirs["ModelInstanceGroup"]
    assert _values(ours, "kind") == _values(kinds, "kind")


def _values(descriptor: Any, field: str) -> dict[str, int]:
    return {each.name: each.number for each in descriptor.fields_by_name[field].enum_type.values}


def _fields(descriptor: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in descriptor.fields:
        kind = each.message_type.full_name if each.message_type else each.type
        found[each.name] = (each.number, kind, each.is_repeated, each.containing_oneof and each.containing_oneof.name)
    return found
