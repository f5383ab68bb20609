"""What is asked of a street that meets bad input."""

from __future__ import annotations

import json
from pathlib import Path

from skerry_agent.status import ask_status
from skerry_simulators.demo import street as parts
from skerry_simulators.demo.processes import run, skerry
from skerry_simulators.demo.street import Street


def bundle_id(bundle: Path) -> str:
    return str(json.loads(run("show", skerry("bundle", "show", str(bundle), "--json"), bundle.parent))["bundle"])


def trouble(street: Street, device: str) -> str | None:
    """Return why a device's update does not go on."""
    found: dict[str, str] = ask_status(street.sockets[device])["models"][parts.MODEL].get("trouble", {})
    return found.get("reason")


def reasons(street: Street, device: str) -> list[str]:
    """Return why a device's updates did not go on, as the fleet has heard, but for orders taken back; newest first."""
    events = street.ask(f"/devices/{device}/events")["items"]
    return [each["reason"] for each in events if each["reason"] not in ("ok", "superseded") and each["detail"]]
