"""Every setting of the fleet manager, once, with its unit: defaults < `<root>/fleet.toml` < environment < flags."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import tomllib
import types
import typing
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from skerry_fleet import web_address
from skerry_fleet.errors import InputError
from skerry_fleet.reach import REACHES

Clock = Callable[[], float]
"""Seconds since 1970, by the fleet's own clock. Passed in at the top, so that a simulator can be the clock."""

RandomBytes = Callable[[int], bytes]
"""Unpredictable bytes: ids and secrets. Passed in at the top for the same reason."""

ENVIRONMENT_PREFIX = "SKERRY_FLEET_"
MAX_SHARDS = 64
EXTERNAL = "external"
MQTTS_PORT = 8883
_NOT_SETTINGS = {"KEY", "URL"}  # the client's own variables share the prefix


@dataclasses.dataclass(frozen=True, slots=True)
class FleetConfig:
    """Settings of one fleet manager. `root` holds everything it keeps."""

    root: Path
    host: str = "127.0.0.1"
    port: int = 8707
    tenant: str = "default"
    database_url: str = ""
    """Empty: SQLite in `<root>/fleet.db`. Any SQLAlchemy address of PostgreSQL works as well."""
    database_password_file: str = ""
    """The file whose first line is the password for `database_url`, where it is not in there."""
    blob_url: str = ""
    """Where blobs are kept, if not in `<root>/blobs`: `s3://bucket/prefix?endpoint=https://...`, or `file:///folder`."""
    blob_secret_file: str = ""
    """The file with the access key for `blob_url`: its id, and the secret in the next line."""
    broker: str = "auto"
    """`mosquitto`, `embedded`, `auto` (mosquitto where it is installed), or `external`: others run it."""
    broker_host: str = "127.0.0.1"
    """The address the broker listens on, and the one devices are told where `broker_name` is empty."""
    broker_name: str = ""
    """The host that devices are told, where the broker listens on another address: behind a router, in a container."""
    broker_urls: str = ""
    """External brokers as devices reach them, one for each shard: `mqtts://mq-0.example:8883 mqtts://...`."""
    broker_inner_urls: str = ""
    """The same brokers as the fleet reaches them, where that is another way."""
    broker_token_file: str = ""
    """The file with the secret that `skerry fleet broker run` shows to get its certificate; empty: none may ask."""
    broker_port: int = 0
    """0: any free port at the first start; kept from then on, because devices remember it."""
    shards: int = 1
    """Broker processes that devices are spread over at their enrolment; it can grow, and never shrink."""
    swarm_port: int = 0
    """Not 0: each shard listens there (the second on the next port, and so on) on loopback without TLS, for devices
    of `skerry sim swarm` alone. For load tests.
    """
    max_body_bytes: int = 1 << 20
    max_bundle_bytes: int = 1 << 31
    slow_request_s: float = 30.0
    """Within this the head of a request arrives, and its body within as much again and a second for each 1000 bytes."""
    trusted_proxies: str = ""
    """Addresses or networks, with commas, of proxies whose `X-Forwarded-For` is believed; empty: none."""
    webhook_reach: str = "lan"
    """Where messages may be sent: `internet`, `lan` (private addresses, too), `machine` (and this one's loopback)."""
    key_per_s: float = 300.0
    """Requests a second that one API key may make in the long run; 0: any number."""
    key_burst: int = 1000
    """And at once."""
    address_per_s: float = 1000.0
    """The same for one network address; devices' downloads do not count, refused keys count eleven times."""
    address_burst: int = 3000
    public_url: str = ""
    """Where browsers reach the fleet, such as https://fleet.example; needed where a provider sends people back."""
    cloud_url: str = ""
    """Where browsers reach the cloud side, such as https://cloud.example: the dashboard leads to its labelling."""
    oidc_issuer: str = ""
    """Not empty: who vouches for people (OpenID Connect), exactly as it calls itself; docs/access.md."""
    oidc_client_id: str = ""
    oidc_secret_file: str = ""
    """A file that holds the client's secret; empty for a public client."""
    oidc_roles: str = ""
    """Which group gives which role: `bosses=admin, ops=operator, *=viewer`; without a role nobody gets in."""
    oidc_groups: str = "groups"
    """The claim that names groups, and the one that names the person."""
    oidc_name: str = "preferred_username"
    oidc_scopes: str = "openid profile email"
    oidc_hosts: str = ""
    """Further hosts of the provider, separated by blanks, where its token endpoint or keys are not at the issuer's."""
    accel_prefix: str = ""
    """Not empty: files are not sent but named to the nginx in front (`X-Accel-Redirect`), below this internal path."""
    ingest_queue: int = 20_000
    """Messages waiting to be committed before the link stops reading."""
    ingest_batch: int = 4000
    """Messages committed in one transaction at most."""
    dead_letters: int = 10_000
    """How many refused messages are kept; older ones make room."""
    silent_after_s: float = 180.0
    """A device unheard for so long counts as silent and raises an alert."""
    alert_disk_mb: float = 100.0
    """A device with less of its disk left raises an alert; here and in the other `alert_` settings 0 turns it off."""
    alert_flaps: int = 6
    """Connections made anew within an hour that are too many."""
    alert_restarts: int = 3
    """Restarts of a model's worker within an hour that are too many."""
    alert_degraded_s: float = 300.0
    """A model that is degraded for so long raises an alert."""
    alert_certificate_days: float = 7.0
    """A certificate that is not renewed and ends within so many days (at most a quarter of its life)."""
    alert_stale_hours: float = 24.0
    """A device that runs an older release than its group's newest finished rollout brought so many hours ago."""
    alert_spool: int = 1
    """Kept messages dropped within an hour that are too many."""
    alert_lost_devices: int = 20
    """So many devices of a broker shard lost within half a minute are an outage, if they are also"""
    alert_lost_share: float = 0.1
    """this share of the shard's devices."""
    alert_broker_s: float = 5.0
    """A broker that the fleet cannot reach for so long is an outage."""
    incident_wait_s: float = 10.0
    """An incident is told of so long after its beginning, so that the message has the count."""
    escalate_after_s: float = 900.0
    """A critical incident that nobody acknowledged for so long is told to the routes of the next level."""
    tick_s: float = 0.5
    """Time between two looks at timers (silence, retries, expiries). Progress is handled at once, not at a tick."""
    assignment_days: float = 30.0
    """How long a signed assignment is valid; it is signed anew after half of that."""
    certificate_days: float = 30.0
    """How long a device's certificate is valid; the device renews it by itself after two thirds of that."""
    measurement_days: float = 365.0
    """How long the performance database keeps what boards measured."""
    keep_progress_days: float = 90.0
    """How long what devices told of their updates is kept; here and below, 0 keeps it for ever."""
    keep_samples_days: float = 90.0
    keep_sketches_days: float = 90.0
    keep_shadows_days: float = 90.0
    """Reports of shadows; those of a shadow that still runs are kept."""
    keep_receipts_days: float = 0.0
    keep_alerts_days: float = 365.0
    """Alerts that are resolved."""
    keep_hours_days: float = 730.0
    """What is counted by the hour."""
    stream_idle_s: float = 15.0
    """An event stream says something at least this often, so that dead connections are noticed."""

    def __post_init__(self) -> None:
        if self.broker not in {"auto", "mosquitto", "embedded", EXTERNAL}:
            known = "auto, mosquitto, embedded, external"
            raise InputError(f"broker {self.broker!r:.40} is none of {known}", hint="set --broker")
        if not (0 <= self.port < 65536 and 0 <= self.broker_port < 65536):
            raise InputError("a port is a number from 0 to 65535", hint="0 takes any free port")
        if not 1 <= self.shards <= MAX_SHARDS:
            raise InputError(f"{self.shards} broker shards; from 1 to {MAX_SHARDS} work", hint="set --shards")
        for name, first in (("broker_port", self.broker_port), ("swarm_port", self.swarm_port)):
            if not 0 <= first <= 65536 - (self.shards if first else 0):
                raise InputError(f"{name} {first} leaves no room for {self.shards} ports", hint="choose a lower one")
        self._external()
        if min(self.max_body_bytes, self.max_bundle_bytes, self.ingest_queue, self.ingest_batch, self.dead_letters) < 1:
            raise InputError("sizes and counts must be at least 1")
        if min(getattr(self, each.name) for each in dataclasses.fields(self) if each.name.startswith("alert_")) < 0:
            raise InputError("what raises an alert must not be negative", hint="0 turns it off")
        if min(self.key_per_s, self.address_per_s) < 0 or min(self.key_burst, self.address_burst) < 1:
            raise InputError("rate limits: requests a second from 0 (no limit), bursts from 1")
        if self.accel_prefix and not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", self.accel_prefix):
            raise InputError(f"accel_prefix {self.accel_prefix!r:.60} is no path", hint="such as /skerry-files")
        if min(getattr(self, each.name) for each in dataclasses.fields(self) if each.name.startswith("keep_")) < 0:
            raise InputError("days to keep something must not be negative", hint="0 keeps it for ever")
        if self.webhook_reach not in REACHES:
            raise InputError(f"webhook_reach {self.webhook_reach!r:.40} is none of {', '.join(REACHES)}")
        _networks("trusted_proxies", self.trusted_proxies)
        web_address.check("cloud_url", self.cloud_url)
        times = (self.silent_after_s, self.tick_s, self.assignment_days, self.certificate_days, self.stream_idle_s)
        longer = (self.measurement_days, self.escalate_after_s, self.slow_request_s)
        if min(*times, *longer) <= 0 or self.incident_wait_s < 0:
            raise InputError("times must be greater than 0")

    def _external(self) -> None:
        if self.broker != EXTERNAL:
            if self.broker_urls or self.broker_inner_urls:
                raise InputError("broker_urls are for brokers that others run", hint="set broker = external, too")
            return
        told, inner = addresses(self.broker_urls), addresses(self.broker_inner_urls)
        if not told:
            raise InputError("no address of the external broker", hint="set broker_urls, such as mqtts://mq.example")
        if len(told) != self.shards or len(inner) not in (0, len(told)):
            raise InputError(
                f"{len(told)} broker_urls, {len(inner)} broker_inner_urls, {self.shards} shards",
                hint="give one of each for each shard",
            )
        if self.swarm_port:
            raise InputError("an external broker has no port for a swarm of ours", hint="leave swarm_port out")

    @property
    def url(self) -> str:
        """The database's address.

        Raises:
            InputError: the file of its password cannot be read.
        """
        if not self.database_url or not self.database_password_file:
            return self.database_url or f"sqlite:///{self.root / 'fleet.db'}"
        try:
            password = Path(self.database_password_file).read_text("utf-8").partition("\n")[0].strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"cannot read {self.database_password_file}", hint="check database_password_file"
            ) from error
        scheme, _, rest = self.database_url.partition("://")
        people, at, place = rest.partition("@")
        if not at or ":" in people:
            raise InputError("database_url needs a user and no password", hint="postgresql://USER@HOST/DATABASE")
        return f"{scheme}://{people}:{urllib.parse.quote(password, safe='')}@{place}"


