"""Sign-in with a provider of identities: OpenID Connect Core 1.0, authorization code flow with PKCE (RFC 7636).

What the provider says is believed for the signature of an ID token by a key from its own key set, fetched from its own
hosts: algorithm and key are chosen by us, never by the token (RFC 8725, 3.1, 3.10). Client secrets, codes and tokens
are in no error and no log.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, GuestProtocol, JWKRegistry, OKPKey, RSAKey

from skerry_contracts import codec
from skerry_contracts.errors import ContractError
from skerry_fleet.config import Clock
from skerry_fleet.errors import AuthError, FleetError, UnavailableError
from skerry_fleet.oidc_words import Flight, Settings, safe_address

ALGORITHMS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), RSAKey),
    **dict.fromkeys(("ES256", "ES384", "ES512"), ECKey),
    "Ed25519": OKPKey,  # RFC 9864; what it calls EdDSA is deprecated
}
"""Asymmetric ones alone, each with its kind of key: none of a token's words can make a public key a shared secret."""
KEPT_S = 3600.0
AGAIN_S = 30.0
"""An unknown key may have the key set fetched anew, but not more often."""
LEEWAY_S = 60
DOWN_S = 5.0
"""So long nobody waits again for a provider that did not answer: every wait holds one of the fleet's threads."""
TIMEOUT_S = 10.0
MAX_BYTES = 1 << 20
MIN_RSA_BITS = 2048
REFUSED = "the provider's answer cannot be believed"


