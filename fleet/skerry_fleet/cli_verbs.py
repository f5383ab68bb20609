"""The verbs of `skerry fleet` that talk to a running fleet."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from skerry_contracts import codec
from skerry_contracts.carried import Carried, read_lines
from skerry_contracts.container import open_container
from skerry_contracts.errors import ContractError
from skerry_fleet import cli_alerts, cli_devices, cli_feeds, cli_people
from skerry_fleet import cli_beside as beside
from skerry_fleet.cli_words import cell, record, show, table
from skerry_fleet.client import FleetClient
from skerry_fleet.errors import InputError

POLL_S = 0.5
GOOD = ("complete",)
ENDED = ("complete", "aborted", "rolled-back", "superseded")
API = "/api/v1"
BODIES = ("POST", "PATCH", "PUT")

# noun and verb: (path with {words} of the command line, query flags, columns of the table)
LISTS: dict[tuple[str, str], tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    **cli_devices.LISTS,
    **cli_alerts.LISTS,
    **cli_people.LISTS,
    **cli_feeds.LISTS,
    ("model", "list"): ("/models", ("q",), ("name", "bundles", "release", "description")),
    ("bundle", "list"): (
        "/models/{model}/bundles",
        ("target",),
        ("id", "version", "release", "target", "state", "size_bytes"),
    ),
    ("rollout", "list"): (
        "/rollouts",
        ("model", "status"),
        ("id", "model", "bundle", "status", "stage_name", "counts"),
    ),
    ("rollout", "devices"): (
        "/rollouts/{rollout}/devices",
        ("place",),
        ("device", "place", "phase", "reason", "detail"),
    ),
    ("shadow", "list"): (
        "/shadows",
        ("model", "status"),
        ("id", "model", "version", "status", "active", "compared", "agreement"),
    ),
    ("shadow", "devices"): (
        "/shadows/{shadow}/devices",
        (),
        ("device", "active", "state", "compared", "disagreed", "dropped", "failed", "reason", "detail"),
    ),
    **beside.LISTS,
}
# noun and verb: (method, path, flags of the body)
CALLS: dict[tuple[str, str], tuple[str, str, tuple[str, ...]]] = {
    **cli_devices.CALLS,
    ("audit", "verify"): ("GET", "/audit/verify", ()),
    **cli_alerts.CALLS,
    **cli_people.CALLS,
    **cli_feeds.CALLS,
    ("model", "register"): ("POST", "/models", ("name", "description")),
    ("bundle", "show"): ("GET", "/bundles/{bundle}", ()),
    ("bundle", "publish"): ("POST", "/bundles/{bundle}/publish", ()),
    ("bundle", "withdraw"): ("POST", "/bundles/{bundle}/withdraw", ()),
    **beside.CALLS,
    ("rollout", "show"): ("GET", "/rollouts/{rollout}", ()),
    **{
        ("rollout", verb): ("POST", f"/rollouts/{{rollout}}/{verb}", ("reason",))
        for verb in ("approve", "pause", "resume", "abort", "rollback")
    },
}


def run(arguments: argparse.Namespace, url: str, key: str) -> int:
    """Carry out one command against the fleet at `url`.

    Raises:
        FleetError: refused, or no answer.
    """
    client = FleetClient(url, key)
    verb = (arguments.noun, getattr(arguments, "verb", ""))
    values = {name: value for name, value in vars(arguments).items() if value is not None}
    if "name" not in values:
        values["name"] = values.get("group") or values.get("model")
    try:
        if verb in LISTS:
            path, flags, columns = LISTS[verb]
            query = {flag: values.get(flag) for flag in flags}
            rows = client.items(API + _filled(path, values), arguments.limit, **query)
            show(rows, arguments.json, lambda: table(rows, columns))
            return 0
        if verb in CALLS:
            method, path, flags = CALLS[verb]
            body = {flag: values[flag] for flag in flags if flag in values}
            answer = client.call(method, API + _filled(path, values), **({"json": body} if method in BODIES else {}))
            show(answer, arguments.json, lambda: record(verb, answer))
            return 1 if answer.get("broken_at") is not None else 0
        return _SPECIAL[verb](client, arguments)
    finally:
        client.close()


def _overview(client: FleetClient, arguments: argparse.Namespace) -> int:
    answer = client.call("GET", f"{API}/overview")
    show(answer, arguments.json, lambda: record(("overview", ""), answer))
    return 0


def _upload(client: FleetClient, arguments: argparse.Namespace) -> int:
    path = Path(arguments.file)
    model = arguments.model
    if model is None:
        try:
            with path.open("rb") as file:
                model = open_container(file).manifest.model
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        except ContractError as error:
            raise InputError(f"{path.name} is not a valid bundle: {error}", hint=error.hint) from error
    publish = "false" if arguments.draft else "true"
    answer = client.upload(f"{API}/models/{model}/bundles", path, publish=publish)
    show(answer, arguments.json, lambda: record(("bundle", "upload"), answer))
    return 0


def _body(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return the flags that were given, as a request has them."""
    body = {name: getattr(arguments, name) for name in names if getattr(arguments, name) is not None}
    if getattr(arguments, "alpha", None) is not None:
        body["gate"] = {"alpha": arguments.alpha}
    if getattr(arguments, "waves", None):
        body["waves"] = [{"percent": _whole(part, "--waves")} for part in arguments.waves.split(",")]
    return body


