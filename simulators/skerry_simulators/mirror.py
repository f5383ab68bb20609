"""The fleet's HTTP side as one simulated device sees it: the agent's own download asks it for blobs and deltas.

Virtual time passes between pieces: after a few of them `Pause` ends the attempt, and the device goes on where it was,
which is what the download does after any cut.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs

from skerry_agent.errors import NetworkError
from skerry_agent.trust.transfer import MAX_ANSWER_BYTES, Fleet
from skerry_contracts import codec
from skerry_simulators.faults import Faults
from skerry_simulators.repository import Repository

PIECE_BYTES = 2048
PIECES = 3  # of one attempt


class Pause(NetworkError):
    """Enough for this moment."""


class Mirror(Fleet):
    """Answers one attempt. `hit` hears of every fault; `reachable` says whether there is a network."""

    def __init__(
        self,
        repository: Repository,
        faults: Faults,
        rng: random.Random,
        reachable: Callable[[], bool],
        hit: Callable[[str], None],
    ) -> None:
        self._repository, self._faults, self._rng = repository, faults, rng
        self._reachable, self._hit = reachable, hit
        self._left = PIECES

    def get(self, path: str, *, max_bytes: int = MAX_ANSWER_BYTES) -> bytes:
        """Return the offer of a delta."""
        self._perhaps_cut()
        route, _, query = path.partition("?")
        found = self._repository.offer(route.rpartition("/")[2], set(parse_qs(query)["base"]))
        if found is None:
            raise NetworkError("HTTP 404 no delta was prepared")
        return codec.encode(found)

    def stream(self, path: str, *, max_bytes: int, offset: int = 0) -> tuple[int, Iterator[bytes]]:
        """Return a blob from an offset on."""
        self._perhaps_cut()
        return offset, self._pieces_of(self._repository.blobs[path.rpartition("/")[2]], offset)

    def _pieces_of(self, content: bytes, offset: int) -> Iterator[bytes]:
        for start in range(offset, len(content), PIECE_BYTES):
            if self._left == 0:
                raise Pause("more in a moment")
            self._left -= 1
            self._perhaps_cut()
            piece = content[start : start + PIECE_BYTES]
            if self._rng.random() < self._faults.download_corrupt:
                self._hit("download damaged")
                piece = bytes([piece[0] ^ 0x55, *piece[1:]])
            yield piece

    def _perhaps_cut(self) -> None:
        if not self._reachable():
            raise NetworkError("no route")
        if self._rng.random() < self._faults.download_cut:
            self._hit("download cut")
            raise NetworkError("the connection broke")
