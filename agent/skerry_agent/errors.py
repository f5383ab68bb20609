"""What can go wrong on a device.

AgentError
 ├── ConfigError        a setting is missing or out of its range
 ├── StorageError       the disk or the ledger: full, read-only, damaged; `reason` says which
 ├── TrustError         a signature, expiry, floor, digest or predicate says no; `reason` says which
 ├── NetworkError       the fleet cannot be reached or answers nonsense: worth another try
 ├── EngineError        an engine cannot load or run a variant
 ├── WorkerError        a worker process crashed, hung or broke its protocol
 └── RequestError       a local program asked for something that cannot be done; `status` is the HTTP status
"""

from __future__ import annotations

from skerry_contracts.device import Reason


class AgentError(Exception):
    """Anything the agent reports. `hint` is the reader's next step."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(AgentError):
    """A setting is missing, of the wrong type or out of its range."""


class StorageError(AgentError):
    """The disk or the ledger failed. `reason` is NO_SPACE, CORRUPT or STORAGE (anything else the disk said)."""

    def __init__(self, message: str, *, reason: Reason = Reason.STORAGE, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class TrustError(AgentError):
    """Something is not to be believed or does not fit this device; `reason` is what Progress will say."""

    def __init__(self, message: str, *, reason: Reason, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class NetworkError(AgentError):
    """The fleet cannot be reached, or its answer is cut short: worth another try."""


class EngineError(AgentError):
    """An engine is missing, or cannot load or run a variant."""


class WorkerError(AgentError):
    """A worker process did not serve. `reason`: CRASHED, TIMEOUT (hung), UNHEALTHY (NaN or failed), LOAD, CORRUPT."""

    def __init__(self, message: str, *, reason: Reason = Reason.CRASHED, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reason = reason


class RequestError(AgentError):
    """A local program asked for something that cannot be done. `status` is the HTTP status of the answer;
    `retry_after_s`: when asking again may help (None: nothing is known).
    """

    def __init__(self, message: str, *, status: int = 400, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.retry_after_s = retry_after_s
