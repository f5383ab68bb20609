"""The verbs of who may do what, and who did what: people, keys, the audit."""

from __future__ import annotations

import argparse
import dataclasses
import getpass
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skerry_fleet.cli_nouns import Noun
from skerry_fleet.cli_words import record, show
from skerry_fleet.errors import InputError

if TYPE_CHECKING:
    from skerry_fleet.client import FleetClient  # httpx is loaded only where a request is made

ROLES = ("viewer", "measurer", "operator", "admin")
USERS = "/api/v1/users"
LISTS: dict[tuple[str, str], tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    ("user", "list"): ("/users", (), ("name", "role", "issuer", "seen_ms", "disabled_ms", "created_by")),
    ("key", "list"): ("/keys", (), ("id", "name", "role", "created_ms", "revoked_ms")),
    ("audit", "list"): ("/audit", ("object", "actor", "action"), ("seq", "time_ms", "actor", "action", "object")),
}
CALLS: dict[tuple[str, str], tuple[str, str, tuple[str, ...]]] = {
    ("user", "sign-out"): ("POST", "/users/{user}/sign-out", ()),
    ("key", "create"): ("POST", "/keys", ("name", "role")),
    ("key", "revoke"): ("DELETE", "/keys/{id}", ()),
}


def add(nouns: argparse._SubParsersAction[argparse.ArgumentParser], common: argparse.ArgumentParser) -> None:
    """Add the nouns."""
    user = Noun(nouns, "user", "people who sign in to the dashboard", common)
    create = user.verb("create", "make a person known; asks for a password", "user")
    create.add_argument("--role", choices=ROLES, default="viewer")
    _password(create)
    user.verb("list", "people, without passwords")
    user.verb("disable", "let a person in no more; their sessions end", "user")
    user.verb("enable", "let a person in again", "user")
    user.verb("role", "give a person another role", "user").add_argument("role", choices=ROLES)
    _password(user.verb("password", "give a person another password", "user"))
    user.verb("sign-out", "end a person's sessions in every browser", "user")
    key = Noun(nouns, "key", "API keys", common)
    key.verb("create", "make a key", "name").add_argument("--role", choices=ROLES, default="viewer")
    key.verb("list", "keys, without secrets")
    key.verb("revoke", "make a key worthless", "id")
    audit = Noun(nouns, "audit", "who changed what", common)
    listing = audit.verb("list", "changes, newest first")
    listing.add_argument("--object", help="only one object, such as rollout/r1-…")
    listing.add_argument("--actor", help="only by one actor, such as key:1f2e3d4c5b6a")
    listing.add_argument("--action", help="only one action, such as rollout.create")
    export = audit.verb("export", "write the chain to a file that can be verified without the fleet")
    export.add_argument("-o", "--output", required=True, metavar="FILE")
    export.add_argument("--after", type=int, default=0, metavar="SEQ", help="only what comes behind this record")
    verify = audit.verb("verify", "walk the chain, in the fleet or in exported files, and say whether it holds")
    verify.add_argument("files", nargs="*", metavar="FILE", help="exported files in their order; no fleet is asked")
    verify.add_argument("--head", default="", metavar="HASH", help="a head noted earlier, which has to be in the files")


def _password(verb: argparse.ArgumentParser) -> None:
    verb.allow_abbrev = False  # `--password words` must not pass for the file's name, and show up in a refusal
    verb.add_argument(
        "--password-file", metavar="FILE", help="its first line is the password; - is stdin (default: asked for)"
    )


def change_user(client: FleetClient, arguments: argparse.Namespace) -> int:
    """Make or change a person."""
    name, verb = arguments.user, arguments.verb
    if verb == "create":
        body = {"name": name, "role": arguments.role, "password": _secret(arguments.password_file)}
        answer = client.call("POST", USERS, json=body)
    else:
        from urllib.parse import quote

        changes: dict[str, Any] = {"disabled": verb == "disable"}
        if verb == "role":
            changes = {"role": arguments.role}
        elif verb == "password":
            changes = {"password": _secret(arguments.password_file)}
        answer = client.call("PATCH", f"{USERS}/{quote(name, safe='')}", json=changes)
    show(answer, arguments.json, lambda: record(("user", verb), answer))
    return 0


def _secret(path: str | None) -> str:
    """Return a password: on a command line everybody on the machine could read it, so it is never there.

    Raises:
        InputError: no file, nobody to ask, or two different answers.
    """
    if path is None:
        if not sys.stdin.isatty():
            raise InputError("no password", hint="give --password-file FILE, or - for standard input")
        first = getpass.getpass("password: ")
        if getpass.getpass("again: ") != first:
            raise InputError("the two passwords differ")
        return first
    try:
        lines = (sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from error
    if not lines or not lines[0]:
        raise InputError(f"{path} holds no password in its first line")
    return lines[0]


def export_audit(client: FleetClient, arguments: argparse.Namespace) -> int:
    """Write the chain to a file, and look at once whether it holds."""
    output = Path(arguments.output)
    if output.exists():
        raise InputError(f"{output} is there already", hint="an export is never overwritten: give another name")
    client.download(
        f"/api/v1/audit/export?after={arguments.after}" if arguments.after else "/api/v1/audit/export", output, "GET"
    )
    return verify_files([output], "", arguments.json)


def verify_files(paths: list[Path], head: str, as_json: bool) -> int:
    """Say whether exported files hold; needs no fleet."""
    from skerry_fleet import audit_file

    found = audit_file.verify(paths, head)
    show(dataclasses.asdict(found), as_json, lambda: record(("audit", "verify"), dataclasses.asdict(found)))
    if found.broken_at is not None:
        print(f"skerry: error: {found.broken_at}: {found.problem}", file=sys.stderr)
    return 1 if found.broken_at is not None else 0


SPECIAL: dict[tuple[str, str], Callable[[FleetClient, argparse.Namespace], int]] = {
    ("audit", "export"): export_audit,
    **{("user", verb): change_user for verb in ("create", "disable", "enable", "role", "password")},
}
