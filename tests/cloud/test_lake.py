from __future__ import annotations

import dataclasses
import sqlite3
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.cloud.world import BUNDLE, sample, sketch

from skerry_cloud.database import Database
from skerry_cloud.errors import NotFoundError, RefusedError
from skerry_cloud.lake.batch import SampleQuery
from skerry_cloud.lake.compact import compact
from skerry_cloud.lake.lake import Lake
from skerry_contracts.sample import Kept


def image(value: float) -> np.ndarray:
    return np.full(64, value, np.float32)


def test_samples_come_back_as_arrays(lake: Lake) -> None:
    lake.append_samples([("cam-1", sample(i, image(i / 10))) for i in range(5)], cursor="5")
    batch = lake.samples(SampleQuery("digits"))
    assert batch.inputs["image"].shape == (5, 64) and batch.outputs["probabilities"].shape == (5, 2)
    assert batch.inputs["image"][3, 0] == np.float32(0.3) and batch.predictions[3] == "cam-1/00000001-0a0b0c0d/3"
    assert lake.cursor("samples") == "5" and len(lake.samples(SampleQuery("other"))) == 0


def test_a_message_counts_once_and_an_input_is_stored_once(lake: Lake) -> None:
    items = [("cam-1", sample(i, image(0.5))) for i in range(4)]
    assert lake.append_samples([*items, *items]) == 4
    assert lake.append_samples(items) == 0
    assert lake.append_samples([("cam-1", sample(9, image(0.5)))]) == 1
    row = lake.database.row("SELECT count(*) AS n FROM tensor")
    assert row is not None and row["n"] == 1
    assert len(lake.samples(SampleQuery("digits"))) == 5 and len(lake.samples(SampleQuery("digits")).distinct()) == 1


@pytest.mark.parametrize("asked_first", [True, False])
def test_a_prediction_that_two_messages_tell_of_is_one_sample_with_both_reasons(lake: Lake, asked_first: bool) -> None:
    random = sample(1, image(0.5))
    asked = dataclasses.replace(sample(1, image(0.5)), seq=2, kept=Kept.REQUESTED, weight=1.0, capture="mine")
    messages = [("cam-1", asked), ("cam-1", random)] if asked_first else [("cam-1", random), ("cam-1", asked)]
    assert sum(lake.append_samples([each]) for each in messages) == 1
    assert lake.append_samples(messages) == 0
    batch = lake.samples(SampleQuery("digits"))
    assert batch.kept == (Kept.RANDOM,) and batch.weight.tolist() == [10.0], "it speaks for the others as before"
    row = lake.database.row("SELECT kept, capture FROM sample")
    assert row is not None and tuple(row) == ("random", "mine")
    both = [("cam-1", dataclasses.replace(each, boot_id="00000002-0a0b0c0d")) for _, each in messages]
    again = [(who, dataclasses.replace(each, prediction="cam-1/00000002-0a0b0c0d/1")) for who, each in both]
    assert lake.append_samples(again) == 1 and len(lake.samples(SampleQuery("digits"))) == 2


def test_a_database_of_the_version_before_takes_captures(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "old.db") as old:
        text = resources.files("skerry_cloud").joinpath("schema.sql").read_text("utf-8")
        assert " capture TEXT," in text
        old.executescript(text.replace(" capture TEXT,", ""))
        old.execute("PRAGMA user_version = 1")
    database = Database(tmp_path / "old.db")
    lake = Lake(tmp_path / "lake", database, writer=True)
    lake.append_samples([("cam-1", dataclasses.replace(sample(1, image(0.5)), capture="mine"))])
    row = database.row("SELECT capture FROM sample")
    assert row is not None and row["capture"] == "mine"
    lake.close()
    database.close()


def test_queries_choose(lake: Lake) -> None:
    kinds = [Kept.RANDOM, Kept.UNCERTAIN]
    lake.append_samples([("cam-1", sample(i, image(i), kept=kinds[i % 2])) for i in range(10)])
    assert len(lake.samples(SampleQuery("digits", kept=(Kept.RANDOM,)))) == 5
    assert len(lake.samples(SampleQuery("digits", since_s=1003.0, until_s=1005.0))) == 2
    newest = lake.samples(SampleQuery("digits", limit=3, newest=True))
    assert newest.time_s.tolist() == [1007.0, 1008.0, 1009.0]
    assert len(lake.samples(SampleQuery("digits", after=int(newest.ids[0])))) == 2
    assert len(lake.samples(SampleQuery("digits", bundles=("c" * 64,)))) == 0
    assert lake.count(SampleQuery("digits", bundles=(BUNDLE,))) == 10


def test_one_device_that_sends_another_shape_blinds_nobody(lake: Lake) -> None:
    good = [("cam-1", sample(i, image(i))) for i in range(5)]
    lake.append_samples([*good, ("cam-1", sample(7, np.zeros(3, np.float32)))])
    batch = lake.samples(SampleQuery("digits"))
    assert len(batch) == 5 and batch.left_out == 1


def test_by_prediction_keeps_the_order_and_names_the_missing(lake: Lake) -> None:
    lake.append_samples([("cam-1", sample(i, image(i))) for i in range(3)])
    wanted = ["cam-1/00000001-0a0b0c0d/2", "cam-1/00000001-0a0b0c0d/0"]
    assert lake.by_prediction(wanted).inputs["image"][:, 0].tolist() == [2.0, 0.0]
    with pytest.raises(NotFoundError, match="was not kept"):
        lake.by_prediction(["cam-1/00000001-0a0b0c0d/99"])


