"""A fleet out of a file: answers what a device asks with what an update file holds. Believed no more than a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from skerry_agent.carried import UPDATE
from skerry_agent.errors import NetworkError
from skerry_agent.trust.transfer import MAX_ANSWER_BYTES, Fleet
from skerry_contracts.carried_update import CarriedUpdate
from skerry_contracts.errors import ContractError


class CarriedFleet(Fleet):
    """Serves paths of the fleet from an update file."""

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            NetworkError: there is none, or it is none.
        """
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise NetworkError(f"no update by file: {error}") from error
        try:
            self.update = CarriedUpdate(self._file)
        except (OSError, ContractError) as error:
            self._file.close()
            raise NetworkError(f"no update by file: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def get(self, path: str, *, max_bytes: int = MAX_ANSWER_BYTES) -> bytes:
        """Return a small document; see `Fleet.get`."""
        return b"".join(self.stream(path, max_bytes=max_bytes)[1])

    def stream(self, path: str, *, max_bytes: int, offset: int = 0) -> tuple[int, Iterator[bytes]]:
        """Return where the answer begins, and its pieces; see `Fleet.stream`."""
        size = self.update.size_bytes(path)
        if size is None:
            raise NetworkError(f"{path}: HTTP 404: not in the update file")
        if size > max_bytes:
            raise NetworkError(f"{path}: more than {max_bytes} bytes")
        return offset, self._pieces_of(path, offset)

    def _pieces_of(self, path: str, offset: int) -> Iterator[bytes]:
        try:
            yield from self.update.read(path, offset)
        except (OSError, ContractError) as error:
            raise NetworkError(f"the update file: {error}") from error


def carried(root: Path) -> CarriedFleet | None:
    """Return the update that lies in an agent's folder; None where none does, or none that can be read."""
    try:
        return CarriedFleet(root / UPDATE)
    except NetworkError:
        return None
