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
