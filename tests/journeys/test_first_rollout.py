"""From a trained model to a prediction on a device, and back to the bundle it came from."""

from __future__ import annotations

import numpy as np
from tests.journeys.conftest import MakeBundle

from skerry_agent.client import LocalClient
from skerry_contracts.sample import parse_prediction
from skerry_simulators.demo import street as parts
from skerry_simulators.demo.data import INPUT, Deal
from skerry_simulators.demo.processes import wait_for
from skerry_simulators.demo.street import Street


def test_first_rollout(street: Street, dealt: Deal, make_bundle: MakeBundle) -> None:
    parts.start_devices(street, 2)
    bundle = street.fleet("bundle", "upload", str(make_bundle("1.0", 1)))["id"]
    words = ["--model", parts.MODEL, "--bundle", bundle, "--group", parts.GROUP, "--soak-s", "0.5"]
    rollout = street.fleet("rollout", "start", *words)["id"]
    wait_for("model everywhere", lambda: parts.serving(street, bundle) or None, street.children, 90.0)
    wait_for("end", lambda: street.ask(f"/rollouts/{rollout}")["status"] == "complete" or None, street.children, 60.0)

    known = dealt.examination.without(dealt.held_out)
    right = 0
    for device, path in street.sockets.items():
        with LocalClient(path) as client:
            meaning = client.get(f"/v2/models/{parts.MODEL}")["parameters"]
            for image, label in zip(known.images[:50], known.labels, strict=False):
                answer = client.infer(parts.MODEL, {INPUT: image.tobytes()})
                right += meaning["labels"][int(np.argmax(answer.outputs[meaning["score_output"]]))] == str(label)
                assert parse_prediction(answer.prediction_id)[0] == device
    assert right / 100 > 0.85

    phases = [each["phase"] for each in street.ask("/devices/gate-01/events")["items"]]
    assert phases[::-1] == ["offered", "downloading", "verified", "trial", "committed"]
    assert street.fleet("audit", "verify")["broken_at"] is None
    assert street.ask("/alerts")["items"] == []
