"""What a device agrees to: plain decisions on values, each refusal with the reason that Progress will give.

Signatures were checked before (in a child process); blobs are checked after, by digest. Here: whom an assignment is
for and whether it is newer, whether the manifest is what the assignment promised, whether this hardware can run it,
whether now is the time.
"""

from __future__ import annotations

from skerry_agent.errors import TrustError
from skerry_agent.records import Order
from skerry_agent.store import parse_manifest
from skerry_contracts import codec
from skerry_contracts.assignment import Assignment, Window
from skerry_contracts.bundle import Manifest, Variant
from skerry_contracts.device import Hardware, Reason
from skerry_contracts.errors import ContractError
from skerry_targets import fit

CLOCK_STEP_S = 30.0  # a wall clock that moves this much against monotonic time was set
CLOCK_SETTLE_S = 60.0  # how long it is not believed then


def check_assignment(assignment: Assignment, *, tenant: str, device: str, adopted: int, now_s: float) -> None:
    """Refuse an assignment that is for another device, not newer, or expired at `now_s` (trusted wall time).

    Raises:
        TrustError: WRONG_DEVICE, REPLAYED or EXPIRED.
    """
    if (assignment.tenant, assignment.device) != (tenant, device):
        raise TrustError(f"for {assignment.tenant}/{assignment.device}", reason=Reason.WRONG_DEVICE)
    if assignment.sequence <= adopted:
        raise TrustError(f"sequence {assignment.sequence}, {adopted} is adopted", reason=Reason.REPLAYED)
    if assignment.expires_s < now_s:
        raise TrustError(f"expired {now_s - assignment.expires_s:.0f} s ago", reason=Reason.EXPIRED)


def check_manifest(data: bytes, order: Order, hardware: Hardware) -> tuple[Manifest, tuple[Variant, ...]]:
    """Return the manifest that an order promised and its variants that this device can run, best first.

    Raises:
        TrustError: NOT_LISTED (the assignment and the manifest disagree), CORRUPT (no manifest) or UNFIT.
    """
    assigned = order.assigned
    if codec.digest(data) != assigned.bundle:
        raise TrustError("the manifest's digest is not the bundle's id", reason=Reason.NOT_LISTED)
    try:
        manifest = parse_manifest(data)
    except ContractError as error:
        raise TrustError(f"manifest: {error}", reason=Reason.CORRUPT) from error
    promised = (assigned.model, assigned.version, assigned.release)
    if (manifest.model, manifest.version, manifest.release) != promised:
        raise TrustError(
            "the assignment and the manifest disagree on model, version or release", reason=Reason.NOT_LISTED
        )
    variants = fit.fitting(manifest.variants, hardware)
    if not variants:
        lacks = fit.why_not(manifest.variants, hardware)
        raise TrustError(f"{lacks[:440]} ({fit.instead(hardware)})", reason=Reason.UNFIT)
    return manifest, variants


def in_window(window: Window | None, minute: int) -> bool:
    """Return whether a minute after local midnight lies in a window, which may reach over midnight.

    >>> in_window(Window(1380, 120), 30)
    True
    """
    return window is None or (minute - window.start_minute) % 1440 < window.duration_minutes


class ClockWatch:
    """Believes the wall clock for maintenance windows only while it keeps step with monotonic time."""

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._believed_from_s = 0.0

    def steady(self, wall_s: float, monotonic_s: float, floor_s: float) -> bool:
        """Return whether the wall clock may open a window: not set in the last minute, not before the floor."""
        offset_s = wall_s - monotonic_s
        if self._offset_s is not None and abs(offset_s - self._offset_s) > CLOCK_STEP_S:
            self._believed_from_s = monotonic_s + CLOCK_SETTLE_S
        self._offset_s = offset_s
        return monotonic_s >= self._believed_from_s and wall_s >= floor_s - 86400
