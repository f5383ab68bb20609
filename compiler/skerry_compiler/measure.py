"""Measuring processes: one for the original, one for each candidate, driven line by line so that their rounds
interleave.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import os
import resource
import select
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any

from skerry_compiler.errors import ToolError
from skerry_contracts.evidence import Measurement
from skerry_targets import host

MEMORY_SHARE = 0.8  # of the machine's memory: what one measuring process may ask for
SAID_BYTES = 2000
ROUND_S = 0.02  # processor time of one candidate in one round
FIRST_RUNS = 3
MAX_RUNS = 20_000

# The device's start: no site packages, no environment, nothing imported that a worker would not import.
_BOOT = "import sys; sys.path[:0] = [{agent!r}]; sys.path += {rest!r}; "
_PROBE = "from skerry_agent.probe import main; sys.exit(main(sys.argv[1:]))"
_ENGINES = "import json; from skerry_agent.engines.catalogue import available; print(json.dumps(available()))"


def probe_command(folder: Path, variant: str, rows: Path, results: Path | None) -> list[str]:
    """Return the command that runs a variant in the device's own runtime; the agent is started, never imported."""
    command = [*_device(_PROBE), str(folder), "--variant", variant, "--inputs", str(rows)]
    return command if results is None else [*command, "--outputs", str(results)]


def engines_here() -> dict[str, str]:
    """Return the engines that the device's own runtime finds on this machine, and their versions.

    Raises:
        ToolError: the agent is not installed, or does not start.
    """
    try:
        done = subprocess.run(_device(_ENGINES), capture_output=True, text=True, check=True, timeout=Patience().ready_s)
        found: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise ToolError(f"the device runtime does not say which engines are here: {error}") from error
    return found


