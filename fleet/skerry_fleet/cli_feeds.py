"""The verbs of what comes in and what happens: feeds, events, a model's health and drift, metrics, and who one is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from skerry_contracts import codec
from skerry_contracts.errors import ContractError
from skerry_fleet.cli_nouns import Noun
from skerry_fleet.cli_words import cell, record, show, table
from skerry_fleet.errors import InputError

if TYPE_CHECKING:
    from skerry_fleet.client import FleetClient  # httpx is loaded only where a request is made

LISTS: dict[tuple[str, str], tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    ("feed", "samples"): ("/samples", ("after",), ("id", "device", "received_ms")),
    ("feed", "sketches"): ("/sketches", ("after",), ("id", "device", "received_ms")),
    ("feed", "dead-letters"): ("/dead-letters", ("device",), ("id", "received_ms", "topic", "reason", "payload")),
}
CALLS: dict[tuple[str, str], tuple[str, str, tuple[str, ...]]] = {
    ("whoami", ""): ("GET", "/whoami", ()),
}


def add(nouns: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Add the nouns."""
    feed = Noun(nouns, "feed", "what devices sent, in the order of its commits", common)
    for name, text in (("samples", "samples"), ("sketches", "sketches of distributions")):
        feed.verb(name, f"{text} (with --json: the whole records)").add_argument(
            "--after", help="only later than this id"
        )
    refused = feed.verb("dead-letters", "messages that were refused, newest first, and why")
    refused.add_argument("--device", help="only of this device")
    nouns.add_parser("whoami", help="whose key this is, and its role", parents=[common])
    nouns.add_parser("metrics", help="metrics in Prometheus' text format", parents=[common])
    events = nouns.add_parser("events", help="what happens, as it happens, until Ctrl-C", parents=[common])
    events.add_argument("--kind", action="append", help="only these, such as alert; may be given several times")
    events.add_argument("--count", type=int, metavar="N", help="end after N events")


def add_to_model(model: Noun) -> None:
    """Add the verbs of a model."""
    health = model.verb("health", "a model's health by the hour, each version apart", "model")
    health.add_argument("--hours", type=int, default=24, help="how far back (default 24)")
    model.verb("drift", "the newest verdict of each monitor", "model")
    verdict = model.verb("verdict", "tell the fleet what a monitor of one's own found", "model")
    verdict.add_argument("--monitor", default="data", help="whose verdict (default data)")
    verdict.add_argument("--drifting", choices=["true", "false"], required=True)
    verdict.add_argument("--record", help='what else it says, as JSON, such as {"score": 0.9, "threshold": 0.6}')


def _health(client: FleetClient, arguments: argparse.Namespace) -> int:
    answer = client.call("GET", f"/api/v1/models/{_name(arguments)}/health", params={"hours": str(arguments.hours)})
    columns = ("hour_ms", "version", "beats", "predictions", "errors", "restarts")
    show(answer["items"], arguments.json, lambda: table(answer["items"], columns))
    return 0


def _drift(client: FleetClient, arguments: argparse.Namespace) -> int:
    answer = client.call("GET", f"/api/v1/models/{_name(arguments)}/drift")
    columns = ("monitor", "drifting", "score", "updated_ms")
    show(answer, arguments.json, lambda: table(answer["monitors"], columns))
    return 0


def _verdict(client: FleetClient, arguments: argparse.Namespace) -> int:
    try:
        said = codec.parse_json((arguments.record or "{}").encode())
    except ContractError as error:
        raise InputError(f"--record: {error}", hint=error.hint) from error
    if not isinstance(said, dict):
        raise InputError("--record is no object", hint='such as {"score": 0.9}')
    body = {**said, "monitor": arguments.monitor, "drifting": arguments.drifting == "true"}
    answer = client.call("PUT", f"/api/v1/models/{_name(arguments)}/drift", json=body)
    show(answer, arguments.json, lambda: record(("model", "verdict"), answer))
    return 0


def _metrics(client: FleetClient, arguments: argparse.Namespace) -> int:
    text = client.text("/metrics")
    show({"metrics": text}, arguments.json, lambda: print(text, end=""))
    return 0


def _events(client: FleetClient, arguments: argparse.Namespace) -> int:
    """Print events, one a line, as they come."""
    left = arguments.count
    for kind, data in client.events():
        if arguments.kind and kind not in arguments.kind:
            continue
        if arguments.json:
            print(json.dumps({"kind": kind, "data": data}), flush=True)
        else:
            print(f"{kind:10} {_told(data)}", flush=True)
        if left is not None and (left := left - 1) <= 0:
            break
    return 0


def _told(data: Any) -> str:
    fields = data if isinstance(data, dict) else {"": data}
    return "  ".join(f"{name} {cell(name, value)}".strip() for name, value in fields.items() if value not in (None, ""))


def remove_from_group(client: FleetClient, arguments: argparse.Namespace) -> int:
    """Take devices out of a group, one by one."""
    group = quote(arguments.group, safe="")
    for device in arguments.devices:
        client.call("DELETE", f"/api/v1/groups/{group}/devices/{quote(device, safe='')}")
    answer = {"group": arguments.group, "removed": arguments.devices}
    show(answer, arguments.json, lambda: record(("group", "remove"), answer))
    return 0


def _name(arguments: argparse.Namespace) -> str:
    return quote(arguments.model, safe="")


SPECIAL: dict[tuple[str, str], Callable[[FleetClient, argparse.Namespace], int]] = {
    ("model", "health"): _health,
    ("model", "drift"): _drift,
    ("model", "verdict"): _verdict,
    ("metrics", ""): _metrics,
    ("events", ""): _events,
    ("group", "remove"): remove_from_group,
}