PLAN = (
    *("group", "canary", "soak_s", "failure_budget", "exposure_budget", "timeout_s", "holdout", "approval"),
    *("per_minute", "growth", "grow_after", "bytes_per_s"),
)


def _start(client: FleetClient, arguments: argparse.Namespace) -> int:
    body = _body(arguments, "model", "bundle", *PLAN, "allow_downgrade", "supersede")
    if arguments.sampling:
        body["sampling"] = codec.parse_json(arguments.sampling.encode())
    if arguments.window:
        start, _, minutes = arguments.window.partition("/")
        hour, _, minute = start.partition(":")
        begins = _whole(hour, "--window") * 60 + _whole(minute, "--window")
        body["window"] = {"start_minute": begins, "duration_minutes": _whole(minutes, "--window")}
    if arguments.dry_run:
        answer = client.call("POST", f"{API}/rollouts?dry_run=true", json=body)
        show(answer, arguments.json, lambda: _tell_preview(answer))
        return 0 if answer["starts"] else 1
    answer = client.call("POST", f"{API}/rollouts", json=body)
    if arguments.wait:
        return _follow(client, arguments, answer["id"])
    show(answer, arguments.json, lambda: record(("rollout", "start"), answer))
    return 0


def _tell_preview(answer: dict[str, Any]) -> None:
    """Print what a rollout would do."""
    print(f"{answer['devices']} devices get {answer['bundle'][:12]}, {answer['reachable']} of them within reach now")
    print(
        f"they fetch {answer['bytes_total'] / 1e6:.1f} MB together"
        + (f", in {answer['least_s']:.0f} s at the least" if answer["least_s"] is not None else "")
    )
    table(answer["stages"], ("stage", "devices"))
    for each in answer["excluded"]:
        print(f"not {each['devices']}, such as {', '.join(each['such_as'])}: {each['why']}")
    if not answer["starts"]:
        print("as asked for, it would be refused")


def _start_shadow(client: FleetClient, arguments: argparse.Namespace) -> int:
    words = ("model", "bundle", "group", "devices", "days", "share", "cpu_share", "max_c", "min_battery", "tolerance")
    body = _body(arguments, *words, "report_s")
    if arguments.memory_mb is not None:
        body["memory_bytes"] = int(arguments.memory_mb * 1e6)
    answer = client.call("POST", f"{API}/shadows", json=body)
    show(answer, arguments.json, lambda: record(("shadow", "start"), answer))
    return 0


def _promote(client: FleetClient, arguments: argparse.Namespace) -> int:
    answer = client.call("POST", f"{API}/shadows/{arguments.shadow}/promote", json=_body(arguments, *PLAN))
    if arguments.wait:
        return _follow(client, arguments, answer["id"])
    show(answer, arguments.json, lambda: record(("shadow", "promote"), answer))
    return 0


