"""Start a worker's process: the interpreter with next to nothing around it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from skerry_agent import sandbox, worker_protocol
from skerry_agent.errors import WorkerError
from skerry_agent.shm import Region, offsets
from skerry_agent.worker_protocol import plain_text
from skerry_contracts.bundle import Signature, Variant
from skerry_contracts.device import Reason
from skerry_contracts.tensor import TensorSpec

_BOOT = "import sys; sys.path[:0] = {roots!r}; from skerry_agent.worker import main; sys.exit(main({fd}))"
_WORDS_BYTES = 65536  # what a pipe holds
_PLACES, _PLACES_BYTES = 4, 4 * 1024 * 1024  # inferences that a worker may have at once, if all fit
_ONE_PLACE = frozenset({"openvino"})  # it holds a model's activations once for each place that is bound


class Child:
    """A worker's process and the pipe it may complain into.

    The pipe never blocks the worker: what does not fit is lost.
    """

    def __init__(self, roots: list[str], socket_fd: int, inherited: list[int]) -> None:
        """Start it: no site, no user environment, an own session (a terminal's Ctrl-C is not for it).

        Raises:
            OSError: no process or pipe to be had.
        """
        self._words, theirs = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-X", "utf8", "-c", _BOOT.format(roots=roots, fd=socket_fd)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=theirs,
                pass_fds=(socket_fd, *inherited),
                env={"LC_ALL": "C", "MALLOC_ARENA_MAX": "1"},
                start_new_session=True,
            )
        except OSError:
            os.close(self._words)
            raise
        finally:
            os.close(theirs)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return the exit status (negative: the signal that ended it), None while it lives."""
        return self._process.poll()

    def rss_bytes(self) -> int:
        """Return its resident memory, 0 when it is gone."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            return 0

    def kill(self) -> None:
        """Send SIGKILL; one that is gone already is no error."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def cause_of_death(self) -> str:
        """Return how a collected process ended, and its last words."""
        status, last = self.poll() or 0, self._last_words()
        if status < 0:
            with contextlib.suppress(ValueError):
                return f"the worker was ended by {signal.Signals(-status).name}{last}"
        return f"the worker ended with status {status}{last}"

    def _last_words(self) -> str:
        """Return the last line it wrote to standard error, made printable and cut to 200 characters, led by ": "; empty
        where it said nothing.
        """
        try:
            said = os.read(self._words, _WORDS_BYTES)
        except BlockingIOError:
            return ""
        lines = [line.strip() for line in said.split(b"\n") if line.strip()]
        return f": {plain_text(lines[-1])[:200]}" if lines else ""

    def close(self) -> None:
        """Close the pipe; the process must have been collected."""
        os.close(self._words)


def import_roots() -> list[str]:
    """Return the folders from which a worker imports: our own packages first, then where engine libraries are
    installed.
    """
    specs = [importlib.util.find_spec(name) for name in ("skerry_agent", "skerry_contracts")]
    roots = [str(Path(spec.origin).parent.parent) for spec in specs if spec is not None and spec.origin]
    roots += [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    return list(dict.fromkeys(roots))


def launch(
    opened: dict[str, int],
    variant: Variant,
    signature: Signature,
    threads: int,
    extra_bytes: int,
    spare: bool,
) -> tuple[Region, Child, socket.socket]:
    """Start a worker's process and send it its plan; returns the shared memory, the process, and our end.

    `opened` holds the descriptor of each blob by its role; `spare`: on processor cycles that nobody else wants.

    Raises:
        WorkerError: no memory, process or socket to be had.
    """
    inputs, outputs = ([spec.size_bytes for spec in side] for side in (signature.inputs, signature.outputs))
    fitting = _PLACES_BYTES // offsets([*inputs, *outputs])[1]
    places = 1 if variant.engine in _ONE_PLACE else max(1, min(_PLACES, fitting))
    try:
        region = Region.create(inputs, outputs, places)
    except OSError as error:
        raise WorkerError(f"no shared memory: {error.strerror}", reason=Reason.LOAD) from error
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        ours.setblocking(False)
        roots = import_roots()
        plan: worker_protocol.Plain = {
            "variant": {"engine": variant.engine, "options": dict(variant.options)},
            "signature": {side: [_plain(spec) for spec in getattr(signature, side)] for side in ("inputs", "outputs")},
            "blobs": opened,
            "region": region.fd,
            "places": places,
            "directories": sandbox.readable_directories(roots),
            "extra_bytes": extra_bytes + region.size_bytes,
            "threads": threads,
            "spare": spare,
        }
        ours.send(worker_protocol.start(plan))
        child = Child(roots, theirs.fileno(), [region.fd, *opened.values()])
    except (OSError, worker_protocol.FrameError) as error:
        ours.close()
        region.close()
        raise WorkerError(f"a worker cannot be started: {error}", reason=Reason.LOAD) from error
    finally:
        theirs.close()
    return region, child, ours


def _plain(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "dtype": spec.dtype.value, "shape": spec.shape}
