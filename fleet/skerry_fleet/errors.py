"""What can be refused or go wrong in the fleet manager.

FleetError               base; carries `hint`, a machine-readable `code` and the HTTP status it becomes
 ├── InputError          the request or the uploaded file is wrong (422; 400 where it cannot be read at all)
 ├── AuthError           no key, or one we do not know (401)
 ├── ForbiddenError      a known key whose role is too low (403)
 ├── MissingError        no such object, or it belongs to another tenant (404)
 ├── ConflictError       the object's state does not allow it (409)
 ├── TooLargeError       over a limit (413)
 └── UnavailableError    a part we need (broker, disk, trust store) does not answer (503)
"""

from __future__ import annotations


class FleetError(Exception):
    """Something refused. `hint` is the reader's next step, `code` is for programs, `status` for HTTP."""

    status = 500
    code = "internal"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.hint = hint
        if code is not None:
            self.code = code
        if status is not None:
            self.status = status


class InputError(FleetError):
    """The request is not what this call takes."""

    status = 422
    code = "bad-input"


class AuthError(FleetError):
    """Nobody we know."""

    status = 401
    code = "unauthenticated"


class ForbiddenError(FleetError):
    """Known, but not allowed."""

    status = 403
    code = "forbidden"


class MissingError(FleetError):
    """Not there, for this caller."""

    status = 404
    code = "not-found"


class ConflictError(FleetError):
    """It is there, but its state says no."""

    status = 409
    code = "conflict"


class TooLargeError(FleetError):
    """Over a limit."""

    status = 413
    code = "too-large"


class UnavailableError(FleetError):
    """A part of the fleet does not answer; the same request may work later."""

    status = 503
    code = "unavailable"
