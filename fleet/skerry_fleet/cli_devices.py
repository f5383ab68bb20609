"""The verbs of devices: what they are, their tags and groups, and how they come and go."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from skerry_fleet.cli_nouns import Noun

if TYPE_CHECKING:
    from skerry_fleet.client import FleetClient  # httpx is loaded only where a request is made

LISTS: dict[tuple[str, str], tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    ("device", "list"): (
        "/devices",
        ("group", "q", "online", "query"),
        ("device", "online", "profile", "groups", "models"),
    ),
    ("device", "events"): ("/devices/{device}/events", (), ("received_ms", "model", "phase", "reason", "detail")),
    ("claim", "list"): ("/claims", (), ("id", "uses_left", "uses", "group", "expires_ms", "revoked")),
    ("group", "list"): ("/groups", (), ("name", "devices", "query", "description")),
}
CALLS: dict[tuple[str, str], tuple[str, str, tuple[str, ...]]] = {
    ("device", "show"): ("GET", "/devices/{device}", ()),
    ("device", "remove"): ("DELETE", "/devices/{device}", ()),
    ("claim", "create"): ("POST", "/claims", ("uses", "expires_s", "group")),
    ("claim", "revoke"): ("DELETE", "/claims/{claim}", ()),
    ("group", "create"): ("POST", "/groups", ("name", "description", "query")),
    ("group", "edit"): ("PATCH", "/groups/{group}", ("description", "query")),
    ("group", "show"): ("GET", "/groups/{group}", ()),
    ("group", "add"): ("POST", "/groups/{group}/devices", ("devices",)),
}
SPECIAL: dict[tuple[str, str], Callable[[FleetClient, argparse.Namespace], int]] = {}


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
    device.verb("remove", "decommission a device", "device")
    carried = device.verb("carry-in", "take in what a device without network wrote by `skerry agent carry-out`", "file")
    carried.add_argument("-o", "--output", required=True, metavar="ANSWER", help="what to carry back to the device")
    update = device.verb("carry-out", "write a device's update to a file, for `skerry agent carry-in`", "device")
    update.add_argument("-o", "--output", required=True, metavar="UPDATE", help="the file to carry to the device")
    claim = Noun(nouns, "claim", "tokens that let devices enrol", common)
    create = claim.verb("create", "make a token")
    create.add_argument("--uses", type=int, default=1, help="for how many devices (default 1)")
    create.add_argument("--expires-s", type=float, default=86_400.0, help="valid for so many seconds (default a day)")
    create.add_argument("--group", help="the group these devices go into")
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
    group.verb("list", "groups with their sizes")
