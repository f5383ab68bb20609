"""The engines this agent knows. A variant names one; nothing is imported before it is chosen."""

from __future__ import annotations

from skerry_agent.engines.base import MOST_THREADS, Engine, EngineError, Job, threads_wanted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from skerry_contracts.bundle import Signature, Variant


def _native(job: Job) -> Engine:
    from skerry_agent.engines.native import NativeEngine

    return NativeEngine(job)


def _onnxruntime(job: Job) -> Engine:
    from skerry_agent.engines.onnxruntime import OnnxRuntimeEngine

    return OnnxRuntimeEngine(job)


def _litert(job: Job) -> Engine:
    from skerry_agent.engines.litert import LiteRtEngine

    return LiteRtEngine(job)


def _openvino(job: Job) -> Engine:
    from skerry_agent.engines.openvino import OpenVinoEngine

    return OpenVinoEngine(job)


def _tvm(job: Job) -> Engine:
    from skerry_agent.engines.tvm import TvmEngine

    return TvmEngine(job)


ENGINES: dict[str, Callable[[Job], Engine]] = {
    "native": _native,
    "onnxruntime": _onnxruntime,
    "litert": _litert,
    "openvino": _openvino,
    "tvm": _tvm,
}


# Engines that start threads of their own even where one inference is to use one, and wait in them.
THREADED = ("openvino",)


def threads(job: Job) -> int:
    """Return how many threads the process of a job must be allowed."""
    return max(job.threads, 2) if job.engine in THREADED else job.threads


def load(variant: Variant, paths: Mapping[str, Path], signature: Signature, threads: int = 1) -> Engine:
    """Return the variant's engine, loaded and ready to run.

    Args:
        variant: what to load.
        paths: the file of each of the variant's blobs, by its role.
        signature: the bundle's inputs and outputs.
        threads: how many threads the engine may use for one inference.

    Raises:
        EngineError: no such engine here, or it refuses the variant.
    """
    return start(Job.of(variant, paths, signature, threads))


def start(job: Job) -> Engine:
    """Return the engine that a job names, loaded and ready to run.

    Raises:
        EngineError: see `load`.
    """
    if job.engine not in ENGINES:
        raise EngineError(f"no engine {job.engine!r:.40} here (known: {', '.join(ENGINES)})", hint="update the agent")
    if not threads_wanted(job.options):
        words = (
            f"the variant is for {job.options['threads']!r:.40} threads, which is no number from 1 to {MOST_THREADS}"
        )
        raise EngineError(words, hint="compile the bundle again")
    return ENGINES[job.engine](job)


def available() -> dict[str, str]:
    """Return the engines that can run on this device and their versions, without loading any."""
    from skerry_agent.engines import native
    from skerry_agent.engines.library import find

    found = {"native": str(native.ABI)}
    for engine in ENGINES:
        library = None if engine in found else find(engine)
        if library is not None:
            found[engine] = library.version
    return found
