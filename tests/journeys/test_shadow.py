"""A candidate answers in the shadow of what serves, is killed with the agent, goes on, and becomes the next release."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.journeys.conftest import MakeBundle

from skerry_agent.client import LocalClient
from skerry_agent.errors import AgentError
from skerry_agent.status import ask_status
from skerry_simulators.demo import street as parts
from skerry_simulators.demo.data import INPUT, Deal
from skerry_simulators.demo.processes import skerry, wait_for
from skerry_simulators.demo.street import Street

DEVICE = "gate-01"


def roll_out(street: Street, bundle: str) -> None:
    words = ["--model", parts.MODEL, "--bundle", bundle, "--group", parts.GROUP, "--soak-s", "0.5"]
    rollout = street.fleet("rollout", "start", *words)["id"]
    wait_for("end", lambda: street.ask(f"/rollouts/{rollout}")["status"] == "complete" or None, street.children, 120.0)


def test_a_candidate_in_the_shadow(street: Street, dealt: Deal, make_bundle: MakeBundle) -> None:
    parts.start_devices(street, 1)
    live = street.fleet("bundle", "upload", str(make_bundle("1.0", 1)))["id"]
    candidate = street.fleet("bundle", "upload", str(make_bundle("2.0", 2)))["id"]
    roll_out(street, live)
    words = ["--model", parts.MODEL, "--bundle", candidate, "--group", parts.GROUP, "--share", "1", "--cpu-share", "1"]
    shadow = street.fleet("shadow", "start", *words, "--report-s", "1")["id"]
    root, socket = street.root / "devices" / DEVICE, street.sockets[DEVICE]

    def compared(least: int) -> None:
        """Ask for inferences until so many were compared."""
        with LocalClient(socket) as client:

            def enough() -> bool | None:
                for image in dealt.examination.images[:40]:
                    client.infer(parts.MODEL, {INPUT: image.tobytes()})
                return street.fleet("shadow", "show", shadow)["compared"] >= least or None

            wait_for("comparisons", enough, street.children, 90.0)

    compared(20)
    assert parts.serving(street, live), "the live model serves on"
    status = ask_status(socket)
    assert (
        status["shadows"][parts.MODEL]["version"] == "2.0" and status["models"][parts.MODEL]["active"]["bundle"] == live
    )
    with LocalClient(socket) as client:
        assert [each["name"] for each in client.repository()] == [parts.MODEL]

    os.kill(street.children.pid(DEVICE), signal.SIGKILL)
    street.children.forget(DEVICE)
    street.children.start(DEVICE, skerry("agent", "run", "--root", str(root)))
    wait_for("service", lambda: _answers(socket, dealt) or None, street.children, 60.0)
    before = street.fleet("shadow", "show", shadow)["compared"]
    compared(before + 20)

    shown = street.fleet("shadow", "show", shadow)
    assert shown["chosen"] >= shown["compared"] + shown["failed"] and shown["failed"] == 0
    agreement = shown["agreement"]
    assert agreement["rate"] == 1 - shown["disagreed"] / shown["compared"]
    assert agreement["low"] <= agreement["rate"] <= agreement["high"]
    assert shown["latency"]["live_p50_ms"] > 0 and shown["latency"]["shadow_p50_ms"] > 0
    assert shown["against"][0]["bundle"] == live

    promoted = street.fleet("shadow", "promote", shadow, "--soak-s", "0.5", "--wait")
    assert promoted["status"] == "complete" and parts.serving(street, candidate)
    assert street.fleet("shadow", "show", shadow)["status"] == "promoted"
    wait_for("no shadow", lambda: not ask_status(socket)["shadows"] or None, street.children, 30.0)
    assert {each.name for each in (root / "store" / "bundles").iterdir()} <= {candidate, live}
    assert street.fleet("audit", "verify")["broken_at"] is None and street.ask("/dead-letters")["items"] == []


def _answers(socket: Path, dealt: Deal) -> bool:
    try:
        with LocalClient(socket) as client:
            client.infer(parts.MODEL, {INPUT: dealt.examination.images[0].tobytes()})
    except (OSError, AgentError):
        return False
    return True
