"""What one device is to run, said by the fleet and signed; and the device's signed answer.

An assignment alone installs nothing: the same bundle must be in the update repository (TUF), and its predicates must
fit the device. Signatures are Ed25519 or ECDSA P-256 over DSSE's pre-authentication encoding
(github.com/secure-systems-lab/dsse).
"""

from __future__ import annotations

import dataclasses

from skerry_contracts import names
from skerry_contracts.errors import MismatchError
from skerry_contracts.measuring import MeasureOrder, model_name
from skerry_contracts.sealed import SealKey
from skerry_contracts.shadow import Shadow

ASSIGNMENT_TYPE = "application/vnd.skerry.assignment.v1+json"
RECEIPT_TYPE = "application/vnd.skerry.receipt.v1+json"
EVIDENCE_TYPE = "application/vnd.skerry.evidence.v1+json"
MAX_QUANTILES = 8  # 10 kB each: a sketch must fit a message
MAX_TOP_LABELS = 256


@dataclasses.dataclass(frozen=True, slots=True)
class KeySignature:
    """One signature, and the id of the key that made it (SHA-256 of its SubjectPublicKeyInfo, hex)."""

    keyid: str
    sig: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Envelope:
    """A DSSE envelope; `boot_id` and `seq` stand outside the signature and number it among a device's messages."""

    payload_type: str
    payload: bytes
    signatures: tuple[KeySignature, ...]
    boot_id: str | None = None
    seq: int | None = None


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that a DSSE signature covers."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """When a device may activate, in its local time: minutes after midnight and how long. Downloads may come any
    time.
    """

    start_minute: int
    duration_minutes: int

    def __post_init__(self) -> None:
        if not (0 <= self.start_minute < 1440 and 0 < self.duration_minutes <= 1440):
            raise MismatchError("start_minute", "a start from 0 to 1439 and a duration from 1 to 1440 minutes")


@dataclasses.dataclass(frozen=True, slots=True)
class DriftAlarm:
    """What a device does where its own stream changes (ADWIN): for `seconds` it keeps `raise_by` times the random
    share, within the same bytes. `false_alarms` is ADWIN's delta: the chance of a false one over a window of a stream.
    """

    raise_by: float = 4.0
    seconds: int = 3600
    false_alarms: float = 0.0001

    def __post_init__(self) -> None:
        if not (1 <= self.raise_by <= 1000 and 1 <= self.seconds <= 30 * 86400 and 0 < self.false_alarms <= 0.1):
            raise MismatchError("raise_by", "1 to 1000 times, 1 s to 30 days, and false alarms above 0 and up to 0.1")


@dataclasses.dataclass(frozen=True, slots=True)
class SamplingPolicy:
    """How a device spends its budget of samples for one model. Shares, rates and margins run from 0 to 1.

    `random_share` of predictions are kept whatever they say (each weighs 1/share in statistics); besides them those
    whose two best scores differ by less than `uncertain_margin`; the `novel_rate` of predictions whose inputs are
    farthest from those before; the first of every class that fewer than `rare_below` of predictions name.
    `bytes_per_hour` bounds all of them, and `caps` (a `Kept` word -> share of it) each kind but the random one.
    `sketch_seconds` is the time between two sketches. These hold, besides histograms and moments, quantiles of the
    sources in `quantiles` (named as in a baseline, or `latency_ms`), the `top_labels` most frequent labels, and moments
    of a projection of the output called `embedding`. Until the time `requested_until_s` (since 1970) the fleet asks for
    every prediction, within the cap of what is requested. With `seal`, samples are readable only to the owner of that
    key. None: not done.
    """

    random_share: float = 0.01
    uncertain_margin: float = 0.1
    bytes_per_hour: int = 1_000_000
    sketch_seconds: int = 3600
    novel_rate: float | None = None
    rare_below: float | None = None
    caps: dict[str, float] | None = None
    quantiles: tuple[str, ...] | None = None
    top_labels: int | None = None
    embedding: str | None = None
    alarm: DriftAlarm | None = None
    requested_until_s: int | None = None
    seal: SealKey | None = None

    def __post_init__(self) -> None:
        caps = (self.caps or {}).values()
        shares = (self.random_share, self.uncertain_margin, self.novel_rate or 0.0, self.rare_below or 0.0, *caps)
        if not all(0 <= share <= 1 for share in shares):
            raise MismatchError("random_share", "shares and margins run from 0 to 1")
        if self.bytes_per_hour < 0 or self.sketch_seconds < 1:
            raise MismatchError("bytes_per_hour", "not negative; at least a second between sketches")
        if len(self.quantiles or ()) > MAX_QUANTILES or not 1 <= (self.top_labels or 1) <= MAX_TOP_LABELS:
            raise MismatchError("quantiles", f"at most {MAX_QUANTILES} sources, and {MAX_TOP_LABELS} labels")


@dataclasses.dataclass(frozen=True, slots=True)
class AssignedModel:
    """One model a device is to run: which bundle, and why.

    `target_path` and `size_bytes` repeat what the update repository must say of the manifest; `release` must not be
    lower than the release the device has unless `allow_downgrade` is set. `rollout` names the rollout that decided
    it. `shadow`: a candidate to try beside it, which never serves.
    """

    model: str
    version: str
    release: int
    bundle: str
    target_path: str
    size_bytes: int
    rollout: str
    allow_downgrade: bool = False
    window: Window | None = None
    sampling: SamplingPolicy = dataclasses.field(default_factory=SamplingPolicy)
    shadow: Shadow | None = None

    def __post_init__(self) -> None:
        names.name(self.model, "model")
        names.version(self.version)
        names.sha256(self.bundle, "bundle")
        for each in (self, self.shadow) if self.shadow is not None else (self,):
            if each.target_path != target_path(self.model, each.bundle):
                raise MismatchError("target_path", f"must be {target_path(self.model, each.bundle)}")


def target_path(model: str, bundle: str) -> str:
    """Return where the update repository (TUF) lists a bundle's manifest: one delegated role a model."""
    return f"{model}/{bundle}.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Assignment:
    """Everything one device is to run. A higher `sequence` replaces a lower one; a model not named is to be removed.

    `measure`: candidates of a compile to be measured for a while, which never serve.
    """

    tenant: str
    device: str
    sequence: int
    issued_s: int
    expires_s: int
    models: tuple[AssignedModel, ...]
    measure: MeasureOrder | None = None

    def __post_init__(self) -> None:
        names.name(self.tenant, "tenant")
        names.name(self.device, "device")
        for each in self.models:
            model_name(each.model, "models")
        if len({each.model for each in self.models}) != len(self.models):
            raise MismatchError("models", "a model stands twice")
        if self.sequence < 1:
            raise MismatchError("sequence", "counts upward from 1")


@dataclasses.dataclass(frozen=True, slots=True)
class Receipt:
    """The device's signed word on what it installed: which bundle and variant, on whose order, and what it measured
    itself.
    """

    tenant: str
    device: str
    sequence: int
    model: str
    bundle: str
    variant: str
    installed_s: int
    golden_passed: int
    latency_p50_ms: float
    latency_p95_ms: float
    rss_bytes: int
