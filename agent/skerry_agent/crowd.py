"""Who gives way where there are as many connections as there may be. Pure: times are given.

The program that holds most of them loses one to a program that holds fewer, so that none keeps the others out; else
the one that has been idle longest goes: its owner may come again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable
from typing import Protocol, TypeVar

IDLE_S = 1.0  # a connection that was used since is in use


class Guest(Protocol):
    """A connection, as far as its place is concerned."""

    @property
    def client(self) -> Hashable:
        """Whose it is."""

    @property
    def idle_since_s(self) -> float | None:
        """Since when it has had no request; None: it has one."""


G = TypeVar("G", bound=Guest)


def gives_way(guests: Collection[G], newcomer: Hashable, now_s: float) -> G | None:
    """Return the connection that ends so that the newcomer has a place; None: all have more right to be here."""
    held = Counter(guest.client for guest in guests)
    idle = [(guest.idle_since_s, guest) for guest in guests if guest.idle_since_s is not None]
    most = max(held, key=lambda client: held[client], default=None)
    if held[most] > held[newcomer] + 1:
        theirs = [pair for pair in idle if pair[1].client == most]
        if theirs:
            return min(theirs, key=lambda pair: pair[0])[1]
        return next(guest for guest in guests if guest.client == most)
    since_s, guest = min(idle, key=lambda pair: pair[0], default=(now_s, None))
    return guest if since_s < now_s - IDLE_S else None
