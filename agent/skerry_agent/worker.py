"""One model in one process: lock down, load, then answer RUN frames until the supervisor hangs up.

Started by process.py as `python -I -S -c ...` with nothing but a socket, the shared region and the model's own files
inherited. Imports stay few: every megabyte here is paid once a model. Exit status 3: the supervisor's plan cannot be
read.
"""

from __future__ import annotations

import _socket  # not `socket`, which costs a megabyte
import os
import sys
import time

from skerry_agent import sandbox, shm, worker_protocol
from skerry_agent.engines import catalogue
from skerry_agent.engines.base import EngineError, Job
from skerry_agent.floats import holds_nan

# How long to look out for the next request before sleeping, where the one before came as quickly: waking a processor
# that sleeps costs more than a small model does.
AWAKE_NS = 250_000
_ASKED_BYTES = 64  # more than a RUN or PING frame has

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from skerry_agent.engines.base import Engine


def main(socket_fd: int) -> int:
    """Serve on the inherited socket until it is closed; return the exit status."""
    try:
        plan: Any = worker_protocol.read_start(os.read(socket_fd, worker_protocol.MAX_FRAME_BYTES))
    except (worker_protocol.FrameError, ValueError, EOFError, TypeError):
        return 3
    job = Job.from_plain(
        plan["variant"],
        {role: f"/proc/self/fd/{fd}" for role, fd in plan["blobs"].items()},
        plan["signature"],
        plan["threads"],
    )
    if plan["spare"]:
        _step_back()
    inputs, outputs = ([each.size_bytes for each in side] for side in (job.inputs, job.outputs))
    region = shm.Region(plan["region"], inputs, outputs, plan["places"])
    channel = _socket.socket(fileno=socket_fd)
    # Not on spare cycles, and not where it would keep the supervisor from its only processor.
    awake_ns = 0 if plan["spare"] or len(os.sched_getaffinity(0)) < 2 else AWAKE_NS
    layers = sandbox.lock(
        directories=plan["directories"],
        files=list(plan["blobs"].values()),
        extra_bytes=plan["extra_bytes"],
        threads=catalogue.threads(job),
    )
    os.write(socket_fd, worker_protocol.locked(layers))
    begin_ns = time.perf_counter_ns()
    try:
        engine = catalogue.start(job)
        calls = {0: engine.bind(region.inputs, region.outputs)}
    except EngineError as error:
        os.write(socket_fd, worker_protocol.failed(0, worker_protocol.CAUSE_LOAD, _words(error)))
        return 1
    os.write(socket_fd, worker_protocol.ready((time.perf_counter_ns() - begin_ns) / 1e6))
    _serve(channel, engine, calls, region, awake_ns)
    return 0


def _step_back() -> None:
    """Run only on cycles that nobody else wants (sched(7), SCHED_IDLE), and be the first that the kernel ends for want
    of memory (proc(5), oom_score_adj). What the system refuses is left as it is.
    """
    try:
        with open("/proc/self/oom_score_adj", "wb") as file:  # noqa: PTH123 pathlib costs a megabyte
            file.write(b"1000")
    except OSError:
        pass
    try:
        os.nice(19)  # for systems that know no SCHED_IDLE
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except (OSError, AttributeError):
        return


def _serve(channel: _socket.socket, engine: Engine, calls: dict[int, Any], region: shm.Region, awake_ns: int) -> None:
    """Answer RUN and PING frames; an empty read means that the supervisor is gone.

    `calls` holds the bound calls of the places that were used so far.
    """
    outputs = [
        [(spec.name, spec.dtype, view) for spec, view in zip(engine.outputs, place[1], strict=True)]
        for place in region.places
    ]
    descriptor, answered_ns, awake_until_ns = channel.fileno(), 0, 0
    while frame := _next(channel, awake_until_ns):
        if frame == worker_protocol.PING_FRAME:
            os.write(descriptor, worker_protocol.PONG_FRAME)
            continue
        quick = time.perf_counter_ns() - answered_ns < awake_ns
        os.write(descriptor, _answer(frame, engine, calls, region, outputs))
        answered_ns = time.perf_counter_ns()
        awake_until_ns = answered_ns + awake_ns if quick else 0


def _next(channel: _socket.socket, awake_until_ns: int) -> bytes:
    """Return the next frame; sleep for it only from a time on (time.perf_counter_ns)."""
    while time.perf_counter_ns() < awake_until_ns:
        try:
            return channel.recv(_ASKED_BYTES, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
    return channel.recv(_ASKED_BYTES)


def _answer(
    frame: bytes, engine: Engine, calls: dict[int, Any], region: shm.Region, outputs: list[list[tuple[str, Any, Any]]]
) -> bytes:
    """Run one inference and return the frame that says what became of it."""
    counter, place = worker_protocol.read_run(frame)
    try:
        call = calls.get(place)
        if call is None:
            call = calls[place] = engine.bind(*region.places[place])
        begin_ns = time.perf_counter_ns()
        call()
    except EngineError as error:
        return worker_protocol.failed(counter, worker_protocol.CAUSE_ENGINE, _words(error))
    elapsed_ns = time.perf_counter_ns() - begin_ns
    # The output is small beside the inference, and looking here keeps the supervisor's loop free.
    bad = [name for name, dtype, view in outputs[place] if holds_nan(dtype, view)]
    if bad:
        return worker_protocol.failed(counter, worker_protocol.CAUSE_NAN, f"output {bad[0]!r:.80} holds NaN")
    return worker_protocol.done(counter, elapsed_ns)


def _words(error: EngineError) -> str:
    return f"{error} ({error.hint})" if error.hint else str(error)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
