"""The memory that supervisor and worker share: one anonymous file, all inputs then all outputs, each tensor on a cache
line.

The file is sealed against growing and shrinking before a worker gets it: a hostile worker that cuts it short would
otherwise kill the supervisor with SIGBUS (man 2 memfd_create, "file sealing").
"""

from __future__ import annotations

import fcntl
import mmap
import os

ALIGN_BYTES = 64
_F_ADD_SEALS = 1033
_SEALS = 0x0001 | 0x0002 | 0x0004  # SEAL, SHRINK, GROW


def offsets(sizes: list[int]) -> tuple[list[int], int]:
    """Return where tensors of these sizes in bytes begin, and how many bytes they take together.

    >>> offsets([4, 100])
    ([0, 64], 192)
    """
    starts, end = [], 0
    for size in sizes:
        starts.append(end)
        end += -(-size // ALIGN_BYTES) * ALIGN_BYTES
    return starts, max(end, ALIGN_BYTES)  # nothing cannot be mapped


class Region:
    """A mapped shared region.

    It has `places` for all tensors of an inference each, one behind the other; one that is never used takes no memory.
    `inputs` and `outputs` are writable byte views of the tensors of the first, in the signature's order.
    """

    def __init__(self, fd: int, input_sizes: list[int], output_sizes: list[int], places: int = 1) -> None:
        sizes = [*input_sizes, *output_sizes]
        starts, total = offsets(sizes * places)
        self.fd = fd
        self.size_bytes = total
        self._map = mmap.mmap(fd, total)
        self._whole = memoryview(self._map)
        self._views = [self._whole[start : start + size] for start, size in zip(starts, sizes * places, strict=True)]
        cuts = [(at, at + len(input_sizes), at + len(sizes)) for at in range(0, len(self._views), len(sizes) or 1)]
        self.places = [(self._views[begin:middle], self._views[middle:end]) for begin, middle, end in cuts]
        self.inputs, self.outputs = self.places[0] if self.places else ([], [])

    @classmethod
    def create(cls, input_sizes: list[int], output_sizes: list[int], places: int = 1) -> Region:
        """Return a new region of our own, sealed in size.

        Raises:
            OSError: no memory, or a kernel without memfd.
        """
        total = offsets([*input_sizes, *output_sizes] * places)[1]
        fd = os.memfd_create("skerry-tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, total)
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEALS)
            return cls(fd, input_sizes, output_sizes, places)
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        """Unmap and close; views taken from the region must be gone."""
        for view in (*self._views, self._whole):
            view.release()
        self.inputs, self.outputs, self.places, self._views = [], [], [], []
        self._map.close()
        os.close(self.fd)
