"""Measure one variant in a process of its own, as a worker on a device would run it.

    python -m skerry_agent.probe DIR --variant ID --inputs ROWS --outputs RESULTS

DIR holds `manifest.json` and the blobs by digest; ROWS is the tensors' bytes of row after row, in the signature's
order. The answer is one JSON object a line on standard output: first `{"ready": true, "load_ms": ..., "rows": ...}`
after the first inference, then for each line with a number N on standard input N timed inferences that cycle through
the rows, and at the end of input, after every row's outputs were written to RESULTS, `{"done": true,
"peak_rss_bytes": ...}`. An error is `{"error": ...}` and exit code 1.

The process imports no more than a worker needs: its memory is one of the figures.
"""

from __future__ import annotations

import sys
import time
from _json import encode_basestring_ascii, make_scanner  # what json is made of: json itself costs a megabyte
from itertools import cycle, islice

from skerry_agent.engines import catalogue
from skerry_agent.engines.base import EngineError, Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from skerry_agent.engines.base import Engine

HELD_BYTES = 2 << 20  # rows held in memory for timing; more would be counted as the model's
TIMED_ONE_BY_ONE = 400  # inferences of each request that are also timed singly, for percentiles


class Bench:
    """A loaded variant, one set of buffers bound to it, and the rows to feed."""

    def __init__(self, job: Job, engine: Engine, rows_path: str) -> None:
        """Bind the buffers and read the first rows.

        Raises:
            EngineError: the file is no whole number of rows, or holds none.
        """
        self.inputs = [bytearray(spec.size_bytes) for spec in job.inputs]
        self.outputs = [bytearray(spec.size_bytes) for spec in job.outputs]
        self.row_bytes = sum(map(len, self.inputs))
        self.call: Callable[[], None] = engine.bind(
            [memoryview(each) for each in self.inputs], [memoryview(each) for each in self.outputs]
        )
        self.bind = engine.bind
        self.rows_path = rows_path
        self.peak_bytes = 0
        self.calls: list[Callable[[], None]] = []
        with open(rows_path, "rb") as file:  # noqa: PTH123 pathlib costs a megabyte in every worker
            size = file.seek(0, 2)
            if size % self.row_bytes if self.row_bytes and size else size or self.row_bytes:
                raise EngineError(f"{size} bytes of input are no whole number of rows of {self.row_bytes} bytes")
            self.count = size // self.row_bytes if self.row_bytes else 1  # without inputs there is one answer
            file.seek(0)
            held = min(self.count, max(1, HELD_BYTES // max(1, self.row_bytes)))
            self.rows = [self.split(file.read(self.row_bytes)) for _ in range(held)]

    def split(self, row: bytes) -> list[bytes]:
        """Return one row's bytes input by input."""
        parts, at = [], 0
        for buffer in self.inputs:
            parts.append(row[at : at + len(buffer)])
            at += len(buffer)
        return parts

    def infer(self, row: Sequence[bytes]) -> None:
        """Copy a row in, as shared memory would bring it, and run."""
        for buffer, part in zip(self.inputs, row, strict=True):
            buffer[:] = part
        self.call()

    def prepare(self) -> None:
        """Run every held row once, note the memory that this took, then bind each row for timing.

        A worker reads tensors where a producer left them, in shared memory, so what is timed is the call alone. The
        bindings beyond the first are the measurement's own and come after the memory was read.
        """
        if self.calls:
            return
        for row in self.rows:
            self.infer(row)
        self.peak_bytes = peak_rss_bytes()
        outputs = [memoryview(each) for each in self.outputs]
        for row in self.rows:
            self.calls.append(self.bind([memoryview(bytearray(part)) for part in row], outputs))

    def timed(self, runs: int) -> dict[str, int]:
        """Return the processor time of `runs` inferences together and percentiles of some timed one by one, in
        nanoseconds.
        """
        self.prepare()
        calls = cycle(self.calls)
        start = time.thread_time_ns()
        for call in islice(calls, runs):
            call()
        cpu_ns = time.thread_time_ns() - start
        singles = []
        for call in islice(calls, min(runs, TIMED_ONE_BY_ONE)):
            start = time.perf_counter_ns()
            call()
            singles.append(time.perf_counter_ns() - start)
        singles.sort()
        p50, p95 = singles[len(singles) // 2], singles[min(len(singles) - 1, len(singles) * 95 // 100)]
        return {"runs": runs, "cpu_ns": cpu_ns, "p50_ns": p50, "p95_ns": p95}

    def write_outputs(self, path: str) -> None:
        """Run every row once and write the outputs, row after row."""
        with open(self.rows_path, "rb") as source, open(path, "wb") as target:  # noqa: PTH123
            for _ in range(self.count):
                self.infer(self.split(source.read(self.row_bytes)))
                for buffer in self.outputs:
                    target.write(buffer)


def peak_rss_bytes() -> int:
    """Return the most memory this process ever had resident (VmHWM; Linux)."""
    with open("/proc/self/status", "rb") as file:  # noqa: PTH123
        for line in file:
            if line.startswith(b"VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def say(answer: dict[str, object]) -> None:
    """Write one answer line: a flat JSON object of numbers, texts and truth values."""
    items = [f"{_text(name)}: {_plain(item)}" for name, item in answer.items()]
    sys.stdout.write("{" + ", ".join(items) + "}\n")
    sys.stdout.flush()


def _text(value: str) -> str:
    return str(encode_basestring_ascii(value))


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, (int, float)) else _text(str(value))


class _Parsing:
    """How the scanner reads JSON: as json.loads does."""

    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float


def load(folder: str, variant_id: str) -> tuple[Job, Engine]:
    """Return the variant's job and its engine, loaded.

    Raises:
        EngineError: no such variant, or the engine refuses it.
    """
    with open(f"{folder}/manifest.json", "rb") as file:  # noqa: PTH123
        try:
            manifest, _ = make_scanner(_Parsing)(file.read().decode(), 0)  # type: ignore[arg-type]  # takes any object
        except StopIteration as error:
            raise ValueError("the manifest is no JSON") from error
    for variant in manifest["variants"]:
        if variant["id"] == variant_id:
            paths = {role: f"{folder}/{blob['sha256']}" for role, blob in variant["blobs"].items()}
            job = Job.from_plain(variant, paths, manifest["signature"])
            return job, catalogue.start(job)
    raise EngineError(f"no variant {variant_id!r:.80} in the manifest")


def serve(folder: str, options: dict[str, str]) -> None:
    """Load, answer requests until the end of input, write every row's outputs.

    Raises:
        EngineError, OSError, ValueError: something is wrong with the variant, the files or a request.
    """
    start = time.perf_counter_ns()
    job, engine = load(folder, options["--variant"])
    load_ms = (time.perf_counter_ns() - start) / 1e6
    bench = Bench(job, engine, options["--inputs"])
    bench.infer(bench.rows[0])
    say({"ready": True, "load_ms": load_ms, "rows": bench.count})
    for line in sys.stdin:
        say(dict(bench.timed(int(line))))
    peak = bench.peak_bytes or peak_rss_bytes()
    if "--outputs" in options:
        bench.write_outputs(options["--outputs"])
    say({"done": True, "peak_rss_bytes": peak})


def main(argv: Sequence[str]) -> int:
    """Run the probe; see the module's text. No argparse: it would weigh on the figure."""
    options = dict(zip(argv[1::2], argv[2::2], strict=False))
    if not argv or len(argv) % 2 == 0 or not {"--variant", "--inputs"} <= set(options):
        say({"error": "usage: python -m skerry_agent.probe DIR --variant ID --inputs ROWS [--outputs RESULTS]"})
        return 2
    try:
        serve(argv[0], options)
    except (EngineError, OSError, ValueError, KeyError) as error:
        say({"error": str(error), "hint": getattr(error, "hint", "")})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
