"""Every message the device makes: its number within this boot, its bytes, and how dear it is to the spool."""

from __future__ import annotations

from skerry_agent.ledger import Row
from skerry_agent.records import Order
from skerry_contracts import codec
from skerry_contracts.assignment import Envelope
from skerry_contracts.device import Phase, Presence, Progress, Reason
from skerry_contracts.measuring import MeasureReport
from skerry_contracts.sample import Kept, Sample
from skerry_contracts.shadow import ShadowReport
from skerry_contracts.sketch import Sketch
from skerry_contracts.topics import MAX_PAYLOAD_BYTES

PROGRESS = RECEIPT = 3
SKETCH = 2
RANDOM_SAMPLE = 1
OTHER_SAMPLE = 0
DETAIL_LETTERS = 500


class Outbox:
    """Numbers and encodes messages for one boot."""

    def __init__(self, boot_id: str) -> None:
        self.boot_id = boot_id
        self._seq = 0

    def next_seq(self) -> int:
        """Return the number of the next message of this boot, from 1."""
        self._seq += 1
        return self._seq

    def progress(
        self,
        time_s: float,
        order: Order,
        phase: Phase,
        reason: Reason = Reason.OK,
        detail: str = "",
        *,
        received_bytes: int = 0,
        total_bytes: int = 0,
    ) -> Row:
        """Return one step of an update."""
        seq, assigned = self.next_seq(), order.assigned
        message = Progress(
            self.boot_id,
            seq,
            time_s,
            order.sequence,
            assigned.rollout,
            assigned.model,
            assigned.bundle,
            phase,
            reason,
            detail[:DETAIL_LETTERS],
            received_bytes,
            total_bytes,
        )
        return Row(self.boot_id, seq, "progress", PROGRESS, codec.encode(message))

    def refusal(self, time_s: float, reason: Reason, detail: str, sequence: int = 0) -> Row:
        """Return the refusal of a whole assignment: it names no model, because nothing in it is believed."""
        seq = self.next_seq()
        message = Progress(
            self.boot_id, seq, time_s, sequence, "", "", "", Phase.FAILED, reason, detail[:DETAIL_LETTERS]
        )
        return Row(self.boot_id, seq, "progress", PROGRESS, codec.encode(message))

    def receipt(self, envelope: Envelope) -> Row:
        """Return a signed receipt, numbered outside its signature."""
        seq = self.next_seq()
        message = Envelope(envelope.payload_type, envelope.payload, envelope.signatures, self.boot_id, seq)
        return Row(self.boot_id, seq, "receipt", RECEIPT, codec.encode(message))

    def sample(self, sample: Sample) -> Row | None:
        """Return a kept prediction; None where it is too large for any broker."""
        dear = sample.kept in (Kept.RANDOM, Kept.REQUESTED) or sample.capture is not None
        priority = RANDOM_SAMPLE if dear else OTHER_SAMPLE
        row = Row(self.boot_id, sample.seq, "sample", priority, codec.encode(sample))
        return row if len(row.payload) <= MAX_PAYLOAD_BYTES else None

    def sketch(self, sketch: Sketch) -> Row | None:
        """Return a sketch; None where it is too large for any broker."""
        row = Row(self.boot_id, sketch.seq, "sketch", SKETCH, codec.encode(sketch))
        return row if len(row.payload) <= MAX_PAYLOAD_BYTES else None

    def shadow(self, report: ShadowReport) -> Row:
        """Return what a shadow came to in one window."""
        return Row(self.boot_id, report.seq, "shadow", SKETCH, codec.encode(report))

    def measured(self, report: MeasureReport) -> Row:
        """Return a step of a measuring."""
        return Row(self.boot_id, report.seq, "measured", SKETCH, codec.encode(report))

    def presence(self, session: int, *, online: bool, leaving: bool | None = None) -> bytes:
        """Return what the device says on connecting, as its will, and on leaving."""
        return codec.encode(Presence(self.boot_id, session, online, leaving))
