"""Messages kept until the fleet says it has them: made = acked + waiting + dropped, at every instant.

The spool decides, the ledger remembers: `plan` says what one transaction adds and removes, and `settle` takes note
once it is durable. Only the fleet's Ack deletes (a broker's PUBACK means nothing was stored). Over its quota the
cheapest, then oldest message that is not on its way goes first, and is counted. At most `in_flight` messages are
unacknowledged at a time; a new connection sends them again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from skerry_agent.ledger import Change, Key, Ledger, Row, Stub
from skerry_contracts import codec
from skerry_contracts.device import SpoolHealth

TOTALS = "spool"
URGENT = 3  # priority from which a message may pass the window: what an update came to must not wait behind samples
URGENT_EXTRA = 16
EVICT_ROWS = 1024  # looked at first, when the quota asks for room
POISON_BYTES = 4096  # no broker refuses a smaller packet
POISON_STRIKES = 3  # sessions in a row that ended with the same large message unconfirmed


@dataclasses.dataclass(frozen=True, slots=True)
class Totals:
    """Counts since the ledger was made."""

    made: int = 0
    acked: int = 0
    dropped: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What one transaction does to the spool, and how things stand after it."""

    add: tuple[Row, ...]
    remove: tuple[Key, ...]
    totals: Totals
    waiting: int
    waiting_bytes: int
    changed: bool
    acked: tuple[Key, ...] = ()

    def change(self, puts: dict[str, bytes | None]) -> Change:
        """Return the transaction that does this together with other keys."""
        if self.changed:
            puts = {**puts, TOTALS: codec.encode(self.totals)}
        return Change(puts, self.add, self.remove)


