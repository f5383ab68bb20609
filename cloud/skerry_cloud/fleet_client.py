"""The one door to the fleet: its HTTP API as plain functions. Every error of the network or the fleet becomes a
FleetError.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from skerry_cloud.errors import ConfigError, FleetError
from skerry_contracts import codec
from skerry_contracts.errors import ContractError

TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024
WAIT_S = 60.0
"""How long one request waits for a busy fleet, all pauses together."""
TRIES = 3
"""Tries where connections are lost."""

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """One page of a feed: its items, and the cursor after the last of them (None: there was nothing new)."""

    items: tuple[dict[str, Any], ...]
    cursor: str | None


class FleetClient:
    """Talks to one fleet with one API key. Safe for several threads."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=url.rstrip("/"),
            headers={"authorization": f"Bearer {key}"},
            timeout=TIMEOUT_S,
            transport=transport,
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def feed(self, name: str, after: str | None, limit: int = 500) -> Page:
        """Return the next items of `samples` or `sketches`, in the order in which the fleet committed them.

        Raises:
            FleetError: no answer, or a refusal.
        """
        parameters: dict[str, str] = {"limit": str(limit)} | ({"after": after} if after else {})
        answer = self._ask("GET", f"/api/v1/{name}", params=parameters)
        following = answer.get("next")
        return Page(tuple(answer.get("items", ())), None if following is None else str(following))

    def register_model(self, model: str) -> None:
        """Make a model known to the fleet; one that is known already stays as it is."""
        try:
            self._ask("POST", "/api/v1/models", json={"name": model})
        except FleetError as error:
            if error.status != 409:
                raise

    def upload_bundle(self, model: str, data: bytes) -> str:
        """Give the fleet a bundle file; return the bundle's id. The same file again changes nothing."""
        headers = {"content-type": "application/octet-stream"}
        answer = self._ask("POST", f"/api/v1/models/{model}/bundles", content=data, headers=headers)
        return str(answer["id"])

    def newest_release(self, model: str) -> int:
        """Return the highest release among a model's bundles at the fleet (0: none, or no such model)."""
        try:
            answer = self._ask("GET", f"/api/v1/models/{model}/bundles", params={"limit": "1000"})
        except FleetError as error:
            if error.status == 404:
                return 0
            raise
        return max((int(each["release"]) for each in answer.get("items", ())), default=0)

    def bundle(self, bundle: str) -> dict[str, Any]:
        """Return a bundle's manifest and status as the fleet tells them."""
        return self._ask("GET", f"/api/v1/bundles/{bundle}")

    def create_rollout(self, plan: dict[str, Any], *, idempotency_key: str) -> dict[str, Any]:
        """Start a rollout; asking again with the same key returns the first one."""
        return self._ask("POST", "/api/v1/rollouts", json=plan, headers={"idempotency-key": idempotency_key})

    def rollouts(self, model: str) -> list[dict[str, Any]]:
        """Return the newest rollouts of a model."""
        answer = self._ask("GET", "/api/v1/rollouts", params={"model": model, "limit": "200"})
        return [each for each in answer.get("items", ()) if each.get("model") == model]

    def rollout(self, rollout: str) -> dict[str, Any]:
        """Return a rollout's state, waves and counts."""
        return self._ask("GET", f"/api/v1/rollouts/{rollout}")

    def approve_rollout(self, rollout: str) -> dict[str, Any]:
        """Approve a rollout that waits for it."""
        return self._ask("POST", f"/api/v1/rollouts/{rollout}/approve")

    def put_drift(self, model: str, body: dict[str, Any]) -> None:
        """Tell the fleet's dashboard the newest verdict on a model."""
        self._ask("PUT", f"/api/v1/models/{model}/drift", json=body)

    def _ask(self, method: str, path: str, **parts: Any) -> dict[str, Any]:
        headers = dict(parts.pop("headers", {}))
        if method != "GET":  # the same in every try, so that a try whose answer was lost makes nothing twice
            headers.setdefault("idempotency-key", secrets.token_hex(16))
        try:
            answer = self._patient(method, path, headers=headers, **parts)
        except httpx.TransportError as error:
            hint = "is `skerry fleet serve` running, and is --fleet its address?"
            raise FleetError(f"the fleet does not answer: {error or type(error).__name__}", hint=hint) from error
        if answer.status_code >= 400:
            raise _refusal(method, path, answer)
        if not answer.content:
            return {}
        try:
            plain = codec.parse_json(answer.content, max_bytes=MAX_ANSWER_BYTES)
        except ContractError as error:
            raise FleetError(
                f"{method} {path}: the answer is no JSON ({error})", status=502, hint="is --fleet a fleet?"
            ) from error
        return plain if isinstance(plain, dict) else {"items": plain}

    def _patient(self, method: str, path: str, **parts: Any) -> httpx.Response:
        """Make a request; wait while the fleet is busy, as it says, and ask again where a lost answer does no harm: all
        that is asked here may be asked twice, but an approval.
        """
        left_s, tries = WAIT_S, TRIES
        while True:
            try:
                answer = self._http.request(method, path, **parts)
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError) as error:
                tries -= 1
                if not tries or path.endswith("/approve"):
                    raise
                log.warning("the connection to the fleet was lost (%s); asking again", type(error).__name__)
                self._sleep(0.2)
                continue
            said = answer.headers.get("retry-after", "")
            wait_s = float(said) if said.isascii() and said.isdigit() else left_s + 1
            if answer.status_code not in (429, 503) or wait_s > left_s:
                return answer
            left_s -= max(wait_s, 0.1)
            log.warning("the fleet is busy (status %d); asking again in %g s, as it says", answer.status_code, wait_s)
            self._sleep(max(wait_s, 0.1))


def _refusal(method: str, path: str, answer: httpx.Response) -> FleetError:
    """Return the fleet's own words, or what little can be said without them."""
    try:
        said = answer.json()["error"]
        message, code, hint = str(said["message"]), str(said.get("code", "")), str(said.get("hint", ""))
    except (ValueError, KeyError, TypeError):
        message, code, hint = f"{method} {path} refused with status {answer.status_code}", "", ""
    if answer.status_code in (401, 403) and not hint:
        hint = "does the key file hold an operator's or admin's key?"
    return FleetError(message, status=answer.status_code, code=code, hint=hint)


def read_key(path: Path) -> str:
    """Return the API key in a file.

    Raises:
        ConfigError: the file cannot be read or is empty.
    """
    try:
        key = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the key file {path}", hint="`skerry fleet serve` writes admin.key into its root"
        ) from error
    if not key:
        raise ConfigError(
            f"the key file {path} is empty", hint="copy the key that `skerry fleet serve` printed into it"
        )
    return key
