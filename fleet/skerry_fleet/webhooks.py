"""How a message leaves: a signed webhook of our own, or any service that apprise knows, in a short-lived child.

A webhook is a POST of one CloudEvent (structured mode), signed as Standard Webhooks says (specification 1.0.0):
HMAC-SHA256 over `<webhook-id>.<webhook-timestamp>.<body>`. What a target's address holds, secrets often among it, is
in no error and no log; that is why apprise, which logs, runs in a child whose output nobody sees. A child also ends
when it hangs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import importlib.util
import ipaddress
import json
import logging
import re
import subprocess
import sys
from urllib.parse import urlsplit

from skerry_fleet import reach as reaching
from skerry_fleet.errors import InputError

TIMEOUT_S = 10.0
CHILD_S = 20.0
MOST_ADDRESSES = 4
"""Addresses of one name that are tried."""
OUT_OF_REACH = "where the setting webhook_reach lets nothing be sent"
SECRET_PREFIX = "whsec_"
CHILD = "skerry_fleet.apprise_child"
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log every address at INFO


def is_webhook(target: str) -> bool:
    """Say whether a target is a webhook of ours."""
    return target.lower().startswith(("http://", "https://"))


def check(target: str, reach: str) -> None:
    """Refuse what can be no target. A name is looked up only when something is sent.

    Raises:
        InputError: not an address, one out of reach or that apprise does not know, or apprise is needed and missing.
    """
    hint = "https://… for a webhook, or an address of apprise such as mailto://… (docs/fleet.md)"
    if len(target) > 2000 or not target.isprintable() or not _ADDRESS.match(target):
        raise InputError("the target is no address", hint=hint)
    if not is_webhook(target):
        if importlib.util.find_spec("apprise") is None:
            raise InputError("this target needs apprise", hint="pip install 'skerry[notify]'")
        if _child({"target": target, "check": True}):
            raise InputError("apprise knows no such target, or something is missing in it", hint=hint)
        return
    try:
        parts = urlsplit(target)
        named, _ = parts.hostname, parts.port
    except ValueError:
        named = None
    if not named or " " in target:
        raise InputError("the webhook's address has no host, or a port that is none", hint=hint)
    known = "127.0.0.1" if named.lower() == "localhost" else named
    if _is_address(known) and not reaching.allowed(known, reach):
        raise InputError(f"the webhook's address is {OUT_OF_REACH}", hint=f"it is {reach} now; docs/fleet.md says more")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def shown(target: str) -> str:
    """Return as much of a target as may be seen: paths, users and, of services, hosts may be secrets.

    >>> shown("https://hooks.example:8443/T000/secret"), shown("mailto://user:password@example.org")
    ('https://hooks.example:8443/…', 'mailto://…')
    """
    if not is_webhook(target):
        return f"{target.partition('://')[0].lower()}://…"
    parts = urlsplit(target)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}/…"


def signature(secret: str, event: str, timestamp_s: int, body: bytes) -> str:
    """Return the header `webhook-signature` (Standard Webhooks 1.0.0, "Signature scheme")."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    mac = hmac.new(key, f"{event}.{timestamp_s}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


def send(target: str, secret: str, event: str, title: str, body: str, now: float, reach: str) -> str:
    """Send one message and return what went wrong, in words without secrets; empty: it was taken."""
    if is_webhook(target):
        return _post(target, secret, event, body.encode(), now, reach)
    lines = [f"{each['subject']}: {each['text']}" for each in json.loads(body)["data"]["first_alerts"]]
    text = "\n".join(lines) or title
    return _child({"target": target, "title": title, "body": text, "event": event, "reach": reach})


def _post(target: str, secret: str, event: str, body: bytes, now: float, reach: str) -> str:
    headers = {
        "content-type": "application/cloudevents+json; charset=utf-8",
        "webhook-id": event,
        "webhook-timestamp": str(int(now)),
        "webhook-signature": signature(secret, event, int(now), body),
        "user-agent": "skerry",
    }
    import httpx  # only here and in oidc.py: half a second of the fleet's start

    problem = "no connection to the target"
    try:
        url = httpx.URL(target)
        port = url.port or (443 if url.scheme == "https" else 80)
        found = reaching.addresses(url.host, port, reach)
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
            # The certificate is still held against the name; only where to connect is fixed.
            headers["host"], name = url.netloc.decode(), {"sni_hostname": url.host}
            for address in found[:MOST_ADDRESSES]:
                there = url.copy_with(host=address)
                try:
                    with client.stream("POST", there, content=body, headers=headers, extensions=name) as answer:
                        return "" if answer.is_success else f"the target answered {answer.status_code}"
                except httpx.ConnectError:
                    continue
            return problem
    except reaching.OutOfReachError:
        return f"the target is {OUT_OF_REACH}"
    except OSError:
        return problem
    except httpx.TimeoutException:
        return f"no answer within {TIMEOUT_S:g} s"
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        return f"the message could not be sent: {type(error).__name__}"


def _child(order: dict[str, object]) -> str:
    """Have apprise do it in a child; the order goes by its standard input, which no list of processes shows."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-m", CHILD],
            input=json.dumps(order).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=CHILD_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the service did not answer within {CHILD_S:g} s"
    said = {0: "", 3: "apprise is not installed: pip install 'skerry[notify]'", 4: "apprise knows no such target"}
    said[5] = f"the target is {OUT_OF_REACH}"
    return said.get(done.returncode, "the service did not take the message")
