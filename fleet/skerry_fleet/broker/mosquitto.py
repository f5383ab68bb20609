"""mosquitto's configuration for our protocol profile: the same rules that the embedded broker has built in.

Each setting that is not obvious stands for a loss or a hole that was seen with the default (docs/broker.md names them).
"""

from __future__ import annotations

from pathlib import Path

from skerry_contracts import topics
from skerry_fleet.broker.access import CHANNELS
from skerry_fleet.broker.config import FLEET, MAX_PACKET_BYTES
from skerry_fleet.broker.errors import ConfigurationError
from skerry_fleet.trust.credentials import Credentials

QUEUE_BYTES = (
    64 * 1024 * 1024
)  # unread by one client; beyond it mosquitto drops, so the fleet reads and acknowledges itself
MEMORY_BYTES = 1024 * 1024 * 1024
AUTOSAVE_S = 60  # between two copies of all retained messages to disk; a copy of 20 MB stops the broker for 0.1 s

_WRITE = "".join(f"pattern write {topics.ROOT}/%u/up/{channel}\n" for channel in sorted(CHANNELS))
ACCESS = f"""\
user {FLEET}
topic readwrite {topics.ROOT}/#
topic read $SYS/#
{_WRITE}pattern read {topics.ROOT}/%u/down/#
"""


SWARM_HOST = "127.0.0.1"
SWARM_PREFIX = "swarm-"
"""Names of simulated devices begin so, and the swarm's listener knows no others."""


def swarm_access(tenant: str) -> str:
    """Return the rules of the swarm's listener.

    Who connects there as `000123` is device `swarm-000123`, and has that device's rights; no user name leads to a
    device of another name.
    """
    own = f"{topics.ROOT}/{tenant}/{SWARM_PREFIX}%u"
    write = "".join(f"pattern write {own}/up/{channel}\n" for channel in sorted(CHANNELS))
    return f"{write}pattern read {own}/down/#\n"


def with_swarm(text: str, access: Path, swarm_access: Path, port: int) -> str:
    """Return a configuration with a listener for `skerry sim swarm` added: loopback, no TLS, rules of its own."""
    shared = (f"acl_file {access}\n", "allow_anonymous false\n", "per_listener_settings false\n")
    for line in shared:
        text = text.replace(line, "", 1)
    lines = [
        "allow_anonymous false",
        f"acl_file {access}",
        f"listener {port} {SWARM_HOST}",
        # mosquitto's word for "no password"; who gives no user name is refused by the last line.
        "allow_anonymous true",
        f"acl_file {swarm_access}",
        "use_username_as_clientid true",
    ]
    return "per_listener_settings true\n" + text + "\n".join(lines) + "\n"


def configuration(folder: Path, host: str, port: int, server: Credentials, crl: Path, access: Path, root: bool) -> str:
    """Return the text of mosquitto.conf. `root` says that this process runs as root.

    Raises:
        ConfigurationError: a path or host that would break a line.
    """
    lines = [
        "per_listener_settings false",
        "allow_anonymous false",
        f"acl_file {access}",
        # As root mosquitto would become another user, who cannot read our keys when they are renewed.
        *(["user root"] if root else []),
        "log_dest stderr",
        "log_type error",
        "log_type warning",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        "connection_messages false",
        "persistence true",
        f"persistence_location {folder}/",
        "persistence_file retained.db",
        f"autosave_interval {AUTOSAVE_S}",
        "persistent_client_expiration 1h",
        # 0 means no limit in number: any other value drops messages that were acknowledged to their publisher.
        "max_queued_messages 0",
        f"max_queued_bytes {QUEUE_BYTES}",
        "max_inflight_messages 1000",
        f"memory_limit {MEMORY_BYTES}",
        f"max_packet_size {MAX_PACKET_BYTES}",
        "set_tcp_nodelay true",
        f"listener {port} {host}",
        f"cafile {server.ca}",
        f"certfile {server.certificate}",
        f"keyfile {server.key}",
        f"crlfile {crl}",
        "require_certificate true",
        "use_identity_as_username true",
        # Otherwise any device could end another's connection by calling itself the same.
        "use_username_as_clientid true",
    ]
    if any("\n" in line or "\r" in line for line in lines):
        raise ConfigurationError("a path or host with a line break", hint="use another root folder")
    return "\n".join(lines) + "\n"