class Provider:
    """One provider. Its documents are fetched when they are needed, and kept for an hour."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings, self._clock = settings, clock
        self._lock = threading.Lock()
        self._about: tuple[float, dict[str, str]] = (0.0, {})
        self._down: tuple[float, str] = (0.0, "")
        self._keys: tuple[float, list[RSAKey | ECKey | OKPKey]] = (0.0, [])

    def start(self, flight: Flight) -> str:
        """Return the address at the provider that a browser is sent to.

        Raises:
            UnavailableError: the provider does not answer, or not as one.
        """
        challenge = hashlib.sha256(flight.verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self.settings.redirect_uri,
            "scope": self.settings.scopes,
            "state": flight.state,
            "nonce": flight.nonce,
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        address = self._discovered()["authorization_endpoint"]
        return f"{address}{'&' if '?' in address else '?'}{urlencode(asked)}"

    def finish(self, flight: Flight, answer: Mapping[str, str]) -> dict[str, Any]:
        """Return the claims of the person who comes back with the provider's answer (the query of our address).

        Raises:
            AuthError: not what we asked for, or a token that cannot be believed.
            UnavailableError: the provider does not answer, or not as one.
        """
        if not hmac.compare_digest(answer.get("state", "").encode(), flight.state.encode()):
            raise AuthError("this sign-in was not begun in this browser", hint="begin again")
        if answer.get("iss", self.settings.issuer) != self.settings.issuer:  # RFC 9207: mix-up of providers
            raise AuthError(f"{REFUSED}: another issuer", hint="begin again")
        if "error" in answer or not answer.get("code"):
            said = re.sub(r"[^a-z_ ]", "", answer.get("error", "no code")[:60])
            raise AuthError(f"the provider refused: {said}", hint="begin again")
        token = self._exchange(answer["code"], flight.verifier)
        return self.claims(token, flight.nonce)

    def claims(self, token: str, nonce: str) -> dict[str, Any]:
        """Return the claims of an ID token (OpenID Connect Core 1.0, 3.1.3.7).

        Raises:
            AuthError: signature, issuer, audience, life or nonce are not as they must be.
        """
        try:
            found = jwt.decode(token, self._key, algorithms=list(ALGORITHMS))
            claims, now = found.claims, int(self._clock())
            one = {"essential": True}
            registry = jwt.JWTClaimsRegistry(
                now=now,
                leeway=LEEWAY_S,
                iss={**one, "value": self.settings.issuer},  # type: ignore[typeddict-item]
                aud={**one, "value": self.settings.client_id},  # type: ignore[typeddict-item]
                sub=one,  # type: ignore[arg-type]
                exp=one,  # type: ignore[arg-type]
                iat=one,  # type: ignore[arg-type]
            )
            registry.validate(claims)
        except (JoseError, ValueError, TypeError, RecursionError) as error:
            raise AuthError(f"{REFUSED}: {type(error).__name__}", hint="begin again") from error
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if len(audience) > 1 and claims.get("azp") != self.settings.client_id:
            raise AuthError(f"{REFUSED}: it is for others, too", hint="begin again")
        if claims.get("azp", self.settings.client_id) != self.settings.client_id:
            raise AuthError(f"{REFUSED}: it was asked for by another", hint="begin again")
        said = claims.get("nonce")
        if not isinstance(said, str) or not hmac.compare_digest(said.encode(), nonce.encode()):
            raise AuthError(f"{REFUSED}: it belongs to another sign-in", hint="begin again")
        if not 0 < len(claims["sub"]) <= 255:
            raise AuthError(f"{REFUSED}: it names nobody", hint="begin again")
        return claims

    def _key(self, token: GuestProtocol) -> RSAKey | ECKey | OKPKey:
        """Return the provider's key of this name and kind; fetched anew where there is none (it may have changed)."""
        header = token.headers()
        kind, name = ALGORITHMS.get(str(header.get("alg"))), header.get("kid")
        for fresh in (False, True):
            fit = [
                key
                for key in self._key_set(fresh)
                if kind is not None and isinstance(key, kind) and (name is None or key.kid == name)
            ]
            if len(fit) == 1:
                return fit[0]
        raise AuthError(f"{REFUSED}: no key of the provider fits it", hint="begin again")

    def _key_set(self, fresh: bool) -> list[RSAKey | ECKey | OKPKey]:
        with self._lock:
            at, kept = self._keys
            age = self._clock() - at
            if kept and age < (AGAIN_S if fresh else KEPT_S):
                return kept
        said = self._json("GET", self._discovered()["jwks_uri"])
        found: list[RSAKey | ECKey | OKPKey] = []
        for each in said.get("keys", ()):
            try:
                key = JWKRegistry.import_key(each)
            except (JoseError, ValueError, TypeError, KeyError):
                continue  # RFC 7517, 5: what is not understood is passed over
            strong = not isinstance(key, RSAKey) or key.raw_value.key_size >= MIN_RSA_BITS
            if isinstance(key, (RSAKey, ECKey, OKPKey)) and strong and each.get("use", "sig") == "sig":
                found.append(key)
        with self._lock:
            self._keys = (self._clock(), found)
        return found

    def _discovered(self) -> dict[str, str]:
        """Return the provider's own account of itself (OpenID Connect Discovery 1.0)."""
        with self._lock:
            at, kept = self._about
            if kept and self._clock() - at < KEPT_S:
                return kept
            since, problem = self._down
            if problem and self._clock() - since < DOWN_S:
                raise UnavailableError(problem, hint="try again in a moment, or sign in with an API key")
        try:
            found = self._discover()
        except UnavailableError as error:
            with self._lock:
                self._down = (self._clock(), str(error))
            raise
        with self._lock:
            self._about = (self._clock(), found)
        return found

    def _discover(self) -> dict[str, str]:
        issuer = self.settings.issuer
        said = self._json("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        if said.get("issuer") != issuer:
            raise UnavailableError("the provider calls itself otherwise", hint="is oidc_issuer exactly its issuer?")
        found = {}
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            address = said.get(name)
            if not isinstance(address, str) or not self._ours(address):
                hint = "its hosts are those of oidc_issuer and oidc_hosts, by https"
                raise UnavailableError(f"the provider's {name} is elsewhere", hint=hint)
            found[name] = address
        return found

    def _ours(self, address: str) -> bool:
        own = urlsplit(self.settings.issuer)
        if not safe_address(address):
            return False
        parts = urlsplit(address)
        return (parts.scheme, parts.netloc) == (own.scheme, own.netloc) or (
            parts.scheme == "https" and parts.netloc in self.settings.hosts
        )

    def _exchange(self, code: str, verifier: str) -> str:
        """Return the ID token for a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.settings.redirect_uri,
            "code_verifier": verifier,
            "client_id": self.settings.client_id,
        }
        said = self._json("POST", self._discovered()["token_endpoint"], form)
        token = said.get("id_token")
        if not isinstance(token, str) or not token.isascii() or str(said.get("token_type", "")).lower() != "bearer":
            raise AuthError("the provider gave no ID token", hint="begin again")
        return token

    def _json(self, method: str, address: str, form: dict[str, str] | None = None) -> dict[str, Any]:
        import httpx  # only here and in webhooks.py: half a second of the fleet's start

        auth = None
        if form is not None and self.settings.secret:  # RFC 6749, 2.3.1: what every server takes
            auth = (quote(self.settings.client_id, safe=""), quote(self.settings.secret, safe=""))
        try:
            with (
                httpx.Client(auth=auth, timeout=TIMEOUT_S, trust_env=False, follow_redirects=False) as client,
                client.stream(method, address, data=form, headers={"accept": "application/json"}) as answer,
            ):
                body = b""
                for piece in answer.iter_bytes():
                    body += piece
                    if len(body) > MAX_BYTES:
                        raise UnavailableError("the provider's answer is too long")
                status = answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            said = type(error).__name__
            hint = "try again, or sign in with an API key"
            raise UnavailableError(f"the provider does not answer: {said}", hint=hint) from error
        if status != 200:
            kind: type[FleetError] = AuthError if method == "POST" and status in (400, 401, 403) else UnavailableError
            raise kind(f"the provider answered {status}", hint="begin again; are oidc_client_id and its secret right?")
        try:
            found = codec.parse_json(body)
        except ContractError:
            found = None
        if not isinstance(found, dict):
            raise UnavailableError("the provider's answer is no JSON object")
        return found
