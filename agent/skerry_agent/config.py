"""The agent's settings: one frozen record, defaults < `<root>/config.toml` < environment (SKERRY_AGENT_NAME) < flags.

Passed in at the top (daemon.py) and never global. Reading the file is the caller's business: `load` takes its text.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry_agent.errors import ConfigError
from skerry_agent.redaction import RedactRule, read_rules

ENVIRONMENT_PREFIX = "SKERRY_AGENT_"
_NOT_POSITIVE = frozenset(
    {
        "root",
        "api_port",
        "api_token",
        "grpc",
        "grpc_port",
        "reserve_free_bytes",
        "redact",
        "model",
        "encrypt",
        "log_level",
        "memory_budget_bytes",
        "measuring",
    }
)
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
LOG_LEVELS = ("debug", "info", "warning", "error")
_MODEL = ("instances", "queue")
DEFAULT_ROOT = Path("/var/lib/skerry")


@dataclasses.dataclass(frozen=True, slots=True)
class AgentConfig:
    """Every setting with its default; the unit is in the name.

    `api_port` None: only the Unix socket; 0: any free loopback port; `api_token`: that port asks for the token in
    run/api.token. `grpc`: the same over gRPC, at a socket of its own and, with `grpc_port`, at a port. Deadlines bound
    every stage of an update, so that none stays in progress for ever; `retry_*` shape the backoff of downloads and
    links (doubling, full jitter).
    `model` holds what is special to single models.
    """

    root: Path = DEFAULT_ROOT
    api_port: int | None = None
    api_token: bool = False
    grpc: bool = False
    grpc_port: int | None = None
    grpc_message_bytes: int = 16 * 1024 * 1024
    heartbeat_s: float = 30.0
    keepalive_s: int = 30
    download_deadline_s: float = 6 * 3600.0
    window_deadline_s: float = 7 * 86400.0
    trial_deadline_s: float = 120.0
    observe_s: float = 10.0
    observe_predictions: int = 20
    retry_first_s: float = 2.0
    retry_max_s: float = 300.0
    retry_failed_s: float = 3600.0
    link_retry_max_s: float = 60.0
    spool_quota_bytes: int = 64 * 1024 * 1024
    spool_in_flight: int = 64
    redeliver_s: float = 30.0
    flush_s: float = 0.5
    flush_rows: int = 64
    reserve_free_bytes: int = 16 * 1024 * 1024
    trust_idle_s: float = 10.0
    renewal_check_s: float = 6 * 3600.0
    clock_floor_s: int = 1_763_800_000  # this version was made in November 2025: no true clock shows less
    threads: int = 1
    memory_budget_bytes: int | None = None
    hot_c: float = 85.0
    watch_s: float = 5.0
    leak_bytes: int = 64 * 1024 * 1024
    slow_s: float = 300.0
    log_level: str = "info"
    instances: int = 1
    queue: int = 64
    model: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    redact: tuple[RedactRule, ...] = ()
    encrypt: bool = False
    measuring: bool = True

    def __post_init__(self) -> None:
        positive = [
            field.name
            for field in dataclasses.fields(self)
            if field.name not in _NOT_POSITIVE and getattr(self, field.name) <= 0
        ]
        if positive:
            raise ConfigError(
                f"{positive[0]} must be greater than 0", hint="see docs/agent.md for its unit and default"
            )
        if self.memory_budget_bytes is not None and self.memory_budget_bytes < 0:
            raise ConfigError("memory_budget_bytes must not be negative", hint="0 sets no bound")
        if self.reserve_free_bytes < 0:
            raise ConfigError("reserve_free_bytes must not be negative", hint="0 lets an update fill the disk")
        if self.log_level not in LOG_LEVELS:
            raise ConfigError(f"log_level {self.log_level!r:.40} is none", hint=f"one of {', '.join(LOG_LEVELS)}")
        for name, port in (("api_port", self.api_port), ("grpc_port", self.grpc_port)):
            if port is not None and not 0 <= port <= 65535:
                raise ConfigError(f"{name} {port} is no port", hint="give a number from 0 to 65535")
        if self.grpc_message_bytes >= 1 << 31:
            raise ConfigError("grpc_message_bytes must be less than 2 GiB", hint="no gRPC message is larger")


def load(text: str, environment: Mapping[str, str], flags: Mapping[str, Any]) -> AgentConfig:
    """Return the settings from a TOML text (may be empty), an environment, and flags (None: not given).

    Raises:
        ConfigError: not TOML, an unknown setting, or a value of the wrong type or range.
    """
    try:
        values: dict[str, Any] = dict(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"config.toml: {error}", hint="correct the line, or remove the file to use the defaults"
        ) from error
    kinds = {field.name: str(field.type) for field in dataclasses.fields(AgentConfig)}
    unknown = sorted(set(values) - set(kinds))
    if unknown:
        raise ConfigError(
            f"config.toml: no setting is called {unknown[0]!r:.60}", hint=f"one of {', '.join(sorted(kinds))}"
        )
    for name in kinds:
        if (said := environment.get(ENVIRONMENT_PREFIX + name.upper())) is not None:
            values[name] = said
    values.update({name: value for name, value in flags.items() if value is not None})
    return AgentConfig(**{name: _read(name, kinds[name], value) for name, value in values.items()})


def _read_models(tables: Any) -> dict[str, dict[str, int]]:
    """Return what `[model.NAME]` tables say: whole numbers greater than 0 for some of the words of `_MODEL`."""
    hint = f"[model.NAME] with {' and '.join(_MODEL)}, each a whole number greater than 0"
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ConfigError("model must be tables", hint=hint)
    for name, table in tables.items():
        for word, value in table.items():
            if word not in _MODEL or isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"[model.{name!s:.40}] {word!s:.40} = {value!r:.40} makes no sense", hint=hint)
    return tables


def _read(name: str, kind: str, value: Any) -> Any:
    """Return a value as the type its field asks for; text (from the environment) is parsed."""
    if name == "redact":
        return read_rules(value)
    if name == "model":
        return _read_models(value)
    try:
        if kind == "Path" and isinstance(value, (str, Path)):
            return Path(value)
        if kind == "bool":
            return _TRUTHS[str(value).lower()]
        if isinstance(value, bool):
            raise ValueError
        if kind == "str" and isinstance(value, str):
            return value
        if kind.startswith("int") and (isinstance(value, str) or value == int(value)):
            return int(value)
        if kind == "float":
            return float(value)
    except (TypeError, ValueError, KeyError):
        pass
    raise ConfigError(
        f"{name}: {value!r:.60} is not a {kind.split()[0].lower()}", hint="see docs/agent.md for its unit and default"
    )
