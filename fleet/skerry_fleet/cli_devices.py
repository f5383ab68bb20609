"""The verbs of devices: what they are, their tags and groups, and how they come and go."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from skerry_fleet.cli_nouns import Noun
from skerry_fleet.cli_words import record, show, table
from skerry_fleet.errors import InputError

if TYPE_CHECKING:
    from skerry_fleet.client import FleetClient  # httpx is loaded only where a request is made

LISTS: dict[tuple[str, str], tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    ("device", "list"): (
        "/devices",
        ("group", "q", "online", "query"),
        ("device", "online", "profile", "groups", "models"),
    ),
    ("device", "events"): ("/devices/{device}/events", (), ("received_ms", "model", "phase", "reason", "detail")),
    ("device", "gone"): ("/decommissioned", (), ("device", "profile", "claim", "created_ms")),
    ("tag", "list"): ("/tags", (), ("key", "devices", "values")),
    ("claim", "list"): ("/claims", (), ("id", "uses_left", "uses", "named", "group", "tags", "expires_ms", "revoked")),
    ("group", "list"): ("/groups", ("q",), ("name", "devices", "query", "description")),
}
CALLS: dict[tuple[str, str], tuple[str, str, tuple[str, ...]]] = {
    ("device", "show"): ("GET", "/devices/{device}", ()),
    ("device", "revoke"): ("POST", "/devices/{device}/revoke", ()),
    ("device", "decommission"): ("DELETE", "/devices/{device}", ()),
    ("device", "remove"): ("DELETE", "/devices/{device}", ()),
    ("device", "delete"): ("DELETE", "/decommissioned/{device}", ()),
    ("claim", "revoke"): ("DELETE", "/claims/{claim}", ()),
    ("group", "create"): ("POST", "/groups", ("name", "description", "query")),
    ("group", "edit"): ("PATCH", "/groups/{group}", ("description", "query")),
    ("group", "show"): ("GET", "/groups/{group}", ()),
    ("group", "add"): ("POST", "/groups/{group}/devices", ("devices",)),
}


def tag(client: FleetClient, arguments: argparse.Namespace) -> int:
    """Set and take away tags, of one device or of many.

    Raises:
        InputError: what is no tag, or not exactly one word of whose.
    """
    words = list(arguments.words)
    named = words and "=" not in words[0] and not words[0].endswith("-")
    body: dict[str, Any] = {"devices": [words.pop(0)]} if named else {}
    body |= {name: getattr(arguments, name) for name in ("group", "query") if getattr(arguments, name) is not None}
    if not words:
        raise InputError("no tag", hint="such as site=lab to set one, and site- to take it away")
    body["set"] = tags_of([word for word in words if not word.endswith("-") or "=" in word])
    body["remove"] = [word.removesuffix("-") for word in words if word.endswith("-") and "=" not in word]
    answer = client.call("POST", f"/api/v1/tags?dry_run={str(arguments.dry_run).lower()}", json=body)
    would = "would change" if arguments.dry_run else "changed"
    few = " ".join(answer["such_as"][:5])
    line = f"{answer['changed']} of {answer['devices']} devices {would}" + (f", such as {few}" if few else "")
    show(answer, arguments.json, lambda: print(line))
    return 0


def state(client: FleetClient, arguments: argparse.Namespace) -> int:
    """Show what a device is to run beside what it says it runs; exit code 1 where they differ."""
    answer = client.call("GET", f"/api/v1/devices/{quote(arguments.device, safe='')}/state")
    rows = [
        {
            "model": each["model"],
            "desired": each["desired"] and each["desired"]["version"],
            "reported": each["reported"] and each["reported"]["version"],
            "difference": each["difference"],
            "since_ms": each["since_ms"],
            "rollout": each["rollout"] and each["rollout"]["id"],
            "place": each["place"] and " ".join(filter(None, (each["place"]["place"], each["place"]["reason"]))),
        }
        for each in answer["models"]
    ]

    def told() -> None:
        words = f"order {answer['sequence']}, {'published' if answer['published'] else 'not published yet'}"
        adopted = "nothing reported" if answer["adopted"] is None else f"the device is at {answer['adopted']}"
        print(f"{answer['device']}: {words}, {adopted}")
        table(rows, ("model", "desired", "reported", "difference", "since_ms", "rollout", "place"))

    show(answer, arguments.json, told)
    return 0 if answer["agrees"] else 1


def create_claim(client: FleetClient, arguments: argparse.Namespace) -> int:
    """Make a claim; the names it is for are read from a file.

    Raises:
        InputError: the file cannot be read, or what is no tag.
    """
    body = {name: getattr(arguments, name) for name in ("uses", "expires_s", "group") if getattr(arguments, name)}
    if arguments.tags:
        body["tags"] = tags_of(arguments.tags)
    if arguments.devices is not None:
        try:
            text = sys.stdin.read() if arguments.devices == "-" else Path(arguments.devices).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            said = getattr(error, "strerror", None) or "it is not text"
            raise InputError(f"cannot read {arguments.devices}: {said}", hint="one name a line") from error
        lines = [line.partition("#")[0].strip() for line in text.splitlines()]
        body["devices"] = [line for line in lines if line]
    answer = client.call("POST", "/api/v1/claims", json=body)
    show(answer, arguments.json, lambda: record(("claim", "create"), answer))
    return 0


def tags_of(words: list[str]) -> dict[str, str]:
    """Return the tags that `KEY=VALUE` words name.

    Raises:
        InputError: a word without a `=`, or a key twice.
    """
    found: dict[str, str] = {}
    for word in words:
        key, equal, value = word.partition("=")
        if not equal:
            raise InputError(f"{word!r:.80} is no tag", hint="such as site=lab")
        if key in found:
            raise InputError(f"tag {key!r:.70} is named twice")
        found[key] = value
    return found


SPECIAL: dict[tuple[str, str], Callable[[FleetClient, argparse.Namespace], int]] = {
    ("device", "tag"): tag,
    ("device", "state"): state,
    ("claim", "create"): create_claim,
}


def add(nouns: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Add the nouns."""
    device = Noun(nouns, "device", "devices", common)
    listing = device.verb("list", "devices by name")
    listing.add_argument("--group", help="only those of a group")
    listing.add_argument("--q", help="only names that begin so")
    listing.add_argument("--query", help="only those that a query means, such as 'tag.site==lab;online==false'")
    listing.add_argument("--online", choices=["true", "false"], help="only those online, or not")
    device.verb("show", "everything about one device", "device")
    device.verb("events", "a device's updates, newest first", "device")
    device.verb("state", "what a device is to run, and what it says it runs; exit 1 where they differ", "device")
    tagged = device.verb("tag", "set tags (site=lab) and take them away (site-), of one device or of many")
    tagged.add_argument("words", nargs="+", metavar="[DEVICE] KEY=VALUE KEY-")
    tagged.add_argument("--group", help="of every device of a group")
    tagged.add_argument("--query", help="of every device that a query means")
    tagged.add_argument("--dry-run", action="store_true", help="only say which devices would change")
    device.verb("revoke", "shut out a device's certificates; a claim that names it lets it in again", "device")
    device.verb("decommission", "end a device's membership", "device")
    device.verb("remove", "the same as decommission", "device")
    device.verb("gone", "devices that were decommissioned")
    device.verb("delete", "delete a decommissioned device with its telemetry; the audit stays", "device")
    Noun(nouns, "tag", "what devices are tagged with", common).verb("list", "tags, with how many devices have each")
    carried = device.verb("carry-in", "take in what a device without network wrote by `skerry agent carry-out`", "file")
    carried.add_argument("-o", "--output", required=True, metavar="ANSWER", help="what to carry back to the device")
    update = device.verb("carry-out", "write a device's update to a file, for `skerry agent carry-in`", "device")
    update.add_argument("-o", "--output", required=True, metavar="UPDATE", help="the file to carry to the device")
    claim = Noun(nouns, "claim", "tokens that let devices enrol", common)
    create = claim.verb("create", "make a token")
    create.add_argument("--uses", type=int, default=1, help="for how many devices (default 1)")
    create.add_argument("--expires-s", type=float, default=86_400.0, help="valid for so many seconds (default a day)")
    create.add_argument("--group", help="the group these devices go into")
    create.add_argument("--tags", nargs="+", metavar="KEY=VALUE", help="tags that these devices get")
    create.add_argument("--devices", metavar="FILE", help="only for the names in this file, one a line (-: input)")
    claim.verb("list", "tokens, without secrets")
    claim.verb("revoke", "make a token worthless", "claim")
    group = Noun(nouns, "group", "groups of devices", common)
    create = group.verb("create", "make a group", "group")
    edit = group.verb("edit", "change a group's description or query", "group")
    create.add_argument("--description", default="")
    edit.add_argument("--description")
    for each in (create, edit):
        each.add_argument("--query", help="let the fleet choose the devices, such as 'profile==raspberry-pi-*'")
    group.verb("show", "one group with its query", "group")
    group.verb("add", "put devices into a group", "group", "devices+")
    group.verb("remove", "take devices out of a group; what they run stays", "group", "devices+")
    group.verb("list", "groups with their sizes").add_argument("--q", help="only names that begin so")
