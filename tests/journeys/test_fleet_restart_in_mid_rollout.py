"""The fleet is killed while a rollout is under way: it goes on where it was, from its database alone."""

from __future__ import annotations

import os
import signal

from tests.journeys.conftest import MakeBundle

from skerry_simulators.demo import street as parts
from skerry_simulators.demo.processes import skerry, wait_for
from skerry_simulators.demo.street import Street


def test_fleet_restart_in_mid_rollout(street: Street, make_bundle: MakeBundle) -> None:
    parts.start_devices(street, 4)
    bundle = street.fleet("bundle", "upload", str(make_bundle("1.0", 1)))["id"]
    words = ["--model", parts.MODEL, "--bundle", bundle, "--group", parts.GROUP, "--soak-s", "1", "--waves", "50,100"]
    rollout = street.fleet("rollout", "start", *words, "--exposure-budget", "1")["id"]

    def under_way() -> bool | None:
        counts = street.ask(f"/rollouts/{rollout}")["counts"]
        return 0 < counts.get("confirmed", 0) < 4 or None

    wait_for("first confirmed device", under_way, street.children, 90.0)
    os.kill(street.children.pid("fleet"), signal.SIGKILL)
    street.children.forget("fleet")
    port = street.fleet_url.rsplit(":", 1)[1]
    street.children.start("fleet", skerry("fleet", "serve", "--root", str(street.root / "fleet"), "--port", port))
    parts.wait_for_fleet(street)

    wait_for("end", lambda: street.ask(f"/rollouts/{rollout}")["status"] == "complete" or None, street.children, 120.0)
    assert parts.serving(street, bundle)
    assert street.ask(f"/rollouts/{rollout}")["counts"]["confirmed"] == 4
    assert street.fleet("audit", "verify")["broken_at"] is None
    for device in street.sockets:
        events = street.ask(f"/devices/{device}/events")["items"]
        assert [each["phase"] for each in events].count("committed") == 1, "nobody is made to install twice"