def _device(code: str) -> list[str]:
    """Return the command that runs a line of Python as the device would start it."""
    found = importlib.util.find_spec("skerry_agent")
    if found is None or not found.submodule_search_locations:
        raise ToolError("the agent is not installed beside the compiler", hint="pip install skerry[compiler]")
    agent = str(Path(next(iter(found.submodule_search_locations))).parent)
    rest = [path for path in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")) if path != agent]
    return [sys.executable, "-S", "-E", "-c", _BOOT.format(agent=agent, rest=sorted(set(rest))) + code]


def baseline_command(model: Path, spec: Path, rows: Path, results: Path, threads: int = 1) -> list[str]:
    """Return the command that runs the original in its default runtime, on so many threads."""
    words = [str(each) for each in (model, spec, rows, results, threads)]
    return [sys.executable, "-m", "skerry_compiler.baseline", *words]


@dataclasses.dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for a process in seconds: until it is ready, for a round, for its last answers."""

    ready_s: float = 60.0
    round_s: float = 60.0
    finish_s: float = 300.0


@dataclasses.dataclass(slots=True)
class Samples:
    """What the rounds gave: processor time of one inference in each, and wall-clock percentiles of each. Where several
    threads share an inference (`shared`), the median by the clock stands for the processor's time.
    """

    shared: bool = False
    cpu_ns: list[float] = dataclasses.field(default_factory=list)
    p50_ns: list[int] = dataclasses.field(default_factory=list)
    p95_ns: list[int] = dataclasses.field(default_factory=list)

    @property
    def best_ns(self) -> float:
        """The time of one inference in the quietest round: what other work on this machine disturbs least."""
        return min(self.p50_ns if self.shared else self.cpu_ns)

    def measurement(self, rss_bytes: int, cold_start_ms: float, size_bytes: int) -> Measurement:
        """Return the figures as evidence holds them."""
        return Measurement(
            latency_p50_ms=statistics.median(self.p50_ns) / 1e6,
            latency_p95_ms=statistics.median(self.p95_ns) / 1e6,
            rss_mb=round(rss_bytes / 1e6, 3),
            cold_start_ms=round(cold_start_ms, 3),
            size_bytes=size_bytes,
            cpu_ms=None if self.shared else round(self.best_ns / 1e6, 7),
        )


class Process:
    """One measuring process. Making it waits for its first answer; every failure is a ToolError that says how it
    ended: a crash, too little memory, no answer in time, or its own last words. `threads` share one inference.
    """

    def __init__(self, command: list[str], name: str, patience: Patience | None = None, threads: int = 1) -> None:
        self.name = name
        self.patience = patience or Patience()
        self.samples = Samples(threads > 1)
        self.runs = FIRST_RUNS
        self.peak_rss_bytes = 0
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        begun = time.perf_counter()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  closed in stop
        self._child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment
        )
        self._read = b""
        _limit_memory(self._child.pid)
        try:
            self._answer(self.patience.ready_s)
        except ToolError:
            self.stop()
            raise
        self.cold_start_ms = (time.perf_counter() - begun) * 1e3

    def round(self) -> None:
        """Run one round and keep its samples; the next round's length follows from its speed."""
        said = self._ask(self.runs)
        self.samples.cpu_ns.append(said["cpu_ns"] / said["runs"])
        self.samples.p50_ns.append(said["p50_ns"])
        self.samples.p95_ns.append(said["p95_ns"])
        each_ns = said["p50_ns"] if self.samples.shared else self.samples.cpu_ns[-1]
        self.runs = max(1, min(MAX_RUNS, int(ROUND_S * 1e9 / max(1.0, each_ns))))

    def warm(self) -> None:
        """Run a few times to learn the speed; these samples do not count."""
        self.round()
        self.samples = Samples(self.samples.shared)

    def finish(self) -> None:
        """Let it write its outputs and end."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.close()
            self.peak_rss_bytes = int(self._answer(self.patience.finish_s)["peak_rss_bytes"])
        except OSError as error:
            raise ToolError(f"{self.name}: {error}") from error
        finally:
            self.stop()

    def stop(self) -> None:
        """End the process if it has not ended."""
        if self._child.poll() is None:
            try:
                self._child.wait(0.5)
            except subprocess.TimeoutExpired:
                self._child.kill()
        self._child.wait()
        self._errors.close()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None and not pipe.closed:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue

    def _ask(self, runs: int) -> dict[str, Any]:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(b"%d\n" % runs)
            self._child.stdin.flush()
        except BrokenPipeError as error:
            raise ToolError(f"{self.name}: {self._why()}") from error
        return self._answer(self.patience.round_s)

    def _answer(self, limit_s: float) -> dict[str, Any]:
        assert self._child.stdout is not None
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._read:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._child.stdout], [], [], left)[0]:
                raise ToolError(f"{self.name}: hangs: no answer within {limit_s:.0f} s")
            piece = os.read(self._child.stdout.fileno(), 1 << 16)
            if not piece:
                raise ToolError(f"{self.name}: {self._why()}")
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        try:
            said: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise ToolError(f"{self.name}: answered {line[:100]!r}") from error
        if "error" in said:
            raise ToolError(f"{self.name}: {said['error']}", hint=said.get("hint", ""))
        return said

    def _why(self) -> str:
        """Return how the process ended."""
        try:
            code = self._child.wait(2)
        except subprocess.TimeoutExpired:
            return "closed its output"
        if code == -signal.SIGILL:
            return "an instruction that this processor does not have (SIGILL)"
        if code == -signal.SIGKILL:
            return "killed (SIGKILL): most likely out of memory"
        said = self._last_words()
        if "MemoryError" in said or "bad_alloc" in said:
            return f"out of memory: {said}"
        about = f"crashed with {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return f"{about}: {said}" if said else about

    def _last_words(self) -> str:
        """Return the last line that the process wrote to its error output."""
        if self._errors.closed:
            return ""
        end = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, end - SAID_BYTES))
        lines = self._errors.read().decode("utf-8", "replace").split("\n")
        line = next((each for each in reversed(lines) if each.strip()), "")
        return "".join(letter for letter in line if letter.isprintable()).strip()[:200]


def _limit_memory(pid: int) -> None:
    """Let a measuring process die of its own appetite before the machine does."""
    most = int(host.memory_bytes() * MEMORY_SHARE)
    if most:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            resource.prlimit(pid, resource.RLIMIT_AS, (most, most))
