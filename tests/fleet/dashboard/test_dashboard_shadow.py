"""The pages of shadows: what people see of a candidate, and the two ways in which it ends."""

from __future__ import annotations

import dataclasses
import struct

import pytest
from tests.fleet.conftest import ACTOR
from tests.fleet.dashboard.conftest import HOSTILE, House, digit, publish, rollout, token_of
from tests.fleet.dashboard.markup import Markup

from skerry_contracts.sample import Kept, Sample, prediction_id
from skerry_contracts.shadow import ShadowAnswer, ShadowReport, ShadowState, latency_bin
from skerry_contracts.sketch import Histogram
from skerry_contracts.tensor import DType, Tensor
from skerry_fleet import shadow_orders as orders
from skerry_fleet.shadow_orders import ShadowRequest


def scores(best: int) -> tuple[Tensor, ...]:
    values = [0.05] * 10
    values[best] = 0.6
    return (Tensor("scores", DType.FP32, (1, 10), struct.pack("<10f", *values)),)


@pytest.fixture
def shaded(house: House) -> tuple[House, str]:
    """Two devices that serve release 1, and release 2 in their shadow: 200 compared, 5 of them otherwise."""
    bench = house.bench
    bench.enrol("d1", "d2")
    for device in ("d1", "d2"):
        bench.beat(device, "")
    live = publish(bench, "1", 1)
    rollout(bench, live, canary=2, soak_s=0.0)
    for device in ("d1", "d2"):
        bench.install(device)
    candidate = publish(bench, "2", 2)
    with bench.fleet.rollouts.open() as session:
        request = ShadowRequest("digits", candidate)
        name = orders.create(session, bench.fleet.pen, ACTOR, bench.clock(), request, bench.fleet.random).id
    counts = [0] * 60
    counts[latency_bin(0.2)] = 100
    for device, differing in (("d1", 2), ("d2", 3)):
        boot, found = bench.boot_id(device), Histogram("latency_ms", tuple(counts))
        said = ShadowReport(boot, bench.next(device), name, "digits", candidate, ShadowState.RUNNING, 1.0, 2.0)
        counted = {"chosen": 110, "compared": 100, "disagreed": differing, "dropped": 10, "against": live}
        more = {"live_latency": found, "latency": found, "detail": HOSTILE}
        bench.send(device, "shadow", dataclasses.replace(said, **counted, **more))  # type: ignore[arg-type]
    boot, seq = bench.boot_id("d1"), bench.next("d1")
    image = (Tensor("image", DType.FP32, (1, 64), digit(1)),)
    fields = ("digits", "1", live, "v", Kept.DISAGREEING, 1.0, image, scores(3), 0.6)
    answer = ShadowAnswer(name, candidate, "2", scores(8))
    bench.send("d1", "sample", Sample(boot, seq, 0.0, prediction_id("d1", boot, seq), *fields, shadow=answer))
    return house, name


def test_agreement_latency_devices_and_samples_are_shown(shaded: tuple[House, str]) -> None:
    house, name = shaded
    with house.visitor("operator") as client:
        model = client.get("/ui/models/digits").text
        assert f"/ui/shadows/{name}" in model and "97.5 %" in model
        page = client.get(f"/ui/shadows/{name}").text
        text = Markup(page).text
        for words in ("97.5 %", "95 %", "serves: 3", "shadow: 8", "Dropped for want of time 20", "Against 1", "Median"):
            assert words in " ".join(text.split()), words
        assert "<script>document" not in page, "a device's words are text"
        assert "data:image/png" in page and "Promote…" in page and "End…" in page
    with house.visitor("viewer") as client:
        page = client.get(f"/ui/shadows/{name}").text
        assert "Samples are data" in page and "Promote…" not in page and "data:image/png" not in page
        assert client.get(f"/ui/shadows/{name}/end").status_code == 403
        assert client.get("/ui/shadows/none").status_code == 404


def test_it_is_ended_with_a_reason_and_a_token(shaded: tuple[House, str]) -> None:
    house, name = shaded
    path = f"/ui/shadows/{name}"
    with house.visitor("operator") as client:
        token = token_of(client.get(f"{path}/end").text)
        assert client.post(f"{path}/end", data={"token": "0" * 64}).status_code == 403
        answer = client.post(f"{path}/end", data={"token": token, "reason": "seen enough"})
        assert (answer.status_code, answer.headers["location"]) == (303, path)
        assert "seen enough" in client.get(path).text and "not possible any more" in client.get(f"{path}/end").text
        assert client.get(f"{path}/burn").status_code == 404
    found = house.bench.assignment("d1")
    assert found is not None and found.models[0].shadow is None


def test_it_is_promoted_to_a_rollout(shaded: tuple[House, str]) -> None:
    house, name = shaded
    with house.visitor("operator") as client:
        page = client.get(f"/ui/shadows/{name}/promote").text
        assert "one canary first" in page
        answer = client.post(f"/ui/shadows/{name}/promote", data={"token": token_of(page)})
        assert answer.status_code == 303 and answer.headers["location"].startswith("/ui/rollouts/r2-")
        assert "became rollout" in client.get(f"/ui/shadows/{name}").text
