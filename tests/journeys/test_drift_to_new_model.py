"""The demonstration itself, small: the world changes, and a better model arrives on the devices without a hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from skerry_simulators.demo.cli import main


@pytest.mark.slow
def test_drift_to_new_model(tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    assert main(["--devices", "3", "--seed", "1", "--root", str(tmp_path / "run"), "--result", str(result)]) == 0
    found = json.loads(result.read_text())
    accuracy = found["accuracy"]
    assert accuracy["during"] < 0.85 < accuracy["after"]
    assert accuracy["before"] > 0.9
    assert found["labels_used"] > 0 and found["bytes_sent"] > 0
    assert len(set(found["bundles"])) == 4
    assert found["lineage"]["labels"], "a prediction of the second model leads back to the labels it was trained on"