class Spool:
    """The accounting of kept messages, and the window of those on their way."""

    def __init__(self, ledger: Ledger, *, quota_bytes: int, in_flight: int, redeliver_s: float) -> None:
        self._ledger = ledger
        self._quota_bytes = quota_bytes
        self._in_flight = in_flight
        self._redeliver_s = redeliver_s
        self._totals = Totals()
        self._waiting = 0
        self._waiting_bytes = 0
        self._sent: dict[Key, tuple[float, int]] = {}  # when it goes again, and how often it went
        self._soonest_s = math.inf
        self._unsent = True  # whether the ledger may hold rows that are not in flight
        self._strikes: dict[Key, int] = {}
        self._acked: set[Key] = set()  # the fleet has them, the ledger still too

    def load(self, stored: bytes | None) -> None:
        """Take up what the ledger holds."""
        self._totals = codec.decode(Totals, stored) if stored else Totals()
        self._waiting, self._waiting_bytes = self._ledger.size()

    @property
    def health(self) -> SpoolHealth:
        """The accounting, as the heartbeat says it."""
        totals = self._totals
        return SpoolHealth(totals.made, totals.acked, self._waiting, totals.dropped, self._waiting_bytes)

    def plan(
        self, rows: Sequence[Row] = (), *, acked: Sequence[Key] = (), dropped: Sequence[Key] = (), lost: int = 0
    ) -> Plan:
        """Return what to write for new rows, the fleet's acknowledgements and rows to give up.

        `lost` counts messages that could not be kept at all (too large for any broker).
        """
        keys = dict.fromkeys([*acked, *dropped])
        gone = {stub.key: stub for stub in self._ledger.stubs(keys)} if keys else {}
        acks = sum(key in gone for key in dict.fromkeys(acked))
        size = (
            self._waiting_bytes - sum(stub.size_bytes for stub in gone.values()) + sum(len(row.payload) for row in rows)
        )
        removed = list(gone)
        added = list(rows)
        evicted = 0
        if size > self._quota_bytes:
            added, evictions, size = self._evict(added, set(removed), size)
            removed += evictions
            evicted = len(evictions) + len(rows) - len(added)
        totals = Totals(
            self._totals.made + len(rows) + lost,
            self._totals.acked + acks,
            self._totals.dropped + len(gone) - acks + evicted + lost,
        )
        waiting = self._waiting - len(removed) + len(added)
        return Plan(tuple(added), tuple(removed), totals, waiting, size, totals != self._totals, tuple(acked))

    def settle(self, plan: Plan) -> None:
        """Take note that a plan is durable."""
        self._totals, self._waiting, self._waiting_bytes = plan.totals, plan.waiting, plan.waiting_bytes
        self._acked.difference_update(plan.acked)
        for key in plan.remove:
            self._sent.pop(key, None)
            self._strikes.pop(key, None)
        self._unsent = self._waiting > len(self._sent) + len(self._acked)

    def acknowledge(self, keys: Sequence[Key]) -> None:
        """Take note that the fleet has these: they leave the window now, and the ledger with the next transaction."""
        self._acked.update(keys)
        for key in keys:
            self._sent.pop(key, None)
        self._unsent = self._waiting > len(self._sent) + len(self._acked)

    def sent(self, key: Key) -> bool:
        """Return whether a message is on its way: sent in this session, and not acknowledged."""
        return key in self._sent

    def due(self, now_s: float) -> list[Row]:
        """Return the rows to send now: new ones as far as the window is open, and those whose answer is overdue.

        Call it only while connected. `now_s` is monotonic.
        """
        overdue = self._soonest_s <= now_s and any(again_s <= now_s for again_s, _ in self._sent.values())
        if not overdue and not self._unsent:
            self._look()
            return []
        found = []
        fresh = 0
        for row in self._ledger.head(self._in_flight + URGENT_EXTRA + len(self._acked)):
            if row.key in self._acked:
                continue
            again = self._sent.get(row.key)
            limit = self._in_flight + (URGENT_EXTRA if row.priority >= URGENT else 0)
            if again is None and len(self._sent) < limit:
                self._sent[row.key] = (now_s + self._redeliver_s, 1)
                found.append(row)
                fresh += 1
            elif again is not None and again[0] <= now_s:
                times = again[1] + 1
                self._sent[row.key] = (now_s + self._redeliver_s * 2 ** min(times - 1, 5), times)
                found.append(row)
        if overdue:  # an overdue message that is no longer among the first leaves the window to others
            self._sent = {key: value for key, value in self._sent.items() if value[0] > now_s}
        self._unsent = fresh > 0 and self._waiting > len(self._sent) + len(self._acked)
        self._look()
        return found

    def next_due_s(self) -> float | None:
        """Return when to look for overdue answers (monotonic seconds); None: nothing is on its way.

        Not later than the first is due; perhaps sooner, because an answer that came leaves this time as it is.
        """
        return self._soonest_s if self._sent else None

    def _look(self) -> None:
        """Find anew when the first answer is due: it is asked for far more often than it changes."""
        self._soonest_s = min((again_s for again_s, _ in self._sent.values()), default=math.inf)

    def disconnected(self, unconfirmed: Sequence[Key]) -> list[Key]:
        """Forget what was on its way; it goes again on the next connection.

        `unconfirmed` are the messages the broker did not confirm (PUBACK). A large one that is the last word of
        several sessions in a row is refused by the broker (MQTT 3.1.1 just closes): it is returned, to be dropped, or
        it would block all others.
        """
        stubs = self._ledger.stubs(unconfirmed) if unconfirmed else []
        large = [stub for stub in stubs if stub.size_bytes > POISON_BYTES]
        suspects = [max(large, key=lambda stub: stub.size_bytes).key] if large else []
        self._strikes = {key: self._strikes.get(key, 0) + 1 for key in suspects}
        self._sent = {}
        self._unsent = True
        return [key for key, strikes in self._strikes.items() if strikes >= POISON_STRIKES]

    def _evict(self, added: list[Row], removed: set[Key], size: int) -> tuple[list[Row], list[Key], int]:
        """Return the new rows that stay, the old ones that go, and the bytes then.

        Among equals those on their way go last (the fleet is about to have them: a device that makes more than it can
        send would else give up the very messages it sends), and old ones before new ones.
        """
        limit = len(removed) + EVICT_ROWS
        while True:
            old = self._ledger.cheapest(limit)
            gone, left, last = self._choose(old, added, removed, size)
            # Rows beyond those that were read follow the last of them: where a victim does too, one of them may have
            # been the better choice.
            if len(old) < limit or last < (old[-1].priority, False, len(old)):
                break
            limit *= 2
        fresh = {row.key for row in added}
        return [row for row in added if row.key not in gone], [key for key in gone if key not in fresh], left

    def _choose(
        self, old: Sequence[Stub], added: Sequence[Row], removed: set[Key], size: int
    ) -> tuple[dict[Key, None], int, tuple[int, bool, int]]:
        """Return whom the quota costs among these, the bytes that are left, and the rank of the last of them."""
        ranked = [
            (each.priority, each.key in self._sent, place, each.key, each.size_bytes)
            for place, each in enumerate(old)
            if each.key not in removed
        ]
        ranked += [(row.priority, False, len(old) + i, row.key, len(row.payload)) for i, row in enumerate(added)]
        gone: dict[Key, None] = {}
        last = (-1, False, 0)
        for priority, sent, place, key, size_bytes in sorted(ranked, key=lambda each: each[:3]):
            if size <= self._quota_bytes:
                break
            gone[key] = None
            size -= size_bytes
            last = (priority, sent, place)
        return gone, size, last
