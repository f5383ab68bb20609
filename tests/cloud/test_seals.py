"""Sealed samples reach the lake opened where the key is, and stop nothing where it is not."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cloud.world import sample

from skerry_agent import sealing
from skerry_cloud import seals, sync
from skerry_cloud.cli import main
from skerry_cloud.errors import ConfigError, DataError
from skerry_cloud.lake.batch import SampleQuery
from skerry_cloud.lake.lake import Lake
from skerry_contracts import codec
from skerry_contracts.assignment import SamplingPolicy
from skerry_contracts.sample import Sample
from skerry_contracts.sealed import SealKey

pytestmark = pytest.mark.skipif(sealing.cipher() is None, reason="this Python carries its OpenSSL inside itself")


def sealed(seq: int, key: SealKey) -> Sample:
    aes = sealing.cipher()
    assert aes is not None
    return sealing.Sealer(key, aes, random.Random(seq)).seal(sample(seq, np.full(64, seq, np.float32)))


class Feed:
    """A fleet whose feed holds these samples."""

    def __init__(self, samples: list[Sample]) -> None:
        self.items = [{"device": "cam-1", "record": codec.to_plain(each)} for each in samples]

    def feed(self, name: str, cursor: str | None, limit: int) -> Any:
        return dataclasses.make_dataclass("Page", ["items", "cursor"])(self.items if name == "samples" else [], "9")


def test_the_command_makes_a_key_that_opens_what_devices_seal(
    tmp_path: Path, lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["seal", "create", "--root", str(tmp_path)]) == 0
    policy = codec.from_plain(SamplingPolicy, json.loads(capsys.readouterr().out))
    assert policy.seal is not None
    (path,) = (tmp_path / "seal").glob("*.pem")
    assert path.stat().st_mode & 0o777 == 0o600
    others = seals.create(tmp_path / "elsewhere")
    feed = Feed([sealed(1, policy.seal), sealed(2, others), sample(3, np.full(64, 3, np.float32))])
    pulled = sync.pull(feed, lake, opener=seals.Opener(tmp_path / "seal"))  # type: ignore[arg-type]  # all that is used
    assert (pulled.samples, pulled.refused) == (2, 1)
    batch = lake.samples(SampleQuery("digits"))
    assert batch.inputs["image"][:, 0].tolist() == [1.0, 3.0]


def test_a_seal_that_was_touched_does_not_open(tmp_path: Path) -> None:
    key = seals.create(tmp_path)
    opener, good = seals.Opener(tmp_path), sealed(1, key)
    assert good.sealed is not None and opener.open(good).inputs
    turned = dataclasses.replace(good.sealed, data=good.sealed.data[:-1] + b"\0")
    for bad in (
        dataclasses.replace(good, sealed=turned),
        dataclasses.replace(good, prediction=good.prediction[:-1] + "9"),
        dataclasses.replace(good, sealed=dataclasses.replace(good.sealed, key=b"\1" * 384)),
    ):
        with pytest.raises(DataError, match="does not open"):
            opener.open(bad)


def test_a_file_that_is_no_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("no key")
    with pytest.raises(ConfigError, match=r"x\.pem"):
        seals.Opener(tmp_path)
