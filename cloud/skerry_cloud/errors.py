"""What can go wrong in the cloud side.

CloudError              `hint` is the reader's next step
 ├── ConfigError        a project file or setting is wrong
 ├── DataError          a dataset, tensor, segment or label does not fit
 ├── NotFoundError      no such job, run, model, pipeline or prediction
 ├── RefusedError       it exists, but a rule forbids it now
 ├── FleetError         the fleet cannot be reached, or said no; `status` is its HTTP status (0: no answer)
 ├── CommandError       a child process (training, compiling) failed or ran out of time
 └── StoppingError      this process is stopping; the work goes on from here after the next start
"""

from __future__ import annotations


class CloudError(Exception):
    """The base of all errors of this package."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class ConfigError(CloudError):
    """A project file or a setting is wrong."""


class DataError(CloudError):
    """A dataset, tensor, segment or label does not fit where it is to go."""


class NotFoundError(CloudError):
    """Nothing has that name."""


class RefusedError(CloudError):
    """The thing exists, but a rule forbids this now."""


class FleetError(CloudError):
    """The fleet gave no answer or a refusal. `status` is the HTTP status, 0 where there was no answer; `code` the
    fleet's word.
    """

    def __init__(self, message: str, *, status: int = 0, code: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code

    @property
    def passing(self) -> bool:
        """Whether trying again later may help: no answer, overload, or a fault on the other side."""
        return self.status in (0, 429) or self.status >= 500


class CommandError(CloudError):
    """A child process failed or ran out of time."""


class StoppingError(CloudError):
    """The process is stopping; durable work goes on after the next start."""