def addresses(text: str) -> tuple[tuple[str, int], ...]:
    """Return hosts and ports of brokers' addresses, which spaces or commas divide.

    Raises:
        InputError: one of them is none.

    >>> addresses("mqtts://mq-0.example, mqtts://[::1]:1883")
    (('mq-0.example', 8883), ('::1', 1883))
    """
    found = []
    for each in text.replace(",", " ").split():
        try:
            parts = urllib.parse.urlsplit(each)
            host, port = parts.hostname, parts.port or MQTTS_PORT
        except ValueError:
            host, port = None, 0
        if host is None or parts.scheme != "mqtts" or parts.path.strip("/") or "@" in parts.netloc:
            raise InputError(f"{each!r:.80} is no broker's address", hint="it looks like mqtts://mq.example:8883")
        found.append((host, port))
    return tuple(found)


def load(root: Path, flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> FleetConfig:
    """Return the settings for `root`; a flag that is None was not given.

    Raises:
        InputError: an unknown setting, or a value of the wrong type.
    """
    values: dict[str, Any] = {}
    path = root / "fleet.toml"
    if path.is_file():
        try:
            values.update(tomllib.loads(path.read_text("utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path.name} is not TOML: {error}", hint="mend or remove the file") from error
    for name, text in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and name.removeprefix(ENVIRONMENT_PREFIX) not in _NOT_SETTINGS:
            values[name.removeprefix(ENVIRONMENT_PREFIX).lower()] = text
    values.update({name: value for name, value in flags.items() if value is not None})
    kinds = typing.get_type_hints(FleetConfig)
    values.pop("root", None)
    unknown = sorted(set(values) - set(kinds))
    if unknown:
        raise InputError(f"unknown setting {unknown[0]!r:.60}", hint=f"known: {', '.join(sorted(kinds))}")
    if values.get("broker") == EXTERNAL and isinstance(values.get("broker_urls"), str):
        values.setdefault("shards", len(addresses(values["broker_urls"])) or 1)
    return FleetConfig(root=root, **{name: _as(kinds[name], name, value) for name, value in values.items()})


def _as(kind: type | types.GenericAlias, name: str, value: Any) -> Any:
    """Return a value as the setting's type; text from the environment is read as a number where one is wanted."""
    try:
        if kind is int and not isinstance(value, bool):
            return int(value) if not isinstance(value, float) else _refuse(name, "a whole number")
        if kind is float and not isinstance(value, bool):
            return float(value)
        return value if kind is str and isinstance(value, str) else _refuse(name, "text")
    except ValueError:
        return _refuse(name, "a number")


def _networks(name: str, text: str) -> None:
    """Refuse what is no list of networks."""
    for each in filter(None, text.split(",")):
        try:
            ipaddress.ip_network(each.strip())
        except ValueError as error:
            raise InputError(f"setting {name}: {error}", hint="such as 127.0.0.1,10.0.0.0/8") from error


def _refuse(name: str, wanted: str) -> Any:
    raise InputError(f"setting {name} must be {wanted}")