def test_sketches_merge(lake: Lake) -> None:
    source = "input:image:mean"
    lake.append_sketches([("cam-1", sketch(1, {source: (1, 2)})), ("cam-2", sketch(1, {source: (10, 20)}))], cursor="2")
    lake.append_sketches([("cam-1", sketch(1, {source: (1, 2)})), ("cam-1", sketch(2, {source: (5, 5, 5)}))])
    merged, predictions, upto = lake.merged_histograms(BUNDLE)
    assert merged[source].counts == (11, 22) and predictions == 33 + 15 and upto == 3
    assert lake.merged_histograms(BUNDLE, after=upto) == ({}, 0, upto)


def test_only_one_process_writes(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="writes"):
        Lake(tmp_path / "lake", lake.database, writer=True)
    assert len(Lake(tmp_path / "lake", lake.database).samples(SampleQuery("digits"))) == 0


def test_small_segments_become_one_and_nothing_else_changes(lake: Lake) -> None:
    for i in range(9):
        lake.append_samples([("cam-1", sample(2 * i + k, image(i % 4 + k))) for k in range(2)], cursor=str(i))
        lake.append_sketches([("cam-1", sketch(i, {"input:image:mean": (1, i)}))])
    before, merged = lake.samples(SampleQuery("digits")), lake.merged_histograms(BUNDLE)
    assert compact(lake, least_segments=100) == 0
    files = len(list(lake.folder.glob("*.parquet")))
    assert compact(lake, least_segments=4) == files
    for turn in range(2):
        after = lake.samples(SampleQuery("digits"))
        assert after.predictions == before.predictions and (after.inputs["image"] == before.inputs["image"]).all()
        assert lake.merged_histograms(BUNDLE) == merged
        assert lake.append_samples([("cam-1", sample(0, image(0)))]) == 0
        for i in range(4):
            lake.append_sketches([("cam-2", sketch(10 * turn + i, {}, bundle="c" * 64))])
        assert compact(lake, least_segments=4) == 5
    # What the first rounds retired is gone; what the last one retired may still be open somewhere.
    listed = {row["name"] for row in lake.database.rows("SELECT name FROM segment")}
    assert {path.name for path in lake.folder.glob("*.parquet")} == listed and len(listed) == 3 + 5


def test_inputs_that_are_no_numbers_are_left_out(lake: Lake) -> None:
    lake.append_samples([("cam-1", sample(i, image(np.nan if i == 1 else i))) for i in range(3)])
    assert lake.samples(SampleQuery("digits")).finite().inputs["image"][:, 0].tolist() == [0.0, 2.0]


CRASH = """
import os, sys
from pathlib import Path
import numpy as np
from tests.cloud.world import sample
from skerry_cloud.database import Database
from skerry_cloud.lake import lake as lakes
seen = 0
def dying(function):
    def inner(*parts, **named):
        global seen
        seen += 1
        if seen == at:
            os._exit(9)
        result = function(*parts, **named)
        seen += 1
        if seen == at:
            os._exit(9)
        return result
    return inner
lakes.write_segment = dying(lakes.write_segment)
lakes.list_segment = dying(lakes.list_segment)
lakes._move_cursor = dying(lakes._move_cursor)
for at in range(1, 11):  # the libraries are loaded once, and each child dies at its own point
    if os.fork() == 0:
        root = Path(sys.argv[1]) / str(at)
        opened = lakes.Lake(root / "lake", Database(root / "cloud.db"), writer=True)
        opened.append_samples([("cam-1", sample(i, np.full(64, i, np.float32))) for i in range(3)], cursor="3")
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


def test_a_crash_anywhere_in_a_commit_leaves_all_or_nothing(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path)], capture_output=True, text=True)
    assert ended.stdout.split() == ["9"] * 10, ended.stderr
    for at in range(1, 11):
        root = tmp_path / str(at)
        database = Database(root / "cloud.db")
        lake = Lake(root / "lake", database, writer=True)
        assert lake.cursor("samples") is None and len(lake.samples(SampleQuery("digits"))) == 0
        assert list((root / "lake").glob("*.parquet")) == []
        assert lake.append_samples([("cam-1", sample(i, image(i))) for i in range(3)], cursor="3") == 3
        assert len(lake.samples(SampleQuery("digits"))) == 3 and lake.cursor("samples") == "3"
        lake.close()
        database.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 12), max_size=8), max_size=5))
def test_any_redelivery_gives_the_same_lake(tmp_path_factory: pytest.TempPathFactory, pages: list[list[int]]) -> None:
    root = tmp_path_factory.mktemp("lake")
    database = Database(root / "cloud.db")
    lake = Lake(root / "lake", database, writer=True)
    new = sum(lake.append_samples([("cam-1", sample(i, image(i % 3))) for i in page]) for page in pages)
    seqs = {i for page in pages for i in page}
    batch = lake.samples(SampleQuery("digits"))
    assert new == len(seqs) == len(batch)
    assert {
        int(each.rsplit("/", 1)[1]): row[0]
        for each, row in zip(batch.predictions, batch.inputs.get("image", []), strict=True)
    } == {i: float(i % 3) for i in seqs}
    lake.close()
    database.close()
