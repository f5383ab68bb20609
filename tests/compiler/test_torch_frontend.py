"""PyTorch programs: read only on trust, the same answers as PyTorch, every refusal in one line. What needs PyTorch is
skipped without it: it is not part of the locked set.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from skerry_compiler import compiling, sandbox
from skerry_compiler.errors import CompileError, ModelError, ToolError, UnsupportedError
from skerry_compiler.frontends import catalogue, torch_export
from skerry_compiler.frontends.opening import Opening
from skerry_compiler.request import Request
from skerry_contracts.evidence import Verdict
from skerry_targets import catalogue as targets

THERE = all(importlib.util.find_spec(each) is not None for each in ("torch", "onnxscript"))
needs_torch = pytest.mark.skipif(
    not THERE, reason="PyTorch is not installed (half a gigabyte, for one front end): pip install skerry[torch]"
)


def opening(path: Path, arrays: dict[str, np.ndarray] | None = None, *, trust: bool = True) -> Opening:
    return Opening(path, targets.get("x86-64-v3"), arrays or {}, {}, trust)


def saved(folder: Path, module: Any, inputs: tuple[Any, ...], **how: Any) -> Path:
    """Return the file of an exported module."""
    import torch

    path = folder / f"{type(module).__name__}.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, inputs, **how), path)
    return path


def read(path: Path, arrays: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    model, form = catalogue.read(opening(path, arrays))
    assert form == "torch-export"
    return model


def convolutions() -> Any:
    import torch

    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.SiLU(), torch.nn.Flatten()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(8 * 64, 5), torch.nn.Softmax(1)).eval()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"anything"])
def test_nothing_is_read_without_trust(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="runs what is inside") as caught:
        catalogue.read(opening(path, trust=False))
    assert "--trust-pickle" in caught.value.hint


@pytest.mark.skipif(THERE, reason="PyTorch is installed here")
def test_without_pytorch_the_cure_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.pt2"
    path.write_bytes(b"PK")
    with pytest.raises(ToolError) as caught:
        catalogue.read(opening(path))
    assert "skerry[torch]" in caught.value.hint


@pytest.mark.parametrize(
    "one, two, said",
    [
        ([1.0, 2.0], [1.0, 2.0], None),
        ([1.0, np.nan, np.inf], [1.0, np.nan, np.inf], None),
        ([1.0, 2.0], [1.0, 2.01], "off by"),
        ([1.0, 2.0], [1.0, np.nan], "off by"),
        ([1.0, 2.0], [[1.0, 2.0]], "of the shape"),
        ([1, 2], [1, 3], "the same in 50.0%"),
        ([True], [True], None),
    ],
)
def test_differences_in_words(one: list[Any], two: list[Any], said: str | None) -> None:
    found = torch_export.difference(np.array(one), np.array(two))
    assert found is None if said is None else found is not None and said in found


@needs_torch
def test_a_network_with_an_open_batch_compiles_and_is_made_again(tmp_path: Path) -> None:
    import torch

    batch = {0: torch.export.Dim("batch")}
    path = saved(tmp_path, convolutions(), (torch.randn(3, 3, 8, 8),), dynamic_shapes={"input": batch})
    rows = np.random.default_rng(0).normal(size=(12, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", rows)
    request = Request(
        path, targets.get("host"), "net", "1", 1, calibration=tmp_path / "rows.npz", time_s=1.0, trust_pickle=True
    )
    made = compiling.compile_model(request, 1_800_000_000.0, lambda words: None)
    assert made.manifest.signature.inputs[0].shape == (1, 3, 8, 8)
    assert made.manifest.signature.labels == tuple("01234")
    assert {"torch", "onnxscript"} <= set(made.manifest.recipe.tools)
    assert made.evidence is not None and any("PyTorch was not timed" in each for each in made.evidence.notes)
    chosen = next(each for each in made.evidence.candidates if each.verdict is Verdict.CHOSEN)
    assert chosen.agreement is not None and chosen.agreement.top1 == 1.0


@needs_torch
def test_the_same_bytes_twice_and_nothing_of_the_machine_in_them(tmp_path: Path) -> None:
    import torch

    path = saved(tmp_path, convolutions(), (torch.randn(1, 3, 8, 8),))
    one, two = (read(path).SerializeToString(deterministic=True) for _ in range(2))
    assert one == two
    assert str(Path(__file__).parent).encode() not in one and b"site-packages" not in one


@needs_torch
def test_named_inputs_nested_outputs_and_whole_numbers(tmp_path: Path) -> None:
    import torch

    class Encoder(torch.nn.Module):  # type: ignore[misc]  # torch may not be installed, then its types are unknown
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(50, 16)
            self.layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, activation="gelu")

        def forward(self, ids: Any, *, scale: Any) -> dict[str, Any]:
            hidden = self.layer(self.words(ids) * scale.unsqueeze(-1))
            return {"mean": hidden.mean(1), "best": hidden.mean(1).argmax(-1)}

    torch.manual_seed(0)
    ids, scale = torch.randint(0, 50, (2, 6)), torch.rand(2, 6)
    path = saved(tmp_path, Encoder().eval(), (ids,), kwargs={"scale": scale})
    draw = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {
        "ids": draw.integers(0, 50, (4, 2, 6)),
        "scale": draw.uniform(size=(4, 2, 6)).astype(np.float32),
        "labels": np.zeros(4, np.int64),
    }
    model = read(path, arrays)
    assert [each.name for each in model.graph.input] == ["ids", "scale"]
    kinds = [each.type.tensor_type.elem_type for each in model.graph.output]
    assert kinds == [onnx.TensorProto.FLOAT, onnx.TensorProto.INT64]


@needs_torch
def test_programs_that_no_device_can_serve_are_refused(tmp_path: Path) -> None:
    import torch

    class Scaled(torch.nn.Module):  # type: ignore[misc]  # see above
        def forward(self, x: Any, by: int) -> Any:
            return x * by

    class Counting(torch.nn.Module):  # type: ignore[misc]  # see above
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: Any) -> Any:
            self.calls.add_(1)
            return x + self.calls

    class Strange(torch.nn.Module):  # type: ignore[misc]  # see above
        def forward(self, x: Any) -> Any:
            return torch.special.bessel_j0(x)

    row = torch.randn(1, 4)
    cases: list[tuple[Path, type[CompileError], str]] = [
        (saved(tmp_path, Scaled(), (row, 2)), UnsupportedError, "is no tensor"),
        (saved(tmp_path, Counting(), (row,)), ModelError, "changes 'calls'"),
        (saved(tmp_path, Strange(), (row,)), UnsupportedError, "bessel_j0"),
        (saved(tmp_path, torch.nn.Sequential(torch.nn.Dropout(0.5)).train(), (row,)), ModelError, "training mode"),
    ]
    for path, kind, said in cases:
        with pytest.raises(kind, match=said) as caught:
            read(path)
        assert "\n" not in str(caught.value)


@needs_torch
def test_damaged_files_are_refused(tmp_path: Path) -> None:
    import torch

    whole = saved(tmp_path, convolutions(), (torch.randn(1, 3, 8, 8),)).read_bytes()
    path = tmp_path / "damaged.pt2"
    for content in (b"", b"noise" * 50, whole[: len(whole) // 2], whole[:-30], b"PK\x05\x06" + bytes(18)):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="cut short"):
            read(path)


@needs_torch
def test_rows_that_the_program_cannot_take(tmp_path: Path) -> None:
    import torch

    class Bounded(torch.nn.Module):  # type: ignore[misc]  # see above
        def __init__(self) -> None:
            super().__init__()
            self.words = torch.nn.Embedding(5, 3)

        def forward(self, ids: Any) -> Any:
            return self.words(ids)

    path = saved(tmp_path, Bounded().eval(), (torch.zeros(1, 4, dtype=torch.int64),))
    with pytest.raises(ModelError, match="fails on the rows"):
        read(path, {"ids": np.full((2, 4), 9)})


@needs_torch
def test_in_the_sandbox_a_hostile_program_costs_only_the_child(tmp_path: Path) -> None:
    import torch

    path = saved(tmp_path, convolutions(), (torch.randn(1, 3, 8, 8),))
    request = Request(path, targets.get("host"), "net", "1", 1, time_s=1.0)
    with pytest.raises(ModelError, match="runs what is inside"):
        compiling.prepare(request, tmp_path, drafts=False)
    assert sandbox.Limits().memory_bytes <= 6 << 30
