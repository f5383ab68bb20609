"""A real agent whose wall clock is changed while it runs: its model answers all the time, and its updates go on."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from benchmarks.agent_clock import course, offsets_s

from skerry_agent.credentials import Renewer
from skerry_agent.errors import NetworkError
from skerry_agent.helper import TrustHelper
from skerry_agent.link import Link

YEAR_2100_S = 4_102_444_800.0


@pytest.mark.faketime
def test_no_inference_fails_and_every_update_is_taken_up(tmp_path: Path) -> None:
    with course(tmp_path, 1.0) as (agent, tally):
        for moment, clock in (("boot", "1970"), ("offer", "2100")):
            agent.wrong(moment, offsets_s()[clock])
    assert (tally.interruptions, tally.stuck, tally.updates) == (0, 0, 2)
    assert tally.inferences > 0 and tally.misdated > 0, "the clock really was wrong"


class Eager(TrustHelper):
    """A child whose every answer is a renewed certificate, of today."""

    calls = 0

    async def call(self, verb: str, request: Any, *, report: Any = None) -> dict[str, Any]:
        self.calls += 1
        return {"renewed": True, "due_s": 1_900_000_000.0, "expires_s": 1_900_864_000.0}


def test_a_clock_decades_ahead_does_not_renew_without_end(tmp_path: Path) -> None:
    async def body() -> float:
        renewer = Renewer(Eager(tmp_path, idle_s=1.0), lambda: YEAR_2100_S, 6 * 3600.0, random.Random(1))
        return await renewer._once(lambda: None)

    assert asyncio.run(body()) >= 3600.0


class Long:
    """Chance that makes every wait as good as endless."""

    def random(self) -> float:
        return 1e9

    def randbytes(self, n: int, /) -> bytes:
        return bytes(n)


def test_a_hurried_link_tries_at_once() -> None:
    tries: list[int] = []

    def credentials() -> None:
        tries.append(1)
        raise NetworkError("no certificate is valid now")

    async def body() -> None:
        link = Link(host="127.0.0.1", port=1, tenant="t", device="d", keepalive_s=5, retry_max_s=60.0, rng=Long())
        running = asyncio.create_task(link.run(credentials, None))  # type: ignore[arg-type]  # no session: no listener
        for wanted in (1, 2, 3):
            async with asyncio.timeout(30.0):
                while len(tries) < wanted:
                    await asyncio.sleep(0.01)
            link.hurry()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(body())
