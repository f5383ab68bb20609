"""A fleet whose people sign in with a provider that the test holds in its hand."""

from __future__ import annotations

import contextlib
import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from tests.fleet.access.providers import CLIENT, Provider, provider
from tests.fleet.conftest import Clock, admin

from skerry_fleet.app import create_app
from skerry_fleet.config import FleetConfig
from skerry_fleet.dashboard.session import COOKIE

ROLES = "bosses=admin, ops=operator"
BACK = "http://127.0.0.1:8707/ui/sign-in/oidc/callback"


@dataclasses.dataclass
class World:
    app: FastAPI
    client: httpx.Client
    clock: Clock
    provider: Provider

    @contextlib.contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.client.base_url, trust_env=False) as found:
            yield found

    def claims(self, **other: Any) -> dict[str, Any]:
        now = int(self.clock())
        usual = {"iss": self.provider.url, "aud": CLIENT, "sub": "s-1", "iat": now, "exp": now + 300}
        return {**usual, "preferred_username": "anna", "groups": ["ops", "cooks"], **other}

    def sign_in(self, page: httpx.Client, **answer: str) -> httpx.Response:
        """Walk to the provider and back."""
        left = page.get("/ui/sign-in/oidc?next=/ui/devices")
        assert left.status_code == 303, left.text
        state = self.provider.seen(left.headers["location"])
        return page.get("/ui/sign-in/oidc/callback", params={"code": "good", "state": state, **answer})


@contextlib.contextmanager
def opened(root: Path) -> Iterator[World]:
    clock = Clock()
    with provider() as other:
        config = FleetConfig(
            root, oidc_issuer=other.url, oidc_client_id=CLIENT, oidc_roles=ROLES, public_url="http://127.0.0.1:8707"
        )
        app = create_app(config, clock, random.Random(1).randbytes, with_broker=False)
        with admin(app) as client:
            found = World(app, client, clock, other)
            other.claims = found.claims()
            yield found


def refused(answer: httpx.Response, page: httpx.Client, words: str = "") -> None:
    assert answer.status_code in (401, 403, 404, 503), answer.text[:300]
    assert COOKIE not in page.cookies and page.get("/ui/").status_code == 303
    assert words in answer.text
