"""Wherever an update is cut short, the device serves a whole model afterwards and can be updated."""

from __future__ import annotations

import pytest
from tests.agent import killpoint_driver


@pytest.mark.slow
def test_every_operation_of_an_update_may_be_the_last() -> None:
    points, violations = killpoint_driver.run(strace=False)
    assert points > 40 and violations == 0
