from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.cloud.world import BUNDLE, sample
from tests.contracts import words

from skerry_cloud.config import LabelConfig, MonitorConfig
from skerry_cloud.database import Database
from skerry_cloud.labels.jobs import Jobs
from skerry_cloud.lake.lake import Lake
from skerry_cloud.monitor.model_quality import ModelQuality, upper_bound


@given(st.integers(1, 200), st.floats(0.001, 0.2), st.data())
def test_the_bound_lies_above_the_share_and_falls_with_risk(count: int, risk: float, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, count))
    bound = upper_bound(right, count, risk)
    assert right / count <= bound <= 1.0 and upper_bound(right, count, risk / 2) >= bound