def _evidence(client: FleetClient, arguments: argparse.Namespace) -> int:
    """Show what the pairs of a rollout came to, and the newest of them."""
    answer = client.call("GET", f"{API}/rollouts/{arguments.rollout}/evidence?limit={min(arguments.limit, 1000)}")
    columns = ("device", "control", "failing", "error_rate", "latency", "confidence", "ended_ms")

    def told() -> None:
        needed = "no gate" if answer["needed"] is None else f"{answer['needed']:.3g} takes it back"
        print(f"evidence for harm {answer['value']:.3g} ({needed}, alpha {answer['alpha']:g})")
        scores = [
            {"measure": name, **score, "value": f"{score['value']:.3g}"} for name, score in answer["measures"].items()
        ]
        table(scores, ("measure", "worse", "better", "same", "value"))
        table(answer["items"], columns)

    show(answer, arguments.json, told)
    return 0


def _wait(client: FleetClient, arguments: argparse.Namespace) -> int:
    return _follow(client, arguments, arguments.rollout)


def _follow(client: FleetClient, arguments: argparse.Namespace, rollout: str) -> int:
    """Show where a rollout stands until it is over."""
    line = ""
    while True:
        answer = client.call("GET", f"{API}/rollouts/{rollout}")
        told = f"{rollout}  {answer['status']}  {answer['stage_name']}  {cell('counts', answer['counts'])}"
        if told != line and not arguments.json:
            print(told, file=sys.stderr, flush=True)
        line = told
        if answer["status"] in ENDED:
            break
        time.sleep(POLL_S)
    show(answer, arguments.json, lambda: print(cell("", f"{rollout} {answer['status']} {answer['reason']}").rstrip()))
    return 0 if answer["status"] in GOOD else 1


def _carry_in(client: FleetClient, arguments: argparse.Namespace) -> int:
    """Send a carried file part by part and write the answers; the file is read once whole before anything is sent."""
    path, output = Path(arguments.file), Path(arguments.output)
    answer: dict[str, Any] = {"device": "", "messages": 0, "refused": 0, "acknowledged": 0}
    acks = b""
    try:
        with path.open("rb") as file:
            if not all(isinstance(said, Carried) for _, said in read_lines(file)):
                raise InputError(f"{path.name} is an answer to a device", hint="skerry agent carry-in on that device")
            file.seek(0)
            for line, _ in read_lines(file):
                part = client.call("POST", f"{API}/carried", content=line)
                acks += part.pop("ack").encode() + b"\n"
                device = part.pop("device")
                answer = {**{name: answer[name] + count for name, count in part.items()}, "device": device}
        arriving = output.with_name(f"{output.name}.part")
        arriving.write_bytes(acks)
        arriving.replace(output)
    except OSError as error:
        raise InputError(f"{error.filename or path}: {error.strerror}", hint="import again: nothing is lost") from error
    except ContractError as error:
        raise InputError(f"{path.name}: {error}", hint=error.hint) from error
    show(answer, arguments.json, lambda: record(("device", "carry-in"), answer))
    return 0


def _carry_out(client: FleetClient, arguments: argparse.Namespace) -> int:
    output = Path(arguments.output)
    size = client.download(_filled(f"{API}/devices/{{device}}/update", vars(arguments)), output)
    answer = {"device": arguments.device, "file": str(output), "size_bytes": size}
    show(answer, arguments.json, lambda: record(("device", "carry-out"), answer))
    return 0


_SPECIAL: dict[tuple[str, str], Callable[[FleetClient, argparse.Namespace], int]] = {
    **cli_devices.SPECIAL,
    **cli_feeds.SPECIAL,
    ("overview", ""): _overview,
    ("bundle", "upload"): _upload,
    ("device", "carry-in"): _carry_in,
    ("device", "carry-out"): _carry_out,
    ("rollout", "start"): _start,
    ("route", "create"): cli_alerts.create_route,
    **cli_people.SPECIAL,
    ("rollout", "wait"): _wait,
    ("rollout", "evidence"): _evidence,
    ("shadow", "start"): _start_shadow,
    ("shadow", "promote"): _promote,
}


def _filled(path: str, values: dict[str, Any]) -> str:
    from urllib.parse import quote

    return path.format_map({name: quote(str(value), safe="") for name, value in values.items()})


def _whole(text: str, flag: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InputError(f"{flag}: {text!r:.40} is not a whole number")
    return int(text)
