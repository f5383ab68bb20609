"""A provider that lies, or somebody who lies in its name: nobody gets in."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from tests.fleet.access.oidc_world import World, refused
from tests.fleet.access.providers import CLIENT

from skerry_fleet.oidc import AGAIN_S, DOWN_S, KEPT_S


def unsigned(world: World, header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


EVIL = RSAKey.generate_key(2048, {"kid": "evil"})


def with_public_key_as_secret(world: World, claims: dict[str, Any]) -> str:
    """CVE-2015-9235 and its kin: the public key, in every form that a library might take it in, as an HMAC's key."""
    key = OctKey.import_key(world.provider.key.as_pem(private=False))
    return jws.serialize_compact({"alg": "HS256", "kid": "one"}, json.dumps(claims).encode(), key, algorithms=["HS256"])


FORGED: dict[str, Callable[[World, dict[str, Any]], str]] = {
    "none": lambda world, claims: unsigned(world, {"alg": "none"}, claims),
    "None": lambda world, claims: unsigned(world, {"alg": "None", "kid": "one"}, claims),
    "no algorithm": lambda world, claims: unsigned(world, {"kid": "one"}, claims, b"x"),
    "public key as secret": with_public_key_as_secret,
    "another's key": lambda world, claims: jwt.encode({"alg": "RS256", "kid": "one"}, claims, EVIL),
    "unknown kid": lambda world, claims: jwt.encode({"alg": "RS256", "kid": "evil"}, claims, EVIL),
    "kid is a path": lambda world, claims: jwt.encode({"alg": "RS256", "kid": "../../dev/null"}, claims, EVIL),
    "key in the header": lambda world, claims: jwt.encode(
        {"alg": "RS256", "kid": "evil", "jwk": EVIL.as_dict(private=False)}, claims, EVIL
    ),
    "key elsewhere": lambda world, claims: jwt.encode(
        {"alg": "RS256", "kid": "evil", "jku": f"{world.provider.url}/evil"}, claims, EVIL
    ),
    "altered": lambda world, claims: world.provider.token(claims)[:-6] + "AAAAAA",
    "other kind of key": lambda world, claims: jwt.encode(
        {"alg": "ES256", "kid": "one"}, claims, ECKey.generate_key("P-256")
    ),
    "no token": lambda world, claims: "x",
    "five parts": lambda world, claims: "a.b.c.d.e",
    "not ASCII": lambda world, claims: "é.é.é",
    "deep": lambda world, claims: unsigned(world, {"alg": "RS256"}, {}) + "[" * 50_000,
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused(strict: World, name: str) -> None:
    strict.provider.sign = lambda claims: FORGED[name](strict, claims)
    with strict.browser() as page:
        refused(strict.sign_in(page), page)
        assert "/evil" not in strict.provider.asked


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": [CLIENT, "another"]},
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"azp": "another"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"exp": "tomorrow"},
        {"iat": 9_999_999_999},
        {"iat": None},
        {"nbf": 9_999_999_999},
        {"nonce": "x"},
        {"nonce": None},
        {"nonce": ""},
        {"nonce": ["x"]},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
        {"sub": "s" * 256},
    ],
    ids=repr,
)
def test_a_well_signed_token_with_wrong_claims_is_refused(strict: World, wrong: dict[str, Any]) -> None:
    strict.provider.sign = lambda claims: strict.provider.token(
        {name: value for name, value in {**claims, **wrong}.items() if value is not None}
    )
    with strict.browser() as page:
        refused(strict.sign_in(page), page, "cannot be believed")


@pytest.mark.parametrize("kind", ["EC", "OKP"])
def test_keys_change_while_the_fleet_runs(world: World, kind: str) -> None:
    new: Any = (
        ECKey.generate_key("P-256", {"kid": "two"}) if kind == "EC" else OKPKey.generate_key("Ed25519", {"kid": "two"})
    )
    alg = "ES256" if kind == "EC" else "Ed25519"
    with world.browser() as page:
        assert world.sign_in(page).status_code == 200
        world.provider.keys = [
            {"kty": "new-fashioned"},
            world.provider.key.as_dict(private=False),
            new.as_dict(private=False),
        ]
        world.provider.sign = lambda claims: jwt.encode({"alg": alg, "kid": "two"}, claims, new, [alg])
        page.cookies.clear()
        refused(world.sign_in(page), page)  # asked for anew only after a while: nobody makes us ask all the time
        fetched = world.provider.asked.count("/keys")
        world.clock.now += AGAIN_S
        world.provider.claims = world.claims()
        assert world.sign_in(page).status_code == 200
        assert world.provider.asked.count("/keys") == fetched + 1
        world.provider.keys, world.provider.sign = [new.as_dict(private=False)], None
        world.clock.now += KEPT_S
        world.provider.claims = world.claims()
        page.cookies.clear()
        refused(world.sign_in(page), page)  # the key that was withdrawn


@pytest.mark.parametrize(
    "about",
    [
        {"issuer": "https://evil.example"},
        {"issuer": None},
        {"token_endpoint": "https://evil.example/token"},
        {"jwks_uri": "http://169.254.169.254/latest"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"jwks_uri": 5},
    ],
    ids=repr,
)
def test_a_provider_that_points_elsewhere_is_not_followed(strict: World, about: dict[str, Any]) -> None:
    strict.provider.about = about
    with strict.browser() as page:
        answer = page.get("/ui/sign-in/oidc")
        assert answer.status_code == 503 and "location" not in answer.headers
        asked = len(strict.provider.asked)
        strict.provider.about = {}
        assert page.get("/ui/sign-in/oidc").status_code == 503
        assert len(strict.provider.asked) == asked, "not asked again at once"
        strict.clock.now += DOWN_S
        assert page.get("/ui/sign-in/oidc").status_code == 303


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b" " * (1 << 21), b'{"keys": [{}, 5]}', b'{"a":1,"a":2}'])
def test_a_provider_that_answers_rubbish_lets_nobody_in(strict: World, body: bytes) -> None:
    with strict.browser() as page:
        state = strict.provider.seen(page.get("/ui/sign-in/oidc").headers["location"])
        strict.provider.raw["/keys"] = body
        refused(page.get("/ui/sign-in/oidc/callback", params={"code": "good", "state": state}), page)
        strict.provider.raw["/token"] = body
        refused(strict.sign_in(page), page)
