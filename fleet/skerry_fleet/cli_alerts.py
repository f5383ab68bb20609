"""The verbs of what a person should know: alerts, incidents, mutes, routes and the messages that were sent."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry_fleet.alert_words import AlertState, Kind, Severity
from skerry_fleet.cli_nouns import Noun
from skerry_fleet.cli_words import record, show
from skerry_fleet.errors import InputError

if TYPE_CHECKING:
    from skerry_fleet.client import FleetClient  # httpx is loaded only where a request is made

LISTS: dict[tuple[str, str], tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    ("alert", "list"): (
        "/alerts",
        ("state", "incident", "kind", "subject"),
        ("id", "state", "severity", "kind", "incident", "count", "text"),
    ),
    ("incident", "list"): (
        "/incidents",
        ("state", "kind"),
        ("id", "state", "severity", "kind", "scope", "devices", "alerts", "standing", "first_ms", "text"),
    ),
    ("mute", "list"): ("/mutes", (), ("id", "kind", "group", "until_ms", "reason", "created_by")),
    ("route", "list"): ("/routes", ("q",), ("name", "target", "kinds", "severity", "group", "level")),
    ("route", "sent"): (
        "/notices",
        ("status", "route"),
        ("id", "event", "route", "status", "tries", "due_ms", "problem"),
    ),
}
CALLS: dict[tuple[str, str], tuple[str, str, tuple[str, ...]]] = {
    ("alert", "ack"): ("POST", "/alerts/{alert}/ack", ()),
    ("incident", "show"): ("GET", "/incidents/{incident}", ()),
    ("incident", "ack"): ("POST", "/incidents/{incident}/ack", ()),
    ("mute", "start"): ("POST", "/mutes", ("kind", "group", "hours", "reason")),
    ("mute", "end"): ("DELETE", "/mutes/{mute}", ()),
    ("route", "delete"): ("DELETE", "/routes/{route}", ()),
    ("route", "test"): ("POST", "/routes/{route}/test", ()),
}


def add(nouns: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Add the nouns."""
    states, kinds = [each.value for each in AlertState], [each.value for each in Kind]
    alert = Noun(nouns, "alert", "what a person should know", common)
    listing = alert.verb("list", "alerts, newest first")
    listing.add_argument("--state", choices=states)
    listing.add_argument("--incident", help="only those of one incident")
    listing.add_argument("--kind", choices=kinds, metavar="KIND", help="only of a kind, such as device-silent")
    listing.add_argument("--subject", help="only about this, such as a device")
    alert.verb("ack", "note that an alert was seen", "alert")
    incident = Noun(nouns, "incident", "alerts that belong together", common)
    listing = incident.verb("list", "incidents, newest first")
    listing.add_argument("--state", choices=states)
    listing.add_argument("--kind", choices=kinds, metavar="KIND", help="only of a kind")
    incident.verb("show", "one incident; its alerts: alert list --incident", "incident")
    incident.verb("ack", "note that an incident and all of its alerts were seen", "incident")
    mute = Noun(nouns, "mute", "what is not told for a while", common)
    start = mute.verb("start", "send no messages of a kind, or about a group, for some hours")
    start.add_argument("--kind", choices=kinds, metavar="KIND", help="default: any; such as device-silent")
    start.add_argument("--group", help="only about devices of a group (default: all)")
    start.add_argument("--hours", type=float, required=True)
    start.add_argument("--reason", default="")
    mute.verb("list", "mutes that hold")
    mute.verb("end", "end a mute now", "mute")
    route = Noun(nouns, "route", "where messages go", common)
    create = route.verb("create", "make a route; of a webhook, the secret that signs is shown once", "name")
    create.add_argument(
        "--target-file", required=True, metavar="FILE", help="its first line is the address; - is stdin"
    )
    create.add_argument("--kinds", nargs="+", choices=kinds, metavar="KIND", help="only these (default: all)")
    create.add_argument("--severity", choices=[each.value for each in Severity], help="at least (default warning)")
    create.add_argument("--group", help="only about devices of a group (default: all)")
    create.add_argument("--level", type=int, help="0 hears at once, 1 of what nobody acknowledged in time (default 0)")
    route.verb("list", "routes; of targets only what is no secret").add_argument("--q", help="only names that begin so")
    route.verb("delete", "delete a route, and what waits for it", "route")
    route.verb("test", "send a test message now", "route")
    sent = route.verb("sent", "messages, newest first: sent, waiting, given up")
    sent.add_argument("--status", choices=["waiting", "sent", "given-up"])
    sent.add_argument("--route", help="only by this route")


def create_route(client: FleetClient, arguments: argparse.Namespace) -> int:
    """Make a route. The target comes from a file: on a command line everybody on the machine could read it."""
    path = arguments.target_file
    try:
        lines = (sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from error
    body: dict[str, Any] = {"name": arguments.name, "target": lines[0].strip() if lines else ""}
    for flag in ("kinds", "severity", "group", "level"):
        if getattr(arguments, flag) is not None:
            body[flag] = getattr(arguments, flag)
    answer = client.call("POST", "/api/v1/routes", json=body)
    show(answer, arguments.json, lambda: record(("route", "create"), answer))
    return 0
